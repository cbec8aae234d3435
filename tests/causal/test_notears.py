"""NOTEARS against the published recipe with SciPy's optimiser, and its constraint at the end."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import minimize

from mmaffect.causal.notears import _trace_of_exponential, notears
from tests.causal.graphs import linear_data, random_graph


def covariance_of(d, seed):
    rng = np.random.default_rng(seed)
    return np.cov(linear_data(random_graph(d, d, rng), 500, rng).T, bias=True)


def published(covariance, lambda1):
    """Algorithm 1 with W split in two for L-BFGS-B, as the authors run it."""
    d = len(covariance)
    one = np.eye(d)

    def joined(halves):
        return halves[: d * d].reshape(d, d) - halves[d * d :].reshape(d, d)

    def lagrangian(halves, rho, alpha):
        w = joined(halves)
        exponential = expm(w * w)
        h = np.trace(exponential) - d
        value = 0.5 * np.trace((one - w).T @ covariance @ (one - w)) + 0.5 * rho * h * h + alpha * h
        gradient = -covariance @ (one - w) + (rho * h + alpha) * exponential.T * 2 * w
        return value + lambda1 * halves.sum(), np.concatenate([gradient + lambda1, lambda1 - gradient], None)

    bounds = [(0, 0) if i == j else (0, None) for _ in range(2) for i in range(d) for j in range(d)]
    halves, rho, alpha, h = np.zeros(2 * d * d), 1.0, 0.0, np.inf
    while h > 1e-8 and rho < 1e16:
        while rho < 1e16:
            new = minimize(lagrangian, halves, args=(rho, alpha), jac=True, method="L-BFGS-B", bounds=bounds).x
            reached = np.trace(expm(joined(new) ** 2)) - d
            if reached <= 0.25 * h:
                break
            rho *= 10
        halves, h = new, reached
        alpha += rho * h
    return joined(halves)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_the_published_recipe(seed):
    covariance = covariance_of(5, seed)
    ours = notears(covariance, lambda1=0.05, tolerance=1e-8, max_iterations=2000)
    np.testing.assert_allclose(ours, published(covariance, 0.05), atol=0.01)
    assert (np.abs(ours) > 0.3).any()


def test_the_constraint_holds_at_the_end():
    for seed in range(3):
        found = notears(covariance_of(5, seed), lambda1=0.05, tolerance=1e-7, max_iterations=1000)
        assert -1e-12 < np.trace(expm(found * found)) - 5 <= 1e-8
        assert not found.diagonal().any()
        assert (np.abs(found) > 0.1).any()


@pytest.mark.filterwarnings("error")
def test_weights_whose_exponential_overflows_are_outside():
    for weight in (30.0, 1e3, 1e100):
        assert np.isposinf(_trace_of_exponential(np.array([[0.0, weight], [weight, 0.0]])).value)
    assert _trace_of_exponential(np.array([[0.0, 2.0], [0.5, 0.0]])).value == pytest.approx(2 * np.cosh(1) - 2)


def test_says_so_when_the_constraint_is_not_reached(monkeypatch):
    monkeypatch.setattr("mmaffect.causal.notears.LARGEST_PENALTY", 10)
    with pytest.warns(RuntimeWarning, match="notears: h is .* at the largest penalty, above 1e-08"):
        notears(covariance_of(5, 0), lambda1=0.05, tolerance=1e-6, max_iterations=1000)


@pytest.mark.filterwarnings("error")
def test_columns_of_very_different_size():
    scales = np.array([1e-4, 1e3, 1.0])
    covariance = np.outer(scales, scales) * np.array([[1.0, 0.5, 0.3], [0.5, 1.0, 0.2], [0.3, 0.2, 1.0]])
    found = notears(covariance, lambda1=0.0, tolerance=1e-7, max_iterations=200)
    assert np.trace(expm(found * found)) - 3 <= 1e-8
    assert found[0, 1] == pytest.approx(0.5e7, rel=0.1)  # the regression of the large column on the small one
