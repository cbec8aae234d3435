import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mmaffect.metrics import auroc

samples = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40)


@settings(deadline=None, max_examples=40)
@given(samples)
def test_against_scikit_learn_with_many_ties(rows):
    scores, positive = (torch.tensor(column) for column in zip(*rows, strict=True))
    if positive.all() or not positive.any():
        assert math.isnan(auroc(scores, positive))
    else:
        assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


@settings(deadline=None, max_examples=40)
@given(samples)
def test_is_the_share_of_pairs_in_order(rows):
    scores, positive = (torch.tensor(column) for column in zip(*rows, strict=True))
    gaps = scores[positive][:, None] - scores[~positive][None]
    if gaps.numel():
        expected = ((gaps > 0).double() + 0.5 * (gaps == 0)).mean()
        assert auroc(scores, positive) == pytest.approx(float(expected))


def test_infinite_scores_rank_last_and_first():
    scores = torch.tensor([-math.inf, 0.0, math.inf])
    assert auroc(scores, torch.tensor([False, True, True])) == 1.0


def test_does_not_mind_a_strided_column():
    scores = torch.tensor([[0.1, 9.0], [0.9, 1.0]])[:, 0]
    assert auroc(scores, torch.tensor([False, True])) == 1.0


def test_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="scores: expected no NaN, got 1"):
        auroc(torch.tensor([math.nan, 0.0]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match=r"positive: expected bool, got torch\.int64"):
        auroc(torch.zeros(2), torch.tensor([1, 0]))
    with pytest.raises(ValueError, match=r"scores: expected shape \(N,\) like positive \(3,\), got \(2,\)"):
        auroc(torch.zeros(2), torch.tensor([True, False, True]))
