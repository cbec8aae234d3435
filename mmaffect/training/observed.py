"""A dataset as the truly missing regime has it: without what the condition hides, for good."""

import torch
from torch import Tensor

from mmaffect.data import MultimodalDataset
from mmaffect.ops import lengths_to_mask
from mmaffect.training.conditions import Change
from mmaffect.training.step import hide_labels

_CHUNK = 64


def observed_dataset(dataset: MultimodalDataset, change: Change) -> MultimodalDataset:
    """Copy a dataset without what a change hides: also without samples, and labels of turns, left with nothing.

    Rows that overlapping windows share are copied for each, as each may lack others of them.

    Args:
        dataset: as it is.
        change: a condition bound to it.

    Returns:
        Its samples in order, numbered anew, with the same lengths, names and groups.
    """
    spec, shared = dataset.spec, dataset.shared
    values: dict[str, list[Tensor]] = {name: [] for name in spec.names}
    observed: dict[str, list[Tensor]] = {name: [] for name in spec.names}
    targets: list[Tensor] = []
    left: list[Tensor] = []
    for start in range(0, len(dataset), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(dataset)))
        batch = hide_labels(spec, change(dataset.collate([dataset[i] for i in rows])))
        for name, x in batch.inputs.items():
            real = lengths_to_mask(dataset.lengths[name][rows.start : rows.stop], x.shape[1])
            values[name].append(x[real])
            observed[name].append(batch.masks[name][real])
        left.append(batch.present.any(1))
        by_step = spec.sequence == "dialogue" and batch.steps is not None
        targets.append(batch.targets[batch.steps] if by_step else batch.targets)
    spans = {}
    for name, length in dataset.lengths.items():
        stop = length.cumsum(0)
        spans[name] = torch.stack([stop - length, stop], dim=1)
    taken = torch.cat([torch.arange(*span) for span in dataset.spans[spec.names[0]].tolist()])
    by_row = dataset.confounder is not None and spec.sequence == "dialogue"
    whole = MultimodalDataset(
        spec,
        values={name: torch.cat(parts) for name, parts in values.items()},
        observed={name: torch.cat(parts) for name, parts in observed.items()},
        spans=spans[spec.names[0]] if shared else spans,
        targets=torch.cat(targets),
        ids=dataset.ids,
        row_ids=None if dataset.row_ids is None else [dataset.row_ids[i] for i in taken.tolist()],
        speaker=None if dataset.speaker is None else dataset.speaker[taken],
        confounder=dataset.confounder[taken] if by_row and dataset.confounder is not None else dataset.confounder,
        groups=dataset.groups,
    )
    return whole.subset(torch.cat(left).nonzero().flatten())
