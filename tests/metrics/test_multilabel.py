import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmaffect.metrics import emotion_metrics, multilabel_metrics

shapes = st.tuples(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 6))


def draw(seed, n, labels):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, labels, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(n, labels, generator=generator) < 0.3).long()


def column_figures(logits, truth):
    """One label's figures by scikit-learn, NaN where a side is missing."""
    found = logits > 0
    two_sided = 0 < truth.sum() < len(truth)
    return {
        "accuracy": sk.accuracy_score(truth, found),
        "f1": sk.f1_score(truth, found, zero_division=np.nan),
        "auroc": sk.roc_auc_score(truth, logits) if two_sided else math.nan,
        "mosei_weighted_accuracy": sk.balanced_accuracy_score(truth, found) if two_sided else math.nan,
        "mosei_weighted_f1": sk.f1_score(truth, found, average="weighted"),
    }


@settings(deadline=None, max_examples=25)
@given(shapes)
def test_against_scikit_learn_label_by_label(shape):
    logits, truth = draw(*shape)
    figures = multilabel_metrics(logits, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [column_figures(logits[:, c], truth[:, c]) for c in range(shape[2])]
    for name in rows[0]:
        values = [row[name] for row in rows]
        assert figures[f"per_label_{name}"] == pytest.approx(values, nan_ok=True)
        defined = [value for value in values if not math.isnan(value)]
        mean = figures["macro_f1" if name == "f1" else name]
        assert mean == pytest.approx(np.mean(defined) if defined else math.nan, nan_ok=True)
    table = {"zero_division": np.nan, "average": "micro"}
    micro = sk.f1_score(truth.flatten(), (logits > 0).flatten(), zero_division=np.nan)
    assert figures["micro_f1"] == pytest.approx(micro, nan_ok=True)
    if shape[2] > 1:
        assert figures["micro_f1"] == pytest.approx(sk.f1_score(truth, logits > 0, **table), nan_ok=True)
    assert figures["subset_accuracy"] == pytest.approx(((logits > 0) == truth).all(1).double().mean())


def test_weighted_accuracy_by_the_published_formula():
    logits, truth = draw(3, 50, 1)
    found, true = (logits[:, 0] > 0).numpy(), truth[:, 0].numpy().astype(bool)
    tp, tn, p, n = (found & true).sum(), (~found & ~true).sum(), true.sum(), (~true).sum()
    figures = multilabel_metrics(logits, truth)
    assert figures["mosei_weighted_accuracy"] == pytest.approx((tp * (n / p) + tn) / (2 * n))


def test_weighted_accuracy_is_not_the_weighted_accuracy_of_iemocap():
    logits, truth = torch.tensor([[-1.0], [-1.0], [-1.0], [-1.0]]), torch.tensor([[0], [0], [0], [1]])
    two_columns = torch.cat([torch.zeros(4, 1), logits], dim=1)
    assert multilabel_metrics(logits, truth)["mosei_weighted_accuracy"] == 0.5
    assert emotion_metrics(two_columns, truth[:, 0])["accuracy"] == 0.75


@settings(deadline=None, max_examples=25)
@given(shapes, st.sampled_from([math.nan, -100.0]))
def test_unlabelled_entries_are_left_out_one_by_one(shape, unlabelled):
    logits, truth = draw(*shape)
    known = torch.rand(logits.shape, generator=torch.Generator().manual_seed(shape[0])) < 0.7
    known[0, 0] = True
    gapped, holed = truth.double().masked_fill(~known, unlabelled), logits.masked_fill(~known, math.nan)
    figures = multilabel_metrics(holed, gapped)
    for c in range(shape[2]):
        k = known[:, c]
        if k.any():
            alone = multilabel_metrics(logits[k, c][:, None], truth[k, c][:, None])
            for name in ("accuracy", "f1", "auroc", "mosei_weighted_accuracy", "mosei_weighted_f1"):
                name = f"per_label_{name}"
                assert figures[name][c] == pytest.approx(alone[name][0], nan_ok=True)
        else:
            assert math.isnan(figures["per_label_accuracy"][c])
            assert math.isnan(figures["per_label_mosei_weighted_f1"][c])
    complete = known.all(1)
    expected = ((logits > 0) == truth)[complete].all(1).double().mean().item()
    assert figures["subset_accuracy"] == pytest.approx(expected, nan_ok=True)


def test_label_that_never_occurs():
    silent = multilabel_metrics(torch.tensor([[1.0, -1.0], [-1.0, -1.0]]), torch.tensor([[1, 0], [0, 0]]))
    assert silent["per_label_f1"] == pytest.approx([1.0, math.nan], nan_ok=True)
    assert silent["macro_f1"] == 1.0
    wrong = multilabel_metrics(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([[1, 0], [0, 0]]))
    assert wrong["per_label_f1"] == [1.0, 0.0]
    assert wrong["macro_f1"] == 0.5
    for figures in (silent, wrong):
        assert figures["per_label_mosei_weighted_accuracy"] == pytest.approx([1.0, math.nan], nan_ok=True)
        assert figures["mosei_weighted_accuracy"] == 1.0


def test_time_axis_bools_and_threshold():
    logits, truth = torch.tensor([[[0.5], [1.5]]]), torch.tensor([[[False], [True]]])
    assert multilabel_metrics(logits, truth)["accuracy"] == 0.5
    assert multilabel_metrics(logits, truth, threshold=0.7)["accuracy"] == 1.0


def test_a_probability_of_exactly_the_threshold_is_a_no():
    assert multilabel_metrics(torch.tensor([[0.0]]), torch.tensor([[0]]))["accuracy"] == 1.0


@pytest.mark.parametrize("threshold", [0.0, 1.0, math.nan])
def test_threshold_must_be_a_probability(threshold):
    with pytest.raises(ValueError, match=r"threshold: expected a probability within \(0, 1\)"):
        multilabel_metrics(torch.zeros(1, 1), torch.zeros(1, 1), threshold=threshold)


def test_refusals():
    with pytest.raises(ValueError, match=r"logits: expected shape \(N, C\) or \(B, T, C\) like target \(2,\), got"):
        multilabel_metrics(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"like target \(2, 2\), got \(2, 3\)"):
        multilabel_metrics(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"target: expected 0 or 1, NaN or -100 where unlabelled, got 2\.0"):
        multilabel_metrics(torch.zeros(1, 2), torch.tensor([[0, 2]]))
    with pytest.raises(ValueError, match="target: expected at least one labelled entry, got none among 2"):
        multilabel_metrics(torch.zeros(1, 2), torch.full((1, 2), math.nan))
    with pytest.raises(ValueError, match="logits: expected no NaN where target is labelled, got 1"):
        multilabel_metrics(torch.tensor([[math.nan, 0.0]]), torch.zeros(1, 2))
