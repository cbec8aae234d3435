"""What the metrics read: labelled entries only, flattened, checked, in double precision on the CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

UNLABELLED = -100


def labelled_scores(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and truths at the entries whose truth is known.

    The shapes must be equal: ``(N, 1)`` beside ``(N,)`` would broadcast to N² pairs without a word.

    Args:
        pred: predicted scores; what stands beside an unlabelled truth is never read.
        target: true scores, NaN = unlabelled.

    Shape:
        Both of one shape, whichever → both ``(n,)``.

    Returns:
        The two as float64 on the CPU.

    Raises:
        ValueError: if the shapes differ, nothing is labelled, or a labelled entry is not finite.

    Example:
        >>> labelled_scores(torch.tensor([1.0, 2.0]), torch.tensor([3.0, float("nan")]))
        (tensor([1.], dtype=torch.float64), tensor([3.], dtype=torch.float64))
    """
    if pred.shape != target.shape:
        raise ValueError(f"pred: expected the shape of target {tuple(target.shape)}, got {tuple(pred.shape)}")
    truth = target.detach().cpu().double().flatten()
    known = ~truth.isnan()
    _check_some(known)
    score, truth = pred.detach().cpu().double().flatten()[known], truth[known]
    for name, values in (("pred", score), ("target", truth)):
        bad = int((~values.isfinite()).sum())
        if bad:
            raise ValueError(f"{name}: expected finite values where target is labelled, got {bad} that are not")
    return score, truth


def labelled_classes(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and classes at the entries whose class is known.

    Args:
        logits: unnormalised scores of the classes; ``-inf`` rules a class out.
        target: class numbers, -100 = unlabelled.

    Shape:
        ``logits (..., C)`` with ``target (...)`` → ``(n, C)`` and ``(n,)``.

    Returns:
        Logits as float64 and classes as int64, both on the CPU.

    Raises:
        ValueError: if the shapes do not fit, there are fewer than two classes, the classes are not integers
            from 0 to C - 1, nothing is labelled, or the logits of a labelled entry give no distribution.

    Example:
        >>> labelled_classes(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([-100, 0]))
        (tensor([[2., 0.]], dtype=torch.float64), tensor([0]))
    """
    if logits.dim() < 2 or logits.shape[:-1] != target.shape:
        raise ValueError(
            f"logits: expected shape (..., C) over target's {tuple(target.shape)}, got {tuple(logits.shape)}"
        )
    classes = logits.shape[-1]
    if classes < 2:
        raise ValueError(f"logits: expected at least 2 classes on the last axis, got {classes}")
    if target.is_floating_point():
        raise ValueError(f"target: expected integer classes, got {target.dtype}")
    truth = target.detach().cpu().long().flatten()
    known = truth != UNLABELLED
    _check_some(known)
    score, truth = logits.detach().cpu().double().reshape(-1, classes)[known], truth[known]
    outside = truth[(truth < 0) | (truth >= classes)]
    if outside.numel():
        raise ValueError(f"target: expected classes from 0 to {classes - 1} or -100, got {int(outside[0])}")
    bad = int(score.log_softmax(1).isnan().any(1).sum())
    if bad:
        raise ValueError(f"logits: expected a distribution where target is labelled, got {bad} rows without one")
    return score, truth


def number_list(name: str, values: Sequence[float] | Tensor, least: int) -> Tensor:
    """Some numbers as a float64 vector on the CPU.

    Raises:
        ValueError: if it is not one-dimensional or holds fewer than ``least`` numbers.

    Example:
        >>> number_list("rates", [0, 0.5], least=2)
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    vector = values.detach().cpu().double() if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64)
    if vector.dim() != 1 or vector.numel() < least:
        raise ValueError(f"{name}: expected a list of at least {least} numbers, got shape {tuple(vector.shape)}")
    return vector


def _check_some(known: Tensor) -> None:
    if not bool(known.any()):
        raise ValueError(f"target: expected at least one labelled entry, got none among {known.numel()}")
