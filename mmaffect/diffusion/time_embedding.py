"""How a network is told the time of the diffusion."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.ops import at_least_float32, check_choice, check_positive, check_shape

# Song et al.'s spread of the random frequencies, and the scale at which DDPM's steps were counted.
FOURIER_SCALE = 16.0
STEPS = 1000.0


def sinusoidal_time(t: Tensor, dim: int) -> Tensor:
    r"""Sines and cosines of a continuous time (Vaswani et al., 2017, as in Ho et al., 2020, appendix B).

    .. math:: \omega_i = 10000^{-i/h}, \qquad
              e = [\sin(1000\, t\, \omega_0), …, \cos(1000\, t\, \omega_{h-1})], \qquad h = D/2

    Ho et al. count whole steps; our time runs from 0 to 1, so it is brought to their scale of 1000 first.

    Args:
        t: time.
        dim: D, even.

    Shape:
        ``(B,)`` → ``(B, D)``; float32 at least.

    Raises:
        ValueError: on another shape, or an odd width.

    Example:
        >>> sinusoidal_time(torch.zeros(1), 4).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    check_shape("t", t, "B")
    _check_even(dim)
    t = at_least_float32(t)
    half = dim // 2
    rate = STEPS * torch.exp(torch.arange(half, device=t.device, dtype=t.dtype) * (-math.log(10000.0) / half))
    angle = t.unsqueeze(1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def fourier_time(t: Tensor, frequencies: Tensor) -> Tensor:
    r"""Random features of a time (Song et al., 2021, appendix C; Tancik et al., 2020).

    .. math:: e = [\sin 2\pi w t, \cos 2\pi w t]

    Args:
        t: time.
        frequencies: w, drawn once from a normal distribution and kept.

    Shape:
        ``t (B,)``, ``frequencies (D/2,)`` → ``(B, D)``; float32 at least.

    Raises:
        ValueError: on another shape.

    Example:
        >>> fourier_time(torch.zeros(1), torch.ones(2)).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    check_shape("t", t, "B")
    angle = 2 * math.pi * at_least_float32(t).unsqueeze(1) * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class TimeEmbedding(nn.Module):
    r"""A vector for each time: features of the time, and a two-layer perceptron on them.

    The features are sinusoidal (:func:`sinusoidal_time`), or random ones (:func:`fourier_time`) with
    :math:`w \sim N(0, 16^2)` drawn once and kept in a buffer.

    Args:
        dim: number of features, even.
        width: width E of the vector.
        kind: ``"sinusoidal"`` or ``"fourier"``.

    Shape:
        ``t (B,)`` → ``(B, E)``, in the dtype of the parameters.

    Raises:
        ValueError: on an odd number of features, a width that is not positive or an unknown kind.

    Example:
        >>> TimeEmbedding(8, 16)(torch.tensor([0.0, 0.5, 1.0])).shape
        torch.Size([3, 16])
    """

    frequencies: Tensor

    def __init__(self, dim: int, width: int, *, kind: Literal["fourier", "sinusoidal"] = "sinusoidal") -> None:
        super().__init__()
        _check_even(dim)
        check_positive(width=width)
        check_choice("kind", kind, ("fourier", "sinusoidal"))
        self.dim, self.kind = dim, kind
        if kind == "fourier":
            self.register_buffer("frequencies", FOURIER_SCALE * torch.randn(dim // 2))
        self.first, self.second = nn.Linear(dim, width), nn.Linear(width, width)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, kind={self.kind!r}"

    def forward(self, t: Tensor) -> Tensor:
        """Embed the times.

        Args:
            t: times.

        Raises:
            ValueError: on another shape.
        """
        features = sinusoidal_time(t, self.dim) if self.kind == "sinusoidal" else fourier_time(t, self.frequencies)
        return self.second(F.silu(self.first(features.to(self.first.weight.dtype))))


def _check_even(dim: int) -> None:
    if dim <= 0 or dim % 2:
        raise ValueError(f"dim: expected an even number > 0, got {dim}")
