"""Two networks for the same calls: the published one to compare with, and the one to use."""

from mmaffect.diffusion.cross_modal_unet1d import CrossModalUNet1d
from mmaffect.diffusion.unet1d import UNet1d


def reference_score_network(dim: int, *, context: int | None = None) -> CrossModalUNet1d:
    """IMDer's score network at its published sizes; see :class:`CrossModalUNet1d`.

    Args:
        dim: width D of the steps, a multiple of 8.
        context: width C of the condition; D by default.

    Example:
        >>> sum(p.numel() for p in reference_score_network(32).parameters())
        3457536
    """
    return CrossModalUNet1d(dim, context=context, widths=(32, 64, 128, 256), layers=2, heads=8, groups=(4, 32, 32, 32))


def fast_score_network(dim: int, *, context: int | None = None, width: int = 64) -> UNet1d:
    """A lean network for conditions that share the time axis of what is recovered; see :class:`UNet1d`.

    IMDer asks by attention, at eight places and in two layers each, which step of the condition belongs to which step
    of ``x``. Where both stand on one time axis that is known: step k of the condition enters beside step k of ``x``,
    through a convolution that also says what is not there. Attention is left at the bottom, for what concerns the
    whole sequence. It takes the same calls, ``prepare`` included; what it costs and how well it recovers, beside the
    reference: ``benchmarks/score_network.py`` and ``benchmarks/score_network_quality.py``.

    Args:
        dim: width D of the steps.
        context: width C of the condition; D by default.
        width: features at the finest of two resolutions, a multiple of 4; the coarse one has twice as many.

    Example:
        >>> import torch
        >>> network, x, context = fast_score_network(8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
        >>> network(x, torch.rand(2), prepared=network.prepare(context)).shape
        torch.Size([2, 5, 8])
    """
    context = dim if context is None else context
    return UNet1d(dim, width=width, multipliers=(1, 2), context=context, attention="bottom", aligned=True)
