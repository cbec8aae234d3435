"""Refinement of recovered latents: residual blocks whose channels are weighed by what the sequence holds."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.diffusion.unet_blocks import StepConv
from mmaffect.ops import check_positive, check_shape, keep, masked_mean, step_mask


class ResidualChannelAttention(nn.Module):
    r"""Residual channel-attention block over steps (Zhang et al., 2018, RCAN, eq. 6-10), one-dimensional as in IMDer.

    .. math:: y = x + s \odot r, \qquad r = C_2\, \mathrm{ReLU}(C_1 x), \qquad
              s = \mathrm{sigmoid}(W_2\, \mathrm{ReLU}(W_1\, \bar r))

    C are convolutions three steps wide and :math:`\bar r` the mean of r over the real steps of the sample.

    Args:
        dim: number of channels.
        reduction: by how much W_1 narrows them, at most ``dim``.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive, or a reduction above ``dim``.

    Example:
        >>> import torch
        >>> ResidualChannelAttention(32)(torch.randn(2, 5, 32)).shape
        torch.Size([2, 5, 32])
    """

    def __init__(self, dim: int, *, reduction: int = 16) -> None:
        super().__init__()
        check_positive(dim=dim, reduction=reduction)
        if reduction > dim:
            raise ValueError(f"reduction: expected at most dim = {dim}, got {reduction}")
        self.dim, self.reduction = dim, reduction
        self.first, self.second = StepConv(dim, dim), StepConv(dim, dim)
        self.squeeze, self.excite = nn.Linear(dim, dim // reduction), nn.Linear(dim // reduction, dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, reduction={self.reduction}"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One block; zero at masked steps.

        Args:
            x: steps.
            mask: True = a real step; all by default.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask = step_mask("mask", x, mask)
        x = keep(x, mask)
        residual = keep(self.second(keep(F.relu(self.first(x)), mask)), mask)
        weights = self.excite(F.relu(self.squeeze(masked_mean(residual, mask)))).sigmoid()
        return x + weights.unsqueeze(1) * residual


class Refinement(nn.Module):
    r"""IMDer's refinement of what was recovered: a stack of :class:`ResidualChannelAttention` with a long shortcut.

    .. math:: \hat x = W_2\, \big(h + C\, R_n \cdots R_1\, h\big), \qquad h = W_1 x

    522,224 parameters for latents of width 32, as in the published code. As there, the latents themselves have no
    shortcut. The published convolutions count padding in, and so does its channel attention; ours see none.

    Args:
        dim: width D of the latents.
        hidden: width of the blocks.
        blocks: their number.
        reduction: of their channel attention.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive, or a reduction above ``hidden``.

    Example:
        >>> import torch
        >>> refine = Refinement(32)
        >>> sum(parameter.numel() for parameter in refine.parameters())
        522224
        >>> refine(torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 5, 32])
    """

    def __init__(self, dim: int, *, hidden: int = 64, blocks: int = 20, reduction: int = 16) -> None:
        super().__init__()
        check_positive(dim=dim, hidden=hidden, blocks=blocks)
        self.dim = dim
        self.enter, self.leave = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.blocks = nn.ModuleList(ResidualChannelAttention(hidden, reduction=reduction) for _ in range(blocks))
        self.last = StepConv(hidden, hidden)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}"

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Refine; zero at masked steps.

        Args:
            x: recovered steps.
            mask: True = a real step; all by default.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask = step_mask("mask", x, mask)
        entered = hidden = keep(self.enter(keep(x, mask)), mask)
        for block in self.blocks:
            hidden = block(hidden, mask)
        return keep(self.leave(entered + self.last(hidden)), mask)
