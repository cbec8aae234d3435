"""A convolution over time whose statistics, like its values, never see padding."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.ops import check_positive, check_shape, keep, masked_group_norm, step_mask


class TemporalConvolution(nn.Module):
    r"""Convolution over time, group normalisation, GELU: Affect-Diff's reading of frames (IV-B).

    .. math:: h = \mathrm{GELU}(\mathrm{GroupNorm}(W * x + b))

    The sequence keeps its length. What is not there is read as zero, as what lies before the first step; the
    normalisation is over the real steps of each sample (:func:`mmaffect.ops.masked_group_norm`). The number of groups
    is ours: the paper does not say.

    Args:
        dim: input width.
        width: output width, a multiple of ``groups``.
        kernel: steps that a filter spans; odd, so that it has a middle.
        groups: of the normalisation.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, T, width)``.

    Raises:
        ValueError: on sizes that are not positive, an even kernel, or a width that is no multiple of the groups.

    Example:
        >>> import torch
        >>> front = TemporalConvolution(4, 8, kernel=5)
        >>> front(torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.bool)).shape
        torch.Size([2, 6, 8])
    """

    def __init__(self, dim: int, width: int, *, kernel: int = 3, groups: int = 8) -> None:
        super().__init__()
        check_positive(dim=dim, width=width, kernel=kernel, groups=groups)
        if kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd number of steps, got {kernel}")
        if width % groups:
            raise ValueError(f"width: expected a multiple of groups = {groups}, got {width}")
        self.dim, self.width = dim, width
        self.convolution = nn.Conv1d(dim, width, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(groups, width)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, {self.width}"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve; zero at steps that are not there.

        Args:
            x: steps.
            mask: True = a real step; all by default.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask = step_mask("mask", x, mask)
        norm = self.norm
        hidden = self.convolution(keep(x, mask).mT).mT
        hidden = masked_group_norm(hidden, norm.num_groups, norm.weight, norm.bias, mask, eps=norm.eps)
        return F.gelu(hidden)  # of zero it is zero
