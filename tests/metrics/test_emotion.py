import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmaffect.metrics import emotion_metrics

shapes = st.tuples(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 6))


def draw(seed, n, classes):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (n,), generator=generator)


@settings(deadline=None, max_examples=25)
@given(shapes)
def test_against_scikit_learn_with_classes_absent(shape):
    logits, truth = draw(*shape)
    classes = range(shape[2])
    figures = emotion_metrics(logits, truth)
    found, probabilities = logits.argmax(1), logits.softmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes predicted that do not occur
        expected = {
            "accuracy": sk.accuracy_score(truth, found),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, found),
            "macro_f1": sk.f1_score(truth, found, average="macro"),
            "weighted_f1": sk.f1_score(truth, found, average="weighted"),
            "log_loss": sk.log_loss(truth, probabilities, labels=classes),
        }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    options = {"labels": classes, "average": None, "zero_division": np.nan}
    assert figures["per_class_f1"] == pytest.approx(sk.f1_score(truth, found, **options), nan_ok=True)
    assert figures["per_class_recall"] == pytest.approx(sk.recall_score(truth, found, **options), nan_ok=True)
    assert figures["per_class_support"] == np.bincount(truth, minlength=shape[2]).tolist()
    areas = [
        sk.roc_auc_score(truth == c, probabilities[:, c]) if 0 < (truth == c).sum() < len(truth) else math.nan
        for c in classes
    ]
    assert figures["per_class_auroc"] == pytest.approx(areas, nan_ok=True)
    defined = [area for area in areas if not math.isnan(area)]
    assert figures["auroc"] == pytest.approx(np.mean(defined) if defined else math.nan, nan_ok=True)


def test_macro_auroc_is_scikit_learns_one_versus_rest_when_all_classes_occur():
    logits, truth = draw(0, 200, 4)
    expected = sk.roc_auc_score(truth, logits.softmax(1), multi_class="ovr", average="macro")
    assert emotion_metrics(logits, truth)["auroc"] == pytest.approx(expected)


@settings(deadline=None, max_examples=25)
@given(shapes)
def test_unlabelled_steps_padding_and_shape_change_nothing(shape):
    logits, truth = draw(*shape)
    n, classes = logits.shape
    padded_logits, padded_truth = torch.full((2, n + 1, classes), math.nan).double(), torch.full((2, n + 1), -100)
    padded_logits[1, :n], padded_truth[1, :n] = logits, truth
    padded_logits[0] = 1e6
    assert flat(emotion_metrics(padded_logits, padded_truth)) == pytest.approx(
        flat(emotion_metrics(logits, truth)), nan_ok=True
    )


def flat(figures):
    return [x for value in figures.values() for x in (value if isinstance(value, list) else [value])]


def test_absent_classes_by_hand():
    # truth 0 0 1, predicted 0 2 1, and class 3 nowhere
    logits = 5.0 * torch.eye(4)[[0, 2, 1]]
    figures = emotion_metrics(logits, torch.tensor([0, 0, 1]))
    assert figures["per_class_recall"] == pytest.approx([0.5, 1.0, math.nan, math.nan], nan_ok=True)
    assert figures["per_class_f1"] == pytest.approx([2 / 3, 1.0, 0.0, math.nan], nan_ok=True)
    assert figures["balanced_accuracy"] == pytest.approx(0.75)  # over classes 0, 1
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # over classes 0, 1, 2
    assert figures["weighted_f1"] == pytest.approx((2 * 2 / 3 + 1) / 3)
    assert figures["accuracy"] == pytest.approx(2 / 3)


def test_constant_predictions():
    figures = emotion_metrics(torch.zeros(4, 2), torch.tensor([0, 1, 1, 1]))
    assert figures["accuracy"] == 0.25
    assert figures["balanced_accuracy"] == 0.5
    assert figures["auroc"] == 0.5
    assert figures["log_loss"] == pytest.approx(math.log(2))


def test_a_single_class_in_the_targets():
    figures = emotion_metrics(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert figures["balanced_accuracy"] == 0.5
    assert math.isnan(figures["auroc"])


def test_true_class_ruled_out_costs_without_bound():
    figures = emotion_metrics(torch.tensor([[0.0, -math.inf], [0.0, 1.0]]), torch.tensor([1, 0]))
    assert figures["log_loss"] == math.inf
    assert figures["auroc"] == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_logits_are_computed_in_double(dtype):
    logits, truth = draw(1, 30, 3)
    low = logits.to(dtype)
    assert emotion_metrics(low, truth) == emotion_metrics(low.double(), truth)


def test_figures_are_plain_numbers():
    figures = emotion_metrics(*draw(2, 10, 3))
    assert all(type(x) is float for x in flat(figures))


def test_nothing_labelled_is_refused():
    with pytest.raises(ValueError, match="target: expected at least one labelled entry, got none among 2"):
        emotion_metrics(torch.zeros(2, 3), torch.tensor([-100, -100]))
