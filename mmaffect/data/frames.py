"""From arrays padded to one length to the frames that are there."""

from collections.abc import Sequence

import numpy as np
import torch

from mmaffect.data.arrays import Array
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.recipe import NonFinite
from mmaffect.ops import InputError, check_choice


def nonzero_frames(array: Array) -> Array:
    """Which frames hold anything but zeros; NaN and infinity are something.

    Shape:
        ``array (N, T, D)`` → bool ``(N, T)``.
    """
    return (array != 0).any(-1)


def up_to_last(filled: Array) -> Array:
    """Frames up to the last that is filled: what follows it is padding.

    Shape:
        ``filled (N, T)`` → bool ``(N, T)``.

    Example:
        >>> up_to_last(np.array([[True, False, True, False], [False, False, False, False]])).tolist()
        [[True, True, True, False], [False, False, False, False]]
    """
    return np.logical_or.accumulate(filled[:, ::-1], axis=1)[:, ::-1]


def from_first(filled: Array) -> Array:
    """Frames from the first that is filled: what precedes it is padding.

    Shape:
        ``filled (N, T)`` → bool ``(N, T)``.

    Example:
        >>> from_first(np.array([[False, True, False], [False, False, False]])).tolist()
        [[False, True, True], [False, False, False]]
    """
    return np.logical_or.accumulate(filled, axis=1)


def stack_frames(
    frames: Sequence[Array],
    steps: Array,
    where: str,
    *,
    nonfinite: NonFinite,
    observed: Array | None = None,
) -> ModalityRows:
    """Make the rows of a modality of its frames, sample after sample.

    Args:
        frames: arrays of frames, to be stacked; whole numbers are kept as int64, all else becomes float32.
        steps: frames of each sample; 0 where the modality is missing.
        where: file and key, for messages.
        nonfinite: what becomes of NaN and infinity: ``"zero"``: such an entry becomes zero (after normalisation: the
            mean); ``"absent"``: its frame counts as missing; ``"raise"``.
        observed: False at frames that are there for the sake of a common time axis only; all True by default.

    Shape:
        ``frames[k] (R_k, D)``; ``steps (N,)``; ``observed (R,)``.

    Raises:
        InputError: if there is no frame at all, widths differ, or values are not finite where that is refused.
    """
    check_choice("nonfinite", nonfinite, ("raise", "zero", "absent"))
    widths = sorted({part.shape[1] for part in frames})
    if len(widths) != 1:
        raise InputError(f"{where}: expected frames of one width, got {', '.join(map(str, widths)) or 'no frame'}")
    whole = all(part.dtype.kind in "iu" for part in frames)
    with np.errstate(over="ignore"):
        values = torch.from_numpy(np.concatenate([part.astype(np.int64 if whole else np.float32) for part in frames]))
    if not len(values):
        raise InputError(f"{where}: expected frames, got only padding or none; leave this modality out")
    there = torch.ones(len(values), dtype=torch.bool) if observed is None else torch.from_numpy(observed)
    finite = torch.isfinite(values)
    bad = there[:, None] & ~finite
    repaired = int(bad.sum())
    if repaired and nonfinite == "raise":
        raise InputError(
            f"{where}: {repaired} values in {int(bad.any(1).sum())} frames are NaN or infinite; expected finite "
            "values, or nonfinite = 'zero' or 'absent'"
        )
    if nonfinite == "absent":
        there = there & finite.all(1)
    valid = there[:, None] & finite
    counts = torch.from_numpy(np.asarray(steps, dtype=np.int64))
    ends = counts.cumsum(0)
    return ModalityRows(
        values=values.masked_fill(~valid, 0),
        observed=there,
        valid=valid,
        spans=torch.stack([ends - counts, ends], 1),
        owner=torch.arange(len(counts)).repeat_interleave(counts),
        repaired=repaired,
    )
