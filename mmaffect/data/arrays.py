"""Reading arrays from disk. Files are untrusted: pickled objects are refused, and what is damaged is said."""

import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaffect.data.toml_table import near
from mmaffect.ops import InputError

Array = npt.NDArray[Any]


def locate(folder: str | PathLike[str], file: str) -> Path:
    """Find a recipe's file: in the data folder, or in a folder of the file's own name inside it.

    So one data folder can hold ``a/a.npz`` and ``b/b.npz``. A path to the file itself is taken as it is.

    Raises:
        InputError: naming the places searched.
    """
    folder = Path(folder)
    if folder.is_file():
        return folder
    places = (folder / file, folder / Path(file).stem / file)
    for place in places:
        if place.exists():
            return place
    raise InputError(f"{file}: not found; expected it at {' or '.join(str(p) for p in places)}")


class ArrayFile:
    """The named arrays of an ``.npz`` file, or of a folder of ``.npy`` files; each is read when asked for.

    Args:
        path: the file or folder.

    Raises:
        InputError: if it is absent, unreadable, damaged, or no such file.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self.label = self.path.name or str(self.path)
        self._length: tuple[int, str] | None = None
        if self.path.is_dir():
            self.names = tuple(sorted(p.stem for p in self.path.glob("*.npy")))
            if not self.names:
                raise InputError(f"{self.path}: expected a folder of .npy files, got none")
            return
        if not self.path.exists():
            raise InputError(f"{self.path}: not found; expected an .npz file or a folder of .npy files")
        try:
            with zipfile.ZipFile(self.path) as archive:
                self.names = tuple(n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy"))
        except Exception as error:  # a damaged file may raise anything
            raise InputError(f"{self.path}: expected an .npz file, but it cannot be read: {error}") from error

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def read(self, name: str, key: str) -> Array:
        """Read an array.

        Args:
            name: its name in the file.
            key: the recipe's key that asks for it, for messages.

        Raises:
            InputError: if it is not in the file (the nearest names are offered), damaged, empty, or holds objects.
        """
        if name not in self.names:
            raise InputError(f"{self.label}: {key} = {name!r}: no such array; {near(name, self.names)}")
        try:
            if self.path.is_dir():
                array = np.load(self.path / f"{name}.npy", allow_pickle=False)
            else:
                with np.load(self.path, allow_pickle=False) as archive:
                    array = archive[name]
        except Exception as error:  # a damaged file may raise anything
            if "allow_pickle" in str(error):
                raise InputError(
                    f"{self.label}: {key} = {name!r}: holds Python objects (a pickle), which are refused; "
                    "expected numbers, booleans or strings"
                ) from error
            raise InputError(f"{self.label}: {key} = {name!r}: cannot be read: {error}") from error
        if not isinstance(array, np.ndarray) or array.ndim == 0 or array.dtype.kind not in "biufUS":
            what = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"{self.label}: {key} = {name!r}: expected numbers, booleans or strings, got {what}")
        if array.dtype.kind == "S":
            return np.char.decode(array, "utf-8", "replace")
        return array

    def rows(self, name: str, key: str) -> Array:
        """Read an array with an entry a row of the dataset; all such arrays must be of one length.

        Raises:
            InputError: as ``read``, and if its length differs from that of the arrays read before.
        """
        array = self.read(name, key)
        self.check_length(len(array), f"{key} = {name!r}")
        return array

    def check_length(self, length: int, what: str) -> None:
        """Raise unless ``length`` rows agree with what was read before.

        Raises:
            InputError: naming both arrays and both lengths, or the array that is empty.
        """
        if length == 0:
            raise InputError(f"{self.label}: {what}: expected at least one row, got none")
        if self._length is None:
            self._length = (length, what)
        elif length != self._length[0]:
            rows, other = self._length
            raise InputError(f"{self.label}: {what}: expected {rows} rows as in {other}, got {length}")

    def column(self, name: str, key: str) -> Array:
        """Read a column of names or numbers, ``(N,)``.

        Raises:
            InputError: as ``rows``, and if it is not one-dimensional.
        """
        array = self.rows(name, key)
        if array.ndim != 1:
            raise InputError(f"{self.label}: {key} = {name!r}: expected one value a row, got shape {array.shape}")
        return array

    def flags(self, name: str, key: str) -> Array:
        """Read a column of booleans (or 0 and 1).

        Raises:
            InputError: as ``column``, and on any other value.
        """
        array = self.column(name, key)
        if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
            raise InputError(f"{self.label}: {key} = {name!r}: expected booleans, or 0 and 1, got {array.dtype}")
        return array.astype(bool)
