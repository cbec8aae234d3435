"""A masked pre-norm transformer encoder: what a padded or absent step holds never matters."""

from typing import Literal

from torch import Tensor, nn

from mmaffect.attention.attend import attend, merge_heads, split_heads
from mmaffect.attention.positions import distance_bias, sinusoidal_positions
from mmaffect.attention.weights import attention_mask
from mmaffect.ops import check_choice, check_dropout, check_positive, check_shape, keep, sources_and_queries


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and feed-forward block (Xiong et al., 2020).

    Args:
        dim: width, a multiple of ``heads``.
        heads: attention heads.
        hidden: width of the feed-forward part.
        dropout: of attention weights, of both branches and inside the feed-forward part.

    Shape:
        ``x (B, T, D)``, ``allowed (B, T, T)`` (query by source), ``bias (H, T, T)`` → ``(B, T, D)``.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim, heads=heads, hidden=hidden)
        if dim % heads:
            raise ValueError(f"dim: expected a multiple of heads = {heads}, got {dim}")
        check_dropout(dropout=dropout)
        self.heads, self.rate = heads, dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"heads={self.heads}, dropout={self.rate}"

    def forward(self, x: Tensor, allowed: Tensor, bias: Tensor | None = None) -> Tensor:
        """One block; a query with no source gets nothing from the attention branch."""
        parts = self.project(self.attention_norm(x)).chunk(3, dim=-1)
        query, key, value = (split_heads(part, self.heads) for part in parts)
        mixed = attend(query, key, value, allowed, bias=bias, dropout=self.rate, training=self.training)
        x = x + self.dropout(self.out(merge_heads(mixed)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class TransformerEncoder(nn.Module):
    """Pre-norm transformer encoder over masked sequences, with a final LayerNorm.

    Args:
        dim: width.
        layers: blocks.
        heads: attention heads.
        hidden: width of the feed-forward parts; ``4 * dim`` by default.
        dropout: see :class:`TransformerLayer`.
        causal: attend to earlier steps and oneself only.
        positions: ``"sinusoidal"`` adds positions by step index to the steps; ``"distance"`` lets each head prefer
            near steps (ALiBi, in both directions); ``"none"`` leaves the encoder blind to order.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)``, ``queries (B, T)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive, or a width that is no multiple of the heads.

    Example:
        >>> import torch
        >>> encoder = TransformerEncoder(8, layers=1, heads=2).eval()
        >>> x, mask = torch.randn(1, 3, 8), torch.tensor([[True, True, False]])
        >>> bool(torch.allclose(encoder(x, mask)[:, :2], encoder(x[:, :2], mask[:, :2]), atol=1e-6))
        True
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        positions: Literal["none", "sinusoidal", "distance"] = "sinusoidal",
    ) -> None:
        super().__init__()
        check_positive(layers=layers)
        check_choice("positions", positions, ("none", "sinusoidal", "distance"))
        self.dim, self.heads, self.causal, self.positions = dim, heads, causal, positions
        self.layers = nn.ModuleList(
            TransformerLayer(dim, heads, 4 * dim if hidden is None else hidden, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, heads={self.heads}, causal={self.causal}, positions={self.positions!r}"

    def forward(self, x: Tensor, mask: Tensor | None = None, *, queries: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            x: steps.
            mask: True = the step may be attended to; all by default.
            queries: True = the step has a meaning of its own even where it is no source (a real turn at
                which this modality is absent); by default the sources.

        Returns:
            Hidden steps, zero at steps that do not ask.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask, queries = sources_and_queries(x, mask, queries)
        x = keep(x, queries)
        if self.positions == "sinusoidal":
            x = x + sinusoidal_positions(x.shape[1], self.dim, device=x.device).to(x.dtype)
        allowed = attention_mask(mask, queries, causal=self.causal)
        bias = distance_bias(x.shape[1], self.heads, device=x.device) if self.positions == "distance" else None
        for layer in self.layers:
            x = layer(x, allowed, bias)
        return keep(self.norm(x), queries)
