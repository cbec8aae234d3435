import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmaffect.metrics import concordance, pearson

series = st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), min_size=2, max_size=30)


def columns(rows):
    return (torch.tensor(column).double() / 10 for column in zip(*rows, strict=True))


@settings(deadline=None, max_examples=40)
@given(series)
def test_pearson_against_scipy_and_nan_when_constant(rows):
    x, y = columns(rows)
    if x.unique().numel() == 1 or y.unique().numel() == 1:
        assert math.isnan(pearson(x, y))
    else:
        assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(series)
def test_concordance_is_pearson_times_the_bias_factor(rows):
    x, y = columns(rows)
    if x.unique().numel() == 1 or y.unique().numel() == 1:
        return
    v, u = np.std(x.numpy()) / np.std(y.numpy()), (x.mean() - y.mean()) / np.sqrt(np.std(x.numpy()) * np.std(y.numpy()))
    bias = 2 / (v + 1 / v + u**2)  # Lin (1989), C_b
    assert concordance(x, y) == pytest.approx(float(stats.pearsonr(x, y).statistic * bias), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(series)
def test_bridge_to_the_form_that_divides_by_n_minus_one(rows):
    x, y = columns(rows)
    covariance = np.cov(x, y, ddof=0)[0, 1]
    if abs(covariance) < 1e-6:
        return
    sample = np.cov(x, y, ddof=1)
    gap = float(x.mean() - y.mean()) ** 2
    other = 2 * sample[0, 1] / (sample[0, 0] + sample[1, 1] + gap)
    assert 1 / concordance(x, y) == pytest.approx(1 / other + gap / (2 * len(x) * covariance))


def test_concordance_by_hand():
    # means 2 and 3, variances 2/3 both, covariance 2/3: 2 (2/3) / (4/3 + 1) = 4/7
    assert concordance(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 3.0, 4.0])) == pytest.approx(4 / 7)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 + 0.1])
def test_constants_are_seen_although_their_mean_is_rounded(value):
    constant, other = torch.full((9,), value, dtype=torch.float64), torch.arange(9).double()
    assert constant.mean() != constant[0]
    assert math.isnan(pearson(constant, other))
    assert math.isnan(pearson(other, constant))
    assert concordance(constant, other) == 0.0
    assert concordance(constant, constant + 1.0) == 0.0
    assert math.isnan(concordance(constant, constant))


def test_single_sample():
    assert math.isnan(pearson(torch.tensor([1.0]), torch.tensor([2.0])))
    assert concordance(torch.tensor([1.0]), torch.tensor([2.0])) == 0.0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_pearson_neither_overflows_nor_underflows(scale):
    x = torch.tensor([1.0, 2.0, 4.0]).double()
    assert pearson(x * scale, x.square()) == pytest.approx(pearson(x, x.square()))


def test_unlabelled_entries_are_left_out():
    x, y = torch.tensor([1.0, 2.0, 4.0, math.nan]), torch.tensor([1.0, 2.0, 3.0, math.nan])
    assert pearson(x, y) == pearson(x[:3], y[:3])
    assert concordance(x, y) == concordance(x[:3], y[:3])
