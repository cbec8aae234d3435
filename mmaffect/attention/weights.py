"""Who may attend to whom, and with which weights: the pure functions under every attention layer."""

import torch
from torch import Tensor

from mmaffect.ops import entmax15, masked_softmax


def attention_mask(
    sources: Tensor, queries: Tensor | None = None, *, causal: bool = False, include_self: bool = True
) -> Tensor:
    """Pairs (query, source) that may exchange information.

    Args:
        sources: bool, True = the step may be attended to.
        queries: bool, True = the step asks; by default the steps that are sources.
        causal: only steps that are not in the future, ``j ≤ i`` (CARN eq. 2).
        include_self: whether a step may attend to itself; with ``causal`` and not ``include_self`` only
            the strict past ``j < i`` is left, as Granger causality asks.

    Shape:
        ``sources (B, T)``, ``queries (B, T)`` → ``(B, T, T)``, query by source.

    Example:
        >>> attention_mask(torch.ones(1, 3, dtype=torch.bool), causal=True, include_self=False).int().tolist()
        [[[0, 0, 0], [1, 0, 0], [1, 1, 0]]]
    """
    queries = sources if queries is None else queries
    allowed = queries.unsqueeze(2) & sources.unsqueeze(1)
    step = torch.arange(sources.shape[1], device=sources.device)
    if causal:
        allowed = allowed & (step.unsqueeze(0) <= step.unsqueeze(1))
    if not include_self:
        allowed = allowed & (step.unsqueeze(0) != step.unsqueeze(1))
    return allowed


def attention_weights(scores: Tensor, mask: Tensor, alpha: float) -> Tensor:
    """Normalise scores over the sources: softmax for ``alpha=1``, exactly sparse for ``alpha=1.5``.

    Args:
        scores: finite where ``mask`` is True.
        mask: bool; a query with no source gets zeros, with zero gradient.
        alpha: 1 or 1.5.

    Shape:
        ``scores (B, H, T, S)``, ``mask (B, T, S)`` → ``(B, H, T, S)``.

    Example:
        >>> scores = torch.tensor([[[[0.0, 4.0]]]])
        >>> attention_weights(scores, torch.tensor([[[True, True]]]), 1.5).flatten().tolist()
        [0.0, 1.0]
    """
    normalise = masked_softmax if alpha == 1 else entmax15
    return normalise(scores, mask.unsqueeze(1))
