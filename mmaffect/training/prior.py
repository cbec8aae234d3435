"""What is said of a row of which nothing is left: what the training split alone says."""

import torch
from torch import Tensor

from mmaffect.data import MultimodalDataset
from mmaffect.metrics.labelled import UNLABELLED
from mmaffect.ops import InputError


def prior_prediction(train: MultimodalDataset) -> Tensor:
    """The prediction from nothing, in the units of a system's output, from the labels of a dataset.

    Classes: the logarithm of their shares. Labels: the log-odds of their shares. Scores: their means. A share has half
    a count more than it has, so that a class that never occurs is unlikely, but finite.

    Args:
        train: what a system was trained on.

    Shape:
        → ``(C,)``.

    Raises:
        InputError: if a class, label or score is nowhere labelled.

    Example:
        >>> from mmaffect.data import DataSpec
        >>> data = MultimodalDataset(
        ...     DataSpec({"text": 1}, "class", ("sad", "happy"), "window"), values={"text": torch.zeros(4, 1)},
        ...     observed={"text": torch.ones(4, dtype=torch.bool)}, spans=torch.tensor([[i, i + 1] for i in range(4)]),
        ...     targets=torch.tensor([0, 0, 1, -100]), ids="abcd")
        >>> prior_prediction(data).exp().tolist()
        [0.625, 0.375]
    """
    spec, targets = train.spec, train.targets
    if spec.sequence == "dialogue":
        spans = train.spans[spec.names[0]]
        targets = torch.cat([targets[start:stop] for start, stop in spans.tolist()])
    if spec.target == "class":
        counts = torch.bincount(targets[targets != UNLABELLED], minlength=spec.outputs).double()
        if counts.sum() == 0:
            raise InputError("train: expected labelled rows, got none")
        return ((counts + 0.5) / (counts.sum() + 0.5 * spec.outputs)).log()
    values = targets.double().reshape(-1, spec.outputs)
    known = ~values.isnan() & ~((values == UNLABELLED) & (spec.target == "multilabel"))
    number, total = known.sum(0), torch.where(known, values, 0.0).sum(0)
    if (number == 0).any():
        raise InputError(f"train: expected labels of {spec.classes}, got none of some")
    if spec.target == "score":
        return total / number
    return ((total + 0.5) / (number - total + 0.5)).log()
