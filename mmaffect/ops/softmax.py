"""Softmax over masked scores, safe on empty rows."""

import torch
from torch import Tensor

from mmaffect.ops.masks import at_least_float32, keep


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
