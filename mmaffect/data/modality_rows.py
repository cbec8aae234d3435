"""A modality's rows: shape, availability, logarithm, and what is not finite."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmaffect.data.arrays import Array, ArrayFile
from mmaffect.data.recipe import ModalityRecipe, NonFinite
from mmaffect.ops import InputError


class ModalityRows(NamedTuple):
    """Rows of a modality.

    Args:
        values: float32 ``(R, D)``; token ids int64 ``(R,)``.
        observed: bool ``(R,)``.
        valid: bool like ``values``; entries that are observed and finite.
        spans: rows of each sample ``(N, 2)``; with one row a sample, ``[i, i + 1]``.
        owner: the sample of each row ``(R,)``.
        repaired: how many observed entries are not finite.
    """

    values: Tensor
    observed: Tensor
    valid: Tensor
    spans: Tensor
    owner: Tensor
    repaired: int

    @property
    def there(self) -> Tensor:
        """Samples with at least one observed row, bool ``(N,)``."""
        count = torch.zeros(len(self.spans), dtype=torch.int64).index_add_(0, self.owner, self.observed.long())
        return count > 0


def read_modality(
    file: ArrayFile, name: str, recipe: ModalityRecipe, *, order: Array, shared: bool, nonfinite: NonFinite
) -> ModalityRows:
    """Read a modality as a recipe describes it.

    Args:
        file: where from.
        name: the modality, for messages.
        recipe: its description.
        order: order of the dataset's rows.
        shared: whether all modalities share one time axis; several rows a sample are refused then.
        nonfinite: ``"raise"``; ``"zero"``: such entries are not valid; ``"absent"``: such rows are not observed.

    Raises:
        InputError: naming file, key, array, what was given and what was expected.
    """
    where = f"{file.label}: modalities.{name}.array = {recipe.array!r}"
    array, steps = _rows_and_steps(file, f"modalities.{name}", recipe, order, shared)
    owner = np.repeat(np.arange(len(steps)), steps)
    with np.errstate(over="ignore"):
        values = torch.from_numpy(array.astype(np.float32))
    observed = torch.ones(len(values), dtype=torch.bool)
    if recipe.available is not None:
        flags = file.flags(recipe.available, f"modalities.{name}.available")[order]
        observed = torch.from_numpy(flags[owner])
    finite = torch.isfinite(values)
    bad = observed[:, None] & ~finite
    if nonfinite == "raise" and bad.any():
        rows = bad.any(1)
        raise InputError(
            f"{where}: {int(bad.sum())} values in {int(rows.sum())} observed rows are NaN or infinite, first in row "
            f"{int(order[owner[int(rows.nonzero()[0])]])}; expected finite values, or nonfinite = 'zero' or 'absent'"
        )
    if nonfinite == "absent":
        observed = observed & finite.all(1)
    valid = observed[:, None] & finite
    ends = torch.from_numpy(np.cumsum(steps))
    return ModalityRows(
        values=_logarithm(torch.where(valid, values, 0.0), valid, recipe, where),
        observed=observed,
        valid=valid,
        spans=torch.stack([ends - torch.from_numpy(steps), ends], 1),
        owner=torch.from_numpy(owner),
        repaired=int(bad.sum()),
    )


def absent_modality(rows: int, width: int) -> ModalityRows:
    """Rows of a modality that nobody has: one a sample, none observed."""
    at = torch.arange(rows)
    nothing = torch.zeros(rows, width, dtype=torch.bool)
    return ModalityRows(torch.zeros(rows, width), nothing[:, 0], nothing, torch.stack([at, at + 1], 1), at, 0)


def _rows_and_steps(
    file: ArrayFile, key: str, recipe: ModalityRecipe, order: Array, shared: bool
) -> tuple[Array, Array]:
    """Rows ``(R, D)`` without padding, sample after sample, and how many each sample has ``(N,)``."""
    name = f"{key}.array"
    where = f"{file.label}: {name} = {recipe.array!r}"
    array = file.rows(recipe.array, name) if recipe.offsets is None else file.read(recipe.array, name)
    if array.dtype.kind not in "biuf":
        hint = f"; sentences need {key}.tokenizer" if array.dtype.kind == "U" else ""
        raise InputError(f"{where}: expected numbers, got {array.dtype}{hint}")
    if shared and (recipe.offsets is not None or array.ndim == 3):
        raise InputError(
            f"{where}: several rows a sample cannot share the time axis of a dialogue or window; "
            "expected one row a turn, or sequence = 'single'"
        )
    wanted = "(R,) or (R, D)" if recipe.offsets else "(N, T, D)" if recipe.lengths else "(N,), (N, D) or (N, T, D)"
    allowed = (1, 2) if recipe.offsets else (3,) if recipe.lengths else (1, 2, 3)
    if array.ndim not in allowed or array.size == 0:
        raise InputError(f"{where}: expected shape {wanted}, none of them zero, got {array.shape}")
    if recipe.offsets is not None:
        offsets = file.read(recipe.offsets, f"{key}.offsets")
        _check_counts(file, f"{key}.offsets = {recipe.offsets!r}", offsets, len(array), "rows of the array")
        file.check_length(len(offsets) - 1, f"{key}.offsets = {recipe.offsets!r}, less one,")
        offsets, steps = offsets.astype(np.int64), np.diff(offsets.astype(np.int64))
        if (steps < 0).any():
            raise InputError(f"{file.label}: {key}.offsets = {recipe.offsets!r}: expected ascending numbers")
        array = array[offsets[0] : offsets[-1]]
    elif array.ndim == 3:
        count, size, _ = array.shape
        steps = np.full(count, size)
        if recipe.lengths is not None:
            steps = file.column(recipe.lengths, f"{key}.lengths")
            _check_counts(file, f"{key}.lengths = {recipe.lengths!r}", steps, size, "steps of the array")
            steps = steps.astype(np.int64)
        array = array[np.arange(size) < steps[:, None]]
    else:
        array, steps = array[order], np.ones(len(array), dtype=np.int64)
    return (array[:, None] if array.ndim == 1 else array), steps


def _check_counts(file: ArrayFile, what: str, counts: Array, most: int, of: str) -> None:
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or counts.min() < 0 or counts.max() > most:
        raise InputError(
            f"{file.label}: {what}: expected whole numbers of 0 … {most} ({of}), "
            f"got {counts.dtype} {counts.shape} of {counts.min()} … {counts.max()}"
        )


def _logarithm(values: Tensor, valid: Tensor, recipe: ModalityRecipe, where: str) -> Tensor:
    """``log(x + log_offset)`` of the columns that the recipe names."""
    if recipe.log is False:
        return values
    first, stop = (0, values.shape[1]) if recipe.log is True else recipe.log
    if stop > values.shape[1]:
        raise InputError(f"{where}: log = [{first}, {stop}]: expected columns of 0 … {values.shape[1]}")
    shifted = values[:, first:stop].double() + recipe.log_offset
    low = valid[:, first:stop] & (shifted <= 0)
    if low.any():
        raise InputError(
            f"{where}: {int(low.sum())} values are at or below -{recipe.log_offset}, where log(x + log_offset) is not "
            "defined; expected log only for columns above that"
        )
    values = values.clone()
    values[:, first:stop] = torch.where(valid[:, first:stop], shifted.clamp(min=1e-300).log(), 0.0).float()
    return values
