"""Cross-entropy that looks away from what is already easy."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmaffect.losses.task import flat_classes, task_loss
from mmaffect.ops import keep


def focal_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    r"""Focal loss over C classes (Lin et al., 2017, eqs. 4-5), averaged over what is labelled.

    .. math:: L = \frac1n \sum_i \sum_c w_c \, q_{ic} \, (1 - p_{ic})^\gamma \, (-\log p_{ic}), \qquad
              q_{ic} = (1 - \epsilon) [c = y_i] + \epsilon / C

    Without smoothing (ε = 0) this is Lin et al.'s loss with w as their α. They have no smoothing; here every class has
    its own factor (1 - p)^γ, so that a confident row still pays for ruling the other classes out. (One factor
    of the true class over the whole smoothed cross-entropy would undo the smoothing where it is needed.) With γ = 0 it
    is :func:`~mmaffect.losses.task_loss`'s cross-entropy, and it always has that one's mean: over the number of labels,
    not over the sum of their weights, so that parts of a batch add up to the whole.

    Args:
        logits: unnormalised scores.
        targets: class indices, -100 = unlabelled.
        gamma: γ >= 0, how fast what is easy fades.
        label_smoothing: ε in [0, 1).
        class_weights: w, the weight of each class.
        valid: bool; entries marked False are left out (a turn at which nothing is observed).

    Shape:
        ``logits (..., C)``, ``targets (...)``, ``valid`` with leading dimensions of ``targets`` → scalar.

    Returns:
        Scalar; zero, with zero gradient, where nothing is labelled.

    Raises:
        ValueError: on shapes that do not match, or a ``gamma`` or ``label_smoothing`` out of range.

    Example:
        >>> logits, targets = torch.zeros(3, 2), torch.tensor([0, 1, -100])
        >>> focal_cross_entropy(logits, targets, gamma=2.0)  # log 2, a quarter of it
        tensor(0.1733)
        >>> focal_cross_entropy(logits, targets, gamma=0.0)
        tensor(0.6931)
    """
    if not (math.isfinite(gamma) and gamma >= 0):
        raise ValueError(f"gamma: expected a finite value >= 0, got {gamma}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing: expected a share in [0, 1), got {label_smoothing}")
    if class_weights is not None and len(class_weights) != logits.shape[-1]:
        raise ValueError(f"class_weights: expected {logits.shape[-1]} values, got {len(class_weights)}")
    if gamma == 0:
        return task_loss(
            logits, targets, "class", valid=valid, class_weights=class_weights, label_smoothing=label_smoothing
        )
    rows, classes, count = flat_classes(logits, targets, valid)
    weights = rows.new_ones(rows.shape[-1]) if class_weights is None else rows.new_tensor(class_weights)
    log_p = rows.log_softmax(-1)
    labelled = classes != -100
    true = keep(classes, labelled).long().unsqueeze(-1)
    # Read at the true class before it is weighed: a class ruled out entirely, 0 · ∞, must not touch the others.
    loss = (1 - label_smoothing) * weights[true] * _focal(log_p.gather(-1, true), gamma)
    if label_smoothing > 0:
        loss = loss + label_smoothing * (weights * _focal(log_p, gamma)).mean(-1, keepdim=True)
    return keep(loss.squeeze(-1), labelled).sum() / count


def _focal(log_p: Tensor, gamma: float) -> Tensor:
    """``-(1 - p)^γ log p``; for γ < 1 the power has no finite slope at p = 1, where the product is flat."""
    return -log_p * (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny).pow(gamma)
