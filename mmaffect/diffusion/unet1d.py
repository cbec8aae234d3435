"""The network that estimates noise in sequences: a U-Net over steps."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.diffusion.time_embedding import TimeEmbedding
from mmaffect.diffusion.unet_blocks import KeyAndValue, Level, StepConv, UNetBlock, blank, double, halve, halve_mask
from mmaffect.ops import check_choice, check_positive, check_shape, keep, step_mask


class PreparedContext(NamedTuple):
    """What a :class:`UNet1d` reads of its context, whatever the time and the noised steps.

    ``attended``: keys and values for each block, down, bottom and up, None where it does not attend; ``entering
    (B, S + 1, F)``: what an aligned context adds where the steps enter, else None; ``mask (B, S)``.
    """

    attended: tuple[KeyAndValue | None, ...]
    entering: Tensor | None
    mask: Tensor


class UNet1d(nn.Module):
    r"""U-Net over the steps of a sequence (Ronneberger et al., 2015; Ho et al., 2020, appendix B), told the time.

    At each resolution one residual block on the way down, one more at the bottom, and one on the way up, which also
    sees what the way down had there. Between resolutions a strided convolution halves the steps, and the way up
    repeats each twice. Time and condition are added in every block; a context is attended to after every block.

    Any number of steps will do: ⌈T/2⌉ remain of T, and the way up drops the step too many. Masked steps are zero
    before every convolution, a coarse step is real if one of its two steps is, and each step is normalised by
    itself, so that neither padding nor its amount changes a real step.

    Ours, where Affect-Diff's paper says "three resolutions, skips, base width 128" and no more: one block a
    resolution, LayerNorm of each step, no self-attention. ``UNet1d(128, condition=128)`` has 3.78 million parameters,
    where the paper's tables leave 3.72 to it.

    Args:
        dim: width D of the steps.
        width: features at the finest resolution, even.
        multipliers: features at each resolution, as multiples of ``width``; as many resolutions as there are.
        condition: width K of a vector that is added to the embedded time; None for none.
        context: width C of steps that are attended to; None for none.
        attention: which blocks attend to the context: ``"all"``, the one at the ``"bottom"``, or ``"none"``. They go
            by what it holds, not by where it stands.
        aligned: the context stands on the time axis of ``x``, and its step k is met at step k: where the steps enter,
            a convolution of its own adds it, and whether it is there. The cheapest condition, for it costs next to
            nothing. A context of other length is met as far as both go.
        heads: of the attention.
        time: ``"sinusoidal"`` or ``"fourier"``; see :class:`TimeEmbedding`.

    Shape:
        ``x (B, T, D)``, ``t (B,)``, ``condition (B, K)`` or ``(B, T, K)``, ``context (B, S, C)``,
        ``context_mask (B, S)``, ``mask (B, T)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive, an odd width, no multiplier, an unknown time embedding, or
            features that are no multiple of the heads.

    Example:
        >>> import torch
        >>> network = UNet1d(6, width=16, multipliers=(1, 2), condition=3)
        >>> x, t, mask = torch.randn(2, 5, 6), torch.rand(2), torch.tensor([[True] * 5, [True, True] + [False] * 3])
        >>> network(x, t, torch.randn(2, 3), mask=mask).shape
        torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2),
        condition: int | None = None,
        context: int | None = None,
        attention: Literal["all", "bottom", "none"] = "all",
        aligned: bool = False,
        heads: int = 4,
        time: Literal["fourier", "sinusoidal"] = "sinusoidal",
    ) -> None:
        super().__init__()
        check_positive(dim=dim, **{n: v for n, v in (("condition", condition), ("context", context)) if v is not None})
        check_choice("time", time, ("fourier", "sinusoidal"))
        check_choice("attention", attention, ("all", "bottom", "none"))
        if (attention == "none" and not aligned) if context is not None else (attention != "all" or aligned):
            raise ValueError(
                f"context, attention, aligned: expected a context that is met somehow, or none and no way to meet it, "
                f"got {context}, {attention!r} and {aligned}"
            )
        if width <= 0 or width % 2:
            raise ValueError(f"width: expected an even number > 0, got {width}")
        if not multipliers or min(multipliers) < 1:
            raise ValueError(f"multipliers: expected whole numbers > 0, at least one, got {tuple(multipliers)}")
        self.dim, self.width, self.multipliers = dim, width, tuple(multipliers)
        self.condition, self.context, self.attention, self.aligned = condition, context, attention, aligned
        sizes, told = [width * m for m in multipliers], 2 * width

        def block(features: int, out: int, *, bottom: bool = False) -> UNetBlock:
            attends = attention == "all" or (attention == "bottom" and bottom)
            return UNetBlock(features, out, told, context=context if attends else None, heads=heads)

        self.embed_time = TimeEmbedding(width, told, kind=time)
        self.embed_condition = nn.Linear(condition, told) if condition is not None else None
        self.context_norm = nn.LayerNorm(context) if context is not None and attention != "none" else None
        self.enter = StepConv(dim, width)
        self.enter_context = StepConv(context + 1, width, bias=False) if context is not None and aligned else None
        self.down = nn.ModuleList(block(i, o) for i, o in zip([width, *sizes], sizes, strict=False))
        self.halve = nn.ModuleList(StepConv(size, size, stride=2) for size in sizes[:-1])
        self.bottom = block(sizes[-1], sizes[-1], bottom=True)
        self.up = nn.ModuleList(block(i + o, o) for i, o in zip([*sizes[1:], sizes[-1]], sizes, strict=True))
        self.leave_norm = nn.LayerNorm(sizes[0])
        self.leave = StepConv(sizes[0], dim, zero=True)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return (
            f"{self.dim}, width={self.width}, multipliers={self.multipliers}, condition={self.condition}, "
            f"context={self.context}, attention={self.attention!r}, aligned={self.aligned}"
        )

    def prepare(self, context: Tensor, context_mask: Tensor | None = None) -> PreparedContext:
        """Compute once what depends on the context alone, for all evaluations in which it stays the same.

        Args:
            context: steps to attend to.
            context_mask: True = the step may be attended to; all by default.

        Returns:
            What ``forward`` takes in place of both.

        Raises:
            ValueError: on another shape, or if the network was built without a context.
        """
        if self.context is None:
            raise ValueError("context: expected None (context = None), there is nothing to prepare")
        check_shape("context", context, "B S C", C=self.context)
        context_mask = step_mask("context_mask", context, context_mask, "B S")
        context, entering = keep(context, context_mask), None
        if self.enter_context is not None:
            # One step more, for the last one reaches beyond the end; further on the convolution has nothing to add.
            slots = torch.cat([context, context_mask.unsqueeze(-1).to(context.dtype)], dim=-1)
            entering = self.enter_context(F.pad(slots, (0, 0, 0, 1)))
        if self.context_norm is not None:
            context = self.context_norm(context)
        attended = tuple(None if block.gather is None else block.gather.prepare(context) for block in self._blocks())
        return PreparedContext(attended, entering, context_mask)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        *,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        prepared: PreparedContext | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Estimate what the network is trained to estimate.

        Args:
            x: noised steps.
            t: time of each sample.
            condition: a vector for each sample, or one for each step, averaged over the real steps of a coarse one;
                needed if and only if the network was built with one.
            context: steps to attend to, likewise.
            context_mask: True = the step may be attended to; all by default. A sample without any gathers nothing.
            prepared: context and mask, as :meth:`prepare` returns them, in place of both.
            mask: True = a real step; all by default.

        Returns:
            Steps like ``x``, zero at masked ones.

        Raises:
            ValueError: on another shape, or a condition or context that is missing or was not announced.
        """
        check_shape("x", x, "B T D", D=self.dim)
        check_shape("t", t, "B", B=x.shape[0])
        there = step_mask("mask", x, mask)
        told = self._told(x, t, condition, there)
        prepared = self._prepared(x, context, context_mask, prepared)
        attended = None if prepared is None else prepared.mask.unsqueeze(1)
        sources = [None] * len(self._blocks()) if prepared is None else list(prepared.attended)
        x = x if mask is None else keep(x, mask)
        levels: list[Level] = []
        for number in range(len(self.multipliers)):
            if number:
                told = halve(told, there) if told.shape[1] > 1 else told
                there = halve_mask(there)
            real = None if mask is None else there.unsqueeze(-1).to(x.dtype)
            levels.append(Level(F.silu(told), real, attended))

        x = self.enter(x)
        if prepared is not None and prepared.entering is not None:
            x = x + _of_length(prepared.entering, x.shape[1])
        passed: list[Tensor] = []
        for number, block in enumerate(self.down):
            if number:
                x = self.halve[number - 1](blank(x, levels[number - 1].real))
            x = block(x, levels[number], sources[number])
            passed.append(x)
        x = self.bottom(x, levels[-1], sources[len(levels)])
        for number in reversed(range(len(levels))):
            x = x if number == len(levels) - 1 else double(x, passed[number].shape[1])
            x = self.up[number](torch.cat([x, passed[number]], dim=-1), levels[number], sources[number - len(levels)])
        x = self.leave(blank(F.silu(self.leave_norm(x)), levels[0].real))
        return x if mask is None else keep(x, mask)

    def _blocks(self) -> list[UNetBlock]:
        return cast(list[UNetBlock], [*self.down, self.bottom, *self.up])

    def _told(self, x: Tensor, t: Tensor, condition: Tensor | None, there: Tensor) -> Tensor:
        """Embedded time and condition, ``(B, 1, E)`` or ``(B, T, E)``."""
        told: Tensor = self.embed_time(t).unsqueeze(1)
        _check_announced("condition", condition, self.condition)
        if condition is None or self.embed_condition is None:
            return told
        width = self.embed_condition.in_features
        if condition.dim() == 3:
            check_shape("condition", condition, "B T K", B=x.shape[0], T=x.shape[1], K=width)
            condition = keep(condition, there)
        else:
            check_shape("condition", condition, "B K", B=x.shape[0], K=width)
            condition = condition.unsqueeze(1)
        return told + self.embed_condition(condition)

    def _prepared(
        self,
        x: Tensor,
        context: Tensor | None,
        context_mask: Tensor | None,
        prepared: PreparedContext | None,
    ) -> PreparedContext | None:
        """The context, prepared, whichever way it was given; None if the network has none."""
        if prepared is not None:
            if self.context is None or context is not None or context_mask is not None:
                raise ValueError(
                    "prepared: expected a network with context, and neither context nor context_mask beside it"
                )
            check_shape("prepared.mask", prepared.mask, "B S", B=x.shape[0])
            return prepared
        _check_announced("context", context, self.context)
        if context is None or self.context is None:
            if context_mask is not None:
                raise ValueError("context_mask: expected None without a context, got a mask")
            return None
        check_shape("context", context, "B S C", B=x.shape[0], C=self.context)
        return self.prepare(context, context_mask)


def _of_length(x: Tensor, steps: int) -> Tensor:
    """The first steps, or all of them and zeros behind."""
    return F.pad(x[:, :steps], (0, 0, 0, max(steps - x.shape[1], 0)))


def _check_announced(name: str, given: Tensor | None, width: int | None) -> None:
    if (given is None) != (width is None):
        got = "None" if given is None else f"a tensor of shape {tuple(given.shape)}"
        raise ValueError(f"{name}: expected {'None' if width is None else 'a tensor'} ({name} = {width}), got {got}")
