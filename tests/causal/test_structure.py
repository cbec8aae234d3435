"""Structure learning against the best of all orders, what it must not depend on, and what it refuses."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso

from mmaffect.causal import learn_dag
from mmaffect.metrics import structural_hamming_distance
from tests.causal.graphs import has_no_cycle, linear_data, random_graph

METHODS = ("dagma", "notears")


def simulated(d, seed, n=1000, noise="normal"):
    rng = np.random.default_rng(seed)
    weights = random_graph(d, min(2 * d, d * (d - 1) // 2), rng)
    return weights, linear_data(weights, n, rng, noise)


def objective(weights, data, lambda1):
    """From the data themselves, as the papers print it."""
    data = data - data.mean(0)
    return 0.5 / len(data) * ((data - data @ weights) ** 2).sum() + lambda1 * np.abs(weights).sum()


def best_of_all_orders(data, lambda1):
    """The optimum over acyclic W: in a given order of the nodes it is one lasso a node."""
    data = data - data.mean(0)
    d = data.shape[1]
    found = []
    for order in permutations(range(d)):
        weights = np.zeros((d, d))
        for k, node in enumerate(order[1:], start=1):
            before = list(order[:k])
            lasso = Lasso(alpha=lambda1, fit_intercept=False, tol=1e-10).fit(data[:, before], data[:, node])
            weights[before, node] = lasso.coef_
        found.append((objective(weights, data, lambda1), order, weights))
    return min(found, key=lambda entry: entry[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reaches_the_best_of_all_orders(method, seed):
    _, data = simulated(4, seed)
    best, _, weights = best_of_all_orders(data, 0.05)
    found = learn_dag(data, method, lambda1=0.05, threshold=0.01, tolerance=1e-9)
    np.testing.assert_allclose(found, np.where(np.abs(weights) < 0.01, 0, weights), atol=5e-3)
    assert objective(found, data, 0.05) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", ["normal", "exponential"])
def test_finds_the_graph_where_all_noises_are_alike(method, noise):
    distances = []
    for seed in range(3):
        truth, data = simulated(10, seed, noise=noise)
        distances.append(structural_hamming_distance(learn_dag(data, method), truth))
    assert sum(distances) <= 9  # of 60 edges; a graph at random is about 90 away
    assert min(distances) == 0


@pytest.mark.parametrize("method", METHODS)
def test_finds_little_once_the_variances_are_gone(method):
    for seed in range(2):
        truth, data = simulated(10, seed)
        assert structural_hamming_distance(learn_dag(data, method, standardise=True), truth) > 9


@pytest.mark.parametrize("method", METHODS)
def test_two_columns_by_hand(method):
    # Cause of variance 1, effect 2 * cause + noise. With Σ = [[1, 2], [2, 5]], and a lasso on one cause:
    # the weight is (2 - λ) / 1.
    data = np.array([[1.0, 3], [1, 1], [-1, -3], [-1, -1]])
    found = learn_dag(data, method, lambda1=0.1, tolerance=1e-10)
    np.testing.assert_allclose(found, [[0, 1.9], [0, 0]], atol=2e-3)
    assert not learn_dag(data, method, lambda1=3.0).any()


@pytest.mark.parametrize("method", METHODS)
def test_columns_may_stand_in_any_order(method):
    _, data = simulated(6, 3)
    order = np.random.default_rng(0).permutation(6)
    found = learn_dag(data, method, tolerance=1e-9)
    np.testing.assert_allclose(
        learn_dag(data[:, order], method, tolerance=1e-9), found[np.ix_(order, order)], atol=2e-3
    )


@pytest.mark.parametrize("method", METHODS)
def test_reads_the_covariance_only_and_touches_nothing(method):
    _, data = simulated(5, 4)
    kept = data.copy()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - that it does not matter is the point
    found = learn_dag(data, method)
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(learn_dag(data, method), found)
    assert np.array_equal(data, kept)
    assert found.dtype == np.float64
    tensor = torch.from_numpy(data).requires_grad_()
    assert np.array_equal(learn_dag(tensor, method), found)
    assert np.array_equal(learn_dag(data.tolist(), method), found)
    np.testing.assert_allclose(learn_dag(data + 100 * np.arange(5), method), found, atol=1e-3)
    np.testing.assert_allclose(learn_dag(np.repeat(data, 2, 0), method), found, atol=1e-3)


def test_only_standardised_columns_may_change_their_units():
    _, data = simulated(5, 4)
    units = np.array([1, 10, 0.1, 3, 1])
    found = learn_dag(data, standardise=True)
    np.testing.assert_allclose(learn_dag(data * units, standardise=True), found, atol=1e-6)
    np.testing.assert_allclose(learn_dag(data / data.std(0)), found, atol=1e-6)
    assert structural_hamming_distance(learn_dag(data * units), learn_dag(data)) > 0


@pytest.mark.filterwarnings("ignore:stopped after", "ignore:notears")
@settings(max_examples=20, deadline=None)
@given(
    d=st.integers(2, 6),
    seed=st.integers(0, 10_000),
    threshold=st.sampled_from([0.0, 0.05, 0.3]),
    method=st.sampled_from(METHODS),
    scale=st.floats(0.1, 10),
)
def test_there_is_never_a_cycle_nor_a_weight_below_the_threshold(d, seed, threshold, method, scale):
    rng = np.random.default_rng(seed)
    data = scale * rng.normal(size=(20, d)) @ rng.normal(size=(d, d))
    # Two steps are far from enough: what is left of the cycles has to go by the threshold.
    found = learn_dag(data, method, threshold=threshold, max_iterations=2 if seed % 2 else 100)
    assert has_no_cycle(found)
    assert (np.abs(found[found != 0]) >= threshold).all()


@pytest.mark.parametrize("method", METHODS)
def test_refuses_data_it_cannot_use(method):
    good = np.random.default_rng(0).normal(size=(20, 3))
    for shape in ((5,), (5, 1), (2, 5, 3)):
        with pytest.raises(ValueError, match=r"x: expected shape \(n, d\) with d of at least 2, got \("):
            learn_dag(np.zeros(shape), method)
    with pytest.raises(ValueError, match=r"x: expected more rows than columns, .* got 3 and 3"):
        learn_dag(good[:3], method)
    learn_dag(good[:4], method)
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[4, 1] = value
        with pytest.raises(ValueError, match=r"x: expected finite values, got others in columns \[1\]"):
            learn_dag(bad, method)
    constant = good.copy()
    constant[:, 2] = 0.1
    with pytest.raises(ValueError, match=r"x: expected columns that vary, got constant ones: \[2\]"):
        learn_dag(constant, method)


@pytest.mark.parametrize("method", METHODS)
def test_refuses_columns_without_a_covariance_of_full_rank(method):
    good = np.random.default_rng(0).normal(size=(50, 3))
    for twin in (good[:, :1], 2 - 1e4 * good[:, :1], good.sum(1, keepdims=True)):
        with pytest.raises(ValueError, match="x: expected linearly independent columns"):
            learn_dag(np.hstack([good, twin]), method)
    learn_dag(np.hstack([good, good[:, :1] + 1e-5 * good[:, 1:2] ** 2]), method)
    with pytest.raises(ValueError, match="x: expected real numbers, got complex ones"):
        learn_dag(good + 0j, method)
    with pytest.raises(ValueError, match="x: expected real numbers, got complex ones"):
        learn_dag(torch.from_numpy(good + 1j), method)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("factor", [1e160, 1e-170])
def test_refuses_variances_beyond_the_dtype(factor):
    with pytest.raises(ValueError, match=r"x: expected variances that float64 can hold, got \[(inf|0\.0), "):
        learn_dag(factor * np.random.default_rng(0).normal(size=(50, 3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64])
def test_takes_tensors_of_any_real_dtype(dtype):
    _, data = simulated(4, 0)
    tensor = torch.from_numpy(data).to(dtype)
    assert np.array_equal(learn_dag(tensor), learn_dag(tensor.double().numpy()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1e4, 1e-4, 1e6])
@pytest.mark.filterwarnings("ignore:stopped after", "ignore:notears")
def test_no_cycle_is_too_faint_to_be_one(method, factor):
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = a + rng.normal(size=200)
    found = learn_dag(np.c_[a, factor * b], method, lambda1=0.02 if factor > 1 else 0.0, threshold=0.0)
    assert found.any()
    assert has_no_cycle(found)


@pytest.mark.filterwarnings("error", "ignore:stopped after", "ignore:notears")
def test_notears_is_silent_about_steps_it_takes_back():
    rng = np.random.default_rng(5)
    data = rng.normal(size=(100, 4)) @ rng.normal(size=(4, 4))
    rng.uniform(size=4)
    units = 10 ** rng.uniform(-5, 5, 4)  # of these the penalty times the slope overflows
    assert has_no_cycle(learn_dag(data * units, "notears", threshold=0.0, max_iterations=200))


@pytest.mark.parametrize("method", METHODS)
def test_says_so_when_the_steps_do_not_suffice(method):
    _, data = simulated(5, 4)
    with pytest.warns(RuntimeWarning, match="stopped after 2 steps, short of the minimum: raise max_iterations"):
        learn_dag(data, method, max_iterations=2)


def test_refuses_options_out_of_range():
    data = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match="method: 'notear' is unknown; did you mean 'notears'"):
        learn_dag(data, "notear")
    for name in ("lambda1", "threshold"):
        with pytest.raises(ValueError, match=f"{name}: expected a value of at least 0, got -0.1"):
            learn_dag(data, **{name: -0.1})
        with pytest.raises(ValueError, match=f"{name}: expected a value of at least 0, got nan"):
            learn_dag(data, **{name: np.nan})
    for name in ("tolerance", "max_iterations"):
        with pytest.raises(ValueError, match=f"{name}: expected a value > 0, got 0"):
            learn_dag(data, **{name: 0})
