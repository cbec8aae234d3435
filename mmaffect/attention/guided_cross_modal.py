"""One sequence looks at another through the eyes of a third: TETFN's text-enhanced attention, for any guide."""

from typing import Literal

from torch import Tensor, nn

from mmaffect.attention.cross_modal import CrossModalEncoder
from mmaffect.ops import check_shape, step_mask


class GuidedCrossModalEncoder(nn.Module):
    r"""Cross-modal transformer whose source first gathers from a guide (TETFN, Wang et al., 2023).

    .. math:: c = \mathrm{CA}_1(\text{source} \leftarrow \text{guide}), \qquad
              y = \mathrm{CA}_n(\text{target} \leftarrow c)

    with one layer below and n above; both are :class:`CrossModalEncoder`. In TETFN the guide is the text, and target
    and source are the two other modalities. A source step without any guide goes on with what it knows itself.

    Args:
        dim: width D of the three sequences.
        layers: blocks of the upper encoder; the lower one has one.
        heads: attention heads.
        hidden: width of the feed-forward parts; ``4 * dim`` by default.
        dropout: of both branches and inside the feed-forward parts.
        attention_dropout: of the attention weights.
        embedding_dropout: of the embedded sequences.
        causal: both encoders look at steps ``j ≤ i + offset`` only.
        offset: how far ahead a causal step may look.
        positions: ``"sinusoidal"`` or ``"none"``.

    Shape:
        ``target (B, T, D)``, ``source (B, S, D)``, ``guide (B, G, D)``, ``target_mask (B, T)``,
        ``source_mask (B, S)``, ``guide_mask (B, G)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive, a width that is no multiple of the heads, or unknown positions.

    Example:
        >>> import torch
        >>> encoder = GuidedCrossModalEncoder(8, layers=2, heads=2)
        >>> voice, face, words = torch.randn(1, 5, 8), torch.randn(1, 7, 8), torch.randn(1, 3, 8)
        >>> encoder(voice, face, words).shape
        torch.Size([1, 5, 8])
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
        self.dim = dim

        def encoder(layers: int) -> CrossModalEncoder:
            return CrossModalEncoder(
                dim,
                layers,
                heads,
                hidden=hidden,
                dropout=dropout,
                attention_dropout=attention_dropout,
                embedding_dropout=embedding_dropout,
                causal=causal,
                offset=offset,
                positions=positions,
            )

        self.lower, self.upper = encoder(1), encoder(layers)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}"

    def forward(
        self,
        target: Tensor,
        source: Tensor,
        guide: Tensor,
        target_mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        guide_mask: Tensor | None = None,
    ) -> Tensor:
        """Let the source gather from the guide, then the target from the source.

        Args:
            target: steps that ask.
            source: steps that are looked at.
            guide: steps that the source looks at.
            target_mask: True = a real step; all by default.
            source_mask: the same for the source.
            guide_mask: the same for the guide.

        Returns:
            The target's steps, zero at masked ones.

        Raises:
            ValueError: on another shape.
        """
        batch = target.shape[0]
        check_shape("source", source, "B S D", B=batch, D=self.dim)
        check_shape("guide", guide, "B G D", B=batch, D=self.dim)
        source_mask = step_mask("source_mask", source, source_mask, "B S")
        guide_mask = step_mask("guide_mask", guide, guide_mask, "B G")
        guided = self.lower(source, guide, source_mask, guide_mask)
        return self.upper(target, guided, target_mask, source_mask)
