"""α-entmax over masked scores: softmax's exactly sparse siblings (Peters, Niculae & Martins, 2019).

The entmax package raises on a fully masked row, loses a tenth of the mass in bfloat16, gives NaN as second derivative
and cannot be compiled whole. Here the threshold is the root of a norm, found by Newton's method in float32 at least,
and the derivative is written in terms of the weights alone, so that it can be differentiated again.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from mmaffect.ops.blocks import BLOCK, bands, in_blocks, row_blocks
from mmaffect.ops.masks import at_least_float32
from mmaffect.ops.transforms import is_traced, is_transformed

# Below any weight or gap that counts.
_TINY = 1e-36


def entmax(scores: Tensor, mask: Tensor | None = None, *, alpha: float | Tensor = 1.5, causal: bool = False) -> Tensor:
    r"""α-entmax over the last dimension (Peters, Niculae & Martins, 2019, eq. 6 and 10).

    .. math:: p_j = [(\alpha - 1)\, s_j - \tau]_+^{1/(\alpha - 1)}, \qquad \sum_j p_j = 1

    already normalised: no division follows (CARN's eq. 4-5 is its shape, not its definition). α = 1.5 is the paper's
    1.5-entmax, α = 2 is sparsemax; α → 1 tends to softmax, which is :func:`masked_softmax`.

    With q = 1/(α − 1), τ is where :math:`\lVert [(\alpha - 1) s - \tau]_+ \rVert_q = 1`. For α ≤ 2 that is a norm:
    convex in τ and nearly linear far from the root, so Newton's method from the left climbs to it and, but for
    rounding, never passes it: for α = 1.5 in float32 in 5 steps for 64 scores and 6 for 256. For a number α > 2 τ is
    found by bisection, in float64. Computed in float32 at least, returned in the dtype of ``scores``; in float32 the
    weights are right to 3e-6 for up to 256 scores, to 3e-5 for 4096.

    The gradient is :math:`r \odot (g - \bar g)` with :math:`r_j = p_j^{2-\alpha}` on the support, zero elsewhere, and
    :math:`\bar g = \sum_j r_j g_j / \sum_j r_j` (Peters et al., 2019, proposition 2); towards α it is that of Correia,
    Niculae & Martins (2019, proposition 1). Both can be differentiated again, in reverse mode;
    forward mode (``jvp``) is not there, since ``torch.compile`` takes no function that has it.

    Args:
        scores: finite where ``mask`` is True; anything, NaN included, elsewhere. Without a mask, −∞ masks.
        mask: bool, broadcastable to ``scores``; True = may receive weight. All by default.
        alpha: a number above 1, or a tensor in (1, 2] that broadcasts to ``(..., 1)`` and may be learned.
        causal: row i of ``(..., S, T)`` gives no weight to entries beyond i, beside what ``mask`` says. A CPU then
            leaves most of them out instead of masking them.

    Shape:
        ``(..., T)`` → ``(..., T)``.

    Returns:
        Weights ≥ 0 that sum to 1 over the allowed entries; a row with none is zero, with zero gradient.
        A row whose allowed scores hold NaN is NaN.

    Raises:
        ValueError: if α is a number that is not above 1, or infinite, or if causal scores have no rows.

    Example:
        >>> entmax(torch.tensor([1.0, 1.0, -5.0]))
        tensor([0.5000, 0.5000, 0.0000])
        >>> entmax(torch.tensor([0.25, 0.0, -5.0]), alpha=2)
        tensor([0.6250, 0.3750, 0.0000])
        >>> entmax(torch.zeros(2), torch.tensor([False, False])).tolist()
        [0.0, 0.0]
    """
    if not isinstance(alpha, Tensor) and not 1 < alpha < math.inf:
        raise ValueError(f"alpha: expected a number above 1, got {alpha}")
    if causal:
        if scores.dim() < 2:
            raise ValueError(f"scores: expected shape (..., S, T) where causal, got {tuple(scores.shape)}")
        past = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        mask = past if mask is None else mask & past
    if scores.shape[-1] == 0:
        return scores.clone()
    exact = at_least_float32(scores)
    q = 1 / (alpha.to(exact.dtype) - 1) if isinstance(alpha, Tensor) else 1.0 / (alpha - 1)
    differentiated = torch.is_grad_enabled() and exact.requires_grad
    weights: Tensor = _Entmax.apply(exact, mask, q, causal, differentiated)[0]  # type: ignore[no-untyped-call]
    return weights.to(scores.dtype)


class _Entmax(Function):
    """Of scores and q = 1/(α − 1), a number or a tensor; for α = 1.5 it keeps the roots of few weights on request."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        scores: Tensor, mask: Tensor | None, q: float | Tensor, causal: bool, differentiated: bool
    ) -> tuple[Tensor, Tensor | None]:
        if mask is not None:
            if causal and not isinstance(q, Tensor) and in_blocks(scores, mask):
                return _causal_weights(scores, mask, q), None
            scores = _where(mask, scores)
        if isinstance(q, Tensor):
            # What is written to must be batched where α is.
            weights = _own(scores, mask) + 0 * q if is_transformed(q) else _own(scores, mask)
            for rows, power in row_blocks(weights, q.expand(*weights.shape[:-1], 1)):
                _newton_(rows, power)
            return weights, None
        if q != 2:
            weights = _own(scores, mask)
            for (rows,) in row_blocks(weights):
                _newton_(rows, q) if q >= 1 else _bisect_(rows, q)
            return weights, None
        if not in_blocks(scores):
            dense = scores.contiguous()
            roots = _newton_roots_(dense - _top(dense) if mask is None else dense.sub_(_top(dense)))
            return (roots * roots, roots) if differentiated else (roots.mul_(roots), None)
        # The gradient takes roots again: to write them out, and to read them after so much else, costs more.
        weights = torch.empty_like(scores, memory_format=torch.contiguous_format)
        scratch = scores.new_empty(max(BLOCK, scores.shape[-1]))
        for rows, squares in row_blocks(scores, weights):
            roots = _newton_roots_(torch.sub(rows, _top(rows), out=scratch[: rows.numel()].view_as(rows)))
            torch.mul(roots, roots, out=squares)
        return weights, None

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:
        weights, roots = output
        q, ctx.causal = inputs[2:4]
        ctx.q = None if isinstance(q, Tensor) else q
        if roots is not None:
            ctx.mark_non_differentiable(roots)
        ctx.save_for_backward(weights, roots, *([q] if isinstance(q, Tensor) else []))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return None, None, None, None, None
        weights, roots, *learned = ctx.saved_tensors
        if learned:
            towards_scores, mean = _pull_back(weights, gradient, learned[0])
            # At fixed scores dp/dq = h − r Σh / Σr, with h = p (log p / q − 1).
            change = weights * (weights.clamp(min=_TINY).log() / learned[0] - 1)
            return towards_scores, None, (change * (gradient - mean)).sum_to_size(learned[0].shape), None, None
        if torch.is_grad_enabled() or is_transformed(weights, gradient):
            return _pull_back(weights, gradient, ctx.q)[0], None, None, None, None
        kept = weights if roots is None else roots
        banded = ctx.causal and in_blocks(weights, gradient)
        towards_scores = torch.zeros_like(weights) if banded else torch.empty_like(weights)
        for out, p, g in (bands if banded else row_blocks)(towards_scores, kept, gradient):
            r = p if roots is not None else _root(p) if ctx.q == 2 else _power(p, 1 - 1 / ctx.q)
            total = torch.mul(r, g, out=out).sum(-1, keepdim=True)
            out.addcmul_(r, total / r.sum(-1, keepdim=True).clamp(min=0.5), value=-1)
        return towards_scores, None, None, None, None


def _causal_weights(scores: Tensor, mask: Tensor, q: float) -> Tensor:
    """Weights, band by band; what lies beyond a band stays zero."""
    weights = torch.zeros_like(scores, memory_format=torch.contiguous_format)
    for rows, allowed, out in bands(scores, mask.expand_as(scores), weights):
        own = _where(allowed, rows)
        if q == 2:
            roots = _newton_roots_(own.sub_(_top(own)))
            torch.mul(roots, roots, out=out)
        else:
            _newton_(own, q) if q >= 1 else _bisect_(own, q)
            out.copy_(own)
    return weights


def _where(mask: Tensor, scores: Tensor) -> Tensor:
    """The scores that are allowed, and −∞: a tensor of our own."""
    return torch.where(mask, scores, torch.full((), -torch.inf, dtype=scores.dtype, device=scores.device))


def _top(scores: Tensor) -> Tensor:
    """Largest score of each row; finite for an empty row, which is all −∞, so that its gaps are zero and stay it."""
    return scores.amax(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)


def _newton_roots_(gap: Tensor) -> Tensor:
    """Replace scores less their top by the roots of the weights for α = 1.5.

    What is kept is twice the gap, s − 2τ: its 2-norm shall be 2.
    """
    gap.add_(2).relu_()
    rounding = 8 * torch.finfo(gap.dtype).eps
    may_stop = _may_ask(gap)
    for left in reversed(range(_newton_steps(gap.shape[-1], gap.dtype, fast=True))):
        norm = torch.linalg.vector_norm(gap, dim=-1, keepdim=True)
        # τ only climbs, so what has left the support stays out. A row that is there stays as it is, so that stopping
        # when all are changes nothing: what a row becomes is its own matter.
        excess = F.threshold(norm - 2, rounding, 0.0)
        if may_stop and left < 2 and not excess.any():
            return gap.div_(norm.clamp_(min=1))
        gap.sub_(excess.mul_(norm).div_(gap.sum(-1, keepdim=True).clamp_(min=1))).relu_()
    # One division takes out what rounding has left of the norm.
    return gap.div_(torch.linalg.vector_norm(gap, dim=-1, keepdim=True).clamp(min=1))


def _newton_(rows: Tensor, q: float | Tensor) -> None:
    """Replace scores by weights: the q-norm of the gaps (α − 1) s − τ shall be 1."""
    gap = rows.sub_(_top(rows)).div_(q).add_(1).relu_()
    is_sum = isinstance(q, float) and q == 1
    rounding = 8 * torch.finfo(gap.dtype).eps
    may_stop = _may_ask(gap)
    for left in reversed(range(_newton_steps(rows.shape[-1], rows.dtype, fast=isinstance(q, float) and q >= 2))):
        inner = _power(gap, q - 1)
        norm = gap.sum(-1, keepdim=True) if is_sum else (inner * gap).sum(-1, keepdim=True).pow(1 / q)
        # From large norms a step can be too long by rounding: it may be taken back, and a row that is there stays.
        excess = F.hardshrink(norm - 1, rounding)
        if may_stop and left < 4 and not (excess * norm).any():  # a row that is empty has a norm of zero
            break
        step = excess * norm.pow(q - 1) / inner.sum(-1, keepdim=True).clamp(min=0.5)
        gap.addcmul_(inner if is_sum else gap.sign(), step, value=-1).relu_()
    gap.pow_(q).div_(gap.sum(-1, keepdim=True).clamp(min=0.5))


def _may_ask(x: Tensor) -> bool:
    """Whether asking for a value costs little."""
    return x.device.type == "cpu" and not is_traced(x)


def _own(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores that may be written to: with a mask they are already our own."""
    return scores.clone(memory_format=torch.contiguous_format) if mask is None else scores.contiguous()


def _newton_steps(size: int, dtype: torch.dtype, *, fast: bool) -> int:
    # Found by search over rows of many shapes up to 4096 scores, and held by the tests: weights are right to rounding
    # in float32 and to 1e-12 in float64. An exported program takes rows of any length: the most steps.
    steps, reach = 3 if fast else 4, 1
    while reach < (4096 if torch.compiler.is_exporting() else size):
        reach *= 8 if fast else 4
        steps += 1
    return steps + (2 if dtype == torch.float64 else 0)


def _bisect_(rows: Tensor, q: float) -> None:
    """Replace scores by weights; the powers are below 1, so that rounding is felt: float64."""
    scores = rows.double()
    scores = (scores - _top(scores)) / q
    low, width = torch.full_like(scores[..., :1], -1), torch.ones_like(scores[..., :1])
    for _ in range(60):
        width = width / 2
        enough = _power((scores - low - width).relu(), q).sum(-1, keepdim=True) >= 1
        low = torch.where(enough, low + width, low)
    weights = _power((scores - low).relu(), q)
    rows.copy_(weights / weights.sum(-1, keepdim=True).clamp(min=_TINY))


def _pull_back(weights: Tensor, gradient: Tensor, q: float | Tensor) -> tuple[Tensor, Tensor]:
    """Gradient towards the scores, and the mean of ``gradient`` under r."""
    r, mean = _mean(weights, gradient, q)
    return r * (gradient - mean), mean


def _mean(weights: Tensor, gradient: Tensor, q: float | Tensor) -> tuple[Tensor, Tensor]:
    """The factor r of the gradient, and the mean of ``gradient`` under it."""
    r = _power(weights, 1 - 1 / q)
    return r, (r * gradient).sum(-1, keepdim=True) / r.sum(-1, keepdim=True).clamp(min=0.5)


def _root(x: Tensor) -> Tensor:
    """Square root of x ≥ 0 without a derivative: roots of exact zeros can cost a CPU twenty times those of numbers."""
    return torch.add(x, 2.0**-120).sqrt_().sub_(2.0**-60)


def _power(x: Tensor, exponent: float | Tensor) -> Tensor:
    """Power of x ≥ 0 that is zero where x is, whatever the exponent, with finite derivatives."""
    if isinstance(exponent, float):
        if exponent == 0:
            return x.sign()
        if exponent == 0.5:
            return x * x.clamp(min=_TINY).rsqrt()
        if exponent == 1:
            return x
        if exponent == 2:
            return x * x
    return x.clamp(min=_TINY).pow(exponent) * x.sign()
