"""How sure is a mean difference: the bootstrap interval."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.metrics.significance import paired_differences

_DRAWS_AT_ONCE = 2**22


class BootstrapInterval(NamedTuple):
    """A mean difference and the interval around it."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    first: Sequence[float] | Tensor,
    second: Sequence[float] | Tensor,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    generator: torch.Generator | None = None,
) -> BootstrapInterval:
    """Percentile interval of the mean of ``first − second``, pairs drawn with replacement (Efron, 1979).

    Over the samples of a test set it is the usual interval. Over few seeds it is too narrow (of three pairs there
    are only ten different resamples, and its width falls short by about the factor √((n−1)/n) before the tails are
    considered): read it beside :func:`mmaffect.metrics.sign_flip_test`.

    Args:
        first: one system's figures, a pair with ``second`` at each place (same seed, same sample).
        second: the other's.
        confidence: share of the resampled means within the interval.
        resamples: their number.
        generator: a CPU generator; left out, a fresh one seeded with 0, so that the same figures give the same
            interval and no global state is touched.

    Returns:
        The mean difference and the interval's ends.

    Raises:
        ValueError: if the lists differ in length, have fewer than two numbers, one is not finite, ``confidence`` is
            not within (0, 1), or ``resamples`` is below 1.

    Example:
        >>> interval = bootstrap_interval([0.8, 0.9, 0.7, 0.8], [0.6, 0.8, 0.6, 0.7])
        >>> round(interval.mean, 4), round(interval.low, 4), round(interval.high, 4)
        (0.125, 0.1, 0.175)
    """
    difference = paired_differences(first, second)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: expected a share within (0, 1), got {confidence}")
    if resamples < 1:
        raise ValueError(f"resamples: expected at least 1, got {resamples}")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    n = len(difference)
    rows = max(1, _DRAWS_AT_ONCE // n)  # bounds the memory where the pairs are thousands of samples
    means = torch.cat(
        [
            difference[torch.randint(n, (min(rows, resamples - start), n), generator=generator)].mean(1)
            for start in range(0, resamples, rows)
        ]
    )
    tail = (1.0 - confidence) / 2.0
    low, high = means.quantile(torch.tensor([tail, 1.0 - tail], dtype=torch.float64)).tolist()
    return BootstrapInterval(float(difference.mean()), low, high)
