"""One sequence looks at another: the directed cross-modal stack of MulT (Tsai et al., 2019)."""

import math
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from mmaffect.attention.attend import attend, merge_heads, split_heads
from mmaffect.attention.positions import sinusoidal_positions
from mmaffect.attention.weights import attention_mask
from mmaffect.ops import check_choice, check_dropout, check_positive, check_shape, dropout, keep, step_mask


class PreparedSource(NamedTuple):
    """What a :class:`CrossModalEncoder` reads of a source: keys and values of each layer, and which steps are there.

    ``keys`` and ``values``: a tensor ``(B, H, S, D/H)`` a layer; ``mask (B, S)``.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor


class CrossModalLayer(nn.Module):
    """Pre-norm block in which one sequence attends to another (Tsai et al., 2019, section 3.2).

    One LayerNorm serves both sequences, as in the published code.

    Args:
        dim: width, a multiple of ``heads``.
        heads: attention heads.
        hidden: width of the feed-forward part.
        dropout: of both branches and inside the feed-forward part.
        attention_dropout: of the attention weights.

    Shape:
        ``x (B, T, D)``, ``source (B, S, D)``, ``allowed (B, T, S)`` (query by source) → ``(B, T, D)``.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float = 0.0, attention_dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim, heads=heads, hidden=hidden)
        if dim % heads:
            raise ValueError(f"dim: expected a multiple of heads = {heads}, got {dim}")
        check_dropout(dropout=dropout, attention_dropout=attention_dropout)
        self.heads, self.dropout, self.attention_dropout = heads, dropout, attention_dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier initialisation, as published: query, key and value count as one map to 3 D features."""
        bound = math.sqrt(6 / (4 * self.query.in_features))
        nn.init.uniform_(self.query.weight, -bound, bound)
        nn.init.uniform_(self.key_value.weight, -bound, bound)
        for linear in (self.out, self.expand, self.contract):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.query, self.key_value, self.out, self.expand, self.contract):
            nn.init.zeros_(linear.bias)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"heads={self.heads}, dropout={self.dropout}, attention_dropout={self.attention_dropout}"

    def key_and_value(self, normed: Tensor) -> tuple[Tensor, Tensor]:
        """What is looked at, from steps after their norm.

        Shape:
            ``(B, S, D)`` → both ``(B, H, S, D/H)``.
        """
        key, value = self.key_value(normed).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def forward(
        self, x: Tensor, source: Tensor | None, allowed: Tensor, prepared: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """One block; ``x`` is its own source where there is no other, ``prepared`` are keys and values of another."""
        normed = self.attention_norm(x)
        if prepared is None:
            prepared = self.key_and_value(normed if source is None else self.attention_norm(source))
        query, (key, value) = split_heads(self.query(normed), self.heads), prepared
        mixed = attend(query, key, value, allowed, dropout=self.attention_dropout, training=self.training)
        x = x + dropout(self.out(merge_heads(mixed)), self.dropout, training=self.training)
        hidden = torch.relu(self.expand(self.feed_forward_norm(x)))
        hidden = dropout(hidden, self.dropout, training=self.training)
        return x + dropout(self.contract(hidden), self.dropout, training=self.training)


class CrossModalEncoder(nn.Module):
    r"""Directed cross-modal transformer of MulT (Tsai et al., 2019, section 3.2): the target gathers from the source.

    .. math::
        z^{[0]} &= \sqrt{D}\, x + P, \qquad s = \sqrt{D}\, x' + P \\
        \hat z^{[i]} &= z^{[i-1]} + \mathrm{CM}(\mathrm{LN}(z^{[i-1]}), \mathrm{LN}(s)) \\
        z^{[i]} &= \hat z^{[i]} + \mathrm{FF}(\mathrm{LN}(\hat z^{[i]}))

    with LayerNorm after the last layer. Every layer looks at the embedded source ``s``, which is never updated.
    Without a source each layer looks at its own input: MulT's memories.

    The arithmetic is that of the published code, which scales by :math:`\sqrt D` and shares one LayerNorm between
    query and source. It differs in what surrounds it: positions count steps from 0, sines and cosines side by side
    (published: from 1, apart, and a step whose first feature is 0 gets none, as if it were padding); masks keep
    padding out (published: none); the source is embedded once (published: for keys and for values, which differ in
    dropout).

    Args:
        dim: width D of both sequences.
        layers: blocks.
        heads: attention heads.
        hidden: width of the feed-forward parts; ``4 * dim`` by default.
        dropout: of both branches and inside the feed-forward part.
        attention_dropout: of the attention weights.
        embedding_dropout: of the embedded sequences.
        causal: only sources ``j ≤ i + offset`` for the target's step i.
        offset: how far ahead a causal target may look. The published code takes the difference of the two padded
            lengths, so that more padding shows more of the future; here it is a constant of your data.
        positions: ``"sinusoidal"`` or ``"none"``.

    Shape:
        ``target (B, T, D)``, ``source (B, S, D)``, ``target_mask (B, T)``, ``source_mask (B, S)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive, a width that is no multiple of the heads, or unknown positions.

    Example:
        >>> import torch
        >>> encoder = CrossModalEncoder(8, layers=2, heads=2)
        >>> words, frames = torch.randn(1, 3, 8), torch.randn(1, 7, 8)
        >>> encoder(words, frames, source_mask=torch.arange(7)[None] < 5).shape
        torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        dim: int,
        layers: int,
        heads: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        causal: bool = False,
        offset: int = 0,
        positions: Literal["none", "sinusoidal"] = "sinusoidal",
    ) -> None:
        super().__init__()
        check_positive(layers=layers)
        check_choice("positions", positions, ("none", "sinusoidal"))
        check_dropout(embedding_dropout=embedding_dropout)
        self.dim, self.embedding_dropout = dim, embedding_dropout
        self.causal, self.offset, self.positions = causal, offset, positions
        self.layers = nn.ModuleList(
            CrossModalLayer(dim, heads, 4 * dim if hidden is None else hidden, dropout, attention_dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return (
            f"{self.dim}, embedding_dropout={self.embedding_dropout}, causal={self.causal}, offset={self.offset}, "
            f"positions={self.positions!r}"
        )

    def embed(self, x: Tensor) -> Tensor:
        """Scale the steps and add their positions.

        Shape:
            ``(B, T, D)`` → ``(B, T, D)``.
        """
        x = math.sqrt(self.dim) * x
        if self.positions == "sinusoidal":
            x = x + sinusoidal_positions(x.shape[1], self.dim, device=x.device).to(x.dtype)
        return dropout(x, self.embedding_dropout, training=self.training)

    def prepare(self, source: Tensor, source_mask: Tensor | None = None) -> PreparedSource:
        """Compute once what depends on the source alone, for many targets that look at it in turn.

        Args:
            source: steps that are looked at.
            source_mask: True = the step may be looked at; all by default.

        Returns:
            What ``forward`` takes in place of the source.

        Raises:
            ValueError: on another shape.
        """
        check_shape("source", source, "B S D", D=self.dim)
        source_mask = step_mask("source_mask", source, source_mask, "B S")
        source = self.embed(keep(source, source_mask))
        layers = cast(list[CrossModalLayer], list(self.layers))
        pairs = [layer.key_and_value(layer.attention_norm(source)) for layer in layers]
        # Head by head in memory: the products of every later call would otherwise copy them to that order.
        keys, values = (tuple(part.contiguous() for part in parts) for parts in zip(*pairs, strict=True))
        return PreparedSource(keys, values, source_mask)

    def forward(
        self,
        target: Tensor,
        source: Tensor | None = None,
        target_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        *,
        prepared: PreparedSource | None = None,
    ) -> Tensor:
        """Let the target gather from the source.

        Args:
            target: steps that ask.
            source: steps that are looked at; None = the target looks at itself, layer by layer.
            target_mask: True = the step asks; all by default.
            source_mask: True = the step may be looked at; all by default, and without a source those that ask.
            prepared: the source and its mask, as :meth:`prepare` returns them, in place of both.

        Returns:
            The target's steps, zero where they do not ask. With nothing to look at, what the attention adds is
            the bias of its last projection.

        Raises:
            ValueError: on another shape, or a source beside a prepared one.
        """
        check_shape("target", target, "B T D", D=self.dim)
        target_mask = step_mask("target_mask", target, target_mask)
        if prepared is not None:
            if source is not None or source_mask is not None:
                raise ValueError("prepared: expected neither source nor source_mask beside it")
            check_shape("prepared.mask", prepared.mask, "B S", B=target.shape[0])
            source_mask = prepared.mask
        elif source is None:
            source_mask = target_mask if source_mask is None else step_mask("source_mask", target, source_mask)
        else:
            check_shape("source", source, "B S D", B=target.shape[0], D=self.dim)
            source_mask = step_mask("source_mask", source, source_mask, "B S")
            source = self.embed(keep(source, source_mask))
        x = self.embed(keep(target, target_mask))
        allowed = attention_mask(source_mask, target_mask, causal=self.causal, offset=self.offset)
        pairs = [None] * len(self.layers) if prepared is None else zip(prepared.keys, prepared.values, strict=True)
        for layer, pair in zip(self.layers, pairs, strict=True):
            x = layer(x, source, allowed, pair)
        return keep(self.norm(x), target_mask)
