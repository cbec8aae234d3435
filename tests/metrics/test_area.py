import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from mmaffect.metrics import area_under_rates

curves = st.lists(st.integers(0, 1000), min_size=2, max_size=12, unique=True).flatmap(
    lambda rates: st.tuples(
        st.just(sorted(rate / 1000 for rate in rates)),
        st.lists(st.floats(-3, 3), min_size=len(rates), max_size=len(rates)),
    )
)


@settings(deadline=None, max_examples=40)
@given(curves)
def test_against_scipy(curve):
    rates, values = curve
    area, normalised = area_under_rates(rates, values)
    assert area == pytest.approx(trapezoid(values, rates), abs=1e-12)
    assert normalised == pytest.approx(trapezoid(values, rates) / (rates[-1] - rates[0]), abs=1e-9)


def test_eleven_points_of_a_straight_line():
    rates = [k / 10 for k in range(11)]
    assert area_under_rates(rates, [1 - r for r in rates]) == pytest.approx((0.5, 0.5))


def test_normalised_area_of_a_constant_is_the_constant_wherever_the_rates_end():
    result = area_under_rates([0.0, 0.1, 0.7], [0.8, 0.8, 0.8])
    assert result.area == pytest.approx(0.56)
    assert result.normalised == pytest.approx(0.8)


@pytest.mark.parametrize("kind", [torch.tensor, np.array, tuple])
def test_takes_tensors_arrays_and_tuples(kind):
    assert area_under_rates(kind([0.0, 1.0]), kind([1.0, 0.0])) == (0.5, 0.5)


def test_nan_is_handed_on():
    assert all(math.isnan(x) for x in area_under_rates([0.0, 0.5, 1.0], [1.0, math.nan, 0.0]))


@pytest.mark.parametrize("rates", [[0.0, 0.5, 0.5], [0.5, 0.0, 1.0], [0.0, math.nan, 1.0]])
def test_rates_must_be_sorted(rates):
    with pytest.raises(ValueError, match="rates: expected strictly increasing rates, got"):
        area_under_rates(rates, [1.0, 1.0, 1.0])


@pytest.mark.parametrize("rates", [[0.0, 70.0], [-0.1, 1.0]])
def test_rates_must_be_shares(rates):
    with pytest.raises(ValueError, match=r"rates: expected rates within \[0, 1\], got"):
        area_under_rates(rates, [1.0, 1.0])


def test_one_value_a_rate():
    with pytest.raises(ValueError, match="values: expected one for each of the 3 rates, got 2"):
        area_under_rates([0.0, 0.5, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="rates: expected a list of at least 2 numbers"):
        area_under_rates([0.0], [1.0])
