import collections
import contextlib
import copyreg
import functools
import io
import operator
import os
import pickle
import pickletools
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmaffect.data import safe_unpickle
from mmaffect.ops import InputError


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


class Own:
    pass


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        if not isinstance(other, np.ndarray) or (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        if one.dtype.hasobject:
            return all(same(a, b) for a, b in zip(one.ravel(), other.ravel(), strict=True))
        return one.tobytes() == other.tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other or (one != one and other != other)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(blacklist_categories=["Cs"]))
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
numbers = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | hnp.complex_number_dtypes(sizes=(64, 128))
    | hnp.byte_string_dtypes(min_len=1)
)
arrays = hnp.arrays(numbers, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
keys = st.integers() | st.text(st.characters(blacklist_categories=["Cs"])) | st.tuples(st.integers(), st.booleans())
nested = st.recursive(
    scalars | arrays | st.sets(st.integers()) | st.frozensets(st.integers()) | st.builds(bytearray, st.binary()),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(nested, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_ordinary_data_come_back_as_they_were(data: Any, protocol: int) -> None:
    found = safe_unpickle(pickle.dumps(data, protocol))
    assert same(found, data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_layout(protocol: int) -> None:
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    objects = np.empty((2, 2), dtype=object)
    objects[0, 0], objects[0, 1], objects[1, 0], objects[1, 1] = "a", [1, np.arange(2)], np.float64(0.5), b"x"
    data = {
        "fortran": np.asfortranarray(base),
        "strided": base[:, ::2],
        "zero": np.array(3.0),
        "empty": np.empty((0, 5), np.int64),
        "strings": np.array([["v", "0.5", "é"], ["w", "1", "abc"]]),
        "bytes": np.array([b"v", b"wx"]),
        "big": np.arange(3, dtype=">i4"),
        "objects": objects,
        "objects_f": np.asfortranarray(objects),
        "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("s"), np.complex64(1j)],
    }
    found = safe_unpickle(pickle.dumps(data, protocol))
    assert list(found) == list(data)
    assert all(same(found[key], data[key]) for key in data)


def test_what_is_shared_stays_shared() -> None:
    array, inner = np.arange(3), [1]
    found = safe_unpickle(pickle.dumps([array, (array, inner), inner, (array, inner)]))
    assert found[0] is found[1][0] is found[3][0]
    assert found[1][1] is found[2]


def test_a_list_may_contain_itself() -> None:
    data: list[Any] = [np.arange(2)]
    data.append((data, np.arange(1)))
    found = safe_unpickle(pickle.dumps(data))
    assert found[1][0] is found
    assert isinstance(found[0], np.ndarray)


def test_ordered_dict_comes_as_dict_in_order() -> None:
    found = safe_unpickle(pickle.dumps(collections.OrderedDict(b=1, a=np.arange(2)), 2))
    assert type(found) is dict
    assert list(found) == ["b", "a"]


def test_tuples_within_tuples_cost_no_more_than_their_number() -> None:
    data: Any = (np.arange(1),)
    for _ in range(200):
        data = (data, data)
    found = safe_unpickle(pickle.dumps(data))
    assert found[0] is found[1]


def test_pickles_of_python_2() -> None:
    # As Python 2 and numpy 1 wrote them: module numpy.core, byte strings, and bytes of arrays as byte strings.
    raw = np.array([1.5, -2.0, 255.0], "<f8").tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR(I1\n(I3\ntcnumpy\ndtype\n(U\x02f8I0\nI1\ntR"
        b"(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\n" + b"U" + bytes([len(raw)]) + raw + b"tb"
    )
    found = safe_unpickle(b"\x80\x02}(U\x01a" + array + b"U\x02\xe9!U\x01zu.")
    assert found["a"].tolist() == [1.5, -2.0, 255.0]
    assert found["é!"] == "z"
    text = b"(S'\\xff\\x00'\nS'a'\nl."
    assert safe_unpickle(text) == ["\xff\x00", "a"]
    assert safe_unpickle(text, encoding="bytes") == [b"\xff\x00", b"a"]


def attack(*opcodes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(opcodes) + b"."


def refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        safe_unpickle(path)
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(InputError, match=message):
        safe_unpickle(data)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (eval, "eval"),
        (exec, "exec"),
        (getattr, "getattr"),
        (__import__, "__import__"),
        (open, "open"),
        (subprocess.Popen, "Popen"),
        (operator.attrgetter, "operator.attrgetter"),
        (functools.partial, "functools.partial"),
        (np.load, "numpy.load"),
        (np.save, "numpy.save"),
        (np.memmap, "numpy.memmap"),
        (np.fromfile, "fromfile"),
        (copyreg._reconstructor, "_reconstructor"),  # type: ignore[attr-defined]
        (type, "type"),
        (map, "map"),
    ],
)
def test_calls_are_refused(tmp_path: Path, function: Any, name: str, protocol: int) -> None:
    data = pickle.dumps({"audio": [(Calls(function, f"touch {tmp_path}/pwned"),)]}, protocol)
    refused(tmp_path, data, rf"asks for '[\w.]*{name}', which is refused; expected only containers, numbers")


def test_the_attack_works_on_an_ordinary_unpickler(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {tmp_path}/pwned")))
    assert (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (pickle.dumps(Own()), "Own"),
        (pickle.dumps(torch.ones(2)), "torch._utils._rebuild_tensor_v2"),
        (pickle.dumps(np.array([Own()], dtype=object)), "Own"),
        (pickle.dumps(np.ma.masked_array([1.0])), "_mareconstruct"),
        (pickle.dumps(np.random.default_rng(0)), "numpy.random"),
        (pickle.dumps(collections.Counter("a")), "collections.Counter"),
        (pickle.dumps(Path("x")), "pathlib"),
        (attack(b"(S'touch pwned'\niposix\nsystem\n"), "posix.system"),  # INST
        (attack(b"(cposix\nsystem\nS'touch pwned'\no"), "posix.system"),  # OBJ
        (attack(b"\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93\x8c\x01x\x85R"), "posix.system"),  # memo
        (attack(b"\x8c\x05numpy\x8c\x11testing.os.system\x93"), "numpy.testing.os.system"),  # dotted
        (attack(b"\x8c\x08builtins\x8c\x0cset.__init__\x93"), "builtins.set.__init__"),
        (attack(b"c" + b"x" * 500 + b"\ny\n"), "x" * 120),
    ],
)
def test_other_ways_to_a_global_are_refused(tmp_path: Path, data: bytes, name: str) -> None:
    refused(tmp_path, data, f"asks for '[^']*{name.replace('.', '[.]')}[^']*', which is refused")


def test_checkpoints_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer, _use_new_zipfile_serialization=False)
    path = tmp_path / "old.pt"
    path.write_bytes(buffer.getvalue())
    safe_unpickle(path)  # its first pickle is a magic number; the objects lie behind it
    refused(tmp_path, attack(b"\x8c\x01aQ"), r"a persistent id, as in checkpoints\), which is refused")


DTYPE = b"cnumpy\ndtype\n"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def dtype(code: str, state: bytes = b"(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb") -> bytes:
    return DTYPE + text(code) + b"\x89\x88\x87R" + state


def test_the_forged_array_is_well_formed_otherwise() -> None:
    found = safe_unpickle(attack(ARRAY + b"(K\x01K\x02\x85" + dtype("u1") + b"\x89C\x02\x05\x06tb"))
    assert found.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (dtype("V8"), "numpy type 'V8' is refused"),
        (dtype("M8[ns]"), "numpy type .* is refused"),
        (dtype("f4,O"), "numpy type 'f4,O' is refused"),
        (dtype("U9999999999"), "numpy type .* is refused"),
        (dtype("f4", b"(K\x03\x8c\x01<N(t}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"), "numpy type with fields"),
        (dtype("f4", b"Nb"), "numpy type with fields or without a byte order"),
        (dtype("f4"), "holds a function or a type where data are expected"),
        (b"cnumpy\nndarray\n", "holds a function or a type"),
        (b"(cnumpy\nndarray\nK\x01l", "holds a function or a type"),
        (b"}cnumpy\nndarray\nK\x01s", "holds a function or a type"),
        (b"cnumpy\nndarray\nK\x02\x85R", "builds a numpy array in an unknown way"),
        (b"cnumpy\nndarray\nK\x02\x85\x81", "cannot be read as a pickle"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nset\n(K\x00tC\x01btR", "another class than numpy.ndarray"),
        (ARRAY, "numpy array without shape, type and bytes"),
        (ARRAY + b"Nb", "numpy array with an unknown state"),
        # Bytes passed off as objects would be taken for pointers.
        (ARRAY + b"(K\x01K\x01\x85" + dtype("O8") + b"\x89C\x08AAAAAAAAtb", "array of objects: expected a list of 1"),
        (ARRAY + b"(K\x01K\x03\x85" + dtype("O8") + b"\x89]tb", "array of objects: expected a list of 3, got list"),
        (
            ARRAY + b"(K\x01J\x00\x00\x00\x7f\x85" + dtype("f4") + b"\x89C\x04AAAAtb",
            "expected 8522825728 bytes .* got 4",
        ),
        (ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + dtype("f4") + b"\x89C\x00tb", "shape is no tuple of sizes"),
        (ARRAY + b"(K\x01K\x01" + dtype("f4") + b"\x89C\x04AAAAtb", "shape is no tuple of sizes"),
        (ARRAY + b"(K\x01K\x01\x85N\x89C\x04AAAAtb", "array without a plain type"),
        (ARRAY + b"(K\x01K\x01\x85" + dtype("f4") + b"\x89Ntb", "expected 4 bytes .* got NoneType"),
        (ARRAY + b"\x94(K\x01K\x01\x85" + dtype("O8") + b"\x89]h\x00atb", "inside itself"),
        (b"cnumpy.core.multiarray\nscalar\n" + dtype("O8") + b"C\x08AAAAAAAA\x86R", "scalar that is an object"),
        (
            b"cnumpy.core.numeric\n_frombuffer\n(C\x08AAAAAAAA" + dtype("O8") + b"K\x01\x85\x8c\x01CtR",
            "objects as bytes",
        ),
        (b"cnumpy.core.numeric\n_frombuffer\n(C\x01A" + dtype("u1") + b"K\x01\x85\x8c\x01KtR", "in the order 'K'"),
        (b"cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R", "expected bytes, got int"),
        (b"cbuiltins\nbytes\nJ\x00\x00\x00\x7f\x85R", "expected bytes, got int"),
        (b"cbuiltins\nset\nK\x05\x85R", "expected list or tuple, got int"),
        (b"cbuiltins\ncomplex\n(\x8c\x011K\x01tR", "expected float or int, got str"),
        (b"c_codecs\nencode\n(\x8c\x011\x8c\x03hextR", "expected a string and 'latin1'"),
        # What is known cannot be changed for the next file.
        (b"cbuiltins\nset\n}\x8c\x08functionK\x01sb", "changes a function"),
        (b"cbuiltins\nset\nN}\x8c\x08functionK\x01s\x86b", "changes a function"),
    ],
)
def test_forged_arrays_and_calls_are_refused(tmp_path: Path, body: bytes, message: str) -> None:
    refused(tmp_path, attack(body), message)


def test_an_absurd_memo_index_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, attack(b"]r" + struct.pack("<I", 2**32 - 1)), "numbers an object 4294967295 in a file of 9 bytes")


def test_what_is_too_deep_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, attack(b"]" * 100_000 + b"a" * 99_999), "is nested too deeply")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_said_or_harmless(data: st.DataObject) -> None:
    whole = pickle.dumps({"train": {"audio": np.arange(6.0).reshape(2, 3), "id": ["a$_$1", "a$_$2"]}, "n": [1, 2.5]})
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InputError, match=r"^pickle: "):
        safe_unpickle(whole[:cut])
    flipped = bytearray(whole)
    flipped[cut] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(InputError):
        safe_unpickle(bytes(flipped))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(sorted(op.code for op in pickletools.opcodes)))
def test_noise_raises_one_kind_of_error(noise: bytes, first: str) -> None:
    with contextlib.suppress(InputError):  # and nothing else
        safe_unpickle(first.encode("latin1") + noise)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"none\.pkl: cannot be opened \(No such file or directory\); expected a pickle"
    ):
        safe_unpickle(tmp_path / "none.pkl")
    (tmp_path / "text.pkl").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pkl: cannot be read as a pickle, it is damaged or none"):
        safe_unpickle(tmp_path / "text.pkl")
    (tmp_path / "empty.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.pkl: cannot be read as a pickle"):
        safe_unpickle(tmp_path / "empty.pkl")
