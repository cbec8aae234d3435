"""Pickles of the form ``{"train": {key: array}, "valid": …, "test": …}``, checked entry by entry."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mmaffect.data.arrays import Array
from mmaffect.data.safe_unpickle import safe_unpickle
from mmaffect.data.split_recipe import SPLITS
from mmaffect.data.toml_table import near
from mmaffect.ops import InputError


class SplitTable:
    """The arrays of one split, one entry a sample.

    Args:
        where: file and split, for messages.
        values: arrays or lists by key.
        first: key of the array that tells the number of samples.

    Raises:
        InputError: if that array is missing or empty.
    """

    def __init__(self, where: str, values: Mapping[Any, Any], first: str) -> None:
        self.where = where
        self._values = values
        self.size: int | None = None
        self.size = len(self._entries(first))
        self._first = first
        if self.size == 0:
            raise InputError(f"{where}: {first!r}: expected at least one sample, got none")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def _entries(self, key: str) -> Array:
        if key not in self._values:
            raise InputError(f"{self.where}: {key!r}: no such key; {near(key, self._values)}")
        value = self._values[key]
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InputError(f"{self.where}: {key!r}: expected entries of one shape, got a ragged list") from error
        if not isinstance(value, np.ndarray | list | tuple) or array.ndim == 0:
            raise InputError(f"{self.where}: {key!r}: expected an array or a list, got {type(value).__name__}")
        if self.size is not None and len(array) != self.size:
            raise InputError(
                f"{self.where}: {key!r}: expected {self.size} entries as in {self._first!r}, got {len(array)}"
            )
        return array

    def dimensions(self, key: str) -> tuple[int, ...]:
        """Shape of an array.

        Raises:
            InputError: if it is missing or no array.
        """
        return self._entries(key).shape

    def numbers(self, key: str, shape: str) -> Array:
        """Read an array of numbers.

        Args:
            key: its key.
            shape: its dimensions apart by blanks, ``"N T D"``; a number stands for itself.

        Raises:
            InputError: if it is missing, of another shape, or not of numbers.
        """
        array = self._entries(key)
        if array.dtype.kind == "O":  # numbers wrapped as objects
            try:
                array = array.astype(np.float64)
            except (TypeError, ValueError):
                raise InputError(f"{self.where}: {key!r}: expected numbers, got objects of other kinds") from None
        if array.dtype.kind not in "biuf":
            raise InputError(f"{self.where}: {key!r}: expected numbers, got {array.dtype}")
        wanted = shape.split()
        fits = len(wanted) == array.ndim and all(
            not w.isdigit() or int(w) == size for w, size in zip(wanted, array.shape, strict=True)
        )
        if not fits:
            raise InputError(f"{self.where}: {key!r}: expected shape ({', '.join(wanted)}), got {array.shape}")
        return array

    def counts(self, key: str, most: int) -> Array:
        """Read whole numbers of ``0 … most``, one a sample.

        Raises:
            InputError: if it is missing or holds anything else.
        """
        array = self.numbers(key, "N")
        if not np.isin(array, np.arange(most + 1)).all():
            raise InputError(
                f"{self.where}: {key!r}: expected whole numbers of 0 … {most}, the steps of the array, got "
                f"{array.min()} … {array.max()}"
            )
        return array.astype(np.int64)

    def names(self, key: str) -> list[tuple[str, ...]]:
        """Read the parts of each sample's name: strings, bytes or numbers, one or several a sample.

        Raises:
            InputError: if it is missing or has more than two dimensions.
        """
        array = self._entries(key)
        if array.ndim > 2 or array.dtype.kind not in "biufSUO":
            raise InputError(f"{self.where}: {key!r}: expected (N,) or (N, K) names, got {array.dtype} {array.shape}")
        return [tuple(map(_text, row)) for row in array.reshape(len(array), -1).tolist()]


def _text(part: object) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)


def read_split_tables(path: str | PathLike[str], first: str) -> list[SplitTable]:
    """Read training, validation and test tables, in this order.

    Args:
        path: the pickle.
        first: a key every split must have: its length is the number of samples.

    Raises:
        InputError: if the pickle is refused or damaged, or a split is missing or no dict.
    """
    path = Path(path)
    content = safe_unpickle(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a dict of {', '.join(SPLITS)}, got {type(content).__name__}")
    for name in SPLITS:
        if name not in content:
            raise InputError(f"{path}: split {name!r}: no such key; {near(name, content)}")
        if not isinstance(content[name], dict):
            raise InputError(f"{path}: split {name!r}: expected a dict of arrays, got {type(content[name]).__name__}")
    return [SplitTable(f"{path}: {name}", content[name], first) for name in SPLITS]
