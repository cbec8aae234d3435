"""The causal-cue encoder of CARN: history in, gated cue and transformer context out (eq. 1-9)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.attention import CausalEntmaxAttention
from mmaffect.ops import check_shape, keep, sources_and_queries


class CausalCues(NamedTuple):
    """Gated steps, and who they looked at.

    ``gated (B, T, D)``; ``weights (B, H, T, T)`` behind the cue (eq. 5); ``parents (B, H, T, T)`` the same
    scores normalised over the allowed parents of the Granger loss.
    """

    gated: Tensor
    weights: Tensor
    parents: Tensor


class CausalCueGate(nn.Module):
    r"""Cues from a modality's own past, let in by a gate (CARN, eq. 1-8).

    .. math:: z = \mathrm{entmax}_{1.5}(\bar S) V, \quad \gamma = \sigma(W[x; z] + b), \quad
              f = \mathrm{LayerNorm}(x + \gamma \odot z)

    Args:
        dim: width of the steps.
        heads: heads of the causal attention.
        alpha: 1.5, exactly sparse; 1 is softmax.
        causal: False with ``alpha=1`` is the paper's vanilla attention.
        include_self: whether a step's cue may come from the step itself (eq. 2).
        self_parent: whether a step may be its own parent in ``parents``. The paper's masks allow it, which lets
            a contrastive loss read its answer; Granger causality asks for the strict past, the default (all other
            steps, where the attention is not causal).

    Shape:
        ``x (B, T, D)``, ``mask (B, T)``, ``queries (B, T)`` → :class:`CausalCues`.

    Example:
        >>> cues = CausalCueGate(4)(torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
        >>> tuple(cues.gated.shape), bool((cues.parents[:, :, 0] == 0).all())
        ((2, 3, 4), True)
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 1,
        alpha: float = 1.5,
        causal: bool = True,
        include_self: bool = True,
        self_parent: bool = False,
    ) -> None:
        super().__init__()
        self.attention = CausalEntmaxAttention(dim, heads, alpha, include_self, causal=causal)
        self.gate = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.self_parent = self_parent

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"self_parent={self.self_parent}"

    def forward(self, x: Tensor, mask: Tensor | None = None, *, queries: Tensor | None = None) -> CausalCues:
        """Gate cues into the steps.

        Args:
            x: steps.
            mask: True = the step is a source; all by default.
            queries: True = the step asks for cues; by default the sources.

        Returns:
            Cues; ``gated`` is zero at steps that do not ask.

        Raises:
            ValueError: on another shape.
        """
        attention = self.attention
        check_shape("x", x, "B T D", D=attention.dim)
        mask, queries = sources_and_queries(x, mask, queries)
        x = keep(x, queries)
        scores = attention.scores(x)
        weights = attention.weights(scores, mask, queries, include_self=attention.include_self)
        parents = (
            weights
            if self.self_parent == attention.include_self
            else attention.weights(scores, mask, queries, include_self=self.self_parent)
        )
        cue = attention.mix(weights, x)
        gate = torch.sigmoid(self.gate(torch.cat([x, cue], dim=-1)))
        return CausalCues(keep(self.norm(x + gate * cue), queries), weights, parents)
