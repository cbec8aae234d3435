import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmaffect.metrics import holm, paired_t_test, sign_flip_test, wilcoxon_test

TESTS = [paired_t_test, sign_flip_test, wilcoxon_test]
alternatives = st.sampled_from(["two-sided", "greater", "less"])
pairs = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=8)


def columns(rows):
    return ([value / 20 for value in column] for column in zip(*rows, strict=True))


@settings(deadline=None, max_examples=40)
@given(pairs, alternatives)
def test_t_test_against_scipy(rows, alternative):
    first, second = columns(rows)
    if len({a - b for a, b in rows}) == 1:
        return
    expected = stats.ttest_rel(first, second, alternative=alternative)
    result = paired_t_test(first, second, alternative=alternative)
    assert result == pytest.approx((expected.statistic, expected.pvalue), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(pairs, alternatives)
def test_sign_flips_against_every_pattern_written_out(rows, alternative):
    differences = [a - b for a, b in rows]  # integers: sums are exact
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True))
            for signs in itertools.product((1, -1), repeat=len(rows))]  # fmt: skip
    observed = sum(differences)
    extreme = {
        "two-sided": lambda s: abs(s) >= abs(observed),
        "greater": lambda s: s >= observed,
        "less": lambda s: s <= observed,
    }[alternative]
    first, second = columns(rows)
    result = sign_flip_test(first, second, alternative=alternative)
    assert result.p_value == pytest.approx(sum(map(extreme, sums)) / 2 ** len(rows))
    assert result.statistic == pytest.approx(np.mean(np.subtract(first, second)))


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_sign_flips_against_scipys_permutation_test(alternative):
    generator = np.random.default_rng(0)
    first, second = generator.normal(0.3, 1, 7), generator.normal(0, 1, 7)
    expected = stats.permutation_test(
        (first - second,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=alternative
    )
    assert sign_flip_test(first, second, alternative=alternative).p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("seeds", "floor"), [(3, 0.25), (5, 0.0625), (6, 0.03125)])
def test_floor_of_the_exact_tests(seeds, floor):
    first, second = [0.9 + 0.01 * k for k in range(seeds)], [0.1 - 0.02 * k for k in range(seeds)]
    assert sign_flip_test(first, second).p_value == floor
    assert sign_flip_test(first, second, alternative="greater").p_value == floor / 2
    assert sign_flip_test(first, second, alternative="less").p_value == 1.0
    assert wilcoxon_test(first, second).p_value == pytest.approx(floor)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-12, 12).filter(bool), min_size=3, max_size=9, unique_by=abs), alternatives)
def test_wilcoxon_against_every_pattern_of_ranks(differences, alternative):
    ranks = stats.rankdata(np.abs(differences))
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    observed = ranks[np.array(differences) > 0].sum()
    at_least, at_most = np.mean(np.array(sums) >= observed), np.mean(np.array(sums) <= observed)
    expected = {"greater": at_least, "less": at_most, "two-sided": min(1.0, 2 * min(at_least, at_most))}[alternative]
    second = [0.0] * len(differences)
    assert wilcoxon_test(differences, second, alternative=alternative).p_value == pytest.approx(expected)


@pytest.mark.parametrize("test", TESTS)
def test_no_difference_is_no_evidence(test):
    assert test([0.5, 0.7, 0.9], [0.5, 0.7, 0.9]) == (0.0, 1.0)


def test_equal_differences_have_no_spread():
    assert paired_t_test([1.0, 2.0], [0.0, 1.0]) == (math.inf, 0.0)
    assert paired_t_test([0.0, 1.0], [1.0, 2.0]) == (-math.inf, 0.0)
    assert paired_t_test([1.0, 2.0], [0.0, 1.0], alternative="less") == (math.inf, 1.0)
    assert paired_t_test([0.0, 1.0], [1.0, 2.0], alternative="greater") == (-math.inf, 1.0)
    assert paired_t_test([1.0, 2.0], [0.0, 1.0], alternative="greater") == (math.inf, 0.0)


@pytest.mark.parametrize("test", TESTS)
def test_swapping_the_systems_swaps_the_sides(test):
    first, second = [0.81, 0.84, 0.80, 0.79], [0.79, 0.80, 0.81, 0.70]
    assert test(first, second).p_value == pytest.approx(test(second, first).p_value)
    greater, less = test(first, second, alternative="greater"), test(second, first, alternative="less")
    assert greater.p_value == pytest.approx(less.p_value)


def test_sums_equal_but_for_rounding_count_as_equal():
    # 0.1 + 0.2 - 0.3 is 5.6e-17, not 0: all eight patterns have |sum| >= 0
    assert sign_flip_test([0.1, 0.2, 0.0], [0.0, 0.0, 0.3]).p_value == 1.0


def test_twenty_pairs_are_enumerated_and_more_refused():
    assert sign_flip_test(torch.ones(20), torch.zeros(20)).p_value == 2 / 2**20
    with pytest.raises(ValueError, match="first: expected at most 20 pairs for an exact test, got 21"):
        sign_flip_test(torch.ones(21), torch.zeros(21))


@pytest.mark.parametrize("test", TESTS)
def test_refusals(test):
    with pytest.raises(ValueError, match="second: expected a pair for each of the 3 in first, got 2"):
        test([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="first: expected a list of at least 2 numbers"):
        test([1.0], [1.0])
    with pytest.raises(ValueError, match="second: expected finite numbers, got"):
        test([1.0, 2.0], [1.0, math.nan])
    with pytest.raises(ValueError, match="alternative: 'grater' is unknown; did you mean 'greater'"):
        test([1.0, 2.0], [0.0, 0.5], alternative="grater")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_holm_is_the_closed_test_over_bonferroni(hundredths):
    p = [value / 100 for value in hundredths]
    subsets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    expected = [max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in range(len(p))]
    assert holm(p) == pytest.approx(expected)


def test_holm_of_one_is_itself_and_tensors_are_taken():
    assert holm([0.03]) == [0.03]
    assert holm(torch.tensor([0.5, 0.9]).double()) == [1.0, 1.0]


@pytest.mark.parametrize("p", [[-0.1], [1.1], [math.nan]])
def test_holm_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match=r"p_values: expected values within \[0, 1\], got"):
        holm(p)


def test_holm_refuses_nothing():
    with pytest.raises(ValueError, match="p_values: expected a list of at least 1 numbers"):
        holm([])
