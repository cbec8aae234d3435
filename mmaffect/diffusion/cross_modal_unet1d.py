"""The score network of IMDer: a U-Net that looks at the condition by cross-modal attention at every resolution."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.attention import CrossModalEncoder, PreparedSource
from mmaffect.diffusion.time_embedding import fourier_time
from mmaffect.diffusion.unet_blocks import StepConv, StepConvTranspose, blank, halve_mask
from mmaffect.ops import check_positive, check_shape, keep, masked_group_norm, step_mask


class CrossModalBlock(nn.Module):
    r"""What follows each convolution: the condition, the time, a GroupNorm and a SiLU.

    .. math:: y = \mathrm{SiLU}\big(\mathrm{GN}(h + \mathrm{CA}(h, c) + W e)\big)

    Args:
        dim: features.
        told: width E of the embedded time.
        groups: of the GroupNorm, a divisor of ``dim``.
        layers: of the cross-modal attention.
        heads: of the cross-modal attention, a divisor of ``dim``.
        causal: see :class:`CrossModalUNet1d`.

    Shape:
        ``h (B, T, D)``, ``told (B, E)``, ``mask (B, T)`` → ``(B, T, D)``.

    Raises:
        ValueError: on features that are no multiple of groups or heads.
    """

    def __init__(self, dim: int, told: int, groups: int, *, layers: int, heads: int, causal: bool) -> None:
        super().__init__()
        check_positive(groups=groups)
        if dim % groups:
            raise ValueError(f"groups: expected a divisor of the width {dim}, got {groups}")
        self.gather = CrossModalEncoder(dim, layers, heads, causal=causal)
        self.tell = nn.Linear(told, dim)
        self.norm = nn.GroupNorm(groups, dim)

    def forward(self, h: Tensor, source: PreparedSource, told: Tensor, mask: Tensor | None) -> Tensor:
        """One block; ``h`` is finite everywhere."""
        h = h + self.gather(h, target_mask=mask, prepared=source) + self.tell(told).unsqueeze(1)
        norm = self.norm
        return F.silu(masked_group_norm(h, norm.num_groups, norm.weight, norm.bias, mask, eps=norm.eps))


class CrossModalUNet1d(nn.Module):
    r"""Conditional score network of IMDer (Wang et al., 2023, eq. 19 and supplement, section 2), any length, masked.

    .. math::
        h^{[l]} = \mathrm{SiLU}\big(\mathrm{GN}(u + \mathrm{CA}(u, c^{[l]}) + W^{[l]} e(t))\big), \qquad
        u = \mathrm{conv}(h^{[l-1]})

    A U-Net over steps: convolutions of stride 2 on the way down, transposed ones on the way up, which also see what
    the way down had there. After each of them the steps gather from the condition, brought to the same resolution by
    convolutions of its own, through a :class:`~mmaffect.attention.CrossModalEncoder`; after the last one too. At the
    published sizes, ``CrossModalUNet1d(32)``, it has 3,457,536 parameters, as published; 77 % of them, and 95 % of
    an evaluation, are the attention. :func:`fast_score_network` makes a lean one for the same calls.

    It is the *reference*: the layout is that of the published code. What differs: any length, even, odd or 1, where
    the published one needs 48 steps or another multiple of 8; masked steps are zero before every convolution, out of
    the statistics of every GroupNorm and out of the attention, so that neither padding nor its amount changes a real
    step; no position by value and no causal mask (published: see ``CrossModalEncoder``; causal, so that a step is
    conditioned on what lies before it only). Published, the output is divided by std(t) to be the score, and its error
    weighed by std(t)²: that is, up to its sign, the plain error of the noise, a ``Denoiser`` that predicts ``"eps"``.

    Args:
        dim: width D of the steps.
        context: width C of the condition; D by default. A condition of another width than the finest resolution is
            first projected to it.
        widths: features at each resolution, at least two.
        layers: of each cross-modal encoder.
        heads: of each cross-modal encoder, a divisor of D and of all widths.
        groups: of the GroupNorm at each resolution.
        time_features: random Fourier features of the time, even; also the width to which it is embedded.
        time_scale: standard deviation of their frequencies, which are drawn once and kept in a buffer.
        causal: a step attends to coarse steps up to its own only, as published. The convolutions and the GroupNorm
            still look to both sides.

    Shape:
        ``x (B, T, D)``, ``t (B,)``, ``context (B, S, C)``, ``context_mask (B, S)``, ``mask (B, T)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive, fewer than two widths, an odd number of time features, another
            number of groups than of widths, or features that are no multiple of heads or groups.

    Example:
        >>> import torch
        >>> network = CrossModalUNet1d(8, widths=(8, 16), heads=2, groups=(2, 4), time_features=16)
        >>> x, t, context = torch.randn(2, 5, 8), torch.rand(2), torch.randn(2, 7, 8)
        >>> there = torch.arange(7) < torch.tensor([[7], [0]])  # nothing is known of the second
        >>> network(x, t, context=context, context_mask=there).shape
        torch.Size([2, 5, 8])
        >>> prepared = network.prepare(context, there)  # once for all evaluations with this condition
        >>> network(x, t, prepared=prepared).shape
        torch.Size([2, 5, 8])
    """

    frequencies: Tensor

    def __init__(
        self,
        dim: int,
        *,
        context: int | None = None,
        widths: Sequence[int] = (32, 64, 128, 256),
        layers: int = 2,
        heads: int = 8,
        groups: Sequence[int] = (4, 32, 32, 32),
        time_features: int = 256,
        time_scale: float = 30.0,
        causal: bool = False,
    ) -> None:
        super().__init__()
        context = dim if context is None else context
        check_positive(dim=dim, context=context, time_scale=time_scale)
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths: expected whole numbers > 0, at least two, got {tuple(widths)}")
        if len(groups) != len(widths):
            raise ValueError(f"groups: expected one number a width, {len(widths)}, got {tuple(groups)}")
        if time_features <= 0 or time_features % 2:
            raise ValueError(f"time_features: expected an even number > 0, got {time_features}")
        self.dim, self.context, self.widths, self.causal = dim, context, tuple(widths), causal
        self.register_buffer("frequencies", time_scale * torch.randn(time_features // 2))
        self.embed_time = nn.Linear(time_features, time_features)
        finer, coarser = list(widths[:-1]), list(widths[1:])
        back = list(reversed(finer))

        def block(number: int) -> CrossModalBlock:
            return CrossModalBlock(
                widths[number], time_features, groups[number], layers=layers, heads=heads, causal=causal
            )

        self.enter = StepConv(dim, widths[0], bias=False)
        self.down = nn.ModuleList(StepConv(i, o, stride=2, bias=False) for i, o in zip(finer, coarser, strict=True))
        self.up = nn.ModuleList(
            StepConvTranspose(i, o) for i, o in zip([widths[-1], *(2 * width for width in back)], back, strict=False)
        )
        self.leave = StepConv(2 * widths[0], dim)
        self.down_blocks = nn.ModuleList(block(number) for number in range(len(widths)))
        self.up_blocks = nn.ModuleList(block(number) for number in reversed(range(len(widths) - 1)))
        self.gather = CrossModalEncoder(dim, layers, heads, causal=causal)

        self.enter_context = nn.Identity() if context == widths[0] else nn.Linear(context, widths[0])
        self.down_context = nn.ModuleList(
            StepConv(i, o, stride=2, bias=False) for i, o in zip(finer, coarser, strict=True)
        )
        self.up_context = nn.ModuleList(StepConvTranspose(i, o) for i, o in zip(reversed(coarser), back, strict=True))
        self.leave_context = StepConv(widths[0], dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, context={self.context}, widths={self.widths}, causal={self.causal}"

    def prepare(self, context: Tensor, context_mask: Tensor | None = None) -> tuple[PreparedSource, ...]:
        """Compute once what depends on the condition alone: its convolutions, and keys and values of every layer.

        Args:
            context: the condition.
            context_mask: True = the step may be attended to; all by default.

        Returns:
            What ``forward`` takes in place of both; one entry a cross-modal encoder.

        Raises:
            ValueError: on another shape.
        """
        check_shape("context", context, "B S C", C=self.context)
        context_mask = step_mask("context_mask", context, context_mask, "B S")
        masks = _by_resolution(context_mask, len(self.widths))
        real = [mask.unsqueeze(-1).to(context.dtype) for mask in masks]
        x = self.enter_context(keep(context, context_mask))
        prepared = []
        for level, block in enumerate(_blocks(self.down_blocks)):
            x = blank(self.down_context[level - 1](x) if level else x, real[level])
            prepared.append(block.gather.prepare(x, masks[level]))
        for level, conv, block in zip(self._back(), self.up_context, _blocks(self.up_blocks), strict=True):
            x = blank(conv(x, masks[level].shape[1]), real[level])
            prepared.append(block.gather.prepare(x, masks[level]))
        return (*prepared, self.gather.prepare(self.leave_context(x), context_mask))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        *,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        prepared: tuple[PreparedSource, ...] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Estimate what the network is trained to estimate.

        Args:
            x: noised steps.
            t: time of each sample.
            context: the condition, which needs not be as long as ``x``.
            context_mask: True = the step may be attended to; all by default. A sample without any learns nothing
                from the condition but that it is not there.
            prepared: condition and mask, as :meth:`prepare` returns them, in place of both.
            mask: True = a real step; all by default.

        Returns:
            Steps like ``x``, zero at masked ones.

        Raises:
            ValueError: on another shape, or unless exactly one of ``context`` and ``prepared`` is given.
        """
        check_shape("x", x, "B T D", D=self.dim)
        check_shape("t", t, "B", B=x.shape[0])
        sources = self._sources(x, context, context_mask, prepared)
        told = fourier_time(t, self.frequencies).to(self.embed_time.weight.dtype)
        told = F.silu(self.embed_time(told))
        masks: list[Tensor | None] = [None] * len(self.widths)
        if mask is not None:
            masks = [*_by_resolution(step_mask("mask", x, mask), len(self.widths))]
            x = keep(x, mask)

        passed: list[Tensor] = []
        for level, (block, source) in enumerate(zip(self.down_blocks, sources, strict=False)):
            # A block leaves zeros at masked steps, as the next convolution needs them.
            x = self.down[level - 1](x) if level else self.enter(x)
            x = block(x, source, told, masks[level])
            passed.append(x)
        rest = sources[len(passed) : -1]
        for level, conv, block, source in zip(self._back(), self.up, self.up_blocks, rest, strict=True):
            x = block(conv(x, passed[level].shape[1]), source, told, masks[level])
            x = torch.cat([x, passed[level]], dim=-1)
        x = self.leave(x)
        x = x + self.gather(x, target_mask=mask, prepared=sources[-1])
        return x if mask is None else keep(x, mask)

    def _sources(
        self,
        x: Tensor,
        context: Tensor | None,
        context_mask: Tensor | None,
        prepared: tuple[PreparedSource, ...] | None,
    ) -> tuple[PreparedSource, ...]:
        """The condition, prepared, whichever way it was given."""
        if prepared is None and context is not None:
            check_shape("context", context, "B S C", B=x.shape[0], C=self.context)
            return self.prepare(context, context_mask)
        if prepared is None or context is not None:
            raise ValueError("context, prepared: expected one of the two, got " + ("both" if prepared else "neither"))
        if context_mask is not None:
            raise ValueError("context_mask: expected None beside a prepared context, which has its own, got a mask")
        return prepared

    def _back(self) -> range:
        """Resolutions on the way up."""
        return range(len(self.widths) - 2, -1, -1)


def _by_resolution(mask: Tensor, count: int) -> list[Tensor]:
    masks = [mask]
    for _ in range(count - 1):
        masks.append(halve_mask(masks[-1]))
    return masks


def _blocks(parts: nn.ModuleList) -> list[CrossModalBlock]:
    return cast(list[CrossModalBlock], list(parts))
