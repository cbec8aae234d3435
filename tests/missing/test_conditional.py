import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import chisquare

from mmaffect.missing import at_least_one

LAST = 1 - 2.0**-53  # the largest double that uniform noise can be


def noise(n, m, seed=0):
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pattern_list(m):
    return np.array([a for a in itertools.product([0, 1], repeat=m) if any(a)])


def counts(drawn):
    m = drawn.shape[1]
    code = (drawn.long() * 2 ** torch.arange(m - 1, -1, -1)).sum(1)
    return torch.bincount(code, minlength=2**m).numpy()


def max_entropy_law(kept):
    """The law on the non-empty patterns with marginals `kept` and the greatest entropy, by convex optimisation."""
    patterns = pattern_list(len(kept))
    kept = np.asarray(kept)

    def dual(theta):  # log-partition minus the asked mean: its gradient is the error of the marginals
        logits = patterns @ theta
        weight = np.exp(logits - logits.max())
        mean = weight @ patterns / weight.sum()
        return logits.max() + np.log(weight.sum()) - theta @ kept, mean - kept

    theta = minimize(dual, np.zeros(len(kept)), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    weight = np.exp(patterns @ theta)
    assert weight @ patterns / weight.sum() == pytest.approx(kept, abs=1e-6)
    return weight / weight.sum()


@pytest.mark.parametrize("kept", [[0.8, 0.7], [0.5, 0.55], [0.5, 0.5, 0.5], [0.9, 0.3, 0.2], [0.4, 0.35, 0.3, 0.25]])
def test_law_is_that_of_greatest_entropy_with_the_asked_marginals(kept):
    n = 200_000
    drawn = at_least_one(torch.tensor([kept], dtype=torch.float64), noise(n, len(kept)))
    seen = counts(drawn)
    assert seen[0] == 0
    assert chisquare(seen[1:], n * max_entropy_law(kept)).pvalue > 1e-4


def test_chi_square_would_notice_a_law_with_the_same_marginals():
    # Exactly one or both, against independent coins with the same marginals: the check above has power.
    n, kept = 200_000, [0.8, 0.7]
    seen = counts(at_least_one(torch.tensor([kept], dtype=torch.float64), noise(n, 2)))[1:]
    coins = np.array([0.2 * 0.7, 0.8 * 0.3, 0.8 * 0.7])
    assert chisquare(seen, n * coins / coins.sum()).pvalue < 1e-6


@pytest.mark.parametrize("kept", [[0.2, 0.3, 0.5], [0.25] * 4, [0.7, 0.0, 0.3], [1 / 3] * 3])
def test_a_sum_of_one_keeps_exactly_one_with_the_asked_chances(kept):
    n = 50_000
    drawn = at_least_one(torch.tensor([kept], dtype=torch.float64), noise(n, len(kept)))
    assert (drawn.sum(1) == 1).all()
    expected = n * np.array(kept)
    assert (drawn.sum(0).numpy()[expected == 0] == 0).all()
    assert chisquare(drawn.sum(0).numpy()[expected > 0], expected[expected > 0]).pvalue > 1e-4


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([0.0, 1e-9, 0.1, 0.3, 0.5, 0.9, 1 - 1e-9, 1.0]), min_size=1, max_size=6),
    st.integers(0, 99),
)
def test_marginals_are_met_and_something_is_always_kept(kept, seed):
    if sum(kept) < 1:
        kept = [*kept, 1.0]
    n = 20_000
    drawn = at_least_one(torch.tensor([kept], dtype=torch.float64), noise(n, len(kept), seed))
    assert drawn.any(1).all()
    chance = np.array(kept)
    error = np.abs(drawn.double().mean(0).numpy() - chance)
    assert (error <= 5.5 * np.sqrt(chance * (1 - chance) / n) + 1e-3 * ((chance > 0) & (chance < 1e-6))).all()
    assert drawn[:, chance == 1].all()
    assert not drawn[:, chance == 0].any()


@pytest.mark.parametrize("value", [0.0, 0.5, LAST])
@pytest.mark.parametrize("m", [1, 2, 3, 6])
@pytest.mark.parametrize("extra", [0.0, 1e-14, 1e-9, 0.3, 1.0])
def test_extreme_noise_keeps_at_least_one(value, m, extra):
    share = min(1.0, (1 + extra * (m - 1)) / m)
    drawn = at_least_one(torch.full((1, m), share, dtype=torch.float64), torch.full((1, m), value, dtype=torch.float64))
    assert drawn.any(1).all()
    assert extra < 1 or drawn.all()
    assert extra > 0 or drawn.sum() == 1


def test_a_sum_above_one_by_rounding_still_keeps_exactly_one():
    kept = torch.full((1, 3), 1 / 3 + 4e-16, dtype=torch.float64)
    assert kept.sum() > 1
    assert at_least_one(kept, torch.zeros(1, 3, dtype=torch.float64)).sum() == 1


def test_rows_have_laws_and_noise_of_their_own():
    kept = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    x = noise(4, 2)
    drawn = at_least_one(kept, x)
    assert drawn[0].tolist() == [True, False]
    assert drawn[1].sum() == 1
    assert drawn[2].tolist() == [False, False]
    assert drawn[3].tolist() == [True, True]
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(at_least_one(kept[order], x[order]), drawn[order])
    for row in range(4):
        assert torch.equal(at_least_one(kept[row : row + 1], x[row : row + 1]), drawn[row : row + 1])


def test_single_precision_meets_the_marginals():
    n, kept = 100_000, torch.tensor([[0.6, 0.5, 0.2]])
    drawn = at_least_one(kept, noise(n, 3).float().clamp(max=1 - 2**-24))
    assert drawn.any(1).all()
    assert (drawn.float().mean(0) - kept[0]).abs().max() < 5.5 * 0.5 / n**0.5


def test_no_rows():
    assert at_least_one(torch.full((1, 3), 0.5), torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("row", [[0.2, 0.2], [1.2, 0.5], [-0.1, 1.0], [float("nan"), 1.0]])
def test_refuses_impossible_chances(row):
    with pytest.raises(ValueError, match=r"kept: expected chances in \[0, 1\] that sum to at least 1"):
        at_least_one(torch.tensor([[1.0, 1.0], row]), torch.zeros(2, 2))


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"noise: expected shape \(N, M\)"):
        at_least_one(torch.ones(1, 2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"kept: expected shape \(N, M\) with N = 3, M = 2, got \(2, 2\)"):
        at_least_one(torch.ones(2, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"kept: expected shape \(1, M\) with M = 2, got \(1, 3\)"):
        at_least_one(torch.ones(1, 3), torch.zeros(3, 2))
