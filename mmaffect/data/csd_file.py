"""One computational sequence: features and intervals by key, in an HDF5 file that nobody vouches for."""

from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from mmaffect.data.arrays import Array
from mmaffect.data.toml_table import near
from mmaffect.ops import InputError


class Entry(NamedTuple):
    """Rows of one key: features ``(n, D)``, and when each begins and ends in seconds ``(n, 2)``."""

    features: Array
    intervals: Array


class CsdFile:
    """A ``.csd`` file, read key by key, to be used in a ``with`` statement.

    What lies under ``data`` of the file's first group is taken, whatever that is called. Links out of the file and
    arrays that were declared but not written are refused.

    Args:
        path: the file.

    Raises:
        InputError: if h5py is not installed, or the file is missing, damaged or of another layout.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        try:
            import h5py
        except ImportError as error:
            raise InputError(
                f"{path}: needs h5py to be read; expected it installed: pip install 'mmaffect[data]'"
            ) from error
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: not found; expected a .csd file")
        self._hard: type = h5py.HardLink
        self._dataset: type = h5py.Dataset
        self._group: type = h5py.Group
        try:
            self._file: Any = h5py.File(self.path, "r")
        except Exception as error:  # a damaged file may raise anything
            raise InputError(f"{self.path}: cannot be read as a .csd file (HDF5): {error}") from error
        try:
            roots = list(self._file)
            if not roots:
                raise InputError(f"{self.path}: expected a group with 'data', got an empty file")
            self._data: Any = self._member(self._member(self._file, roots[0], self._group), "data", self._group)
            self.keys: tuple[str, ...] = tuple(self._data)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "CsdFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def read(self, key: str) -> Entry:
        """Read features and intervals of one key.

        Raises:
            InputError: if they are missing, damaged, not numbers, or do not fit together.
        """
        group = self._member(self._data, key, self._group)
        features, intervals = self._array(group, "features"), self._array(group, "intervals")
        if features.ndim != 2 or intervals.shape != (len(features), 2):
            raise InputError(
                f"{self.path}: {group.name}: expected features (n, D) and intervals (n, 2), got {features.shape} and "
                f"{intervals.shape}"
            )
        return Entry(features, intervals)

    def _member(self, group: Any, name: str, kind: type) -> Any:
        """Return a member that lies in this very file."""
        where = f"{self.path}: {group.name.rstrip('/')}/{name}"
        if name not in group:
            raise InputError(f"{where}: not there; {near(name, group)}")
        if not isinstance(group.get(name, getlink=True), self._hard):
            raise InputError(f"{where}: is a link, which is refused; expected a {kind.__name__.lower()}")
        try:
            member = group[name]
        except Exception as error:  # a damaged file may raise anything
            raise InputError(f"{where}: cannot be read: {error}") from error
        if not isinstance(member, kind):
            raise InputError(f"{where}: expected a {kind.__name__.lower()}, got a {type(member).__name__.lower()}")
        return member

    def _array(self, group: Any, name: str) -> Array:
        dataset = self._member(group, name, self._dataset)
        if dataset.shape is None or dataset.dtype.kind not in "biuf":
            raise InputError(f"{self.path}: {dataset.name}: expected numbers, got {dataset.dtype}")
        if dataset.external or dataset.is_virtual:
            raise InputError(f"{self.path}: {dataset.name}: lies in another file, which is refused")
        # Compression saves a factor of about 1000 at most: what claims more was not written.
        if dataset.nbytes > 2000 * dataset.id.get_storage_size():
            raise InputError(
                f"{self.path}: {dataset.name}: expected the {dataset.nbytes} bytes that its shape {dataset.shape} "
                f"takes, got {dataset.id.get_storage_size()} in the file"
            )
        try:
            return np.asarray(dataset[()])
        except Exception as error:  # a damaged file may raise anything
            raise InputError(f"{self.path}: {dataset.name}: cannot be read: {error}") from error
