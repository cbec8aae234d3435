"""Structural Hamming distance against a count pair by pair."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.metrics import structural_hamming_distance


def graphs(d):
    return st.lists(st.integers(0, 1), min_size=d * d, max_size=d * d).map(lambda v: np.array(v).reshape(d, d))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5).flatmap(lambda d: st.tuples(graphs(d), graphs(d), graphs(d))))
def test_counts_pairs_and_is_a_distance(three):
    a, b, c = three
    d = len(a)
    pairs = sum((a[i, j], a[j, i]) != (b[i, j], b[j, i]) for i in range(d) for j in range(i, d))
    assert structural_hamming_distance(a, b) == pairs
    assert structural_hamming_distance(b, a) == pairs
    assert structural_hamming_distance(a, a) == 0
    assert (pairs == 0) == bool((a == b).all())
    assert structural_hamming_distance(a, c) <= pairs + structural_hamming_distance(b, c)


def test_by_hand():
    truth = np.zeros((4, 4))
    truth[[0, 1, 2], [1, 2, 3]] = [0.5, -2, 1]
    assert structural_hamming_distance(np.zeros((4, 4)), truth) == 3  # missing
    assert structural_hamming_distance(np.abs(truth) * 9, truth) == 0  # weights do not matter
    assert structural_hamming_distance(truth.T, truth) == 3  # turned around: once each
    assert structural_hamming_distance(truth + truth.T, truth) == 3  # both ways
    assert structural_hamming_distance(truth + np.eye(4), truth) == 4  # loops
    assert structural_hamming_distance(torch.from_numpy(truth).requires_grad_(), truth.tolist()) == 0
    assert type(structural_hamming_distance(truth, truth)) is int


def test_refuses_other_shapes():
    for found, truth in ((np.zeros((2, 3)), np.zeros((2, 3))), (np.zeros((2, 2)), np.zeros((3, 3))), (0, 0)):
        with pytest.raises(ValueError, match=r"found, truth: expected one shape \(d, d\), got \("):
            structural_hamming_distance(found, truth)
