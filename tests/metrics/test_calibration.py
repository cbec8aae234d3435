import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from mmaffect.metrics import brier_score, calibration_metrics, expected_calibration_error, reliability_curve

shapes = st.tuples(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 5), st.integers(1, 20))


def draw(seed, n, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (n,), generator=generator)


@settings(deadline=None, max_examples=40)
@given(shapes)
def test_equal_width_curve_against_scikit_learn(shape):
    *size, bins = shape
    logits, truth = draw(*size)
    confidence, found = logits.softmax(1).max(1)
    right = found == truth
    curve = reliability_curve(logits, truth, bins=bins)
    if 0 < right.sum() < len(right):  # scikit-learn takes no single class
        accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=bins)
        assert curve.accuracy == pytest.approx(accuracy)
        assert curve.confidence == pytest.approx(mean_confidence)
    assert sum(curve.samples) == len(truth)


@settings(deadline=None, max_examples=40)
@given(shapes)
def test_equal_mass_error_against_sorted_chunks(shape):
    seed, bins_drawn, classes, per_bin = shape
    bins = min(bins_drawn, 12)
    logits, truth = draw(seed, bins * per_bin, classes)
    confidence, found = logits.softmax(1).max(1)
    order = confidence.argsort()
    chunks = (order.view(bins, per_bin), (found == truth).double())
    gaps = [(confidence[c].mean() - chunks[1][c].mean()).abs() / bins for c in chunks[0]]
    curve = reliability_curve(logits, truth, bins=bins, binning="equal_mass")
    assert curve.samples == [per_bin] * bins
    error = expected_calibration_error(logits, truth, bins=bins, binning="equal_mass")
    assert error == pytest.approx(float(sum(gaps)))


@settings(deadline=None, max_examples=40)
@given(shapes)
def test_order_of_samples_changes_nothing_even_with_ties(shape):
    seed, n, classes, bins = shape
    logits, truth = draw(seed, n, classes)
    logits = logits.round()
    shuffle = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for binning in ("equal_width", "equal_mass"):
        before = reliability_curve(logits, truth, bins=bins, binning=binning)
        after = reliability_curve(logits[shuffle], truth[shuffle], bins=bins, binning=binning)
        assert before.samples == after.samples
        assert before.accuracy == pytest.approx(after.accuracy)


def test_equal_mass_sizes_differ_by_one_at_most_without_ties():
    logits, truth = draw(0, 23, 3)
    sizes = reliability_curve(logits, truth, bins=5, binning="equal_mass").samples
    assert len(sizes) == 5
    assert max(sizes) - min(sizes) == 1


@settings(deadline=None, max_examples=40)
@given(shapes)
def test_brier_against_its_definition(shape):
    logits, truth = draw(*shape[:3])
    probabilities = logits.softmax(1).numpy()
    expected = ((probabilities - np.eye(shape[2])[truth]) ** 2).sum(1).mean()
    assert brier_score(logits, truth) == pytest.approx(expected)


def test_brier_of_two_classes_is_twice_the_binary_one():
    logits, truth = draw(0, 50, 2)
    assert brier_score(logits, truth) == pytest.approx(2 * brier_score_loss(truth, logits.softmax(1)[:, 1]))


def test_error_of_a_known_miscalibration():
    # always 0.9 sure, right 3 times in 4
    logits = torch.tensor([[0.9, 0.1]]).log().expand(8, 2)
    truth = torch.tensor([0, 0, 0, 1] * 2)
    assert calibration_metrics(logits, truth) == pytest.approx(
        {"ece_equal_width": 0.15, "ece_equal_mass": 0.15, "brier": 2 * (0.75 * 0.01 + 0.25 * 0.81)}
    )


def test_intervals_are_closed_on_the_right():
    logits = torch.tensor([[0.5, 0.5], [0.75, 0.25]]).double().log()
    assert reliability_curve(logits, torch.tensor([0, 0]), bins=2).samples == [1, 1]


def test_certainty_and_a_single_bin():
    logits = torch.tensor([[0.0, -math.inf], [0.0, -math.inf]])
    curve = reliability_curve(logits, torch.tensor([0, 1]), bins=1)
    assert curve == ([1.0], [0.5], [2])


def test_unlabelled_are_left_out():
    logits, truth = draw(0, 12, 3)
    truth[3:6] = -100
    known = truth != -100
    expected = calibration_metrics(logits[known], truth[known])
    logits[3:6] = math.nan
    assert calibration_metrics(logits.view(3, 4, 3), truth.view(3, 4)) == pytest.approx(expected)


def test_refusals():
    logits, truth = draw(0, 5, 3)
    with pytest.raises(ValueError, match="bins: expected at least 1, got 0"):
        reliability_curve(logits, truth, bins=0)
    with pytest.raises(ValueError, match="binning: 'equal_with' is unknown; did you mean 'equal_width'"):
        expected_calibration_error(logits, truth, binning="equal_with")
    with pytest.raises(ValueError, match="target: expected at least one labelled entry"):
        brier_score(logits, torch.full((5,), -100))
