"""What a network that sees all teaches one that does not: its joint state, and whom its steps look at."""

from typing import Literal

import torch
from torch import Tensor

from mmaffect.ops import at_least_float32, check_choice, check_mask, check_shape, keep


def cosine_distillation(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Distance in direction between two states of the same thing (CIDer's high-level distillation).

    .. math:: L = 1 - \frac1n \sum_i \cos(s_i, t_i)

    Lengths do not count. The teacher gets no gradient. A state that is zero has no direction: its cosine is 0, and so
    is its gradient.

    Args:
        student: states from what is observed.
        teacher: states from all there is; taken as constants.
        mask: True = the pair counts (there was something to see for both); all by default.

    Shape:
        ``student``, ``teacher`` ``(..., D)``, ``mask (...)`` → scalar in [0, 2].

    Returns:
        Scalar, the mean over the pairs that count; zero, with zero gradient, where none does.

    Raises:
        ValueError: on shapes that do not match, or a mask that is not bool.

    Example:
        >>> s, t = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, -1.0]])
        >>> cosine_distillation(s, t), cosine_distillation(s, t, torch.tensor([True, False]))
        (tensor(0.5000), tensor(0.))
    """
    if student.dim() < 1:
        raise ValueError("student: expected shape (..., D), got ()")
    if teacher.shape != student.shape:
        raise ValueError(f"teacher: expected the shape {tuple(student.shape)} of student, got {tuple(teacher.shape)}")
    if mask is None:
        mask = torch.ones(student.shape[:-1], dtype=torch.bool, device=student.device)
    if mask.dtype != torch.bool or mask.shape != student.shape[:-1]:
        raise ValueError(
            f"mask: expected bool of shape {tuple(student.shape[:-1])}, got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    s, t = _direction(keep(student, mask)), _direction(keep(teacher.detach(), mask))
    return keep(1 - (s * t).sum(-1), mask).sum() / mask.sum().clamp(min=1)


def score_map_distillation(
    student: Tensor,
    teacher: Tensor,
    sources: Tensor | None = None,
    queries: Tensor | None = None,
    *,
    reduction: Literal["mean", "batchmean"] = "mean",
) -> Tensor:
    r"""Distance between two attention maps, given before their softmax (CIDer's attention distillation).

    .. math:: L = \frac1n \sum_{b,h,i} \mathrm{KL}\big(\mathrm{softmax}_{j \in J_b} T_{bhij} \,\|\,
        \mathrm{softmax}_{j \in J_b} S_{bhij}\big)

    J_b are the sources that *both* can see: a student that is told what is missing gives no weight there, whatever
    its scores, so a divergence over the teacher's sources would be infinite and one over all pairs would train
    numbers that nothing reads. Among what is left, then, the student is to look where the teacher looks. Rows are those
    of steps that ask in both. The published code lets all pairs count, padding too; a call without masks does.

    The teacher gets no gradient.

    Args:
        student: scores from what is observed.
        teacher: scores from all there is; taken as constants.
        sources: True = a column that both can see; all by default.
        queries: True = a row that asks in both; the sources by default.
        reduction: ``"mean"`` over the rows that have a source, over heads and samples; ``"batchmean"``, the published
            one: sums over rows, and means over heads and samples. It grows with the length: a weight of β there is one
            of β times the rows of a sample here.

    Shape:
        ``student``, ``teacher`` ``(B, H, N, N)``, ``sources`` and ``queries`` ``(B, N)`` → scalar.

    Returns:
        Scalar; zero, with zero gradient, where no row counts.

    Raises:
        ValueError: on shapes that do not match, a mask that is not bool, or an unknown reduction.

    Example:
        >>> teacher = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
        >>> student = torch.tensor([[[[0.0, 0.0], [3.0, 3.0]]]])
        >>> score_map_distillation(student, teacher)  # scores are read up to a constant
        tensor(0.)
        >>> score_map_distillation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]), teacher)
        tensor(0.1201)
    """
    check_choice("reduction", reduction, ("mean", "batchmean"))
    if student.dim() != 4 or student.shape[2] != student.shape[3]:
        raise ValueError(f"student: expected shape (B, H, N, N), got {tuple(student.shape)}")
    batch, heads, rows, _ = student.shape
    check_shape("teacher", teacher, "B H N N", B=batch, H=heads, N=rows)
    if sources is None:
        sources = torch.ones(batch, rows, dtype=torch.bool, device=student.device)
    check_mask("sources", sources, "B N", B=batch, N=rows)
    queries = sources if queries is None else queries
    check_mask("queries", queries, "B N", B=batch, N=rows)
    pairs = (queries.unsqueeze(2) & sources.unsqueeze(1)).unsqueeze(1)
    log_p, log_q = _log_softmax(teacher.detach(), pairs), _log_softmax(student, pairs)
    divergence = keep(log_p.exp() * (log_p - log_q), pairs.expand_as(log_p)).sum()
    count = pairs.any(-1).sum() if reduction == "mean" else torch.tensor(batch, device=student.device)
    return divergence / (heads * count).clamp(min=1)


def _direction(x: Tensor) -> Tensor:
    """Unit vectors; zero, with zero gradient, for zero."""
    x = at_least_float32(x)
    # Divided by the largest entry first: squares of tiny or huge numbers leave the range.
    largest = x.detach().abs().amax(-1, keepdim=True)
    x = x / _or_one(largest)
    return keep(x / _or_one(x.square().sum(-1, keepdim=True)).sqrt(), (largest > 0).expand_as(x))


def _or_one(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.ones_like(x))


def _log_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    z = at_least_float32(scores)
    # Half of the lowest number: differences of two such are finite.
    floor = torch.full((), torch.finfo(z.dtype).min / 2, dtype=z.dtype, device=z.device)
    return torch.where(allowed, z, floor).log_softmax(-1)
