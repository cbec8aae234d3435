"""Coverage against a loop with NumPy's quantiles, and on predictions that are calibrated by construction."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.metrics import interval_calibration_error, interval_coverage


def predictions(count=4000, draws=39, spread=1.0, seed=0):
    """Truths and draws of one law for each truth; the draws' spread times a factor."""
    generator = torch.Generator().manual_seed(seed)
    mean, std = torch.randn(count, generator=generator), 0.2 + torch.rand(count, generator=generator)
    noise = torch.randn(draws + 1, count, generator=generator)
    return mean + spread * std * noise[1:], mean + std * noise[0]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12))
def test_against_a_loop(seed, draws, count):
    values, truth = predictions(count, draws, seed=seed)
    levels = (0.25, 0.5, 0.9)
    curve = interval_coverage(values.view(draws, count, 1), truth.view(count, 1), levels=levels)
    for level, coverage, width in zip(*curve[:3], strict=True):
        ends = np.quantile(
            values.double().numpy(), [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull"
        )  # in double precision, as ours
        inside = [low <= x <= high for x, low, high in zip(truth.double().numpy(), *ends, strict=True)]
        assert coverage == pytest.approx(np.mean(inside), abs=1e-9)
        assert width == pytest.approx((ends[1] - ends[0]).mean())
    assert curve.entries == count
    error = interval_calibration_error(values, truth, levels=levels)
    assert error == pytest.approx(np.mean([abs(c - p) for c, p in zip(curve.coverage, levels, strict=True)]))


def test_draws_from_the_law_of_the_truth_are_calibrated_and_others_are_not():
    slack = 4 * math.sqrt(0.25 / 4000)
    curve = interval_coverage(*predictions())
    assert all(abs(c - p) < slack for c, p in zip(curve.coverage, curve.level, strict=True))
    assert interval_calibration_error(*predictions()) < slack
    narrow, wide = (interval_coverage(*predictions(spread=spread)) for spread in (0.5, 2.0))
    assert all(c < p - slack for c, p in zip(narrow.coverage, narrow.level, strict=True))
    assert all(c > p + slack for c, p in zip(wide.coverage, wide.level, strict=True) if p < 0.95)
    assert narrow.width < curve.width < wide.width
    # Closed form, of so many draws that they are the law: an interval of half its width.
    many = interval_coverage(*predictions(draws=999, spread=0.5), levels=(0.9,))
    assert abs(many.coverage[0] - math.erf(0.5 * 1.6449 / math.sqrt(2))) < slack


def test_beyond_what_few_draws_support_the_interval_ends_with_them():
    values, truth = predictions(draws=4)
    coverage = interval_coverage(values, truth, levels=(0.6, 0.9)).coverage
    assert abs(coverage[0] - 0.6) < 0.04
    assert coverage[0] == coverage[1]


def test_unknown_truths_are_left_out():
    values, truth = predictions(50)
    unknown = torch.arange(50) % 3 == 0
    curve = interval_coverage(torch.where(unknown, torch.nan, values), torch.where(unknown, torch.nan, truth))
    assert curve == interval_coverage(values[:, ~unknown], truth[~unknown])


def test_refusals():
    values, truth = predictions(5, 3)
    for draws in (values[:, :4], values[:0], torch.zeros(())):
        with pytest.raises(ValueError, match=r"draws: expected shape \(K, ...\) over the shape of target, \(5,\), got"):
            interval_coverage(draws, truth)
    for levels in ((), (0.5, 0.5), (0.9, 0.1)):
        with pytest.raises(ValueError, match="levels: expected probabilities that increase, at least one, got"):
            interval_coverage(values, truth, levels=levels)
    with pytest.raises(ValueError, match="level: expected a probability between 0 and 1"):
        interval_coverage(values, truth, levels=(0.5, 1.0))
    with pytest.raises(ValueError, match="target: expected at least one labelled entry"):
        interval_coverage(values, torch.full((5,), torch.nan))
