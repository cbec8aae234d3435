"""How far a weighted directed graph is from having no cycle: three differentiable measures, none by a difference.

Each is the trace of a power series in the squared weights less its constant term. Computed as printed, tr(exp) - M,
float32 leaves nothing of it below 1e-7. Here the constant is left out from the start, so that only numbers which are
not negative are added and multiplied: nothing cancels, each entry keeps its relative precision, and an entry between
two nodes that no walk joins is a sum of exact zeros.
"""

import inspect
import math
from typing import Any, Literal

import torch
from torch import Tensor

from mmaffect.ops.checks import check_choice, check_positive
from mmaffect.ops.masks import at_least_float32, full_precision


def acyclicity(
    adjacency: Tensor, method: Literal["expm", "poly", "logdet"] = "expm", *, s: float | None = None
) -> Tensor:
    r"""Zero if and only if a weighted graph has no directed cycle; a loop from a node to itself is one.

    (As far as h is not below the smallest number of the dtype: five edges of 1e-5 in a ring give 0 in float32.)

    With B = A∘A, the squared weights:

    .. math::
        \text{expm:} \quad & h = \operatorname{tr} e^{B} - M
            \quad\text{(NOTEARS: Zheng et al., 2018, theorem 1)} \\
        \text{poly:} \quad & h = \operatorname{tr} (I + B / M)^M - M
            \quad\text{(DAG-GNN: Yu et al., 2019, theorem 1, with α = 1/M)} \\
        \text{logdet:} \quad & h = M \log s - \log\det(s I - B)
            \quad\text{(DAGMA: Bello et al., 2022, theorem 1)}

    All are weighted sums over closed walks and differ in what a long one counts. None is computed as printed: the
    constant never enters, so h is never negative, exactly 0 on every graph without cycle, and precise relative to
    itself however small it is. The gradient is that of the paper, such as :math:`(e^B)^\top \circ 2A`; derivatives of
    any order exist, by reverse mode. Half precision is computed in float32, under autocast too.

    Precision: h and its gradient are right to a relative 1e-6 in float32 (1e-14 in float64) while the spectral radius
    of B is below 10, beyond it to a few roundings times the radius, as any exponential. Cycles of many edges cost a
    little more (``expm`` in float32: 1.4e-6 at 40, 3e-6 at 75). ``logdet`` loses digits as the radius nears s, where it
    is steep: h to 2e-6, 8e-6 and 4e-4 at 0.995, 0.9995 and 0.999995 of s in float32, its gradient to fewer digits.

    Entries of the series saturate at the largest number of the dtype: what overflows (``expm``: a radius above 80 in
    float32, 700 in float64) is large or infinite and not NaN, and a graph without cycle stays at 0. Weights must stay
    below 1e19 in float32.

    Args:
        adjacency: A, weights of any sign; entry ``[i, j]`` is the edge from i to j.
        method: which of the three.
        s: of ``logdet``, above the spectral radius of A∘A; M by default, which always is for weights in [-1, 1] and
            a zero diagonal. Where it is not above it, h is infinite, as a barrier is, and has no gradient to speak of.

    Shape:
        ``(..., M, M)`` → ``(...)``.

    Raises:
        ValueError: if the last two sizes differ or are 0, the dtype is not floating, the method is unknown, or s is
            not positive and finite or given to another method.

    Example:
        >>> chain = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
        >>> acyclicity(chain).item()
        0.0
        >>> pair = torch.tensor([[0.0, 1e-4], [1e-4, 0.0]])
        >>> [f"{acyclicity(pair, method):.3g}" for method in ("expm", "poly", "logdet")]
        ['1e-16', '5e-17', '2.5e-17']
    """
    if adjacency.dim() < 2 or adjacency.shape[-1] != adjacency.shape[-2]:
        raise ValueError(f"adjacency: expected shape (..., M, M), got {tuple(adjacency.shape)}")
    if adjacency.shape[-1] == 0:
        raise ValueError(f"adjacency: expected shape (..., M, M) with M of at least 1, got {tuple(adjacency.shape)}")
    if not adjacency.is_floating_point():
        raise ValueError(f"adjacency: expected a floating dtype, got {adjacency.dtype}")
    check_choice("method", method, ("expm", "poly", "logdet"))
    if s is not None:
        if method != "logdet":
            raise ValueError(f"s: expected None for method {method!r}, got {s}")
        check_positive(s=s)
        if math.isinf(s):
            raise ValueError(f"s: expected a finite value, got {s}")
    size = adjacency.shape[-1]
    weights = at_least_float32(adjacency)
    weights = weights if weights.dim() == 3 else weights.reshape(-1, size, size)
    s = float(size) if s is None else s
    with torch.no_grad():
        h, slope = _evaluate(weights, method, s)
    h = _Differentiable.apply(h, weights, slope, method, s)  # type: ignore[no-untyped-call]
    return (h if adjacency.dim() == 3 else h.reshape(adjacency.shape[:-2])).to(adjacency.dtype)


class _Differentiable(torch.autograd.Function):
    """Joins h to the weights by the slope that came with it, so that nothing is retraced backwards."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor, adjacency: Tensor, slope: Tensor, method: str, s: float) -> Tensor:
        return h.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, str, float], output: Tensor) -> None:
        _, adjacency, slope, ctx.method, ctx.s = inputs
        ctx.save_for_backward(adjacency, slope)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[None, Tensor, None, None, None]:
        adjacency, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: the slope as a function of the weights
            slope = _evaluate(adjacency, ctx.method, ctx.s)[1]
        return None, slope * adjacency * (given + given).unsqueeze(-1).unsqueeze(-1), None, None, None

    # PyTorch reads the signature anew at every call, which takes longer than the backward pass of small graphs.
    forward.__func__.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]


def _evaluate(adjacency: Tensor, method: str, s: float) -> tuple[Tensor, Tensor]:
    """h, and its derivative by the squared weights."""
    with full_precision(adjacency):
        squared = adjacency * adjacency
        if method == "logdet":
            h, series = _log_determinant(squared / s)
            return h, series.mT / s
        h, series = _exponential(squared) if method == "expm" else _polynomial(squared)
        return h, series.mT


def _largest(x: Tensor) -> float:
    # Where products saturate: an infinity would meet a zero in the next one and make NaN of it.
    return torch.finfo(x.dtype).max


def _trace_and_series(walks: Tensor) -> tuple[Tensor, Tensor]:
    """Trace of W, and I + W in its place."""
    closed = walks.diagonal(dim1=-2, dim2=-1)
    trace = closed.sum(-1)
    closed.add_(1)
    return trace, walks


def _exponential(squared: Tensor) -> tuple[Tensor, Tensor]:
    """W = exp(B) - I: Taylor's series for B / 2^n, then n times W ← 2W + W².

    The counts are fixed, so that no value decides what is computed. Degree K and n doublings are wrong by a relative
    x^(K+1) / ((K+1)! 2^(nK)) where B acts as the number x, and by C(k, K+1) / 2^(nK) on a cycle of k edges.
    """
    largest = _largest(squared)
    doublings = 8 if squared.dtype == torch.float32 else 16
    b = squared * 0.5**doublings
    b2 = torch.bmm(b, b).clamp_max_(largest)
    b3 = torch.bmm(b2, b).clamp_max_(largest)
    low = b.add(b2, alpha=1 / 2).add_(b3, alpha=1 / 6)
    high = b.add(b2, alpha=1 / 5).add_(b3, alpha=1 / 30)
    walks = torch.baddbmm(low, b3, high, alpha=1 / 24).clamp_max_(largest)
    for _ in range(doublings):
        walks = torch.baddbmm(walks, walks, walks, beta=2).clamp_max_(largest)
    return _trace_and_series(walks)


def _polynomial(squared: Tensor) -> tuple[Tensor, Tensor]:
    """W = (I + B/M)^(M-1) - I by binary powers: if X = I + P and Y = I + Q then XY - I = P + Q + PQ."""
    size, largest = squared.shape[-1], _largest(squared)
    step = squared / size
    walks = step.clone() if size > 1 else torch.zeros_like(step)
    for bit in f"{size - 1:b}"[1:]:
        walks = torch.baddbmm(walks, walks, walks, beta=2).clamp_max_(largest)
        if bit == "1":
            walks = torch.baddbmm(walks + step, walks, step).clamp_max_(largest)
    trace, series = _trace_and_series(walks)
    return trace + (series * step.mT).sum((-2, -1)), series


def _log_determinant(squared: Tensor) -> tuple[Tensor, Tensor]:
    """W = (I - C)^-1 - I by Kleene's elimination, whose pivots are those of LU, without their subtractions.

    Walks may pass one more node at each step. Every pivot is below 1 if and only if the spectral radius of C is.
    """
    largest = _largest(squared)
    tiny = torch.finfo(squared.dtype).tiny
    walks, pivots = squared, []
    for k in range(squared.shape[-1]):
        pivot = walks[:, k : k + 1, k : k + 1]
        pivots.append(pivot)
        through = walks[:, k : k + 1, :] / (1 - pivot).clamp(min=tiny)
        walks = torch.addcmul(walks, walks[:, :, k : k + 1], through).clamp_max_(largest)
    h = (-torch.log1p(-torch.cat(pivots, -1).clamp(max=1))).sum((-2, -1))
    return h, _trace_and_series(walks)[1]
