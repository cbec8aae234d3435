"""Labels of the CMU Multimodal SDK: sentiment, and emotions of which a segment may show several or none."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from mmaffect.data.arrays import Array
from mmaffect.data.targets import Targets
from mmaffect.ops import InputError, check_choice

ZeroRows = Literal["drop", "neutral", "keep", "argmax"]
ALL_LABELS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


class CsdTargets(NamedTuple):
    """Targets and what they are called."""

    targets: Targets
    classes: tuple[str, ...]


def csd_targets(
    table: Array, columns: Sequence[str], target: str, zero_rows: ZeroRows | None, label: str
) -> CsdTargets:
    """Make targets of rows of labels; a row with NaN in what is asked for is unlabelled.

    Args:
        table: a row a segment.
        columns: what each column is.
        target: ``"sentiment"``, the column of that name, or ``"emotion"``, all others: 1 where above 0.
        zero_rows: what becomes of rows without any emotion: ``"drop"``, ``"neutral"``, ``"keep"`` or ``"argmax"``.
        label: the file, for messages.

    Raises:
        InputError: if the columns asked for are not there, values are infinite, or ``zero_rows`` is not given where
            it counts.

    Example:
        >>> table = np.array([[0.5, 0, 2, 1], [-1.0, 0, 0, 0]])
        >>> columns = ("sentiment", "happy", "sad", "anger")
        >>> csd_targets(table, columns, "emotion", "neutral", "x.csd").targets.values.tolist()
        [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
        >>> csd_targets(table, columns, "sentiment", None, "x.csd").targets.values.tolist()
        [0.5, -1.0]
    """
    wanted = [i for i, name in enumerate(columns) if (name == "sentiment") == (target == "sentiment")]
    if not wanted or (target == "sentiment" and len(wanted) > 1):
        raise InputError(f"{label}: target = {target!r}: expected columns for it, got {', '.join(columns)}")
    values = table[:, wanted].astype(np.float32)
    if np.isinf(values).any():
        raise InputError(f"{label}: expected finite labels, or NaN, got infinity")
    labelled = np.asarray(~np.isnan(values).any(1))
    if target == "sentiment":
        return CsdTargets(Targets(torch.from_numpy(values[:, 0]), torch.from_numpy(labelled)), ("sentiment",))
    if zero_rows is None:
        none = int((labelled & ~(values > 0).any(1)).sum())
        raise InputError(
            f"{label}: zero_rows: expected 'drop', 'neutral', 'keep' or 'argmax', since {none} of {labelled.sum()} "
            "labelled rows show no emotion; got nothing"
        )
    check_choice("zero_rows", zero_rows, ("drop", "neutral", "keep", "argmax"))
    classes = tuple(columns[i] for i in wanted)
    shown = np.where(labelled[:, None], values > 0, np.nan).astype(np.float32)
    zero = np.asarray(labelled & (shown == 0).all(1))
    if zero_rows == "drop":
        labelled = labelled & ~zero
        shown[zero] = np.nan
    elif zero_rows == "neutral":
        classes = (*classes, "neutral")
        shown = np.concatenate([shown, np.where(labelled, zero, np.nan)[:, None].astype(np.float32)], 1)
    elif zero_rows == "argmax":
        shown[zero, 0] = 1
    return CsdTargets(Targets(torch.from_numpy(shown), torch.from_numpy(labelled)), classes)
