"""A head that thinks once more about the hidden state before it answers."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.heads.prediction import PredictionHead
from mmaffect.ops import check_dropout, check_positive, dropout


class ResidualHead(nn.Module):
    r"""A residual perceptron and a linear map: MulT's reading of its joint state (Tsai et al., 2019, published code).

    .. math:: y = W_3\, (h + W_2\, \mathrm{ReLU}(W_1 h + b_1) + b_2) + b_3

    With MulT's 192 features and one score, 74,305 parameters.

    Args:
        dim: width of the hidden state.
        outputs: classes, labels or scores.
        score: whether the outputs are scores; a single score comes without an axis of its own.
        dropout: within the perceptron.

    Shape:
        ``(..., D)`` → ``(..., outputs)``, or ``(...)`` for a single score.

    Raises:
        ValueError: on sizes that are not positive, or a dropout out of range.

    Example:
        >>> import torch
        >>> ResidualHead(4, 1, score=True)(torch.randn(3, 5, 4)).shape
        torch.Size([3, 5])
    """

    def __init__(self, dim: int, outputs: int, *, score: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim)
        check_dropout(dropout=dropout)
        self.dim, self.outputs, self.dropout = dim, outputs, dropout
        self.expand, self.contract = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.predict = PredictionHead(dim, outputs, score=score)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"dropout={self.dropout}"

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits or scores of each hidden state.

        Raises:
            ValueError: on another width.
        """
        if hidden.dim() < 1 or hidden.shape[-1] != self.dim:
            raise ValueError(f"hidden: expected shape (..., D) with D = {self.dim}, got {tuple(hidden.shape)}")
        inner = dropout(F.relu(self.expand(hidden)), self.dropout, training=self.training)
        out: Tensor = self.predict(hidden + self.contract(inner))
        return out
