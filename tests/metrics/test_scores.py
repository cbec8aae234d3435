import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmaffect.metrics import concordance, score_metrics

shapes = st.tuples(st.integers(0, 10_000), st.integers(3, 30), st.integers(1, 4))


def draw(seed, n, dimensions):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(n, dimensions, generator=generator, dtype=torch.float64)
    return target + torch.randn(n, dimensions, generator=generator, dtype=torch.float64), target


@settings(deadline=None, max_examples=40)
@given(shapes)
def test_against_numpy_and_scipy_per_dimension(shape):
    pred, target = draw(*shape)
    figures = score_metrics(pred, target)
    p, t = pred.numpy(), target.numpy()
    covariance = np.mean((p - p.mean(0)) * (t - t.mean(0)), 0)
    expected = {
        "ccc": 2 * covariance / (p.var(0) + t.var(0) + (p.mean(0) - t.mean(0)) ** 2),
        "corr": [stats.pearsonr(p[:, k], t[:, k]).statistic for k in range(shape[2])],
        "mae": np.abs(p - t).mean(0),
        "rmse": np.sqrt(((p - t) ** 2).mean(0)),
    }
    for name, values in expected.items():
        assert figures[f"per_dimension_{name}"] == pytest.approx(list(values))
        assert figures[name] == pytest.approx(np.mean(values))


def test_each_dimension_uses_the_entries_it_has():
    pred, target = draw(0, 10, 2)
    target[:4, 1] = math.nan
    pred[:4, 1] = math.nan
    figures = score_metrics(pred, target)
    assert figures["per_dimension_ccc"][0] == concordance(pred[:, 0], target[:, 0])
    assert figures["per_dimension_ccc"][1] == concordance(pred[4:, 1], target[4:, 1])


def test_dimension_without_labels_is_nan_and_left_out_of_the_mean():
    pred, target = draw(0, 10, 3)
    target[:, 1] = math.nan
    figures = score_metrics(pred, target)
    for name in ("ccc", "corr", "mae", "rmse"):
        values = figures[f"per_dimension_{name}"]
        assert math.isnan(values[1])
        assert figures[name] == pytest.approx((values[0] + values[2]) / 2)


def test_constant_predictions_are_not_left_out_of_the_mean():
    pred, target = draw(0, 10, 2)
    pred[:, 0] = 0.1
    figures = score_metrics(pred, target)
    assert math.isnan(figures["corr"])
    assert figures["per_dimension_ccc"][0] == 0.0
    assert figures["ccc"] == figures["per_dimension_ccc"][1] / 2


def test_time_axis():
    pred, target = draw(0, 12, 3)
    assert score_metrics(pred.view(4, 3, 3), target.view(4, 3, 3)) == score_metrics(pred, target)


def test_single_score_over_time_has_to_be_said():
    pred, target = draw(0, 12, 1)
    once = score_metrics(pred[:, 0], target[:, 0])
    assert score_metrics(pred.view(3, 4), target.view(3, 4), dimensions=1) == once
    assert len(once["per_dimension_ccc"]) == 1
    assert len(score_metrics(pred.view(3, 4), target.view(3, 4))["per_dimension_ccc"]) == 4


@pytest.mark.parametrize("dimensions", [0, 3])
def test_dimensions_must_be_the_last_axis(dimensions):
    with pytest.raises(ValueError, match=r"dimensions: expected the length of the last axis of \(6, 2\), got"):
        score_metrics(torch.zeros(6, 2), torch.zeros(6, 2), dimensions=dimensions)


def test_refusals():
    with pytest.raises(ValueError, match=r"pred: expected the shape of target \(2,\), got \(2, 1\)"):
        score_metrics(torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="target: expected at least one labelled entry, got none among 4"):
        score_metrics(torch.zeros(2, 2), torch.full((2, 2), math.nan))
    with pytest.raises(ValueError, match="pred: expected finite values where target is labelled, got 1"):
        score_metrics(torch.tensor([[0.0, math.nan]]), torch.zeros(1, 2))
