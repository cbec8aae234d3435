"""Is one system better than another, seed by seed: paired tests for few pairs, and correction for many questions."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmaffect.metrics.labelled import number_list
from mmaffect.ops import check_choice

Alternative = Literal["two-sided", "greater", "less"]
_ALTERNATIVES = ("two-sided", "greater", "less")
_MOST_PAIRS = 20


class PairedResult(NamedTuple):
    """A test's statistic and its p-value."""

    statistic: float
    p_value: float


def paired_t_test(
    first: Sequence[float] | Tensor, second: Sequence[float] | Tensor, *, alternative: Alternative = "two-sided"
) -> PairedResult:
    """Student's paired t-test, which takes the differences as normal (unverifiable with a handful of seeds).

    Args:
        first: one system's figures, a pair with ``second`` at each place (same seed, same fold).
        second: the other's.
        alternative: ``"greater"`` asks whether ``first`` is greater.

    Returns:
        t and p. If all differences are equal their spread is zero: p = 1 (t = 0) if they are zero, else t = ±∞.

    Raises:
        ValueError: if the lists differ in length, have fewer than two numbers, one is not finite, or ``alternative``
            is unknown.

    Example:
        >>> result = paired_t_test([0.81, 0.84, 0.80], [0.79, 0.80, 0.79])
        >>> round(result.statistic, 4), round(result.p_value, 4)
        (2.6458, 0.1181)
    """
    difference = paired_differences(first, second)
    check_choice("alternative", alternative, _ALTERNATIVES)
    if bool(difference.max() == difference.min()):
        sign = float(difference[0].sign())
        if sign == 0.0:
            return PairedResult(0.0, 1.0)
        against = (alternative, sign) in (("greater", -1.0), ("less", 1.0))
        return PairedResult(sign * float("inf"), float(against))
    from scipy.stats import ttest_1samp

    result = ttest_1samp(difference.numpy(), 0.0, alternative=alternative)
    return PairedResult(float(result.statistic), float(result.pvalue))


def sign_flip_test(
    first: Sequence[float] | Tensor, second: Sequence[float] | Tensor, *, alternative: Alternative = "two-sided"
) -> PairedResult:
    """Exact permutation test of the mean difference: all 2ⁿ ways to swap the members of the pairs (Fisher, 1935).

    It assumes only that, were the systems alike, swapping a pair would change nothing. The price is a floor: **p
    cannot go below 2/2ⁿ (two-sided), so three seeds never give less than p = 0.25**, five 0.0625, and six are the
    fewest that can reach 0.05. One-sided the floor is 1/2ⁿ.

    Args:
        first: one system's figures, a pair with ``second`` at each place.
        second: the other's.
        alternative: ``"greater"`` asks whether ``first`` is greater.

    Returns:
        The mean difference ``first − second``, and the share of sign patterns with a mean at least as extreme.

    Raises:
        ValueError: as :func:`paired_t_test`, and for more than 20 pairs (2²⁰ patterns), where the t-test or
            Wilcoxon's serves.

    Example:
        >>> sign_flip_test([0.9, 0.8, 0.9], [0.1, 0.2, 0.1]).p_value
        0.25
    """
    difference = paired_differences(first, second)
    check_choice("alternative", alternative, _ALTERNATIVES)
    if len(difference) > _MOST_PAIRS:
        raise ValueError(f"first: expected at most {_MOST_PAIRS} pairs for an exact test, got {len(difference)}")
    sums = torch.zeros(1, dtype=torch.float64)
    for value in difference:  # each pair doubles the patterns; no table of 2ⁿ × n signs is needed
        sums = torch.cat([sums + value, sums - value])
    observed = sums[0]  # all signs kept
    if alternative == "two-sided":
        sums, observed_extreme = sums.abs(), observed.abs()
    else:
        direction = 1.0 if alternative == "greater" else -1.0
        sums, observed_extreme = direction * sums, direction * observed
    slack = 1e-12 * difference.abs().sum()  # sums that are equal but for the order of adding count as equal
    p_value = float((sums >= observed_extreme - slack).double().mean())
    return PairedResult(float(observed / len(difference)), p_value)


def wilcoxon_test(
    first: Sequence[float] | Tensor, second: Sequence[float] | Tensor, *, alternative: Alternative = "two-sided"
) -> PairedResult:
    """Wilcoxon's signed-rank test (1945), pairs without difference dropped; SciPy's choice of exact or normal form.

    Apt from about six pairs on: with n pairs the exact p has the same floor as :func:`sign_flip_test`, 2/2ⁿ
    two-sided, and for three seeds it can never be below 0.25. Robust to a wild seed, as only ranks count.

    Args:
        first: one system's figures, a pair with ``second`` at each place.
        second: the other's.
        alternative: ``"greater"`` asks whether ``first`` is greater.

    Returns:
        Rank sum (two-sided: the smaller of both signs'; else that of the positive differences) and p; 0 and p = 1 if
        no pair differs.

    Raises:
        ValueError: as :func:`paired_t_test`.

    Example:
        >>> wilcoxon_test([0.9, 0.8, 0.7], [0.1, 0.2, 0.3]).p_value
        0.25
    """
    difference = paired_differences(first, second)
    check_choice("alternative", alternative, _ALTERNATIVES)
    if not bool(difference.any()):
        return PairedResult(0.0, 1.0)
    from scipy.stats import wilcoxon

    result = wilcoxon(difference.numpy(), alternative=alternative)
    return PairedResult(float(result.statistic), float(result.pvalue))


def holm(p_values: Sequence[float] | Tensor) -> list[float]:
    """Adjust p-values for having asked several questions (Holm, 1979).

    With p₍₁₎ ≤ … ≤ p₍ₘ₎, ``adjusted₍ᵢ₎ = min(1, max_{j ≤ i} (m − j + 1) p₍ⱼ₎)``: comparing these with α keeps the
    chance of any false rejection below α whatever the dependence, and never rejects less than Bonferroni.

    Args:
        p_values: one a comparison.

    Returns:
        Adjusted values in the order given.

    Raises:
        ValueError: if there is none, or one is not within [0, 1].

    Example:
        >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    p = number_list("p_values", p_values, least=1)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"p_values: expected values within [0, 1], got {p.tolist()}")
    ordered, order = p.sort()
    stepped = (ordered * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1.0)
    return torch.empty_like(p).scatter(0, order, stepped).tolist()


def paired_differences(first: Sequence[float] | Tensor, second: Sequence[float] | Tensor) -> Tensor:
    """``first − second`` as float64, checked.

    Raises:
        ValueError: if the lists differ in length, have fewer than two numbers, or one is not finite.

    Example:
        >>> paired_differences([1.0, 2.0], [0.5, 3.0]).tolist()
        [0.5, -1.0]
    """
    a, b = number_list("first", first, least=2), number_list("second", second, least=2)
    if a.shape != b.shape:
        raise ValueError(f"second: expected a pair for each of the {len(a)} in first, got {len(b)}")
    for name, values in (("first", a), ("second", b)):
        if not bool(values.isfinite().all()):
            raise ValueError(f"{name}: expected finite numbers, got {values.tolist()}")
    return a - b
