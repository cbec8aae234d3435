from pathlib import Path

import numpy as np
import pytest

from mmaffect.data.csd_file import CsdFile
from mmaffect.ops import InputError

h5py = pytest.importorskip("h5py")


def test_entries_of_the_first_group_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "COVAREP.csd"
    with h5py.File(path, "w") as file:
        file["other name/data/v[0]/features"] = [[1.0, 2.0]]
        file["other name/data/v[0]/intervals"] = [[0.5, 1.5]]
    with CsdFile(path) as found:
        assert found.keys == ("v[0]",)
        assert "v[0]" in found
        assert "v[1]" not in found
        entry = found.read("v[0]")
        assert entry.features.tolist() == [[1.0, 2.0]]
        assert entry.intervals.tolist() == [[0.5, 1.5]]
        with pytest.raises(InputError, match=r"/other name/data/v\[1\]: not there; did you mean 'v\[0\]'"):
            found.read("v[1]")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.csd: not found; expected a .csd file"):
        CsdFile(tmp_path / "none.csd")
    (tmp_path / "text.csd").write_text("hello")
    with pytest.raises(InputError, match=r"text.csd: cannot be read as a .csd file \(HDF5\)"):
        CsdFile(tmp_path / "text.csd")
    h5py.File(tmp_path / "empty.csd", "w").close()
    with pytest.raises(InputError, match=r"empty.csd: expected a group with 'data', got an empty file"):
        CsdFile(tmp_path / "empty.csd")
    with h5py.File(tmp_path / "bare.csd", "w") as file:
        file["root/metadata/x"] = [1]
    with pytest.raises(InputError, match=r"bare.csd: /root/data: not there; .*known: metadata"):
        CsdFile(tmp_path / "bare.csd")
    with h5py.File(tmp_path / "array.csd", "w") as file:
        file["root"] = [1]
    with pytest.raises(InputError, match=r"array.csd: /root: expected a group, got a dataset"):
        CsdFile(tmp_path / "array.csd")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.csd"
    with h5py.File(path, "w") as file:
        file["root/data/v/features"] = np.ones((500, 10))
        file["root/data/v/intervals"] = np.ones((500, 2))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match=r"long.csd: cannot be read as a .csd file"):
        CsdFile(path)


def test_what_lies_outside_the_file_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 64)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [[1.0]]
    path = tmp_path / "links.csd"
    with h5py.File(path, "w") as file:
        for key in ("link", "soft", "raw", "virtual", "unwritten"):
            file[f"root/data/{key}/intervals"] = [[0.0, 1.0]]
        file["root/data/link/features"] = h5py.ExternalLink("other.h5", "x")
        file["root/data/soft/features"] = h5py.SoftLink("/root/data/link/intervals")
        file["root/data/raw"].create_dataset("features", (1, 8), "f8", external=[(str(secret), 0, 64)])
        layout = h5py.VirtualLayout((1, 1), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (1, 1))
        file["root/data/virtual"].create_virtual_dataset("features", layout)
        file["root/data/unwritten"].create_dataset("features", (1, 10**9), "f8", chunks=(1, 1000))
    with CsdFile(path) as found:
        for key, message in {
            "link": "/root/data/link/features: is a link, which is refused; expected a dataset",
            "soft": "/root/data/soft/features: is a link, which is refused",
            "raw": "/root/data/raw/features: lies in another file, which is refused",
            "virtual": "/root/data/virtual/features: lies in another file, which is refused",
            "unwritten": "features: expected the 8000000000 bytes that its shape .* takes, got 0 in the file",
        }.items():
            with pytest.raises(InputError, match=message):
                found.read(key)


def test_compressed_arrays_are_read(tmp_path: Path) -> None:
    path = tmp_path / "zip.csd"
    with h5py.File(path, "w") as file:
        for name, width in (("features", 50), ("intervals", 2)):
            file.create_dataset(f"root/data/v/{name}", data=np.zeros((5000, width)), compression="gzip")
    with CsdFile(path) as found:
        assert found.read("v").features.shape == (5000, 50)
