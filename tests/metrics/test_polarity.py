import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmaffect.metrics import polarity_metrics


def perfect(truth):
    return 9.0 * torch.nn.functional.one_hot(truth, 3).double()


def oracle(logits, truth):
    """Both conventions in NumPy and scikit-learn, from their description."""
    two_columns, three_columns, polar = np.argmax(logits[:, [0, 2]], 1), np.argmax(logits, 1), truth != 1
    pairs = {
        "has0_mmsa": (np.where(truth <= 1, 0, 1), two_columns),
        "has0_cider": (np.where(truth < 1, 0, 1), two_columns),
    }
    if polar.any():
        pairs["non0_mmsa"] = (truth[polar], two_columns[polar])
        pairs["non0_cider"] = (truth[polar], three_columns[polar])
        pairs["non0"] = (truth[polar] // 2, two_columns[polar])
    figures = {"acc3": sk.accuracy_score(truth, three_columns)}
    figures["f1_3"] = sk.f1_score(truth, three_columns, average="weighted")
    for name, (true, found) in pairs.items():
        figures[f"acc2_{name}"] = sk.accuracy_score(true, found)
        figures[f"f1_{name}"] = sk.f1_score(true, found, average="weighted")
    return figures


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(*[st.integers(-2, 2)] * 3, st.integers(0, 2)), min_size=1, max_size=40))
def test_against_scikit_learn(rows):
    table = np.array(rows)
    logits, truth = table[:, :3].astype(float), table[:, 3]
    figures = polarity_metrics(torch.tensor(logits), torch.tensor(truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle(logits, truth)
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert all(math.isnan(figures[name]) for name in figures.keys() - expected.keys())


def test_the_perfect_predictor_scores_the_share_of_negatives_in_the_confused_variant():
    truth = torch.tensor([0] * 47 + [2] * 53 + [1] * 20)
    figures = polarity_metrics(perfect(truth), truth)
    assert figures["acc2_non0_mmsa"] == pytest.approx(0.47)
    assert figures["f1_non0_mmsa"] == pytest.approx(0.47)  # negatives F1 1, positives F1 0
    assert figures["acc2_non0"] == figures["f1_non0"] == figures["acc2_non0_cider"] == figures["acc3"] == 1.0


def test_neutral_truth_goes_to_opposite_sides():
    says_positive, says_negative = torch.tensor([[0.0, 5.0, 1.0]]), torch.tensor([[1.0, 5.0, 0.0]])
    neutral = torch.tensor([1])
    positive, negative = polarity_metrics(says_positive, neutral), polarity_metrics(says_negative, neutral)
    assert (positive["acc2_has0_mmsa"], positive["acc2_has0_cider"]) == (0.0, 1.0)
    assert (negative["acc2_has0_mmsa"], negative["acc2_has0_cider"]) == (1.0, 0.0)


def test_neutral_prediction_counts_wrong_only_where_three_classes_compete():
    figures = polarity_metrics(torch.tensor([[0.0, 5.0, 1.0]]), torch.tensor([2]))
    assert figures["acc2_non0_cider"] == 0.0
    assert figures["acc2_non0"] == 1.0


def test_time_axis_and_unlabelled_steps():
    truth = torch.tensor([[0, 2], [1, -100]])
    logits = perfect(truth.clamp(min=0))
    logits[1, 1] = math.nan
    assert polarity_metrics(logits, truth) == polarity_metrics(
        perfect(torch.tensor([0, 2, 1])), torch.tensor([0, 2, 1])
    )


def test_another_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"logits: expected 3 classes on the last axis, got shape \(1, 4\)"):
        polarity_metrics(torch.zeros(1, 4), torch.tensor([0]))
