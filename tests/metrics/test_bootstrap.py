import itertools
import math

import numpy as np
import pytest
import torch

from mmaffect.metrics import bootstrap, bootstrap_interval


def test_against_scipy_on_a_test_set():
    from scipy import stats

    generator = np.random.default_rng(0)
    first, second = generator.normal(0.3, 1, 200), generator.normal(0, 1, 200)
    expected = stats.bootstrap(
        (first - second,), np.mean, method="percentile", n_resamples=10_000, rng=generator
    ).confidence_interval
    interval = bootstrap_interval(first, second)
    assert interval.mean == pytest.approx(np.mean(first - second))
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_against_every_resample_of_three_pairs():
    first, second = [0.9, 0.7, 0.8], [0.5, 0.6, 0.3]
    differences = np.subtract(first, second)
    means = [np.mean(s) for s in itertools.product(differences, repeat=3)]
    low, high = np.quantile(means, [0.25, 0.75], method="inverted_cdf")
    interval = bootstrap_interval(first, second, confidence=0.5, resamples=20_000)
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_covers_the_truth_as_often_as_it_says():
    rng = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(200):
        sample = torch.randn(60, generator=rng)
        interval = bootstrap_interval(sample, torch.zeros(60), confidence=0.8, resamples=400, generator=rng)
        hits += interval.low <= 0.0 <= interval.high
    assert 0.72 <= hits / 200 <= 0.88  # 0.8 within 2.8 standard errors


def test_same_figures_same_interval_and_no_global_state():
    first, second = torch.rand(9, generator=torch.Generator().manual_seed(0)), torch.zeros(9)
    before = torch.random.get_rng_state()
    assert bootstrap_interval(first, second) == bootstrap_interval(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_generator_decides():
    first, second = torch.rand(9, generator=torch.Generator().manual_seed(0)), torch.zeros(9)
    intervals = [
        bootstrap_interval(first, second, resamples=50, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1] != intervals[2]


def test_drawing_in_pieces_draws_them_all(monkeypatch):
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 20)
    first, second = torch.arange(9.0), torch.zeros(9)
    pieces = bootstrap_interval(first, second, resamples=4001)
    assert (pieces.low, pieces.high) == pytest.approx((2.33, 5.67), abs=0.3)  # 4 ± 1.96 · 2.58/3


def test_as_many_resamples_as_asked():
    single = bootstrap_interval(torch.arange(9.0), torch.zeros(9), resamples=1)
    assert single.low == single.high


def test_equal_differences_leave_no_doubt():
    assert bootstrap_interval([2.0, 3.0], [1.0, 2.0]) == (1.0, 1.0, 1.0)


def test_refusals():
    with pytest.raises(ValueError, match=r"confidence: expected a share within \(0, 1\), got 95"):
        bootstrap_interval([1.0, 2.0], [0.0, 0.0], confidence=95)
    with pytest.raises(ValueError, match="resamples: expected at least 1, got 0"):
        bootstrap_interval([1.0, 2.0], [0.0, 0.0], resamples=0)
    with pytest.raises(ValueError, match="second: expected a pair"):
        bootstrap_interval([1.0, 2.0, 3.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="first: expected finite numbers"):
        bootstrap_interval([1.0, math.inf], [0.0, 0.0])
