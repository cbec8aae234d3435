"""Fusion by a perceptron over the concatenated modalities (Affect-Diff, IV-D)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmaffect.ops import check_dropout, check_modalities, check_positive


class PerceptronFusion(nn.Module):
    r"""Concatenate the modalities' hidden states and map them to one width by a perceptron of two layers.

    .. math:: f = W_2\, \mathrm{GELU}(\mathrm{LayerNorm}(W_1 [f_1; \dots; f_M] + b_1)) + b_2

    Each step by itself, so a padded step never reaches a real one. The paper's equation is lost in the text we have:
    the place of the normalisation and the width between the layers are ours.

    Args:
        widths: width of each modality's hidden state, by name; the order is fixed here.
        width: of the joint state.
        hidden: width between the layers; ``width`` by default.
        dropout: between the layers.

    Shape:
        ``hidden[m] (..., D_m)`` → ``(..., width)``.

    Raises:
        ValueError: on no modality, sizes that are not positive, or other names than those of the constructor.

    Example:
        >>> fusion = PerceptronFusion({"text": 4, "audio": 2}, 8)
        >>> fusion({"audio": torch.randn(3, 2), "text": torch.randn(3, 4)}).shape
        torch.Size([3, 8])
    """

    def __init__(
        self, widths: Mapping[str, int], width: int, *, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths: expected at least one modality, got none")
        self.names = tuple(widths)
        self.width = width
        joined = sum(widths.values())
        hidden = width if hidden is None else hidden
        check_positive(widths=min(widths.values()), width=width, hidden=hidden)
        check_dropout(dropout=dropout)
        self.layers = nn.Sequential(
            nn.Linear(joined, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"names={self.names}, width={self.width}"

    def forward(self, hidden: Mapping[str, Tensor]) -> Tensor:
        """Fuse.

        Args:
            hidden: hidden states by modality, in any order.
        """
        check_modalities("hidden", hidden, self.names)
        fused: Tensor = self.layers(torch.cat([hidden[name] for name in self.names], dim=-1))
        return fused
