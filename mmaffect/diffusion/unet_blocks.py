"""What the U-Net is built of: convolutions over steps that see nothing of padding, and the two ways to be told more.

Every block keeps steps before features, ``(B, T, D)``, from end to end: convolution, normalisation, projection and
attention all read that memory as it lies (benchmarks/unet.py).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.attention import attend, merge_heads, split_heads
from mmaffect.ops import check_positive, masked_mean


def in_pairs(x: Tensor) -> Tensor:
    """Steps two by two; an odd number is filled up with zeros (False).

    Shape:
        ``(B, T, ...)`` → ``(B, ⌈T/2⌉, 2, ...)``.

    Example:
        >>> in_pairs(torch.tensor([[1, 2, 3]])).tolist()
        [[[1, 2], [3, 0]]]
    """
    if x.shape[1] % 2:
        x = torch.cat([x, torch.zeros_like(x[:, :1])], dim=1)
    return x.reshape(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:])


def halve_mask(mask: Tensor) -> Tensor:
    """A coarse step is real if either of its two steps is.

    Shape:
        ``(B, T)`` → ``(B, ⌈T/2⌉)``.
    """
    return in_pairs(mask).any(2)


def halve(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real steps of each pair; zero where neither is.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, ⌈T/2⌉, D)``.

    Example:
        >>> x = torch.tensor([[[1.0], [3.0], [5.0]]])
        >>> halve(x, torch.tensor([[True, True, True]])).flatten().tolist()
        [2.0, 5.0]
    """
    return masked_mean(in_pairs(x), in_pairs(mask), dim=2)


def double(x: Tensor, steps: int) -> Tensor:
    """Each step twice, and the last once where ``steps`` is odd: back from :func:`halve`.

    Shape:
        ``(B, ⌈T/2⌉, D)`` → ``(B, T, D)``.

    Example:
        >>> double(torch.tensor([[[1.0], [2.0]]]), 3).flatten().tolist()
        [1.0, 1.0, 2.0]
    """
    return x.repeat_interleave(2, dim=1)[:, :steps]


def blank(x: Tensor, real: Tensor | None) -> Tensor:
    """Zero ``x`` where ``real`` is 0; None = everything is real.

    A product, for inside the U-Net everything is finite, and a selection costs twice as much.

    Shape:
        ``x (B, T, D)``, ``real (B, T, 1)`` → ``(B, T, D)``.
    """
    return x if real is None else x * real


class Level(NamedTuple):
    """What the blocks of one resolution are given besides the steps.

    ``told (B, T, E)`` or ``(B, 1, E)``: time and condition, after their SiLU; ``real (B, T, 1)``: 1 at real steps and
    0 at masked ones, None = all are real; ``attended (B, 1, S)``: which steps of the context are there, None without.
    """

    told: Tensor
    real: Tensor | None
    attended: Tensor | None


KeyAndValue = tuple[Tensor, Tensor]


class StepConv(nn.Module):
    """Convolution over the steps, three wide, of a sequence that is zero at masked steps.

    With ``stride=2`` the k-th output is centred on step 2k, so that ⌈T/2⌉ are left of T.

    Args:
        dim: features in.
        out: features out.
        stride: 1 or 2.
        zero: start with parameters of zero.
        bias: add one.

    Shape:
        ``(B, T, dim)`` → ``(B, ⌈T/stride⌉, out)``.
    """

    def __init__(self, dim: int, out: int, *, stride: int = 1, zero: bool = False, bias: bool = True) -> None:
        super().__init__()
        check_positive(dim=dim, out=out)
        self.stride, self.zero = stride, zero
        # Features last, as in the steps: a kernel laid out otherwise is rearranged at every call.
        self.weight = nn.Parameter(torch.empty(out, 3, dim))
        self.bias = nn.Parameter(torch.empty(out)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initialisation of a convolution, or zeros."""
        bound = 0.0 if self.zero else 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.weight.shape[2]}, {self.weight.shape[0]}, stride={self.stride}, zero={self.zero}"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        # A picture one pixel high with its features last, which the kernels of PyTorch take as it lies.
        picture, kernel = x.mT.unsqueeze(2), self.weight.mT.unsqueeze(2)
        return F.conv2d(picture, kernel, self.bias, stride=(1, self.stride), padding=(0, 1)).squeeze(2).mT


class StepConvTranspose(nn.Module):
    """Transposed convolution over the steps, three wide with stride 2: back from a :class:`StepConv` of stride 2.

    Step 2k hears from coarse step k, step 2k + 1 from k and k + 1, so that T steps are made of ⌈T/2⌉. Without bias.

    Args:
        dim: features in.
        out: features out.

    Shape:
        ``(B, ⌈T/2⌉, dim)`` → ``(B, T, out)``.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        check_positive(dim=dim, out=out)
        self.weight = nn.Parameter(torch.empty(3, out, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initialisation of a transposed convolution."""
        bound = 1 / math.sqrt(3 * self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.weight.shape[2]}, {self.weight.shape[1]}"

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Convolve to ``steps`` = T."""
        before, here, after = F.linear(x, self.weight.flatten(0, 1)).chunk(3, dim=-1)
        odd = after + F.pad(before[:, 1:], (0, 0, 0, 1))
        return torch.stack([here, odd], dim=2).flatten(1, 2)[:, :steps]


class ContextAttention(nn.Module):
    """Each step gathers from a context, beside a shortcut; a step without context is left as it is.

    Args:
        dim: width, a multiple of ``heads``.
        context: width C of the context.
        heads: attention heads.

    Shape:
        ``x (B, T, D)``, ``prepared`` of ``(B, H, S, D/H)``, ``attended (B, 1, S)`` → ``(B, T, D)``.

    Raises:
        ValueError: on a width that is no multiple of the heads.
    """

    def __init__(self, dim: int, context: int, heads: int) -> None:
        super().__init__()
        check_positive(dim=dim, context=context, heads=heads)
        if dim % heads:
            raise ValueError(f"width: expected a multiple of heads = {heads} at every resolution, got {dim}")
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(context, 2 * dim)
        # Without bias: nothing gathered, nothing added. At zero: the block starts as its shortcut.
        self.out = nn.Linear(dim, dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The parts' own initialisation, with the last projection at zero."""
        for part in (self.norm, self.query, self.key_value):
            part.reset_parameters()
        nn.init.zeros_(self.out.weight)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"heads={self.heads}"

    def prepare(self, context: Tensor) -> KeyAndValue:
        """Keys and values of a context that is finite everywhere.

        Shape:
            ``(B, S, C)`` → both ``(B, H, S, D/H)``.
        """
        key, value = self.key_value(context).chunk(2, dim=-1)
        # Head by head in memory: the products of every later call would otherwise copy them to that order.
        return split_heads(key, self.heads).contiguous(), split_heads(value, self.heads).contiguous()

    def forward(self, x: Tensor, prepared: KeyAndValue, attended: Tensor) -> Tensor:
        """Gather from the attended steps of a context that :meth:`prepare` has read."""
        query, (key, value) = split_heads(self.query(self.norm(x)), self.heads), prepared
        return x + self.out(merge_heads(attend(query, key, value, attended)))


class UNetBlock(nn.Module):
    r"""Two convolutions around what the network is told, beside a shortcut (Ho et al., 2020, appendix B).

    .. math:: y = S x + C_2\, \phi\big(N_2(C_1\, \phi(N_1(x)) + W \phi(e))\big), \qquad \phi = \mathrm{SiLU}

    and then, where there is a context, :class:`ContextAttention`. N is a LayerNorm of each step by itself, where Ho
    et al. take a GroupNorm over all steps: no statistics run over time, so that steps, real or padded, do not
    matter by their number. The second convolution starts at zero.

    Args:
        dim: features in.
        out: features out.
        told: width E of what the network is told.
        context: width C of the context; None for none.
        heads: attention heads.

    Shape:
        ``x (B, T, dim)`` → ``(B, T, out)``.
    """

    def __init__(self, dim: int, out: int, told: int, *, context: int | None, heads: int) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(dim)
        self.first = StepConv(dim, out)
        self.tell = nn.Linear(told, out)
        self.second_norm = nn.LayerNorm(out)
        self.second = StepConv(out, out, zero=True)
        self.shortcut = nn.Identity() if dim == out else nn.Linear(dim, out)
        self.gather = ContextAttention(out, context, heads) if context is not None else None

    def forward(self, x: Tensor, level: Level, prepared: KeyAndValue | None = None) -> Tensor:
        """One block; ``x`` is finite everywhere, ``prepared`` is the context as ``gather`` reads it."""
        hidden = self.first(blank(F.silu(self.first_norm(x)), level.real)) + self.tell(level.told)
        hidden = self.second(blank(F.silu(self.second_norm(hidden)), level.real))
        x = self.shortcut(x) + hidden
        if self.gather is None or prepared is None or level.attended is None:
            return x
        return self.gather(x, prepared, level.attended)
