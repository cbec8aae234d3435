"""Corruption: values that are there but wrong (Gaussian noise) or blank (masked frames)."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmaffect.missing.draws import check_rate, uniform
from mmaffect.missing.features import Rate, check_mask
from mmaffect.ops import check_choice, check_shape, keep


class Frames(NamedTuple):
    """Values and mask after frames were masked.

    Args:
        x: values; zero at masked frames and where the mask is False.
        mask: bool, True = a step that is (said to be) there.
    """

    x: Tensor
    mask: Tensor


def _check_values(x: Tensor, mask: Tensor) -> None:
    check_mask("mask", mask)
    if x.dim() not in (mask.dim(), mask.dim() + 1) or x.shape[: mask.dim()] != mask.shape:
        raise ValueError(f"x: expected shape (B, T, D) or (B, T) of mask {tuple(mask.shape)}, got {tuple(x.shape)}")


def add_noise(x: Tensor, mask: Tensor, noise: Tensor, level: Rate, *, std: Tensor | None = None) -> Tensor:
    """Add ``level · std · noise`` to the values at real steps.

    Args:
        x: values.
        mask: bool, True = a real step.
        noise: standard normal.
        level: in standard deviations of each feature (0.5 = half of one); one number, or one a sample.
        std: standard deviation of each feature; 1 (standardised values) by default.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)``, ``noise`` like ``x``, ``level ()`` or ``(B,)``, ``std (D,)``
        → like ``x``, zero where ``mask`` is False.

    Raises:
        ValueError: on other shapes, values that are no floats (token ids), or a level that is negative or NaN.

    Example:
        >>> x, mask = torch.zeros(1, 2, 1), torch.tensor([[True, False]])
        >>> add_noise(x, mask, torch.ones(1, 2, 1), 0.5).tolist()
        [[[0.5], [0.0]]]
    """
    check_shape("x", x, "B T D")
    _check_values(x, mask)
    check_shape("noise", noise, "B T D", B=x.shape[0], T=x.shape[1], D=x.shape[2])
    if not x.is_floating_point():
        raise ValueError(f"x: expected floating-point values, got {x.dtype}")
    scale = check_rate("level", level, x.shape[0], x, most=float("inf"))[:, None, None]
    if std is not None:
        check_shape("std", std, "D", D=x.shape[2])
        scale = scale * std.to(x)
    return keep(x + scale * noise.to(x), mask)


def gaussian_noise(
    x: Tensor, mask: Tensor, level: Rate, generator: torch.Generator | None = None, *, std: Tensor | None = None
) -> Tensor:
    """`add_noise` with standard normal noise from ``generator``.

    Args:
        x: values.
        mask: bool, True = a real step.
        level: in standard deviations of each feature; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.
        std: standard deviation of each feature; 1 (standardised values) by default.

    Shape, Raises: as `add_noise`.

    Example:
        >>> gaussian_noise(torch.ones(1, 1, 2), torch.tensor([[True]]), 0.0).tolist()
        [[[1.0, 1.0]]]
    """
    device = generator.device if generator is not None else x.device
    return add_noise(x, mask, torch.randn(x.shape, generator=generator, device=device), level, std=std)


def choose_frames(mask: Tensor, share: Rate, generator: torch.Generator | None = None) -> Tensor:
    """Choose a share of each sample's real steps, uniformly without replacement.

    Of n real steps ⌊share · n + u⌋ are chosen, u ~ U(0, 1) a sample: within one of share · n, which it meets
    in expectation however short the sample (for n = 1, a coin with chance ``share``).

    Args:
        mask: bool, True = a real step.
        share: in [0, 1]; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.

    Shape:
        ``mask (B, T)``, ``share ()`` or ``(B,)`` → bool ``(B, T)``, True = chosen.

    Raises:
        ValueError: on another shape or dtype, or a share that is NaN or outside [0, 1].

    Example:
        >>> choose_frames(torch.tensor([[True, True, True, True]]), 0.5).sum().item()
        2
    """
    check_shape("mask", mask, "B T")
    check_mask("mask", mask)
    b, t = mask.shape
    noise = uniform(b, t + 1, generator=generator, device=mask.device)
    real = mask.to(noise.device)
    size = real.sum(1)
    count = torch.minimum((check_rate("share", share, b, noise) * size + noise[:, t]).floor(), size)
    rank = torch.where(real, noise[:, :t], 2.0).argsort(1).argsort(1)
    return (real & (rank < count[:, None])).to(mask.device)


def blank_frames(x: Tensor, mask: Tensor, chosen: Tensor, *, mark: Literal["zero", "absent"]) -> Frames:
    """Set the chosen steps to zero, and say so or not.

    Args:
        x: values.
        mask: bool, True = a real step.
        chosen: bool, True = a step to blank.
        mark: ``"zero"`` leaves the mask as it is, so the model takes the zeros for values (a corruption);
            ``"absent"`` takes the steps out of the mask as well (missingness).

    Shape:
        ``x (B, T, D)`` or ``(B, T)``, ``mask (B, T)``, ``chosen (B, T)`` → like ``x`` and ``mask``.

    Raises:
        ValueError: on other shapes or dtypes, or another ``mark``.

    Example:
        >>> both = torch.tensor([[True, True]])
        >>> blank_frames(torch.ones(1, 2), both, torch.tensor([[True, False]]), mark="absent")
        Frames(x=tensor([[0., 1.]]), mask=tensor([[False,  True]]))
    """
    _check_values(x, mask)
    check_mask("chosen", chosen, mask)
    check_choice("mark", mark, ("zero", "absent"))
    left = mask & ~chosen
    return Frames(keep(x, left), left if mark == "absent" else mask)


def mask_frames(
    x: Tensor,
    mask: Tensor,
    share: Rate,
    generator: torch.Generator | None = None,
    *,
    mark: Literal["zero", "absent"],
) -> Frames:
    """`blank_frames` at steps from `choose_frames`: a share of the real steps is blanked.

    Args:
        x: values.
        mask: bool, True = a real step.
        share: in [0, 1]; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.
        mark: ``"zero"`` or ``"absent"``, see `blank_frames`.

    Shape, Raises: as `blank_frames` and `choose_frames`.

    Example:
        >>> mask_frames(torch.ones(1, 2), torch.tensor([[True, True]]), 1.0, mark="zero")
        Frames(x=tensor([[0., 0.]]), mask=tensor([[True, True]]))
    """
    return blank_frames(x, mask, choose_frames(mask, share, generator), mark=mark)
