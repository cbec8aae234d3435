import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from mmaffect.data import stratified_group_split
from mmaffect.ops import InputError


def people(seed, groups=24, classes=4):
    """Rows of people who each have their own habits: unequal sizes, unequal classes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, 60, groups)
    habits = rng.dirichlet(np.full(classes, 0.7), groups)
    labels = np.concatenate([rng.choice(classes, n, p=p) for n, p in zip(sizes, habits, strict=True)])
    return labels, np.repeat(np.arange(groups), sizes)


def imbalance(labels, split, shares):
    """Sum over splits and classes (and all rows) of the squared distance between held and wanted share, by a loop."""
    total = 0.0
    for s, share in enumerate(shares):
        for c in np.unique(labels[labels >= 0]):
            total += ((labels[split == s] == c).sum() / (labels == c).sum() - share) ** 2
        total += ((split == s).mean() - share) ** 2
    return total


@given(st.integers(0, 2**31), st.integers(3, 12), st.sampled_from([(0.5, 0.5), (0.7, 0.15, 0.15), (0.98, 0.01, 0.01)]))
def test_groups_never_cross_and_no_split_is_empty(seed, groups, shares):
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(0, groups, 40)])
    labels = rng.integers(-1, 3, len(group))
    split = stratified_group_split(labels, group, shares, seed % 1000, restarts=3)
    assert set(split) == set(range(len(shares)))
    for g in range(groups):
        assert len(set(split[group == g])) == 1


def test_the_same_seed_gives_the_same_split_whatever_the_names():
    labels, group = people(0)
    one = stratified_group_split(labels, group, (0.6, 0.2, 0.2), seed=5)
    np.testing.assert_array_equal(one, stratified_group_split(labels, group, (0.6, 0.2, 0.2), seed=5))
    named = np.array([f"g{g:03d}" for g in group])
    np.testing.assert_array_equal(one, stratified_group_split(labels, named, (0.6, 0.2, 0.2), seed=5))


@pytest.mark.parametrize("seed", range(4))
def test_small_problems_are_solved_as_well_as_by_trying_everything(seed):
    labels, group = people(seed, groups=8)
    shares = (0.5, 0.25, 0.25)
    member = np.stack([labels == c for c in range(4)] + [np.ones(len(labels), bool)], 1).astype(float)
    held = np.stack([member[group == g].sum(0) for g in range(8)]) / member.sum(0)
    least = np.inf
    for assignment in itertools.product(range(3), repeat=8):
        load = np.eye(3)[list(assignment)].T @ held
        if len(set(assignment)) == 3:
            least = min(least, ((load - np.array(shares)[:, None]) ** 2).sum())
    ours = imbalance(labels, stratified_group_split(labels, group, shares), shares)
    assert ours == pytest.approx(least, rel=0.02)


def test_classes_are_better_balanced_than_by_chance_and_than_by_scikit_learn():
    ours, theirs, chance = [], [], []
    shares = (0.25,) * 4
    for seed in range(8):
        labels, group = people(seed)
        ours.append(imbalance(labels, stratified_group_split(labels, group, shares, seed), shares))
        peer = np.empty(len(labels), dtype=int)
        folds = StratifiedGroupKFold(4, shuffle=True, random_state=seed).split(labels, labels, group)
        for number, (_, rows) in enumerate(folds):
            peer[rows] = number
        theirs.append(imbalance(labels, peer, shares))
        deal = np.random.default_rng(seed).permutation(24) % 4
        chance.append(imbalance(labels, deal[group], shares))
    assert all(a <= b for a, b in zip(ours, theirs, strict=True))
    assert np.mean(ours) < 0.5 * np.mean(theirs)
    assert np.mean(ours) < 0.1 * np.mean(chance)


def test_many_groups_come_close_without_swaps():
    labels, group = people(1, groups=600)
    shares = (0.7, 0.15, 0.15)
    assert imbalance(labels, stratified_group_split(labels, group, shares, restarts=1), shares) < 1e-4


def test_several_labels_a_row_and_rows_without_any():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 10)
    labels = (rng.random((120, 3)) < [0.5, 0.2, 0.1]).astype(int)
    split = stratified_group_split(labels, group, (0.5, 0.5))
    held = labels[split == 0].sum(0) / labels.sum(0)
    assert (abs(held - 0.5) < 0.1).all()
    unlabelled = stratified_group_split(np.full(120, -1), group, (0.5, 0.5))
    assert (unlabelled == 0).sum() == 60


def test_what_cannot_be_split_is_said():
    with pytest.raises(InputError, match="groups: expected at least 3, one for each split, got 2"):
        stratified_group_split([0, 1, 0], ["a", "b", "a"], (0.6, 0.2, 0.2))
    with pytest.raises(
        ValueError, match=r"shares: expected at least two positive shares that sum to 1, got \(0.5, 0.6\)"
    ):
        stratified_group_split([0, 1], ["a", "b"], (0.5, 0.6))
    with pytest.raises(ValueError, match=r"labels: expected \(N,\) or \(N, C\) with the N = 3 of groups, got \(2,\)"):
        stratified_group_split([0, 1], ["a", "b", "c"], (0.5, 0.5))
