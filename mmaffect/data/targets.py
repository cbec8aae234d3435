"""From a column of labels to targets: classes by index or by value, labels of 0 and 1, scores in a range."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmaffect.data.arrays import Array
from mmaffect.data.target_recipe import TargetRecipe
from mmaffect.data.toml_table import Scalar, near
from mmaffect.ops import InputError

UNLABELLED = -100


class Targets(NamedTuple):
    """Targets of each row, and which rows have one."""

    values: Tensor
    labelled: Tensor


def encode_values(array: Array, codes: Mapping[Scalar, int], where: str, *, nan: int | None = None) -> Array:
    """Map each value of a column to its code.

    Args:
        array: ``(N,)``.
        codes: code by value.
        where: file, key and array, for messages.
        nan: the code of NaN; None: it has none.

    Returns:
        int64 array ``(N,)``.

    Raises:
        InputError: naming the most frequent value that has no code, and how many rows hold such values.
    """
    found, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    values = found.tolist()
    mapped = [nan if v != v else codes.get(v) for v in values]
    wrong = [(n, v) for n, v, code in zip(counts.tolist(), values, mapped, strict=True) if code is None]
    if wrong:
        rows = sum(n for n, _ in wrong)
        _, worst = max(wrong, key=lambda pair: pair[0])
        raise InputError(f"{where}: {worst!r} is not expected ({rows} rows hold such values); {near(worst, codes)}")
    return np.asarray(mapped, dtype=np.int64)[inverse.reshape(-1)]


def encode_targets(array: Array, recipe: TargetRecipe, where: str) -> Targets:
    """Encode a recipe's target column.

    Args:
        array: what the file holds.
        recipe: what it means.
        where: file, key and array, for messages.

    Returns:
        Classes int64 ``(N,)`` with -100 where unlabelled; labels float32 ``(N, C)``, scores float32 ``(N,)`` or
        ``(N, K)``, with NaN where unlabelled. A row counts as labelled if any of its entries is.

    Raises:
        InputError: on another shape, a value outside the classes or the range, or no labelled row at all.
    """
    encode = _classes if recipe.kind == "class" else _numbers
    targets = encode(array, recipe, where)
    if not targets.labelled.any():
        raise InputError(f"{where}: expected some labelled rows, got none of {len(array)}")
    return targets


def blank_targets(recipe: TargetRecipe, rows: int) -> Targets:
    """Targets of data without labels: nothing but -100 or NaN; every row counts, so that each is predicted."""
    width = len(recipe.classes)
    if recipe.kind == "class":
        values = torch.full((rows,), UNLABELLED)
    elif recipe.kind == "score" and width == 1:
        values = torch.full((rows,), float("nan"))
    else:
        values = torch.full((rows, width), float("nan"))
    return Targets(values, torch.ones(rows, dtype=torch.bool))


def _classes(array: Array, recipe: TargetRecipe, where: str) -> Targets:
    if array.ndim != 1:
        raise InputError(f"{where}: expected one class a row, got shape {array.shape}")
    if recipe.bins is not None:
        return _binned(array, recipe, where)
    codes: dict[Scalar, int]
    if recipe.values is not None:
        codes = {value: index for index, entry in enumerate(recipe.values) for value in entry}
    elif array.dtype.kind == "U":
        codes = {name: index for index, name in enumerate(recipe.classes)}
    else:
        codes = {index: index for index in range(len(recipe.classes))}
    codes |= dict.fromkeys(recipe.unlabelled, UNLABELLED)
    targets = torch.from_numpy(encode_values(array, codes, where, nan=UNLABELLED))
    return Targets(targets, targets != UNLABELLED)


def _binned(array: Array, recipe: TargetRecipe, where: str) -> Targets:
    """Classes of scores; one on an edge is above it, or between the two where the edge is given twice."""
    scores = _numbers(array, replace(recipe, kind="score", classes=("score",)), where)
    values = scores.values.double().nan_to_num()
    if recipe.bins == "round":
        low = 0.0 if recipe.range is None else recipe.range[0]
        classes = values.round() - low
    else:
        edges = torch.tensor(recipe.bins, dtype=torch.float32).double()
        classes = (values[:, None] > edges).sum(1) + (values[:, None] == edges).any(1)
    return Targets(torch.where(scores.labelled, classes.long(), UNLABELLED), scores.labelled)


def _numbers(array: Array, recipe: TargetRecipe, where: str) -> Targets:
    width = len(recipe.classes)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where}: expected numbers, got {array.dtype}")
    matrix = array[:, None] if array.ndim == 1 else array
    if matrix.ndim != 2 or matrix.shape[1] != width:
        names = ", ".join(recipe.classes)
        raise InputError(f"{where}: expected {width} a row as in target.classes ({names}), got shape {array.shape}")
    matrix = matrix.astype(np.float32)
    numbers = [v for v in recipe.unlabelled if not isinstance(v, str)]
    matrix[np.isin(matrix, np.asarray(numbers, dtype=np.float32))] = np.nan
    low, high = (0.0, 1.0) if recipe.kind == "multilabel" else recipe.range or (-np.inf, np.inf)
    wrong = ~np.isnan(matrix) & ((matrix < low) | (matrix > high) | np.isinf(matrix))
    if recipe.kind == "multilabel":
        wrong |= ~np.isnan(matrix) & (matrix != 0) & (matrix != 1)
    if wrong.any():
        wanted = "0 or 1" if recipe.kind == "multilabel" else f"finite scores within {low} … {high}"
        given = matrix[wrong][0].item()
        raise InputError(f"{where}: expected {wanted}, got {given} ({wrong.any(1).sum()} rows hold such values)")
    targets = torch.from_numpy(matrix)
    labelled = ~targets.isnan().all(1)
    return Targets(targets[:, 0] if recipe.kind == "score" and width == 1 else targets, labelled)
