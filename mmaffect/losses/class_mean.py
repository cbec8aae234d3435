"""Latents that lie nearer to their own class than to any other."""

from typing import Literal

import torch
from torch import Tensor

from mmaffect.ops import at_least_float32, check_choice, check_int64, check_positive, check_shape, full_precision, keep


def class_mean_hinge(
    latents: Tensor,
    labels: Tensor,
    classes: int,
    *,
    margin: float = 1.0,
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor:
    r"""Clustering-like loss of CPM-Net (Zhang et al., 2019, eq. 5).

    .. math::
        s_{nc} = \frac{1}{|T_c \setminus n|} \sum_{i \in T_c \setminus n} h_n^\top h_i, \qquad
        \hat y_n = \arg\max_c s_{nc}, \qquad
        L_n = \max\big(0,\, \Delta\, [\hat y_n \neq y_n] + \max_c s_{nc} - s_{n y_n}\big)

    T_c are the samples of class c. A sample is no witness of its own class; one that has no other is scored zero
    there. A class without samples is never the answer. Costs N · C · D: sums over classes, and no table of
    all pairs.

    Args:
        latents: one a sample; those of a whole training set where they are free parameters.
        labels: class indices, -100 = unlabelled: such a sample pays nothing and is no witness.
        classes: how many there are, C.
        margin: Δ, what a wrong answer costs at least.
        reduction: ``"mean"`` over labelled samples; ``"sum"`` is the published code's.

    Shape:
        ``latents (N, D)``, ``labels (N,)`` → scalar.

    Returns:
        Scalar; zero, with zero gradient, where nothing is labelled.

    Raises:
        ValueError: on other shapes, labels that are not int64, a number out of range or an unknown reduction.

    Example:
        >>> latents = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> class_mean_hinge(latents, torch.tensor([0, 0, 1, 1]), 2)
        tensor(0.)
        >>> class_mean_hinge(latents, torch.tensor([0, 1, 1, 0]), 2)  # each is alone among the others' class
        tensor(1.5000)
    """
    check_shape("latents", latents, "N D")
    check_shape("labels", labels, "N", N=latents.shape[0])
    check_int64(labels=labels)
    check_positive(classes=classes, margin=margin)
    check_choice("reduction", reduction, ("mean", "sum"))
    labelled = labels >= 0
    h = keep(at_least_float32(latents), labelled)
    member = labels.unsqueeze(1) == torch.arange(classes, device=labels.device)
    weight = member.to(h.dtype)
    others = weight.sum(0) - weight
    with full_precision(h):
        sums = h @ (weight.T @ h).T
    scores = (sums - weight * h.square().sum(1, keepdim=True)) / others.clamp(min=1)
    own = (scores * weight).sum(1)
    lowest = torch.full((), -torch.inf, dtype=scores.dtype, device=scores.device)
    best, answer = torch.where((others > 0) | member, scores, lowest).max(1)
    wrong = (answer != labels).to(h.dtype)
    rows = keep((margin * wrong + best - own).clamp(min=0), labelled)
    return rows.sum() if reduction == "sum" else rows.sum() / labelled.sum().clamp(min=1)
