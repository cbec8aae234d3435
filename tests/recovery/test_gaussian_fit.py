"""Moments by EM: against closed forms, and against what likelihood itself says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.stats import multivariate_normal

from mmaffect.recovery import fit_gaussian


def rows(count, dim, seed=0, rank=2):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, dim)) + 0.5 * rng.normal(size=(count, dim))
    return x * rng.uniform(0.1, 10, dim) + rng.normal(size=dim) * 5


def log_likelihood(mean, covariance, x, observed):
    total = 0.0
    for there in np.unique(observed, axis=0):
        if there.any():
            own = x[(observed == there).all(1)][:, there]
            total += multivariate_normal(mean[there], covariance[np.ix_(there, there)]).logpdf(own).sum()
    return total


def test_complete_data_need_one_iteration():
    x = rows(40, 4)
    fitted = fit_gaussian(torch.from_numpy(x), torch.ones(40, 4, dtype=torch.bool))
    assert fitted.iterations == 1
    np.testing.assert_allclose(fitted.mean, x.mean(0))
    np.testing.assert_allclose(fitted.covariance, np.cov(x.T, bias=True))


def test_shrinkage_keeps_variances():
    x = rows(40, 4)
    fitted = fit_gaussian(torch.from_numpy(x), torch.ones(40, 4, dtype=torch.bool), shrinkage=0.3)
    expected = np.cov(x.T, bias=True)
    np.testing.assert_allclose(fitted.covariance, np.where(np.eye(4) > 0, expected, 0.7 * expected))


def test_monotone_absence_has_a_closed_form():
    """The second feature where the first goes on alone: Anderson's (1957) factored likelihood."""
    x = rows(60, 2, seed=3)
    observed = np.ones((60, 2), dtype=bool)
    observed[40:, 1] = False
    fitted = fit_gaussian(torch.from_numpy(x), torch.from_numpy(observed), tolerance=1e-12, iterations=5000)
    slope, offset = np.polyfit(x[:40, 0], x[:40, 1], 1)
    left = np.var(x[:40, 1] - offset - slope * x[:40, 0])
    mean, variance = x[:, 0].mean(), x[:, 0].var()
    np.testing.assert_allclose(fitted.mean, [mean, offset + slope * mean], rtol=1e-7)
    covariance = [[variance, slope * variance], [slope * variance, left + slope**2 * variance]]
    np.testing.assert_allclose(fitted.covariance, covariance, rtol=1e-7)


def test_against_direct_maximisation():
    x = rows(50, 3, seed=5)
    observed = np.random.default_rng(6).random((50, 3)) < 0.7
    fitted = fit_gaussian(torch.from_numpy(x), torch.from_numpy(observed), tolerance=1e-12, iterations=5000)
    scale = x.std(0)
    lower = np.tril_indices(3)

    def unpack(parameters):
        root = np.zeros((3, 3))
        root[lower] = parameters[3:]
        return parameters[:3] * scale, np.outer(scale, scale) * (root @ root.T)

    def loss(parameters):
        return -log_likelihood(*unpack(parameters), x, observed)

    start = np.concatenate([np.nanmean(np.where(observed, x, np.nan), 0) / scale, np.eye(3)[lower]])
    found = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-7})
    mean, covariance = unpack(found.x)
    reached = log_likelihood(fitted.mean.numpy(), fitted.covariance.numpy(), x, observed)
    assert reached >= -found.fun - 1e-7
    np.testing.assert_allclose(fitted.mean, mean, atol=1e-4 * scale.max())
    np.testing.assert_allclose(fitted.covariance, covariance, rtol=1e-3, atol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31))
def test_no_iteration_lowers_the_likelihood(seed):
    rng = np.random.default_rng(seed)
    x, observed = rows(30, 3, seed=seed), rng.random((30, 3)) < 0.7
    observed[:4] = True
    reached = []
    for iterations in (1, 2, 3, 10):
        fitted = fit_gaussian(
            torch.from_numpy(np.where(observed, x, np.nan)), torch.from_numpy(observed), iterations=iterations
        )
        reached.append(log_likelihood(fitted.mean.numpy(), fitted.covariance.numpy(), x, observed))
    assert np.all(np.diff(reached) > -1e-8)


def test_order_and_empty_rows_do_not_matter():
    x, observed = torch.from_numpy(rows(30, 4)), torch.rand(30, 4, generator=torch.Generator().manual_seed(0)) < 0.6
    observed[::5] = False
    first = fit_gaussian(x, observed)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    second = fit_gaussian(x[order][observed[order].any(1)], observed[order][observed[order].any(1)])
    torch.testing.assert_close(first.mean, second.mean)
    torch.testing.assert_close(first.covariance, second.covariance)


def test_features_that_never_vary():
    x = torch.from_numpy(rows(30, 3))
    x[:, 1] = 0.1
    observed = torch.ones(30, 3, dtype=torch.bool)
    observed[:10, 1], observed[5:15, 2] = False, False
    fitted = fit_gaussian(x, observed)
    assert fitted.mean[1] == pytest.approx(0.1)
    assert not fitted.covariance[1].any()
    rest = fit_gaussian(x[:, [0, 2]], observed[:, [0, 2]])
    torch.testing.assert_close(fitted.covariance[[0, 2]][:, [0, 2]], rest.covariance)


def test_refuses():
    x, there = torch.from_numpy(rows(5, 3)), torch.ones(5, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"got none for \[1\]"):
        fit_gaussian(x, there & torch.tensor([True, False, True]))
    holes = torch.ones(3, 8, dtype=torch.bool)
    holes[0, 0] = False
    with pytest.raises(ValueError, match=r"see shrinkage \(given 0.0\)"):
        fit_gaussian(torch.from_numpy(rows(3, 8)), holes)
    with pytest.raises(ValueError, match="iterations"):
        fit_gaussian(x, there, iterations=0)
    with pytest.raises(ValueError, match="observed"):
        fit_gaussian(x, there[:, :2])
