"""Counterfactual tokens against counting in plain Python."""

from collections import Counter
from statistics import mean, pstdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.causal import mask_tokens, telling_tokens, token_class_counts


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(2, 9), st.integers(1, 4), st.integers(0, 2**31))
def test_counts_equal_a_loop(samples, steps, vocabulary, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (samples, steps), generator=generator)
    labels = torch.randint(-1, classes, (samples,), generator=generator)
    mask = torch.rand(samples, steps, generator=generator) < 0.6
    ids = torch.where(mask, ids, -7)  # out of range, but not real
    special = [0]
    found = token_class_counts(ids, labels, mask, vocabulary=vocabulary, classes=classes, special=special)
    expected = Counter(
        (int(ids[n, t]), int(labels[n]))
        for n in range(samples)
        for t in range(steps)
        if mask[n, t] and labels[n] >= 0 and ids[n, t] not in special
    )
    assert {(v, c): n for v, row in enumerate(found.tolist()) for c, n in enumerate(row) if n} == dict(expected)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12),
    st.sampled_from([None, [0, 2], [1]]),
    st.floats(0.01, 1.5),
    st.integers(1, 5),
)
def test_selection_equals_the_definition(rows, classes, threshold, top):
    chosen = [0, 1, 2] if classes is None else classes
    kept = []
    for token, row in enumerate(rows):
        picked = [row[c] for c in chosen]
        if mean(picked) > 0 and pstdev(picked) / mean(picked) >= threshold:
            kept.append(token)
    expected = sorted(kept, key=lambda token: (-sum(rows[token]), token))[:top]
    found = telling_tokens(torch.tensor(rows), classes=classes, threshold=threshold, top=top)
    assert found.tolist() == expected


def test_a_token_of_other_classes_alone_does_not_inherit_the_coefficient_before_it():
    # Published code: token 1, seen in neutral only, would take over the coefficient of token 0 and be kept.
    assert telling_tokens(torch.tensor([[8, 0, 1], [0, 99, 0]]), classes=[0, 2]).tolist() == [0]


def test_raw_counts_measure_class_sizes_and_shares_do_not():
    even = torch.tensor([[552, 679], [10, 400]])
    assert telling_tokens(even).tolist() == [0, 1]
    assert telling_tokens(even / torch.tensor([552, 679])).tolist() == [1]


def test_a_token_right_at_the_threshold_is_kept():
    assert telling_tokens(torch.tensor([[9, 11], [10, 10]])).tolist() == [0]  # deviation 1, mean 10


def test_shares_of_a_class_without_tokens_are_refused():
    counts = torch.tensor([[9, 0], [1, 0]])
    with pytest.raises(ValueError, match=r"counts: expected finite numbers, got others in classes \[1\]"):
        telling_tokens(counts / counts.sum(0))


def test_of_equally_frequent_tokens_the_smaller_ids_come_first():
    counts = torch.tensor([[3, 1]]).repeat(20_000, 1)
    assert telling_tokens(counts, top=7).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_sequence_keeps_special_and_telling_tokens():
    ids = torch.tensor([[101, 7, 8, 100, 102, 0], [101, 9, 102, 7, 0, 0]])
    mask = torch.tensor([[True] * 5 + [False], [True] * 3 + [False] * 3])
    found = mask_tokens(ids, mask, torch.tensor([8]), special=[0, 100, 101, 102, 103], mask_id=103)
    assert found.tolist() == [[101, 103, 8, 100, 102, 0], [101, 103, 102, 7, 0, 0]]
    assert ids[0, 1] == 7  # not written into
    nothing = mask_tokens(ids, mask, torch.zeros(0, dtype=torch.int64), special=[], mask_id=103)
    assert nothing[mask].unique().tolist() == [103]
    assert torch.equal(nothing[~mask], ids[~mask])


def test_errors_name_the_argument():
    ids, labels, mask = torch.tensor([[1, 5]]), torch.tensor([0]), torch.ones(1, 2, dtype=torch.bool)
    options = {"vocabulary": 4, "classes": 2}
    with pytest.raises(ValueError, match="ids: expected values from 0 to 3, got 1 to 5"):
        token_class_counts(ids, labels, mask, **options)
    with pytest.raises(ValueError, match="ids: expected values from 0 to 3, got -1 to -1"):
        token_class_counts(-torch.ones(1, 2, dtype=torch.int64), labels, mask, **options)
    with pytest.raises(ValueError, match="labels: expected values from 0 to 1, got 2 to 2"):
        token_class_counts(torch.tensor([[1, 3]]), torch.tensor([2]), mask, **options)
    for special in (101, -1):
        with pytest.raises(ValueError, match=f"special: expected values from 0 to 3, got {special} to {special}"):
            token_class_counts(ids - 1, labels, mask, special=[special], **(options | {"vocabulary": 4}))
    with pytest.raises(ValueError, match=r"ids: expected an int64 tensor, got torch\.int32"):
        token_class_counts(ids.int(), labels, mask, **options)
    with pytest.raises(ValueError, match=r"ids: expected an int64 tensor, got torch\.float32"):
        mask_tokens(ids.float(), mask, ids[0], special=[], mask_id=0)
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) with B = 1, T = 2, got \(1, 1\)"):
        mask_tokens(ids, mask[:, :1], ids[0], special=[], mask_id=0)
    with pytest.raises(ValueError, match=r"classes: expected some of 0 to 1, got \[2\]"):
        telling_tokens(torch.zeros(3, 2), classes=[2])
    with pytest.raises(ValueError, match="top: expected a value > 0, got 0"):
        telling_tokens(torch.zeros(3, 2), top=0)
