"""Reading pickles that nobody vouches for: data come out, code does not run."""

import io
import pickle
import pickletools
from os import PathLike
from pathlib import Path
from typing import IO, Any, NoReturn

from mmaffect.data.pickled_values import KNOWN, Call, DType, Pending
from mmaffect.ops import InputError

_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}


def safe_unpickle(source: str | PathLike[str] | bytes, *, encoding: str = "latin1") -> Any:
    """Read a pickle that holds containers, numbers, strings, bytes and numpy arrays, and refuse every other.

    A pickle is a program: it names functions and calls them. Here the few names that data need are answered by
    functions of this library, which check their arguments; no other name is looked up, let alone imported. Types of
    numpy arrays are read as text and built anew, since a forged one would make numpy take bytes for pointers. So
    nothing in a file is executed; a hostile file can still waste time.

    Known are ``None``, booleans, numbers, strings, bytes, lists, tuples, dicts (``OrderedDict`` comes as a dict),
    sets, and arrays and scalars of numpy 1 and 2 with booleans, numbers, strings or, in arrays, objects of these kinds.

    Args:
        source: a path, or the pickle itself.
        encoding: how strings of Python 2 are decoded; ``"bytes"`` leaves them as they are.

    Returns:
        What was pickled. Arrays may be read-only.

    Raises:
        InputError: naming the file and the global it asks for, or what is damaged.

    Example:
        >>> import numpy as np
        >>> safe_unpickle(pickle.dumps({"audio": np.arange(3)}))
        {'audio': array([0, 1, 2])}
        >>> safe_unpickle(pickle.dumps(print))
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: pickle: asks for 'builtins.print', which is refused; expected only containers,
        numbers, strings, bytes and numpy arrays
    """
    if isinstance(source, bytes):
        return _load(io.BytesIO(source), len(source), "pickle", encoding)
    path = Path(source)
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); expected a pickle") from error
    with file:
        return _load(file, size, str(path), encoding)


def _load(file: IO[bytes], size: int, label: str, encoding: str) -> Any:
    try:
        _check_numbers(file, size)
        file.seek(0)
        return _Finish()(_Unpickler(file, label, encoding).load())
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(label) else f"{label}: {message}") from error
    except RecursionError as error:
        raise InputError(f"{label}: is nested too deeply; expected data") from error
    except Exception as error:  # a damaged pickle may raise anything
        reason = f"{type(error).__name__}: {error}"[:200]
        raise InputError(f"{label}: cannot be read as a pickle, it is damaged or none ({reason})") from error


def _check_numbers(file: IO[bytes], size: int) -> None:
    """Raise where a memo index exceeds the bytes of the file: the unpickler would set aside as much memory."""
    while (opcode := _OPCODES.get(file.read(1))) is not None and opcode.name != "STOP":
        if opcode.name == "STRING":  # its reader knows ASCII alone, arrays of Python 2 are more
            file.readline()
            continue
        argument = None if opcode.arg is None else opcode.arg.reader(file)
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > size:
            raise InputError(f"numbers an object {argument} in a file of {size} bytes; expected an undamaged pickle")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], label: str, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._label = label

    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        if known is None:
            raise InputError(
                f"{self._label}: asks for {f'{module}.{name}'[:120]!r}, which is refused; "
                "expected only containers, numbers, strings, bytes and numpy arrays"
            )
        return Call(known)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise InputError(
            f"{self._label}: asks for an object outside the file (a persistent id, as in checkpoints), which is "
            "refused; expected only containers, numbers, strings, bytes and numpy arrays"
        )


class _Finish:
    """Put arrays where they were pending. What is shared, or contains itself, is visited once."""

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, Any]] = {}  # by id: the object, kept alive so that its id stays its own

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Call | DType):
            raise InputError("holds a function or a type where data are expected")
        if isinstance(value, Pending):
            return value.finish(self)
        if not isinstance(value, list | dict | tuple | set | frozenset):
            return value
        if id(value) in self._done:
            return self._done[id(value)][1]
        if isinstance(value, tuple):
            items = [self(item) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            self._done[id(value)] = (value, value if same else tuple(items))
            return self._done[id(value)][1]
        self._done[id(value)] = (value, value)
        if isinstance(value, list):
            value[:] = [self(item) for item in value]
        else:
            for item in value:  # elements of sets and keys can be hashed, so no array is pending in them
                self(item)
            if isinstance(value, dict):
                for key in value:
                    value[key] = self(value[key])
        return value
