"""Do several draws say how sure they are: how often the truth lies in the intervals that they span."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.metrics.labelled import labelled_scores
from mmaffect.ops import central_interval

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class CoverageCurve(NamedTuple):
    """By level: the share of truths in the interval of that level, and the mean width of the intervals."""

    level: list[float]
    coverage: list[float]
    width: list[float]
    entries: int


def interval_coverage(draws: Tensor, target: Tensor, *, levels: Sequence[float] = LEVELS) -> CoverageCurve:
    """How many truths the central intervals of a predictive distribution cover (Kuleshov et al., 2018, section 3).

    The intervals are :func:`mmaffect.ops.central_interval`: with K draws, calibrated ones have the coverage of their
    level up to (K - 1) / (K + 1), beyond which they end with the outermost draws and cover less.

    Coverage alone is easily had by wide intervals: of two calibrated predictions the better one has the narrower.

    Args:
        draws: K draws for each truth.
        target: truths; NaN = unknown, left out.
        levels: of probability, increasing, between 0 and 1.

    Shape:
        ``draws (K, ...)``, ``target (...)``.

    Returns:
        The curve; ``entries`` is the number of truths.

    Raises:
        ValueError: on another shape, nothing known, values that are not finite, or levels that do not increase
            between 0 and 1.

    Example:
        >>> draws = torch.arange(1.0, 20.0).unsqueeze(1).expand(19, 4)
        >>> curve = interval_coverage(draws, torch.tensor([10.0, 3.0, 18.5, 30.0]), levels=(0.5, 0.9))
        >>> curve.coverage, curve.width, curve.entries
        ([0.25, 0.75], [10.0, 18.0], 4)
    """
    if not levels or any(a >= b for a, b in pairwise(levels)):
        raise ValueError(f"levels: expected probabilities that increase, at least one, got {tuple(levels)}")
    if draws.dim() == 0 or draws.shape[1:] != target.shape or not len(draws):
        raise ValueError(
            f"draws: expected shape (K, ...) over the shape of target, {tuple(target.shape)}, got {tuple(draws.shape)}"
        )
    rows, truths = zip(*(labelled_scores(draw, target) for draw in draws), strict=True)
    known, truth = torch.stack(rows), truths[0]
    coverage, width = [], []
    for level in levels:
        lower, upper = central_interval(known, level)
        coverage.append(((lower <= truth) & (truth <= upper)).double().mean().item())
        width.append((upper - lower).mean().item())
    return CoverageCurve(list(levels), coverage, width, len(truth))


def interval_calibration_error(draws: Tensor, target: Tensor, *, levels: Sequence[float] = LEVELS) -> float:
    """Mean gap between level and coverage (Kuleshov et al., 2018, eq. 9, with absolute gaps and equal weights).

    The regression's counterpart of :func:`mmaffect.metrics.expected_calibration_error`. Arguments, shapes and errors
    are those of :func:`interval_coverage`.

    Example:
        >>> draws = torch.arange(1.0, 20.0).unsqueeze(1).expand(19, 4)
        >>> interval_calibration_error(draws, torch.tensor([10.0, 3.0, 18.5, 30.0]), levels=(0.5, 0.75))
        0.25
    """
    curve = interval_coverage(draws, target, levels=levels)
    return sum(abs(c - p) for c, p in zip(curve.coverage, curve.level, strict=True)) / len(curve.level)
