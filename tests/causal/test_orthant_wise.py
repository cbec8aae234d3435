"""The quasi-Newton method against the lasso of scikit-learn, and at the edge of a barrier."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from mmaffect.causal.orthant_wise import Smooth, minimise_with_l1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.001, 1.0))
def test_the_lasso_of_scikit_learn(seed, d, lambda1):
    rng = np.random.default_rng(seed)
    data, target = rng.normal(size=(50, d)) * rng.uniform(0.3, 3, d), rng.normal(size=50)
    gram, moment = data.T @ data / 50, data.T @ target / 50
    found = minimise_with_l1(
        lambda w: Smooth(0.5 * w @ gram @ w - moment @ w, gram @ w - moment, np.diagonal(gram)),
        np.zeros(d),
        lambda1=lambda1,
        free=np.ones(d, dtype=bool),
        tolerance=1e-14,
        max_iterations=2000,
    )
    expected = Lasso(alpha=lambda1, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(data, target).coef_
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.array_equal(found[np.abs(expected) < 1e-9], np.zeros((np.abs(expected) < 1e-9).sum()))


def barrier(w):
    """Pulled towards 5 in every entry, and infinite from 1 on."""
    if (w >= 1).any():
        return Smooth(np.inf, w, w)
    value = float((0.5 * (w - 5) ** 2 - 0.01 * np.log(1 - w)).sum())
    return Smooth(value, w - 5 + 0.01 / (1 - w), np.ones_like(w))


def test_stays_inside_a_barrier():
    asked = []

    def recorded(w):
        asked.append(barrier(w).value)
        return barrier(w)

    found = minimise_with_l1(
        recorded, np.zeros(3), lambda1=0.5, free=np.ones(3, bool), tolerance=1e-14, max_iterations=500
    )
    # w - 5 + 0.01 / (1 - w) + 0.5 = 0
    np.testing.assert_allclose(found, np.roots([-1, 5.5, -4.49]).min(), rtol=1e-6)
    assert np.isinf(asked).any()  # it did step over the edge, and came back


def test_what_is_not_free_stays():
    start = np.array([0.0, 0.25, -2.0])
    found = minimise_with_l1(
        lambda w: Smooth(0.5 * float(((w - 3) ** 2).sum()), w - 3, np.ones(3)),
        start,
        lambda1=1.0,
        free=np.array([True, False, False]),
        tolerance=1e-12,
        max_iterations=100,
    )
    assert found.tolist() == pytest.approx([2.0, 0.25, -2.0])
    assert start.tolist() == [0.0, 0.25, -2.0]


def test_a_step_cut_short_at_its_orthant_never_leads_uphill(monkeypatch):
    # Downhill only by the first entry, which is cut at 0 after 0.01; the second then takes the step uphill, by 1e-7.
    def bent(w):
        t = w[1] - 5
        return Smooth(float(w[0] + 0.1 * t - 0.0899999 * t * t), np.array([1, 0.1 - 0.1799998 * t]), np.ones(2))

    monkeypatch.setattr("mmaffect.causal.orthant_wise._times_inverse_hessian", lambda *_: np.array([10.0, -1.0]))
    start = np.array([0.01, 5.0])
    with pytest.warns(RuntimeWarning, match="stopped after 1 steps"):
        found = minimise_with_l1(bent, start, lambda1=0.0, free=np.ones(2, bool), tolerance=1e-9, max_iterations=1)
    assert found[0] == 0
    assert bent(found).value < bent(start).value


def valley(w):
    """Rosenbrock's, with a diagonal that knows nothing of it."""
    slope = np.array([-400 * w[0] * (w[1] - w[0] ** 2) - 2 * (1 - w[0]), 200 * (w[1] - w[0] ** 2)])
    return Smooth(float(100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2), slope, np.ones(2))


@pytest.mark.filterwarnings("ignore:stopped after")
def test_follows_a_curved_valley_and_stops_when_told():
    options = {"lambda1": 0.0, "free": np.ones(2, bool), "tolerance": 1e-16}
    start = np.array([-1.2, 1.0])
    assert minimise_with_l1(valley, np.ones(2), max_iterations=100, **options).tolist() == [1.0, 1.0]
    np.testing.assert_allclose(minimise_with_l1(valley, start, max_iterations=200, **options), 1, rtol=1e-5)
    values = [valley(minimise_with_l1(valley, start, max_iterations=k, **options)).value for k in range(9)]
    assert values[0] == pytest.approx(24.2)
    assert all(later < sooner for sooner, later in pairwise(values))
