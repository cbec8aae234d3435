"""Intervals from a few draws."""

import torch
from torch import Tensor

from mmaffect.ops.masks import at_least_float32


def central_interval(draws: Tensor, level: float) -> tuple[Tensor, Tensor]:
    r"""The interval that a further draw falls into with probability ``level``, as far as K draws can tell.

    Its ends are the quantiles at :math:`(1 \mp \text{level})/2`, by linear interpolation with the j-th smallest of the
    draws at :math:`j / (K + 1)`: a further draw of the same continuous law lies below it with exactly that probability
    (Weibull's plotting positions; type 6 of Hyndman and Fan, 1996). NumPy's and PyTorch's default, type 7, gives too
    narrow an interval for few draws. Beyond the outermost draws the interval ends with them: K draws support levels
    up to (K - 1) / (K + 1).

    Args:
        draws: independent draws along the first axis.
        level: of probability, between 0 and 1.

    Shape:
        ``(K, ...)`` → lower and upper end, each ``(...)``.

    Raises:
        ValueError: without a draw, or on a level outside (0, 1).

    Example:
        >>> lower, upper = central_interval(torch.arange(1.0, 20.0), 0.9)
        >>> lower.item(), upper.item()
        (1.0, 19.0)
    """
    if draws.dim() == 0 or not len(draws):
        raise ValueError(f"draws: expected at least one along the first axis, got shape {tuple(draws.shape)}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a probability between 0 and 1, got {level}")
    count = len(draws)
    ordered = at_least_float32(draws).sort(0).values

    def quantile(share: float) -> Tensor:
        place = min(max(share * (count + 1) - 1, 0.0), count - 1.0)
        below = int(place)
        return torch.lerp(ordered[below], ordered[min(below + 1, count - 1)], place - below).to(draws.dtype)

    return quantile((1 - level) / 2), quantile((1 + level) / 2)
