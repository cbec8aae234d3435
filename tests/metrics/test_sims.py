import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmaffect.metrics import sentiment_metrics, sims_metrics

grid = st.sampled_from([k / 20 for k in range(-30, 31)])


def classes(x, edges):
    """Interval numbers, spelled as (low, high] one by one."""
    found = np.full(len(x), -1)
    for i, (low, high) in enumerate(pairwise(edges)):
        found[(x > low) & (x <= high)] = i
    return found


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(grid, grid), min_size=2, max_size=40))
def test_against_the_intervals_spelled_out(rows):
    pred, truth = (np.array(column) for column in zip(*rows, strict=True))
    figures = sims_metrics(torch.tensor(pred), torch.tensor(truth))
    p, t = np.clip(pred, -1, 1), np.clip(truth, -1, 1)
    two, three, five = [-1.01, 0.0, 1.01], [-1.01, -0.1, 0.1, 1.01], [-1.01, -0.7, -0.1, 0.1, 0.7, 1.01]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "acc2_sims": np.mean(classes(p, two) == classes(t, two)),
            "f1_sims": sk.f1_score(classes(t, two), classes(p, two), average="weighted"),
            "acc3_sims": np.mean(classes(p, three) == classes(t, three)),
            "acc5_sims": np.mean(classes(p, five) == classes(t, five)),
            "mae_sims": np.mean(np.abs(p - t)),
        }
        if np.ptp(p) > 0 and np.ptp(t) > 0:
            expected["corr_sims"] = np.corrcoef(p, t)[0, 1]
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_predictions_and_truths_are_clipped_before_error_and_correlation():
    pred, truth = torch.tensor([3.0, -0.5, 0.0]), torch.tensor([2.0, -0.5, 0.0])
    assert sims_metrics(pred, truth)["mae_sims"] == 0.0
    assert sims_metrics(pred, truth)["corr_sims"] == pytest.approx(1.0)
    assert sentiment_metrics(pred, truth)["mae"] == pytest.approx(1 / 3)


def test_zero_counts_as_non_positive_unlike_has0():
    pred, truth = torch.tensor([0.0, 0.5]), torch.tensor([-0.4, 0.4])
    assert sims_metrics(pred, truth)["acc2_sims"] == 1.0
    assert sentiment_metrics(pred, truth)["acc2_has0"] == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_score_on_a_cut_belongs_below_it_in_every_precision(dtype):
    on_the_cuts = torch.tensor([-0.7, -0.1, 0.1, 0.7], dtype=dtype)
    below = torch.tensor([-0.9, -0.4, 0.0, 0.4], dtype=torch.float64)
    assert sims_metrics(on_the_cuts, below)["acc5_sims"] == 1.0


def test_whole_numbers_may_be_stored_as_integers():
    assert sims_metrics(torch.tensor([-1, 0, 1]), torch.tensor([-0.9, 0.0, 0.9]))["acc5_sims"] == 1.0


def test_constant_predictions_have_no_correlation():
    assert math.isnan(sims_metrics(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0]))["corr_sims"])


def test_unlabelled_are_left_out_and_nothing_labelled_refused():
    with_gap = sims_metrics(torch.tensor([0.3, math.nan, -0.2]), torch.tensor([0.2, math.nan, 0.4]))
    assert with_gap == sims_metrics(torch.tensor([0.3, -0.2]), torch.tensor([0.2, 0.4]))
    with pytest.raises(ValueError, match="target: expected at least one labelled entry"):
        sims_metrics(torch.zeros(1), torch.tensor([math.nan]))
