"""What every draw of this room shares: where noise is drawn, and what a rate may be."""

import math

import torch
from torch import Tensor


def uniform(*size: int, generator: torch.Generator | None, device: torch.device | None = None) -> Tensor:
    """Uniform noise in [0, 1), on the generator's device; without a generator on ``device``, from torch's own.

    Double precision wherever the device has it, so that a chance is met to 53 bits.

    Args:
        *size: shape.
        generator: where the randomness comes from.
        device: used when there is no generator; the CPU by default.

    Example:
        >>> uniform(2, 3, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])
    """
    place = generator.device if generator is not None else device or torch.device("cpu")
    dtype = torch.float32 if place.type == "mps" else torch.float64
    return torch.rand(size, generator=generator, device=place, dtype=dtype)


def rounding(rate: float | Tensor) -> float:
    """How far rounding may carry a rate from its bound, in the precision in which it was given."""
    given = rate.dtype if isinstance(rate, Tensor) and rate.is_floating_point() else torch.float64
    return 4 * torch.finfo(given).eps


def check_rate(name: str, rate: float | Tensor, n: int, like: Tensor, *, most: float = 1.0, why: str = "") -> Tensor:
    """One rate for all, or one a sample, as a tensor beside ``like``.

    Args:
        name: what the caller calls the argument.
        rate: a number, or a tensor ``()`` or ``(n,)``.
        n: number of samples.
        like: gives dtype and device.
        most: the highest rate there can be, infinity for none; what rounding puts above it becomes it.
        why: where that bound comes from, for the message.

    Shape:
        → ``(1,)`` or ``(n,)``.

    Raises:
        ValueError: on another shape, or a rate that is negative, above ``most`` or NaN.

    Example:
        >>> check_rate("rate", 1.5, 2, torch.zeros(()))
        Traceback (most recent call last):
        ...
        ValueError: rate: expected 0 <= rate <= 1, got 1.5
    """
    given = torch.as_tensor(rate, dtype=torch.float64 if not isinstance(rate, Tensor) else None)
    if given.dim() > 1 or (given.dim() == 1 and given.shape[0] != n):
        raise ValueError(f"{name}: expected a number or a tensor of shape ({n},), got shape {tuple(given.shape)}")
    wrong = ~((given >= 0) & (given <= most + rounding(rate)) & given.isfinite())  # NaN fails each of them
    if wrong.any():
        wanted = f"0 <= {name} <= {most:.6g}{why}" if math.isfinite(most) else f"a finite {name} >= 0"
        raise ValueError(f"{name}: expected {wanted}, got {given[wrong].flatten()[0].item():.7g}")
    return given.reshape(-1).to(like).clamp(max=most)
