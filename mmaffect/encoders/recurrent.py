"""A recurrent encoder that runs unpacked and still never sees padding."""

import torch
from torch import Tensor, nn

from mmaffect.ops import check_positive, check_shape, keep, reverse_steps, sources_and_queries


class RecurrentEncoder(nn.Module):
    """GRU over masked sequences, one or both directions (Cho et al., 2014).

    Padding behind a sequence never reaches a real step: the backward pass mirrors each sequence within its own
    span, which ends at its last real step. A step before that which is not there is read as zero input, whatever
    it holds; the state passes over it.

    Args:
        dim: input width.
        hidden: width of the state in each direction.
        layers: stacked layers.
        bidirectional: read the sequence from both ends; the output is twice as wide.
        dropout: between layers and on the output.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, T, hidden)`` or ``(B, T, 2 * hidden)``.

    Raises:
        ValueError: on sizes that are not positive.

    Example:
        >>> import torch
        >>> encoder = RecurrentEncoder(4, 6, bidirectional=True)
        >>> encoder(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 5, 12])
    """

    def __init__(
        self, dim: int, hidden: int, *, layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_positive(dim=dim, hidden=hidden, layers=layers)
        self.dim, self.bidirectional = dim, bidirectional
        self.width = hidden * (2 if bidirectional else 1)
        sizes = [dim] + [self.width] * (layers - 1)
        self.forwards = nn.ModuleList(nn.GRU(size, hidden, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(
            nn.GRU(size, hidden, batch_first=True) for size in (sizes if bidirectional else [])
        )
        self.dropout = nn.Dropout(dropout)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, width={self.width}, bidirectional={self.bidirectional}"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode; zero at steps that are not there.

        Args:
            x: steps.
            mask: True = a real step; all by default.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask, _ = sources_and_queries(x, mask)
        x = keep(x, mask)
        for level, forwards in enumerate(self.forwards):
            hidden = forwards(x)[0]
            if self.bidirectional:
                back = self.backwards[level](reverse_steps(x, mask))[0]
                hidden = torch.cat([hidden, reverse_steps(back, mask)], dim=-1)
            x = self.dropout(keep(hidden, mask))
        return x
