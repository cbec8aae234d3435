"""Who may attend to whom, and with which weights: the pure functions under every attention layer."""

import torch
from torch import Tensor

from mmaffect.ops import entmax, masked_softmax


def attention_mask(
    sources: Tensor,
    queries: Tensor | None = None,
    *,
    causal: bool = False,
    include_self: bool = True,
    offset: int = 0,
) -> Tensor:
    """Pairs (query, source) that may exchange information.

    Args:
        sources: bool, True = the step may be attended to.
        queries: bool, True = the step asks; by default the steps that are sources.
        causal: only steps that are not in the future, ``j ≤ i + offset`` (CARN eq. 2).
        include_self: whether a step may attend to itself; with ``causal`` and not ``include_self`` only
            the strict past ``j < i`` is left, as Granger causality asks.
        offset: steps by which a query's present lies ahead, for sequences of different lengths.

    Shape:
        ``sources (B, S)``, ``queries (B, T)`` → ``(B, T, S)``, query by source.

    Example:
        >>> attention_mask(torch.ones(1, 3, dtype=torch.bool), causal=True, include_self=False).int().tolist()
        [[[0, 0, 0], [1, 0, 0], [1, 1, 0]]]
    """
    queries = sources if queries is None else queries
    allowed = queries.unsqueeze(2) & sources.unsqueeze(1)
    source = torch.arange(sources.shape[1], device=sources.device)
    query = torch.arange(queries.shape[1], device=sources.device).unsqueeze(1)
    if causal:
        allowed = allowed & (source <= query + offset)
    if not include_self:
        allowed = allowed & (source != query)
    return allowed


def attention_weights(scores: Tensor, mask: Tensor, alpha: float | Tensor, *, causal: bool = False) -> Tensor:
    """Normalise scores over the sources: softmax for ``alpha=1``, exactly sparse above.

    Args:
        scores: finite where ``mask`` is True.
        mask: bool; a query with no source gets zeros, with zero gradient.
        alpha: 1, a number above, or a tensor ``(H, 1, 1)`` in (1, 2]: see :func:`mmaffect.ops.entmax`.
        causal: that the mask allows no source after its query is known beforehand, and saves time.

    Shape:
        ``scores (B, H, T, S)``, ``mask (B, T, S)`` → ``(B, H, T, S)``.

    Example:
        >>> scores = torch.tensor([[[[0.0, 4.0]]]])
        >>> attention_weights(scores, torch.tensor([[[True, True]]]), 1.5).flatten().tolist()
        [0.0, 1.0]
    """
    mask = mask.unsqueeze(1)
    if not isinstance(alpha, Tensor) and alpha == 1:
        return masked_softmax(scores, mask)
    return entmax(scores, mask, alpha=alpha, causal=causal)
