"""Positions by step index: never by batch index, never by value."""

import math

import torch
from torch import Tensor

from mmaffect.ops import check_positive


def sinusoidal_positions(steps: int, dim: int, *, device: torch.device | None = None) -> Tensor:
    r"""Sinusoidal positions (Vaswani et al., 2017, section 3.5).

    .. math:: P_{t,2i} = \sin(t / 10000^{2i/D}), \qquad P_{t,2i+1} = \cos(t / 10000^{2i/D})

    Args:
        steps: T.
        dim: D; odd widths drop the last cosine.
        device: where to make them.

    Shape:
        → ``(T, D)``, float32.

    Example:
        >>> sinusoidal_positions(2, 4)[0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    time = torch.arange(steps, device=device, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, dim, 2, device=device, dtype=torch.float32) * (-math.log(10000.0) / dim))
    return torch.stack([torch.sin(time * rate), torch.cos(time * rate)], dim=-1).flatten(1)[:, :dim]


def distance_bias(steps: int, heads: int, *, device: torch.device | None = None) -> Tensor:
    r"""Penalty on the distance between query and source, in both directions (Press et al., 2022, ALiBi).

    .. math:: b_{h,i,j} = -2^{-8 (h + 1) / H}\, |i - j|

    The first heads look near, the last far; nothing is learned, and no length is fixed. The paper interpolates
    differently where the number of heads is no power of two.

    Args:
        steps: T.
        heads: H.
        device: where to make it.

    Shape:
        → ``(H, T, T)``, float32.

    Example:
        >>> distance_bias(3, 1)[0, 0].tolist()
        [-0.0, -0.00390625, -0.0078125]
    """
    check_positive(heads=heads)
    time = torch.arange(steps, device=device, dtype=torch.float32)
    slope = 2.0 ** (-8.0 / heads * torch.arange(1, heads + 1, device=device, dtype=torch.float32))
    return -slope[:, None, None] * (time[:, None] - time[None, :]).abs()
