import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.data import word_label_mismatch, word_shift_split
from mmaffect.ops import InputError


def corpus(rows=300, seed=0, words=40, groups=None):
    """Documents whose words lean towards one of three classes, with names and groups."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    lean = rng.dirichlet(np.full(words, 0.5), 3)
    documents = [" ".join(f"w{w}" for w in rng.choice(words, rng.integers(2, 9), p=lean[c])) for c in labels]
    names = [f"u{i}" for i in range(rows)]
    return documents, labels, names, [f"g{g}" for g in rng.integers(0, groups or rows, rows)]


def by_hand(documents, labels, split, min_count, smoothing):
    """The objective, word by word, from its definition."""
    held = [set(d.lower().split()) for d in documents]
    known = [i for i, c in enumerate(labels) if c >= 0]
    share = {c: sum(labels[i] == c for i in known) / len(known) for c in {labels[i] for i in known}}
    found = []
    for i in known:
        if split[i] != 2:
            continue
        for w in held[i]:
            if sum(w in held[j] for j in known) < min_count:
                continue
            rest = [j for j in known if split[j] != 2 and w in held[j]]
            same = sum(labels[j] == labels[i] for j in rest)
            p = (same + smoothing * share[labels[i]]) / (len(rest) + smoothing)
            found.append(math.log(share[labels[i]]) - math.log(p))
    return sum(found) / len(found)


@pytest.mark.parametrize(("min_count", "smoothing"), [(1, 1.0), (5, 1.0), (5, 0.1), (12, 3.0)])
def test_the_mismatch_is_the_mean_surprise_of_a_word(min_count, smoothing):
    documents, labels, *_ = corpus(80)
    labels = np.where(np.arange(80) % 9 == 0, -1, labels)
    split = np.random.default_rng(1).integers(0, 3, 80)
    found = word_label_mismatch(documents, labels, split, min_count=min_count, smoothing=smoothing)
    assert found == pytest.approx(by_hand(documents, labels, split, min_count, smoothing), abs=1e-12)


def test_words_that_carry_over_are_below_zero_and_those_that_mislead_above():
    documents, labels = ["fine", "poor"] * 20, np.array([0, 1] * 20)
    split = np.repeat([0, 2], 20)
    assert word_label_mismatch(documents, labels, split) < -0.5
    assert word_label_mismatch(documents, np.where(split == 2, 1 - labels, labels), split) > 0.5
    assert word_label_mismatch(["so"] * 40, labels, split) == pytest.approx(0)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99),
    rows=st.integers(40, 160),
    shares=st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.2, 0.3), (0.6, 0.1, 0.3)]),
)
def test_sizes_and_class_counts_are_exactly_those_of_the_random_split(seed, rows, shares):
    documents, labels, *_ = corpus(rows, seed)
    labels[::11] = -1
    counts = {}
    for kind in ("iid", "ood"):
        split = word_shift_split(documents, labels, shares, kind=kind, seed=seed, restarts=1, min_count=2)
        counts[kind] = [np.bincount(split[labels == c], minlength=3).tolist() for c in range(-1, 3)]
    assert counts["iid"] == counts["ood"]
    for c, found in zip(range(-1, 3), counts["iid"], strict=True):
        exact = (labels == c).sum() * np.array(shares)
        assert np.abs(np.array(found) - exact).max() < 1
        assert sum(found) == (labels == c).sum()


def test_the_mismatch_is_far_beyond_that_of_random_splits_and_valid_is_like_train():
    documents, labels, *_ = corpus()
    random = [
        word_label_mismatch(documents, labels, word_shift_split(documents, labels, kind="iid", seed=seed))
        for seed in range(60)
    ]
    split = word_shift_split(documents, labels)
    found = word_label_mismatch(documents, labels, split)
    assert found > np.mean(random) + 10 * np.std(random)
    assert found > 0 > np.mean(random)
    # Valid against train, with test set aside: no more of a mismatch than random splits have.
    seen = split != 2
    valid = word_label_mismatch(np.array(documents)[seen], labels[seen], np.where(split[seen] == 1, 2, 0))
    assert valid < np.mean(random) + 4 * np.std(random)


def test_no_swap_of_two_rows_goes_further():
    """Against brute force: every swap within a class, measured from the definition."""
    documents, labels, *_ = corpus(40, words=12)
    split = word_shift_split(documents, labels, restarts=1, min_count=2)
    best = by_hand(documents, labels, split, 2, 1.0)
    for i in np.flatnonzero(split != 2):
        for j in np.flatnonzero(split == 2):
            if labels[i] == labels[j]:
                swapped = split.copy()
                swapped[[i, j]] = 2, 0
                assert by_hand(documents, labels, swapped, 2, 1.0) <= best + 1e-9


def test_the_search_finds_the_best_split_there_is():
    """Of all splits of twelve rows with these class counts."""
    from itertools import combinations

    documents = ["good film", "good cast", "good", "bad film", "bad cast", "bad"] * 2
    labels = np.array([1, 1, 0, 0, 0, 1] * 2)
    split = word_shift_split(documents, labels, (0.5, 0.17, 0.33), min_count=1)
    wanted = int((split == 2)[labels == 0].sum())
    everything = [
        word_label_mismatch(documents, labels, np.isin(np.arange(12), (*a, *b)) * 2, min_count=1)
        for a in combinations(np.flatnonzero(labels == 0), wanted)
        for b in combinations(np.flatnonzero(labels == 1), wanted)
    ]
    assert word_label_mismatch(documents, labels, split, min_count=1) == pytest.approx(max(everything))


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False), st.sampled_from(["iid", "ood"]), st.booleans())
def test_the_order_of_rows_does_not_matter(random, kind, grouped):
    documents, labels, names, groups = corpus(90, groups=30)
    order = list(range(90))
    random.shuffle(order)

    def split(rows):
        return word_shift_split(
            [documents[i] for i in rows],
            labels[rows],
            kind=kind,
            ids=[names[i] for i in rows],
            groups=[groups[i] for i in rows] if grouped else None,
            restarts=2,
        )

    assert split(order).tolist() == split(list(range(90)))[order].tolist()


def test_words_may_be_lists_and_ids_and_case_and_repetition_do_not_matter():
    documents, labels, *_ = corpus(120)
    wanted = word_shift_split(documents, labels).tolist()
    assert word_shift_split([d.upper() for d in documents], labels).tolist() == wanted
    assert word_shift_split([d.split()[::-1] * 2 for d in documents], labels).tolist() == wanted
    ids = [[int(w[1:]) for w in d.split()] for d in documents]
    assert word_label_mismatch(ids, labels, wanted) == pytest.approx(word_label_mismatch(documents, labels, wanted))


def test_the_same_seed_gives_the_same_split_and_another_another():
    documents, labels, *_ = corpus(120)
    for kind in ("iid", "ood"):
        first = word_shift_split(documents, labels, kind=kind, seed=1, restarts=1)
        assert first.tolist() == word_shift_split(documents, labels, kind=kind, seed=1, restarts=1).tolist()
        assert first.tolist() != word_shift_split(documents, labels, kind=kind, seed=2, restarts=1).tolist()


def test_a_shift_may_be_bounded():
    documents, labels, *_ = corpus()
    for most in (0.05, 0.2):
        found = word_label_mismatch(documents, labels, word_shift_split(documents, labels, most=most))
        assert most - 0.02 < found <= most


@pytest.mark.parametrize("tolerance", [0.01, 0.1])
def test_groups_stay_whole_and_class_counts_near_those_of_the_random_split(tolerance):
    documents, labels, _, groups = corpus(600, groups=60)
    options = {"groups": groups, "tolerance": tolerance, "restarts": 2, "min_count": 2}
    ood, iid = (word_shift_split(documents, labels, kind=kind, **options) for kind in ("ood", "iid"))
    for split in (ood, iid):
        assert all(len(set(split[np.array(groups) == g])) == 1 for g in set(groups))
        assert set(split) == {0, 1, 2}
    found, start = (word_label_mismatch(documents, labels, split, min_count=2) for split in (ood, iid))
    assert found > start + 0.1
    one = word_shift_split(documents, labels, kind="ood", **{**options, "restarts": 1})
    for c in range(3):
        least = min(abs(((s == 2) & (labels == c)).sum() - ((iid == 2) & (labels == c)).sum()) for s in (one,))
        assert least <= tolerance * (labels == c).sum() + 1e-9


def test_what_does_not_fit_is_refused():
    documents, labels, *_ = corpus(30)
    with pytest.raises(InputError, match="kind: 'odd' is unknown; did you mean 'ood'"):
        word_shift_split(documents, labels, kind="odd")
    with pytest.raises(ValueError, match=r"shares: expected three positive shares that sum to 1, got \(0\.5, 0\.5\)"):
        word_shift_split(documents, labels, (0.5, 0.5))
    with pytest.raises(ValueError, match=r"labels: expected \(30,\), one for each of the documents, got \(29,\)"):
        word_shift_split(documents, labels[1:])
    with pytest.raises(ValueError, match=r"groups: expected \(30,\), one for each of the documents, got \(2,\)"):
        word_shift_split(documents, labels, groups=["a", "b"])
    with pytest.raises(ValueError, match=r"split: expected \(30,\) as labels, got \(3,\)"):
        word_label_mismatch(documents, labels, [0, 1, 2])
    with pytest.raises(InputError, match="labels: expected at least two classes, got 1"):
        word_shift_split(documents, np.zeros(30, dtype=int))
    with pytest.raises(InputError, match="documents: expected words in at least min_count = 99 labelled documents"):
        word_shift_split(documents, labels, min_count=99)
    with pytest.raises(InputError, match="documents: expected enough for three splits of shares"):
        word_shift_split(["a b", "a c"], [0, 1], min_count=1)
    with pytest.raises(ValueError, match="smoothing"):
        word_shift_split(documents, labels, smoothing=0)
    with pytest.raises(ValueError, match="labels: expected whole numbers, negative = unlabelled, got <U4"):
        word_shift_split(documents, ["good", "poor"] * 15)
    with pytest.raises(ValueError, match="labels: expected whole numbers, negative = unlabelled, got float64"):
        word_shift_split(documents, np.where(labels == 0, np.nan, labels))  # NaN is no class
    with pytest.raises(ValueError, match="split: expected whole numbers, 2 = test, got <U5"):
        word_label_mismatch(documents, labels, ["train", "test"] * 15)
    with pytest.raises(InputError, match="split: expected rows of 2, the test split, got none"):
        word_label_mismatch(documents, labels, [0, 1] * 15)
