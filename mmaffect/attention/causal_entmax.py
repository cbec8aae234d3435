"""Causal-cue attention of CARN: exactly sparse weights over the past (eq. 1-6)."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.attention.attend import attend, merge_heads, split_heads
from mmaffect.attention.weights import attention_mask, attention_weights
from mmaffect.ops import at_least_float32, check_positive, check_shape, keep, sources_and_queries

# A learned alpha stays off 1, where entmax turns into softmax and its exponent 1/(alpha - 1) is infinite.
_LEAST_ALPHA = 1.01


class AttentionOutput(NamedTuple):
    """What an attention layer yields: ``y (B, T, D)``, and ``weights (B, H, T, T)``, query by source, if asked for."""

    y: Tensor
    weights: Tensor | None


class CausalEntmaxAttention(nn.Module):
    r"""Each step gathers cues from earlier steps through α-entmax (CARN, eq. 1-6).

    .. math:: S = QK^\top/\sqrt{d}, \quad S_{ij} = -\infty\ (j > i), \quad A = \mathrm{entmax}_\alpha(S), \quad z = AV

    The weights are exact entmax, already normalised. The heads' cues are concatenated and leave as they are (the paper
    has one head and no output projection).

    Args:
        dim: width of the steps, a multiple of ``heads``.
        heads: attention heads.
        alpha: 1.5 (the paper's), 2 (sparsemax), any number above 1, or 1 (softmax, dense). ``"learned"`` gives every
            head an α in (1.01, 2) of its own, 1.5 at first (Correia, Niculae & Martins, 2019: adaptively sparse
            transformers).
        include_self: whether a step is a source of its own cue (the paper's eq. 2); False leaves the strict past.
        causal: False lets every step attend to all steps: with ``alpha=1`` the paper's vanilla attention.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)``, ``queries (B, T)`` → ``y (B, T, D)``, ``weights (B, H, T, T)``.

    Raises:
        ValueError: on a width that is no multiple of the heads, or an alpha below 1 or of another name.

    Example:
        >>> import torch
        >>> attention = CausalEntmaxAttention(8, heads=2)
        >>> y, weights = attention(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
        >>> bool((weights.triu(1) == 0).all()), bool(torch.allclose(weights.sum(-1), torch.ones(3, 2, 5)))
        (True, True)
        >>> CausalEntmaxAttention(8, heads=2, alpha="learned").alpha.detach().flatten()
        tensor([1.5000, 1.5000])
    """

    raw_alpha: Tensor

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        alpha: float | Literal["learned"] = 1.5,
        include_self: bool = True,
        *,
        causal: bool = True,
    ) -> None:
        super().__init__()
        check_positive(dim=dim, heads=heads)
        if dim % heads:
            raise ValueError(f"dim: expected a multiple of heads = {heads}, got {dim}")
        if not (alpha == "learned" if isinstance(alpha, str) else 1 <= alpha < math.inf):
            raise ValueError(f"alpha: expected a number >= 1 or 'learned', got {alpha!r}")
        self.dim, self.heads = dim, heads
        self.given_alpha = alpha
        self.include_self, self.causal = include_self, causal
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.register_parameter("raw_alpha", nn.Parameter(torch.empty(heads)) if alpha == "learned" else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier initialisation of the three projections; a learned α starts at 1.5."""
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)
        if self.given_alpha == "learned":
            nn.init.constant_(self.raw_alpha, math.log((1.5 - _LEAST_ALPHA) / 0.5))

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        kind = "causal" if self.causal else "full"
        return f"{self.dim}, heads={self.heads}, alpha={self.given_alpha!r}, include_self={self.include_self}, {kind}"

    @property
    def alpha(self) -> float | Tensor:
        """The α in force: a number, or one a head ``(H, 1, 1)``, squeezed into (1.01, 2) by a sigmoid."""
        if not isinstance(self.given_alpha, str):
            return self.given_alpha
        squeezed = torch.sigmoid(at_least_float32(self.raw_alpha))
        return (_LEAST_ALPHA + (2 - _LEAST_ALPHA) * squeezed)[:, None, None]

    def scores(self, x: Tensor) -> Tensor:
        """Scaled scores of all pairs, before any mask (eq. 1).

        Shape:
            ``x (B, T, D)`` → ``(B, H, T, T)``.
        """
        query, key = split_heads(self.query(x), self.heads), split_heads(self.key(x), self.heads)
        return (query * query.shape[-1] ** -0.5) @ key.mT

    def weights(self, scores: Tensor, mask: Tensor, queries: Tensor | None = None, *, include_self: bool) -> Tensor:
        """Weights of the sources from given scores; apart, so that one score tensor can serve two masks.

        Shape:
            ``scores (B, H, T, T)``, ``mask (B, T)``, ``queries (B, T)`` → ``(B, H, T, T)``.
        """
        allowed = attention_mask(mask, queries, causal=self.causal, include_self=include_self)
        return attention_weights(scores, allowed, self.alpha, causal=self.causal)

    def mix(self, weights: Tensor, x: Tensor) -> Tensor:
        """Cues ``z = A V`` (eq. 6).

        Shape:
            ``weights (B, H, T, T)``, ``x (B, T, D)`` → ``(B, T, D)``.
        """
        return merge_heads(weights @ split_heads(self.value(x), self.heads))

    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, queries: Tensor | None = None, return_weights: bool = True
    ) -> AttentionOutput:
        """Gather cues.

        Args:
            x: steps.
            mask: True = the step may be a source; all by default.
            queries: True = the step asks; the sources always do. A real step at which the modality is
                absent may still ask for its past: then its ``x`` is read (a speaker embedding, say).
            return_weights: False leaves the weights out; dense attention (``alpha=1``) then goes through
                :func:`attend`, whose fused kernel never holds them.

        Returns:
            ``y``: zero for a step that has no source or does not ask; ``weights``: zero there too.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask, queries = sources_and_queries(x, mask, queries)
        x = keep(x, queries)
        if self.given_alpha == 1 and not return_weights:
            allowed = attention_mask(mask, queries, causal=self.causal, include_self=self.include_self)
            query, key, value = (split_heads(project(x), self.heads) for project in (self.query, self.key, self.value))
            return AttentionOutput(merge_heads(attend(query, key, value, allowed)), None)
        weights = self.weights(self.scores(x), mask, queries, include_self=self.include_self)
        return AttentionOutput(self.mix(weights, x), weights if return_weights else None)
