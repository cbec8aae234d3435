"""Causal-cue attention of CARN: exactly sparse weights over the past (eq. 1-6)."""

from typing import NamedTuple

from torch import Tensor, nn

from mmaffect.attention.weights import attention_mask, attention_weights
from mmaffect.ops import check_positive, check_shape, keep, sources_and_queries


class AttentionOutput(NamedTuple):
    """What an attention layer yields: ``y (B, T, D)`` and ``weights (B, H, T, T)``, query by source."""

    y: Tensor
    weights: Tensor


class CausalEntmaxAttention(nn.Module):
    r"""Each step gathers cues from earlier steps through α-entmax (CARN, eq. 1-6).

    .. math:: S = QK^\top/\sqrt{d}, \quad S_{ij} = -\infty\ (j > i), \quad A = \mathrm{entmax}_\alpha(S), \quad z = AV

    The weights are the exact 1.5-entmax, already normalised. The heads' cues are concatenated and leave as
    they are (the paper has one head and no output projection).

    Args:
        dim: width of the steps, a multiple of ``heads``.
        heads: attention heads.
        alpha: 1.5 (sparse) or 1 (softmax).
        include_self: whether a step is a source of its own cue (the paper's eq. 2); False leaves the strict past.
        causal: False lets every step attend to all steps: with ``alpha=1`` the paper's vanilla attention.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)``, ``queries (B, T)`` → ``y (B, T, D)``, ``weights (B, H, T, T)``.

    Raises:
        ValueError: on a width that is no multiple of the heads, or another alpha.

    Example:
        >>> import torch
        >>> attention = CausalEntmaxAttention(8, heads=2)
        >>> y, weights = attention(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> bool((weights.triu(1) == 0).all()), bool(torch.allclose(weights.sum(-1), torch.ones(3, 2, 5)))
        (True, True)
    """

    def __init__(
        self, dim: int, heads: int = 1, alpha: float = 1.5, include_self: bool = True, *, causal: bool = True
    ) -> None:
        super().__init__()
        check_positive(dim=dim, heads=heads)
        if dim % heads:
            raise ValueError(f"dim: expected a multiple of heads = {heads}, got {dim}")
        if alpha not in (1, 1.5):
            raise ValueError(f"alpha: expected 1 or 1.5, got {alpha}")
        self.dim, self.heads, self.alpha = dim, heads, alpha
        self.include_self, self.causal = include_self, causal
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier initialisation of the three projections."""
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        kind = "causal" if self.causal else "full"
        return f"{self.dim}, heads={self.heads}, alpha={self.alpha}, include_self={self.include_self}, {kind}"

    def scores(self, x: Tensor) -> Tensor:
        """Scaled scores of all pairs, before any mask (eq. 1).

        Shape:
            ``x (B, T, D)`` → ``(B, H, T, T)``.
        """
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key = self.key(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return (query * query.shape[-1] ** -0.5) @ key.mT

    def weights(self, scores: Tensor, mask: Tensor, queries: Tensor | None = None, *, include_self: bool) -> Tensor:
        """Weights of the sources from given scores; apart, so that one score tensor can serve two masks.

        Shape:
            ``scores (B, H, T, T)``, ``mask (B, T)``, ``queries (B, T)`` → ``(B, H, T, T)``.
        """
        allowed = attention_mask(mask, queries, causal=self.causal, include_self=include_self)
        return attention_weights(scores, allowed, self.alpha)

    def mix(self, weights: Tensor, x: Tensor) -> Tensor:
        """Cues ``z = A V`` (eq. 6).

        Shape:
            ``weights (B, H, T, T)``, ``x (B, T, D)`` → ``(B, T, D)``.
        """
        value = self.value(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return (weights @ value).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, queries: Tensor | None = None) -> AttentionOutput:
        """Gather cues.

        Args:
            x: steps.
            mask: True = the step may be a source; all by default.
            queries: True = the step asks; the sources always do. A real step at which the modality is
                absent may still ask for its past: then its ``x`` is read (a speaker embedding, say).

        Returns:
            ``y``: zero for a step that has no source or does not ask; ``weights``: zero there too.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask, queries = sources_and_queries(x, mask, queries)
        x = keep(x, queries)
        weights = self.weights(self.scores(x), mask, queries, include_self=self.include_self)
        return AttentionOutput(self.mix(weights, x), weights)
