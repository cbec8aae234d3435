"""Drawing rare classes as often as frequent ones."""

import torch
from torch import Tensor

from mmaffect.data import MultimodalDataset
from mmaffect.ops import InputError


def class_counts(dataset: MultimodalDataset) -> Tensor:
    """How many labels of each class each sample has: one at most, but for dialogues.

    Shape:
        → ``(N, C)`` float64.

    Raises:
        InputError: if the targets are not classes.
    """
    spec, targets = dataset.spec, dataset.targets
    if spec.target != "class":
        raise InputError(f"sampling: 'balanced' expects targets that are classes, the data have {spec.target!r}")
    # Compared, not one-hot: an unlabelled row (-100) is of no class.
    member = (targets.unsqueeze(-1) == torch.arange(spec.outputs)).double()
    if spec.sequence != "dialogue":
        return member
    upto = torch.cat([member.new_zeros(1, spec.outputs), member.cumsum(0)])
    start, stop = dataset.spans[spec.names[0]].unbind(1)
    return upto[stop] - upto[start]


def class_balance(dataset: MultimodalDataset) -> Tensor:
    r"""How likely each sample is to be drawn: the mean over its labels of one over how frequent their class is.

    .. math:: w_i = \frac{1}{|L_i|} \sum_{l \in L_i} \frac{1}{n_{y_l}}

    with n_c the labels of class c in the dataset. Where a sample has one label, every class that occurs has the same
    chance. A dialogue is drawn as a whole: its frequent classes come with its rare ones, so the shares of the classes
    come nearer to each other but not to equality. A sample without a label is never drawn.

    Shape:
        → ``(N,)`` float64.

    Raises:
        InputError: if the targets are not classes, or nothing is labelled.

    Example:
        >>> from mmaffect.data import DataSpec
        >>> data = MultimodalDataset(
        ...     DataSpec({"pulse": 1}, "class", ("calm", "stress"), "window"),
        ...     values={"pulse": torch.randn(4, 1)}, observed={"pulse": torch.ones(4, dtype=torch.bool)},
        ...     spans=torch.tensor([[i, i + 1] for i in range(4)]), targets=torch.tensor([0, 0, 1, -100]), ids="abcd")
        >>> class_balance(data).tolist()
        [0.5, 0.5, 1.0, 0.0]
    """
    counts = class_counts(dataset)
    if not counts.any():
        raise InputError(f"sampling: 'balanced' expects labels, none of the {len(dataset)} samples has one")
    return counts @ (1 / counts.sum(0).clamp(min=1)) / counts.sum(1).clamp(min=1)
