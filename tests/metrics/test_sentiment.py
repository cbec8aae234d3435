import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmaffect.metrics import sentiment_metrics, weighted_f1

# quarters and thirds: the halves that rounding rules disagree on, and the labels of MOSI
grid = st.sampled_from([k / 4 for k in range(-16, 17)] + [k / 3 for k in range(-9, 10)])
rows_of_scores = st.lists(st.tuples(grid, grid), min_size=2, max_size=40)


def columns(rows):
    return (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))


def oracle(pred, truth):
    """The figures written down a second time, in NumPy and scikit-learn."""
    outwards = np.vectorize(lambda a: math.ceil(a) if a > 0 else math.floor(a))
    figures = {
        "acc2_has0": sk.accuracy_score(truth >= 0, pred >= 0),
        "f1_has0": sk.f1_score(truth >= 0, pred >= 0, average="weighted"),
        "mae": sk.mean_absolute_error(truth, pred),
    }
    for bound, name in ((1, "acc3"), (2, "acc5"), (3, "acc7")):
        p, t = np.clip(pred, -bound, bound), np.clip(truth, -bound, bound)
        figures[name] = figures[f"{name}_half_even"] = np.mean(np.round(p) == np.round(t))
        figures[f"{name}_away_from_zero"] = np.mean(outwards(p) == outwards(t))
    polar = truth != 0
    if polar.any():
        p, t = pred[polar], truth[polar]
        figures["acc2_non0"] = sk.accuracy_score(t > 0, p > 0)
        figures["f1_non0"] = sk.f1_score(t > 0, p > 0, average="weighted")
        figures["mae_non0"] = sk.mean_absolute_error(t, p)
    return figures


@settings(deadline=None, max_examples=25)
@given(rows_of_scores)
def test_against_scikit_learn(rows):
    pred, truth = columns(rows)
    figures = sentiment_metrics(pred, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle(pred.numpy(), truth.numpy())
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert all(isinstance(value, float) for value in figures.values())


@settings(deadline=None, max_examples=25)
@given(rows_of_scores, st.randoms(use_true_random=False))
def test_unlabelled_samples_and_order_change_nothing(rows, random):
    expected = sentiment_metrics(*columns(rows))
    junk = [(value, math.nan) for value in (math.nan, 1e6, math.inf, 0.0)]
    mixed = rows + junk
    random.shuffle(mixed)
    assert sentiment_metrics(*columns(mixed)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("truth", "half_even", "away"),
    [(0.5, 0.0, 1.0), (1.5, 2.0, 2.0), (2.5, 2.0, 3.0), (-0.5, 0.0, -1.0), (-2.5, -2.0, -3.0), (1 / 3, 0.0, 1.0)],
)
def test_the_two_rounding_rules(truth, half_even, away):
    target = torch.tensor([truth])
    assert sentiment_metrics(torch.tensor([half_even]), target)["acc7_half_even"] == 1.0
    assert sentiment_metrics(torch.tensor([away]), target)["acc7_away_from_zero"] == 1.0
    if half_even != away:
        assert sentiment_metrics(torch.tensor([away]), target)["acc7_half_even"] == 0.0
        assert sentiment_metrics(torch.tensor([half_even]), target)["acc7_away_from_zero"] == 0.0


def test_acc7_is_the_half_even_rule():
    figures = sentiment_metrics(torch.tensor([0.5, 2.5]), torch.tensor([0.0, 2.0]))
    assert figures["acc7"] == figures["acc7_half_even"] == 1.0
    assert figures["acc7_away_from_zero"] == 0.0


def test_scores_beyond_the_scale_are_clipped_for_classes_but_not_for_errors():
    figures = sentiment_metrics(torch.tensor([7.0, -3.0]), torch.tensor([3.0, -3.0]))
    assert figures["acc7"] == figures["acc7_away_from_zero"] == 1.0
    assert figures["mae"] == 2.0


def test_zero_prediction_falls_on_different_sides():
    figures = sentiment_metrics(torch.tensor([0.0, -1.0]), torch.tensor([1.0, -1.0]))
    assert figures["acc2_has0"] == 1.0
    assert figures["acc2_non0"] == 0.5


def test_f1_weighs_by_the_truth_not_by_the_prediction():
    pred, truth = torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([1.0, 2.0, -1.0, -2.0])
    figures = sentiment_metrics(pred, truth)
    assert figures["f1_non0"] == pytest.approx(1 / 3)
    assert weighted_f1(truth > 0, pred > 0) == pytest.approx(2 / 3)  # the arguments swapped, as once published


def test_constant_predictions_have_no_correlation_but_all_else():
    figures = sentiment_metrics(torch.full((5,), 0.1), torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.0]))
    assert math.isnan(figures["corr"])
    assert math.isnan(figures["corr_non0"])
    assert not any(math.isnan(v) for name, v in figures.items() if not name.startswith("corr"))


def test_neutral_truth_only_leaves_non0_undefined():
    figures = sentiment_metrics(torch.tensor([0.2, -0.2]), torch.zeros(2))
    undefined = {name for name, value in figures.items() if math.isnan(value)}
    assert undefined == {"acc2_non0", "f1_non0", "mae_non0", "corr_non0", "corr"}


def test_non0_error_drops_neutral_truth():
    figures = sentiment_metrics(torch.tensor([9.0, 1.0, -1.0, 2.0]), torch.tensor([0.0, 2.0, -1.0, 2.0]))
    assert figures["mae_non0"] == pytest.approx(1 / 3)
    assert figures["corr_non0"] == pytest.approx(np.corrcoef([1, -1, 2], [2, -1, 2])[0, 1])


def test_single_precision_thirds_round_like_double():
    pred, truth = torch.tensor([1 / 3, 2 / 3]), torch.tensor([1 / 3, 2 / 3])
    assert sentiment_metrics(pred, truth)["acc7"] == sentiment_metrics(pred.double(), truth.double())["acc7"] == 1.0


def test_nothing_labelled_is_refused():
    with pytest.raises(ValueError, match="target: expected at least one labelled entry"):
        sentiment_metrics(torch.zeros(2), torch.full((2,), math.nan))


def test_column_beside_vector_is_refused():
    with pytest.raises(ValueError, match="pred: expected the shape of target"):
        sentiment_metrics(torch.zeros(4, 1), torch.zeros(4))
