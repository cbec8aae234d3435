"""Missing not at random: what is absent depends on the label."""

import torch
from torch import Tensor

from mmaffect.missing.conditional import at_least_one
from mmaffect.missing.draws import rounding, uniform
from mmaffect.ops import check_shape


def label_dependent(labels: Tensor, rates: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Availability whose chance depends on the class of the sample.

    Rows are independent given the labels. In a sample of class c modality j is missing with probability
    exactly ``rates[c, j]``; jointly, the modalities are independent coins given that not all are lost, with
    their chances solved for those marginals (`at_least_one`: the law of greatest entropy that keeps one).
    Missing completely at random is the case of equal rows.

    Args:
        labels: classes from 0; every sample needs one.
        rates: expected share missing by class and modality; a class must keep one on average, that is
            1 - rates must sum to at least one in each row.
        generator: where the randomness comes from; its device is that of the result. Torch's own by default.

    Shape:
        ``labels (N,)`` int64, ``rates (C, M)`` → bool ``(N, M)``, True = kept.

    Raises:
        ValueError: on other shapes, labels outside 0 … C - 1, rates outside [0, 1], or a class whose rates
            leave less than one modality.

    Example:
        >>> label_dependent(torch.tensor([0, 1, 1]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])).tolist()
        [[True, False], [False, True], [False, True]]
    """
    check_shape("labels", labels, "N")
    check_shape("rates", rates, "C M")
    classes, m = rates.shape
    outside = (labels < 0) | (labels >= classes)
    if labels.numel() and (labels.dtype not in (torch.int32, torch.int64) or outside.any()):
        raise ValueError(
            f"labels: expected integers in 0 … {classes - 1} (one row of rates a class), got {labels.dtype} "
            f"from {labels.min().item()} to {labels.max().item()}"
        )
    if not ((rates >= 0) & (rates <= 1)).all():
        raise ValueError(f"rates: expected values in [0, 1], got {rates.tolist()}")
    noise = uniform(labels.shape[0], m, generator=generator)
    kept = 1 - rates.to(noise)
    short = kept.sum(1) < 1 - m * rounding(rates)
    if short.any():
        worst = int(short.nonzero()[0])
        raise ValueError(
            f"rates: expected every class to keep at least one modality on average (sum of 1 - rates >= 1), "
            f"got {rates[worst].tolist()} for class {worst}"
        )
    return at_least_one(kept[labels.to(noise.device)], noise)
