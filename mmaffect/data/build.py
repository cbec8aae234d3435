"""From the rows of a file to a dataset: the kind of sequence, normalised values, the samples of one split."""

from typing import cast

import numpy as np
from torch import Tensor

from mmaffect.data.arrays import Array
from mmaffect.data.dataset import MultimodalDataset
from mmaffect.data.layout import Cut
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.normalise import Normaliser
from mmaffect.data.recipe import Recipe
from mmaffect.data.rows import Rows
from mmaffect.data.spec import DataSpec, SequenceKind
from mmaffect.data.targets import Targets
from mmaffect.ops import InputError, check_choice


def read_sequence(recipe: Recipe, sequence: str | None, context: int | None) -> tuple[SequenceKind, int]:
    """Kind of sequence and steps of a window: what is given, else the recipe's.

    Raises:
        InputError: on an unknown kind, or less than one step.
    """
    kind = sequence or recipe.sequence
    check_choice("sequence", kind, ("dialogue", "window", "single"))
    steps = recipe.context if context is None else context
    if steps < 1:
        raise InputError(f"context: expected at least 1 step, got {steps}")
    return cast(SequenceKind, kind), steps


def normalised(rows: Rows, normaliser: Normaliser) -> dict[str, Tensor]:
    """Values of each modality by the training statistics, or by those of their groups; token ids as they are."""

    def apply(name: str, rows_of: ModalityRows) -> Tensor:
        if rows_of.values.dim() == 1:
            return rows_of.values  # token ids
        group = rows.within[name][rows_of.owner] if name in rows.within else None
        return normaliser.apply(name, rows_of.values, rows_of.valid, group)

    return {name: apply(name, modality) for name, modality in rows.modalities.items()}


def build_dataset(
    spec: DataSpec, rows: Rows, values: dict[str, Tensor], targets: Targets, cut: Cut, chosen: Tensor
) -> MultimodalDataset:
    """The samples among ``cut`` that are chosen; the flat arrays of the rows are shared by all datasets made of them.

    Args:
        spec: what the data are.
        rows: of the file.
        values: of the rows, as `normalised` gives them.
        targets: of the rows.
        cut: samples as rows.
        chosen: bool, one a sample of ``cut``.
    """
    dialogue = spec.sequence == "dialogue"
    row, spans = cut.row[chosen], cut.spans[chosen]
    at = row.numpy()
    names = rows.layout.names[rows.layout.code] if dialogue else rows.ids
    groups = {name: _joined(column, spans) if dialogue else column[at] for name, column in rows.groups.items()}
    confounder = rows.confounder
    return MultimodalDataset(
        spec,
        values=values,
        observed={name: modality.observed for name, modality in rows.modalities.items()},
        spans=spans if spec.sequence != "single" else {n: m.spans[row] for n, m in rows.modalities.items()},
        targets=targets.values if dialogue else targets.values[row],
        ids=names[at].astype(str).tolist(),
        row_ids=rows.ids.tolist() if dialogue else None,
        speaker=rows.speaker,
        confounder=confounder if dialogue or confounder is None else confounder[row],
        groups={name: column.tolist() for name, column in groups.items()},
    )


def _joined(column: Array, spans: Tensor) -> Array:
    """What each span belongs to; several names (the speakers of a dialogue) are joined by "+"."""
    return np.array(["+".join(np.unique(column[start:stop])) for start, stop in spans.tolist()])
