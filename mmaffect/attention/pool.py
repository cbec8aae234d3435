"""Many steps made one, by weights that the steps themselves earn."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.ops import check_positive, check_shape, keep, masked_softmax, step_mask


class PoolOutput(NamedTuple):
    """What a pool yields: ``pooled (B, D)`` and ``weights (B, T)``."""

    pooled: Tensor
    weights: Tensor


class AttentionPool(nn.Module):
    r"""Weighted mean of the steps by additive self-attention (Lin et al., 2017, eq. 5).

    .. math:: a = \mathrm{softmax}_t(v^\top \tanh(W h_t)), \qquad g = \sum_t a_t h_t

    Affect-Diff has no biases (``bias=False``). CIDer has both; that of v moves all scores alike, so it never
    changes the output nor trains, and is kept for the published count of parameters. Padding gets no weight; CIDer's
    published code gives it some.

    Args:
        dim: width D of the steps.
        bias: whether W and v have biases.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``pooled (B, D)``, ``weights (B, T)``.

    Raises:
        ValueError: on a width that is not positive.

    Example:
        >>> pool = AttentionPool(8)
        >>> pooled, weights = pool(torch.randn(2, 3, 8), torch.tensor([[True, True, False], [False] * 3]))
        >>> pooled.shape, weights[0, 2].item(), weights[1].tolist()
        (torch.Size([2, 8]), 0.0, [0.0, 0.0, 0.0])
    """

    def __init__(self, dim: int, *, bias: bool = True) -> None:
        super().__init__()
        check_positive(dim=dim)
        self.dim = dim
        self.project = nn.Linear(dim, dim, bias=bias)
        self.score = nn.Linear(dim, 1, bias=bias)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, bias={self.score.bias is not None}"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> PoolOutput:
        """Pool.

        Args:
            x: steps.
            mask: True = a real step; all by default.

        Returns:
            Pooled steps and the weights; both zero for a sample without any step.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask = step_mask("mask", x, mask)
        x = keep(x, mask)
        weights = masked_softmax(self.score(torch.tanh(self.project(x))).squeeze(-1), mask)
        return PoolOutput((weights.unsqueeze(1) @ x).squeeze(1), weights)
