"""Fusion by concatenation, refined by a residual perceptron (CARN, eq. 10-11)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmaffect.ops import check_modalities, check_positive


class ConcatFusion(nn.Module):
    r"""Concatenate the modalities' hidden states and add a non-linear view of all of them.

    .. math:: f = [f_1; \dots; f_M], \qquad f_{res} = f + \mathrm{ReLU}(\mathrm{MLP}(f))

    Args:
        widths: width of each modality's hidden state, by name; the order is fixed here.
        hidden: width inside the perceptron; the joint width by default.
        dropout: inside the perceptron.

    Shape:
        ``hidden[m] (..., D_m)`` → ``(..., Σ D_m)``.

    Raises:
        ValueError: on no modality, or other names than those of the constructor.

    Example:
        >>> fusion = ConcatFusion({"text": 4, "audio": 2})
        >>> fusion({"audio": torch.randn(3, 2), "text": torch.randn(3, 4)}).shape
        torch.Size([3, 6])
    """

    def __init__(self, widths: Mapping[str, int], *, hidden: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths: expected at least one modality, got none")
        self.names = tuple(widths)
        self.width = sum(widths.values())
        hidden = hidden or self.width
        check_positive(width=self.width, hidden=hidden)
        self.refine = nn.Sequential(
            nn.Linear(self.width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, self.width), nn.ReLU()
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
        joint = torch.cat([hidden[name] for name in self.names], dim=-1)
        refined: Tensor = joint + self.refine(joint)
        return refined
