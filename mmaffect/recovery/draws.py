"""Several draws, made into a prediction that says how sure it is."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.ops import at_least_float32, central_interval


class DrawSummary(NamedTuple):
    """What :func:`summarise_draws` returns: mean, standard deviation and interval of each entry, without the draws."""

    mean: Tensor
    std: Tensor
    lower: Tensor
    upper: Tensor


def summarise_draws(values: Tensor, level: float = 0.9) -> DrawSummary:
    """Predictive mean, spread and interval from draws along the first axis.

    The standard deviation is that of a sample (divided by K - 1), and zero for one draw. The interval is
    :func:`mmaffect.ops.central_interval`: a further draw falls into it with probability ``level``, if K is at least
    (1 + level) / (1 - level): 19 for 0.9.

    Args:
        values: K draws: of recovered latents, of scores, of class probabilities.
        level: of the interval, between 0 and 1.

    Shape:
        ``(K, ...)`` → each ``(...)``.

    Raises:
        ValueError: without a draw, or on a level outside (0, 1).

    Example:
        >>> summary = summarise_draws(torch.arange(1.0, 20.0))
        >>> [round(part.item(), 3) for part in summary]
        [10.0, 5.627, 1.0, 19.0]
    """
    lower, upper = central_interval(values, level)
    wide = at_least_float32(values)
    std = wide.std(0) if len(values) > 1 else torch.zeros_like(wide[0])
    return DrawSummary(wide.mean(0).to(values.dtype), std.to(values.dtype), lower, upper)
