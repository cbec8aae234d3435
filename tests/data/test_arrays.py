import pickle
import zipfile

import numpy as np
import pytest

from mmaffect.data.arrays import ArrayFile, locate
from mmaffect.ops import InputError


@pytest.fixture(params=["npz", "folder"])
def save(request, tmp_path):
    """Write arrays as an .npz file, or as a folder of .npy files; allow_pickle as an attacker would."""

    def write(**arrays):
        if request.param == "npz":
            np.savez(tmp_path / "d.npz", **arrays)
            return tmp_path / "d.npz"
        (tmp_path / "d").mkdir()
        for name, array in arrays.items():
            np.save(tmp_path / "d" / f"{name}.npy", array, allow_pickle=True)
        return tmp_path / "d"

    return write


def test_arrays_are_read_by_name(save):
    x, flags, words = np.arange(6.0).reshape(3, 2), np.array([0, 1, 1]), np.array(["a", "b", "c"])
    file = ArrayFile(save(x=x, flags=flags, words=words, raw=np.array([b"a", b"\xc3\xa4", b"c"])))
    assert sorted(file.names) == ["flags", "raw", "words", "x"]
    assert "x" in file
    assert "y" not in file
    np.testing.assert_array_equal(file.rows("x", "key"), x)
    np.testing.assert_array_equal(file.flags("flags", "key"), [False, True, True])
    assert file.column("raw", "key").tolist() == ["a", "ä", "c"]


def test_what_cannot_be_used_is_said(save):
    file = ArrayFile(save(text=np.zeros((3, 2)), audio=np.zeros(4), flags=np.array([0, 2, 1]), empty=np.zeros((0, 2)),
                          scalar=np.array(3.0), when=np.array(["2020-01-01"] * 3, dtype="datetime64[D]")))  # fmt: skip
    with pytest.raises(InputError, match=r"d(\.npz)?: a\.b = 'txt': no such array; did you mean 'text'\? known: "):
        file.read("txt", "a.b")
    file.rows("text", "id")
    with pytest.raises(InputError, match=r"a\.b = 'audio': expected 3 rows as in id = 'text', got 4"):
        file.rows("audio", "a.b")
    with pytest.raises(InputError, match=r"a\.b = 'text': expected one value a row, got shape \(3, 2\)"):
        file.column("text", "a.b")
    with pytest.raises(InputError, match=r"a\.b = 'flags': expected booleans, or 0 and 1, got int64"):
        file.flags("flags", "a.b")
    with pytest.raises(InputError, match=r"a\.b = 'empty': expected at least one row, got none"):
        file.rows("empty", "a.b")
    with pytest.raises(InputError, match=r"a\.b = 'scalar': expected numbers, booleans or strings, got float64 \(\)"):
        file.read("scalar", "a.b")
    with pytest.raises(InputError, match=r"expected numbers, booleans or strings, got datetime64"):
        file.read("when", "a.b")


class Trap:
    """Says so if it is ever unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickled_objects_are_refused_unopened(save):
    file = ArrayFile(save(x=np.array([Trap(), None], dtype=object)))
    with pytest.raises(InputError, match=r"key = 'x': holds Python objects \(a pickle\), which are refused"):
        file.read("x", "key")


def test_a_pickle_in_the_place_of_a_file_is_refused_unopened(tmp_path):
    path = tmp_path / "d.npz"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"d\.npz: expected an \.npz file, but it cannot be read"):
        ArrayFile(path)
    (tmp_path / "x.npy").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="key = 'x': "):
        ArrayFile(tmp_path).read("x", "key")


def test_absent_and_empty_places_are_said(tmp_path):
    with pytest.raises(InputError, match=r"no\.npz: not found; expected an \.npz file or a folder of \.npy files"):
        ArrayFile(tmp_path / "no.npz")
    with pytest.raises(InputError, match=r"expected a folder of \.npy files, got none"):
        ArrayFile(tmp_path)


def test_a_damaged_archive_is_said(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=1000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"d\.npz: expected an \.npz file, but it cannot be read"):
        ArrayFile(path)
    for at in range(100, len(whole) - 100, 501):
        path.write_bytes(whole[:at] + bytes(255 - b for b in whole[at : at + 9]) + whole[at + 9 :])
        with pytest.raises(InputError, match=r"d\.npz: key = 'x': cannot be read"):
            ArrayFile(path).read("x", "key")


def test_a_header_that_lies_about_the_shape_is_said(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(10))
    raw = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(raw.replace(b"(10,), }" + b" " * 9, b"(999999999999,),}"))
    with pytest.raises(InputError, match="key = 'x': cannot be read"):
        ArrayFile(tmp_path).read("x", "key")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
    with pytest.raises(InputError, match="key = 'x': "):
        ArrayFile(tmp_path / "d.npz").read("x", "key")


def test_a_file_is_found_beside_or_in_a_folder_of_its_name(tmp_path):
    (tmp_path / "d").mkdir()
    inner = tmp_path / "d" / "d.npz"
    inner.touch()
    assert locate(tmp_path, "d.npz") == inner
    assert locate(inner, "other.npz") == inner
    (tmp_path / "d.npz").touch()
    assert locate(tmp_path, "d.npz") == tmp_path / "d.npz"
    assert locate(tmp_path, ".") == tmp_path
    with pytest.raises(InputError, match=r"e\.npz: not found; expected it at .*e\.npz or .*e\.npz"):
        locate(tmp_path, "e.npz")
