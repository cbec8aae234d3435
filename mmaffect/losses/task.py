"""The task's own loss, for every kind of target, blind to what is unlabelled or unobserved."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmaffect.ops import at_least_float32, check_choice, keep


def task_loss(
    prediction: Tensor,
    targets: Tensor,
    kind: Literal["class", "multilabel", "score"],
    *,
    valid: Tensor | None = None,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy, binary cross-entropy or absolute error, averaged over what is labelled.

    Args:
        prediction: logits, or scores.
        targets: class indices (-100 = unlabelled), labels 0/1 (-100 or NaN) or scores (NaN = unlabelled).
        kind: ``"class"``, ``"multilabel"`` or ``"score"``.
        valid: bool; entries marked False are left out (a turn at which nothing is observed).
        class_weights: weight of each class, for ``"class"``. Unlike PyTorch's, the mean divides by the number of
            labels and not by the sum of their weights, so that parts of a batch add up to the whole.
        label_smoothing: for ``"class"``, in [0, 1).

    Shape:
        class: ``prediction (..., C)``, ``targets (...)``; else both of the same shape. ``valid`` has the
        leading dimensions of ``targets``.

    Returns:
        Scalar; zero, with zero gradient, where nothing is labelled.

    Raises:
        ValueError: on an unknown kind or shapes that do not match.

    Example:
        >>> task_loss(torch.zeros(3, 4), torch.tensor([0, 3, -100]), "class")
        tensor(1.3863)
        >>> task_loss(torch.zeros(2), torch.tensor([1.0, float("nan")]), "score")
        tensor(1.)
    """
    check_choice("kind", kind, ("class", "multilabel", "score"))
    if kind == "class":
        logits, classes, count = flat_classes(prediction, targets, valid)
        weight = None if class_weights is None else logits.new_tensor(class_weights)
        rows = F.cross_entropy(
            logits, classes, weight=weight, label_smoothing=label_smoothing, ignore_index=-100, reduction="none"
        )
        return rows.sum() / count
    _check_targets(targets, prediction.shape, kind)
    labelled = ~targets.isnan() if kind == "score" else (targets != -100) & ~targets.isnan()
    labelled = _and_valid(labelled, valid)
    prediction = keep(at_least_float32(prediction), labelled)
    targets = keep(targets.to(prediction.dtype), labelled)
    if kind == "multilabel":
        rows = F.binary_cross_entropy_with_logits(prediction, targets, reduction="none")
    else:
        rows = (prediction - targets).abs()
    return keep(rows, labelled).sum() / labelled.sum().clamp(min=1)


def flat_classes(logits: Tensor, targets: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """What every loss over classes starts from: one row an entry, whatever does not count taken out.

    Shape:
        ``logits (..., C)``, ``targets (...)`` → logits ``(N, C)`` of at least float32, zero where nothing is labelled;
        classes ``(N,)``, -100 there; and how many are labelled ``()``, at least 1.

    Raises:
        ValueError: on shapes that do not match.
    """
    _check_targets(targets, logits.shape[:-1], "class")
    labelled = _and_valid((targets != -100) & ~targets.isnan(), valid)
    classes = torch.where(labelled, targets, torch.full_like(targets, -100)).flatten()
    return keep(at_least_float32(logits), labelled).flatten(0, -2), classes, labelled.sum().clamp(min=1)


def _check_targets(targets: Tensor, expected: Sequence[int], kind: str) -> None:
    if targets.shape != tuple(expected):
        raise ValueError(f"targets: expected shape {tuple(expected)} for {kind!r}, got {tuple(targets.shape)}")


def _and_valid(labelled: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return labelled
    return labelled & valid.view(valid.shape + (1,) * (labelled.dim() - valid.dim()))
