"""CIDer's composite transformer: pre-norm layers that attend within every subset of the modalities."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmaffect.attention.composite import CompositeAttention, CompositeOutput, join, join_masks
from mmaffect.attention.positions import sinusoidal_positions
from mmaffect.ops import check_dropout, check_positive, dropout, keep


class CompositeLayer(nn.Module):
    """Composite attention and a feed-forward part, each behind a LayerNorm and beside the identity.

    Args:
        dim: width, a multiple of ``heads``.
        heads: attention heads.
        names: the modalities, in the order in which they are joined.
        hidden: width of the feed-forward part.
        attention_dropout: see :class:`CompositeAttention`.
        dropout: of both branches and inside the feed-forward part.

    Shape:
        ``x (B, N, D)``, ``mask`` and ``queries`` ``(B, N)`` → ``(B, N, D)`` and the scores ``(B, H, N, N)``, or None.
    """

    def __init__(
        self, dim: int, heads: int, names: Sequence[str], hidden: int, *, attention_dropout: float, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = CompositeAttention(dim, heads, names, dropout=attention_dropout)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"dropout={self.dropout}"

    def forward(
        self, x: Tensor, mask: Tensor, lengths: Sequence[int], *, queries: Tensor | None = None, return_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        """One layer over modalities that are joined already."""
        seen, scores = self.attention.attend(
            self.attention_norm(x), mask, lengths, queries=queries, return_scores=return_scores
        )
        x = x + dropout(seen, self.dropout, training=self.training)
        hidden = torch.relu(self.expand(self.feed_forward_norm(x)))
        hidden = self.contract(dropout(hidden, self.dropout, training=self.training))
        return x + dropout(hidden, self.dropout, training=self.training), scores


class CompositeEncoder(nn.Module):
    """Several modalities in, as many out, each step having seen every subset with its modality (CIDer's MCT).

    The paper was at hand as a summary only; layers and sizes follow the published code, but for:

    * **positions** are sinusoids of the step within its own modality. The published code takes the index in the
      batch for that of the step, so that its predictions depend on the order of the batch and steps have no order. Its
      intention, positions along the joined sequence, would let the padding of one modality move the steps of the next.
      Steps of two modalities at one time thus share a position; what tells the modalities apart is
      :class:`CompositeAttention`, whose subsets and last maps differ between them.
    * **masks**, of which it has none: see :class:`CompositeAttention`.

    ``subsets=False`` leaves one attention over all steps of all modalities: the paper's ablation of the composite
    one. Positions stay those within the modality.

    Args:
        dim: width, a multiple of ``heads``.
        layers: blocks.
        heads: attention heads.
        names: the modalities, in the order in which they are joined.
        hidden: width of the feed-forward parts; ``4 * dim`` by default.
        attention_dropout: of the weights of the full subset alone.
        dropout: of all branches and inside the feed-forward parts; 0.1 as published.
        embedding_dropout: of the steps, once positions are added.
        subsets: attend within every subset of the modalities; False: within all of them together, once.

    Shape:
        ``x`` ``(B, T_m, D)`` and ``masks (B, T_m)`` by modality → ``y`` alike, ``scores (B, H, N, N)`` with N the sum
        of the T_m, query by source.

    Raises:
        ValueError: as :class:`CompositeAttention`, or on sizes that are not positive.

    Example:
        >>> encoder = CompositeEncoder(8, 2, 2, ("voice", "face")).eval()
        >>> voice, face = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
        >>> y, scores = encoder({"voice": voice, "face": face})
        >>> y["face"].shape, scores.shape
        (torch.Size([1, 4, 8]), torch.Size([1, 2, 7, 7]))
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        names: Sequence[str],
        *,
        hidden: int | None = None,
        attention_dropout: float = 0.0,
        dropout: float = 0.1,
        embedding_dropout: float = 0.0,
        subsets: bool = True,
    ) -> None:
        super().__init__()
        hidden = 4 * dim if hidden is None else hidden
        check_positive(dim=dim, layers=layers, hidden=hidden)
        check_dropout(attention_dropout=attention_dropout, dropout=dropout, embedding_dropout=embedding_dropout)
        self.dim, self.names, self.embedding_dropout = dim, tuple(names), embedding_dropout
        self.subsets = subsets
        own = names if subsets else ("all",)
        self.layers = nn.ModuleList(
            CompositeLayer(dim, heads, own, hidden, attention_dropout=attention_dropout, dropout=dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        subsets = "" if self.subsets else ", subsets=False"
        return f"{self.dim}, names={self.names}, embedding_dropout={self.embedding_dropout}{subsets}"

    def forward(
        self,
        x: Mapping[str, Tensor],
        masks: Mapping[str, Tensor | None] | None = None,
        *,
        queries: Mapping[str, Tensor | None] | None = None,
        return_scores: bool = True,
    ) -> CompositeOutput:
        """Encode.

        Args:
            x: steps by modality, in any order.
            masks: True = the step is there; all by default.
            queries: True = the step asks even where it is no source; see :class:`CompositeAttention`.
            return_scores: False leaves the scores out, and their memory.

        Returns:
            ``y``: zero at steps that do not ask; ``scores``: of the last layer, before any softmax (what CIDer
            distils), zero at pairs that are not there.

        Raises:
            ValueError: on other modalities, or another shape.
        """
        joined, mask, lengths = join(x, masks, self.names, self.dim)
        asks = mask if queries is None else (mask | join_masks("queries", queries, x, self.names))
        positions = torch.cat([sinusoidal_positions(steps, self.dim, device=joined.device) for steps in lengths])
        hidden = keep(joined, asks) + positions.to(joined.dtype)
        hidden = dropout(hidden, self.embedding_dropout, training=self.training)
        scores = None
        for number, layer in enumerate(self.layers, 1):
            last = return_scores and number == len(self.layers)
            hidden, scores = layer(
                hidden, mask, lengths if self.subsets else [sum(lengths)], queries=asks, return_scores=last
            )
        hidden = keep(self.norm(hidden), asks & mask.any(1, keepdim=True))
        return CompositeOutput(dict(zip(self.names, hidden.split_with_sizes(lengths, 1), strict=True)), scores)
