"""What the names in a pickle of data stand for: functions that check what they are given."""

import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mmaffect.ops import InputError

Array = npt.NDArray[Any]


class Call:
    """A known name: it can be called, and nothing in it can be changed, as a function's defaults could."""

    __slots__ = ("function",)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "function", function)

    def __call__(self, *arguments: Any) -> Any:
        """Call what the name stands for."""
        return self.function(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise InputError("changes a function; expected data")

    def __setstate__(self, state: object) -> NoReturn:
        raise InputError("changes a function; expected data")


class DType:
    """The type of an array as a pickle spells it: a code such as ``f4``, then a state with the byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: object, *flags: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|c(8|16)|O8?|[SU][1-9][0-9]{0,8}", code):
            raise InputError(f"numpy type {str(code)[:40]!r} is refused; expected booleans, numbers or strings")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        order, *parts = state[1:5] if isinstance(state, tuple) and len(state) == 8 else (None,)
        if order not in ("<", ">", "=", "|") or parts != [None, None, None]:
            raise InputError("numpy type with fields or without a byte order is refused; expected plain numbers")
        self.dtype = self.dtype.newbyteorder(order) if order != "|" else self.dtype


class Pending:
    """An array whose shape, type and bytes follow; one of objects stays a list until all of them are known."""

    __slots__ = ("array", "items")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: Array | None = None) -> None:
        self.array = array
        self.items: list[Any] | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or self.array is not None:
            raise InputError("numpy array with an unknown state; expected (version, shape, type, order, bytes)")
        _, shape, dtype, fortran, data = state
        self.array = _build(shape, dtype, bool(fortran), data)
        self.items = data if self.array.dtype.hasobject else None

    def finish(self, known: Callable[[Any], Any]) -> Array:
        """Return the array, with its objects in it."""
        if self.array is None:
            raise InputError(
                "numpy array without shape, type and bytes, or inside itself; expected an undamaged pickle"
            )
        if self.items is not None:
            items, array = self.items, self.array
            self.items = self.array = None  # an array that holds itself comes back here, and is refused
            cells = np.empty(array.size, dtype=object)
            for index, value in enumerate(items):
                cells[index] = known(value)
            self.array = cells.reshape(array.shape)  # a list is in the order of rows, whatever that of the bytes
        return self.array


def _build(shape: object, dtype: object, fortran: bool, data: object) -> Array:
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**62 for n in shape):
        raise InputError("numpy array whose shape is no tuple of sizes is refused")
    if not isinstance(dtype, DType):
        raise InputError("numpy array without a plain type is refused")
    kind, count = dtype.dtype, math.prod(shape)
    if kind.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise InputError(f"numpy array of objects: expected a list of {count}, got {type(data).__name__}")
        return np.empty(shape, dtype=object)
    raw = data.encode("latin1") if isinstance(data, str) else data  # bytes of Python 2
    if not isinstance(raw, bytes | bytearray) or len(raw) != count * kind.itemsize:
        given = len(raw) if isinstance(raw, bytes | bytearray) else type(data).__name__
        raise InputError(f"numpy array: expected {count * kind.itemsize} bytes for its shape and type, got {given}")
    flat = np.frombuffer(raw, dtype=kind) if count else np.empty(0, dtype=kind)
    return flat.reshape(shape, order="F") if fortran else flat.reshape(shape)


def _ndarray(*arguments: object) -> NoReturn:
    raise InputError("builds a numpy array in an unknown way; expected the way of numpy's own pickles")


def _reconstruct(kind: object, shape: object, code: object) -> Pending:
    if not isinstance(kind, Call) or kind.function is not _ndarray:
        raise InputError("builds another class than numpy.ndarray, which is refused")
    return Pending()


def _frombuffer(data: object, dtype: object, shape: object, order: object, *axes: object) -> Pending:
    if order not in ("C", "F") or axes:
        raise InputError(f"numpy array in the order {str(order)[:20]!r} is refused; expected 'C' or 'F'")
    if isinstance(dtype, DType) and dtype.dtype.hasobject:
        raise InputError("numpy array of objects as bytes is refused")
    return Pending(_build(shape, dtype, order == "F", data))


def _scalar(dtype: object, data: object) -> Any:
    if isinstance(dtype, DType) and dtype.dtype.hasobject:
        raise InputError("numpy scalar that is an object is refused")
    return _build((1,), dtype, False, data)[0]


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise InputError("_codecs.encode: expected a string and 'latin1'")
    return text.encode("latin1")


def _bytearray(data: object = b"", encoding: object = "latin-1") -> bytearray:
    return bytearray(_encode(data, encoding) if isinstance(data, str) else _typed(data, bytes))


def _bytes(data: object = b"") -> bytes:
    return bytes(_typed(data, bytes))


def _set(items: object = ()) -> set[Any]:
    return set(_typed(items, list, tuple))


def _frozenset(items: object = ()) -> frozenset[Any]:
    return frozenset(_typed(items, list, tuple))


def _dict(items: object = ()) -> dict[Any, Any]:
    return {key: value for key, value in _typed(items, list, tuple)}


def _complex(real: object, imaginary: object) -> complex:
    return complex(_typed(real, float, int), _typed(imaginary, float, int))


def _typed(value: object, *kinds: type) -> Any:
    """Return ``value`` if it is of one of these types: a number would make ``bytes`` set aside as much memory."""
    if type(value) not in kinds:
        raise InputError(f"expected {' or '.join(k.__name__ for k in kinds)}, got {type(value).__name__}")
    return value


_BUILTINS: dict[str, Callable[..., Any]] = {
    "set": _set,
    "frozenset": _frozenset,
    "bytes": _bytes,
    "bytearray": _bytearray,
    "complex": _complex,
}
KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, name): f for module in ("builtins", "__builtin__") for name, f in _BUILTINS.items()},
    ("collections", "OrderedDict"): _dict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): DType,
    ("numpy", "ndarray"): _ndarray,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}
