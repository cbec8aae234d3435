"""From a hidden state to logits or scores."""

from torch import Tensor, nn

from mmaffect.ops import check_positive


class PredictionHead(nn.Module):
    """Dropout and a linear map.

    Args:
        dim: width of the hidden state.
        outputs: classes, labels or scores.
        score: whether the outputs are scores; a single score comes without an axis of its own.
        dropout: of the hidden state.

    Shape:
        ``(..., D)`` → ``(..., outputs)``, or ``(...)`` for a single score.

    Raises:
        ValueError: on sizes that are not positive.

    Example:
        >>> import torch
        >>> PredictionHead(4, 1, score=True)(torch.randn(3, 5, 4)).shape
        torch.Size([3, 5])
    """

    def __init__(self, dim: int, outputs: int, *, score: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim, outputs=outputs)
        self.dim, self.outputs, self.single = dim, outputs, score and outputs == 1
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, outputs)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return "single score" if self.single else ""

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits or scores of each hidden state."""
        out: Tensor = self.linear(self.dropout(hidden))
        return out.squeeze(-1) if self.single else out
