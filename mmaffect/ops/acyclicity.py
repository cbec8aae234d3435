"""How far a weighted directed graph is from having no cycle: three differentiable measures, none by a difference.

Each is the trace of a power series in the squared weights less its constant term. Computed as printed, tr(exp) - M,
float32 leaves nothing of it below 1e-7. Here the constant is left out from the start, so that only numbers which are
not negative are added and multiplied: nothing cancels, each entry keeps its relative precision, and an entry between
two nodes that no walk joins is a sum of exact zeros.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from mmaffect.ops.checks import check_choice, check_positive
from mmaffect.ops.masks import at_least_float32


def acyclicity(
    adjacency: Tensor, method: Literal["expm", "poly", "logdet"] = "expm", *, s: float | None = None
) -> Tensor:
    r"""Zero if and only if a weighted graph has no directed cycle; a loop from a node to itself is one.

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
    any order exist. Half precision is computed in float32, under autocast too.

    Largest values: entries of the series saturate at the largest number of the dtype, so that what overflows is
    large or infinite and not NaN, and a graph without cycle stays at 0. ``expm`` needs the spectral radius of B below
    80 in float32 and 700 in float64, where h itself ends.

    Args:
        adjacency: A, weights of any sign; entry ``[i, j]`` is the edge from i to j.
        method: which of the three.
        s: of ``logdet``, above the spectral radius of A∘A; M by default, which always is for weights in [-1, 1] and
            a zero diagonal. Where it is not above it, h is infinite, as a barrier is.

    Shape:
        ``(..., M, M)`` → ``(...)``.

    Raises:
        ValueError: if the last two sizes differ, the dtype is not floating, the method is unknown, or s is not
            positive or given to another method.

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
    if not adjacency.is_floating_point():
        raise ValueError(f"adjacency: expected a floating dtype, got {adjacency.dtype}")
    check_choice("method", method, ("expm", "poly", "logdet"))
    if s is not None:
        if method != "logdet":
            raise ValueError(f"s: expected None for method {method!r}, got {s}")
        check_positive(s=s)
    size = adjacency.shape[-1]
    flat = at_least_float32(adjacency).reshape(-1, size, size)
    h, _ = _Acyclicity.apply(flat, method, float(size) if s is None else s)  # type: ignore[no-untyped-call]
    return h.reshape(adjacency.shape[:-2]).to(adjacency.dtype)


class _Acyclicity(torch.autograd.Function):
    """h and its walks W: the gradient is (I + W)ᵀ∘2A up to a factor, so one pass forward serves both."""

    generate_vmap_rule = True

    @staticmethod
    def forward(adjacency: Tensor, method: str, s: float) -> tuple[Tensor, Tensor]:
        return _evaluate(adjacency, method, s)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str, float], output: tuple[Tensor, Tensor]) -> None:
        adjacency, ctx.method, ctx.s = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(adjacency, output[1])

    @staticmethod
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        adjacency, walks = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: the walks as a function of the weights
            walks = _evaluate(adjacency, ctx.method, ctx.s)[1]
        factor = 2 / ctx.s if ctx.method == "logdet" else 2.0
        one = torch.eye(adjacency.shape[-1], dtype=adjacency.dtype, device=adjacency.device)
        return (factor * slope)[:, None, None] * ((walks.mT + one) * adjacency), None, None


def _evaluate(adjacency: Tensor, method: str, s: float) -> tuple[Tensor, Tensor]:
    with torch.autocast(adjacency.device.type, enabled=False):
        squared = _saturate(adjacency.square())
        if method == "expm":
            return _exponential(squared)
        return _polynomial(squared) if method == "poly" else _log_determinant(squared / s)


def _saturate(x: Tensor) -> Tensor:
    # An infinity would meet a zero in the next product and make NaN of it.
    return x.clamp_max_(torch.finfo(x.dtype).max)


def _trace(x: Tensor) -> Tensor:
    return x.diagonal(dim1=-2, dim2=-1).sum(-1)


def _exponential(squared: Tensor) -> tuple[Tensor, Tensor]:
    """W = exp(B) - I: Taylor's series of B / 2^n by Horner's rule, then n times W ← 2W + W².

    The counts are fixed, so that no value decides what is computed. Degree K and n doublings are wrong by a relative
    x^(K+1) / ((K+1)! 2^(nK)) where B acts as the number x, and by C(k, K+1) / 2^(nK) on a cycle of k edges.
    """
    degree, doublings = (6, 8) if squared.dtype == torch.float32 else (9, 14)
    step = squared * 0.5**doublings
    walks = step / degree
    for k in range(degree - 1, 0, -1):
        walks = _saturate(torch.baddbmm(step, step, walks, beta=1 / k, alpha=1 / k))
    for _ in range(doublings):
        walks = _saturate(torch.baddbmm(walks, walks, walks, beta=2))
    return _trace(walks), walks


def _polynomial(squared: Tensor) -> tuple[Tensor, Tensor]:
    """W = (I + B/M)^(M-1) - I by binary powers: if X = I + P and Y = I + Q then XY - I = P + Q + PQ."""
    size = squared.shape[-1]
    step = squared / size
    walks = step if size > 1 else torch.zeros_like(step)
    for bit in f"{size - 1:b}"[1:]:
        walks = _saturate(torch.baddbmm(walks, walks, walks, beta=2))
        if bit == "1":
            walks = _saturate(torch.baddbmm(walks + step, walks, step))
    return _trace(step) + _trace(walks) + (walks * step.mT).sum((-2, -1)), walks


def _log_determinant(squared: Tensor) -> tuple[Tensor, Tensor]:
    """W = (I - C)^-1 - I by Kleene's elimination, whose pivots are those of LU, without their subtractions.

    Walks may pass one more node at each step. Every pivot is below 1 if and only if the spectral radius of C is.
    """
    tiny = torch.finfo(squared.dtype).tiny
    walks, pivots = squared, []
    for k in range(squared.shape[-1]):
        pivot = walks[:, k : k + 1, k : k + 1]
        pivots.append(pivot)
        through = walks[:, k : k + 1, :] / (1 - pivot).clamp(min=tiny)
        walks = _saturate(torch.addcmul(walks, walks[:, :, k : k + 1], through))
    return (-torch.log1p(-torch.cat(pivots, -1).clamp(max=1))).sum((-2, -1)), walks
