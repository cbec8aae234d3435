"""Softmax and its sparse sibling 1.5-entmax (Peters et al., 2019) over masked scores, safe on empty rows.

The entmax package raises on a fully masked row, loses a tenth of the mass in bfloat16 and cannot be
compiled whole (its functions are opaque to autograd's tracing). Here the threshold is found without
gradient, in float32 at least, and two differentiable Newton steps restore the exact derivatives of the
implicit function, so everything is plain tensor operations: they compile, export and batch.
"""

import math

import torch
from torch import Tensor

from mmaffect.ops.masks import at_least_float32, keep


def _newton_steps(size: int) -> int:
    # Newton on a convex decreasing function, started left of the root, is monotone; the number of steps
    # that reach machine precision grows with the logarithm of the row (checked in the tests up to 4096).
    return 6 + math.ceil(0.5 * math.log2(max(size, 2)))


def entmax15(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""1.5-entmax over the last dimension (Peters, Niculae & Martins, 2019, eq. 6 with α = 1.5).

    .. math:: p_j = [s_j / 2 - \tau]_+^2, \qquad \sum_j p_j = 1

    already normalised: no division follows (CARN's eq. 4-5 is its shape, not its definition).
    Computed in float32 (float64 if given), returned in the dtype of ``scores``.

    Args:
        scores: finite where ``mask`` is True; anything, NaN included, elsewhere.
        mask: bool, broadcastable to ``scores``; True = may receive weight. All by default.

    Shape:
        ``(..., T)`` → ``(..., T)``.

    Returns:
        Weights ≥ 0 that sum to 1 over the allowed entries; a row with none is zero, with zero gradient.
        A row whose allowed scores hold NaN is NaN.

    Example:
        >>> entmax15(torch.tensor([1.0, 1.0, -5.0]))
        tensor([0.5000, 0.5000, 0.0000])
        >>> entmax15(torch.zeros(2), torch.tensor([False, False])).tolist()
        [0.0, 0.0]
    """
    dtype = scores.dtype
    z = at_least_float32(scores)
    if mask is None:
        mask = torch.ones((), dtype=torch.bool, device=scores.device)
    mask = mask.expand_as(z)
    some = mask.any(-1, keepdim=True)
    z = torch.where(mask, z / 2, torch.zeros((), dtype=z.dtype, device=z.device))
    top = torch.where(mask, z.detach(), torch.full((), -torch.inf, dtype=z.dtype, device=z.device))
    # Shift by the maximum so that the threshold lies in [-1, 0]; a masked entry is put below it. An empty
    # row is treated as if all its entries were allowed and zeroed at the end: no infinity enters the graph.
    z = z - torch.where(some, top.amax(-1, keepdim=True), torch.zeros_like(top[..., :1]))
    z = torch.where(mask | ~some, z, torch.full((), -2.0, dtype=z.dtype, device=z.device))
    with torch.no_grad():
        tau = torch.full_like(z[..., :1], -1.0)
        for _ in range(_newton_steps(z.shape[-1])):
            gap = (z - tau).clamp(min=0)
            tau = tau + (gap.square().sum(-1, keepdim=True) - 1) / (2 * gap.sum(-1, keepdim=True))
    # Newton doubles the derivatives that are right at each step: two steps that move tau by rounding only carry its
    # first three, as a function of the scores.
    for _ in range(2):
        gap = (z - tau).clamp(min=0)
        tau = tau + (gap.square().sum(-1, keepdim=True) - 1) / (2 * gap.sum(-1, keepdim=True))
    weights = (z - tau).clamp(min=0).square()
    return keep(weights, mask & some).to(dtype)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension, among the allowed entries.

    Computed in float32 (float64 if given), returned in the dtype of ``scores``.

    Args:
        scores: finite where ``mask`` is True; anything elsewhere.
        mask: bool, broadcastable to ``scores``.

    Shape:
        ``(..., T)`` → ``(..., T)``.

    Returns:
        Weights; a row with no allowed entry is zero, with zero gradient.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, True], [False, False]])).tolist()
        [[0.5, 0.5], [0.0, 0.0]]
    """
    z = at_least_float32(scores)
    floor = torch.full((), torch.finfo(z.dtype).min / 2, dtype=z.dtype, device=z.device)
    weights = torch.softmax(torch.where(mask, z, floor), dim=-1)
    return keep(weights, mask.expand_as(weights)).to(scores.dtype)
