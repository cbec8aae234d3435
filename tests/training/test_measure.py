import math

import pytest
import torch

from mmaffect.metrics import emotion_metrics, multilabel_metrics, score_metrics, sentiment_metrics
from mmaffect.ops import InputError
from mmaffect.training.measure import choose_monitor, is_better, labelled, mean_over_conditions, measure
from tests.training.tiny import make_spec

NAN = float("nan")


def test_means_are_over_the_conditions_that_define_a_metric():
    found = mean_over_conditions({"a": {"x": 1.0, "y": NAN, "z": NAN}, "b": {"x": 4.0, "y": 0.5, "z": NAN}})
    assert list(found) == ["x", "y", "z"]
    assert (found["x"], found["y"]) == (2.5, 0.5)
    assert math.isnan(found["z"])


def test_rows_with_a_label():
    assert labelled(make_spec(), torch.tensor([[0, -100], [2, 1]])).tolist() == [[True, False], [True, True]]
    several = make_spec(target="multilabel")
    rows = torch.tensor([[1.0, 0.0, NAN], [NAN, NAN, NAN], [-100.0, -100.0, -100.0]])
    assert labelled(several, rows).tolist() == [True, False, False]
    assert labelled(make_spec(target="score", outputs=1), torch.tensor([-100.0, NAN])).tolist() == [True, False]
    assert labelled(make_spec(target="score", outputs=2), torch.tensor([[NAN, 1.0]])).tolist() == [True]


@pytest.mark.parametrize(
    ("target", "outputs", "metric", "listed"),
    [
        ("class", 3, emotion_metrics, "per_class_f1"),
        ("multilabel", 3, multilabel_metrics, "per_label_f1"),
        ("score", 1, sentiment_metrics, None),
        ("score", 3, score_metrics, "per_dimension_mae"),
    ],
)
def test_metrics_are_those_of_the_kind(target, outputs, metric, listed):
    torch.manual_seed(0)
    spec = make_spec(target=target, outputs=outputs)
    predictions = torch.randn(20, outputs)
    targets = {"class": torch.arange(20) % 3, "multilabel": torch.rand(20, 3).round()}.get(
        target, torch.randn(20, outputs)
    )
    if target == "score" and outputs == 1:
        predictions, targets = predictions[:, 0], targets[:, 0]
    found, wanted = measure(spec, predictions, targets), metric(predictions, targets)
    assert all(isinstance(v, float) for v in found.values())
    for name, value in wanted.items():
        if isinstance(value, list):
            assert [found[f"{name}/{c}"] for c in spec.classes] == pytest.approx(value, nan_ok=True)
        else:
            assert found[name] == pytest.approx(value, nan_ok=True)
    assert listed is None or f"{listed}/c0" in found


@pytest.mark.parametrize(
    ("target", "outputs", "default"),
    [
        ("class", 2, "balanced_accuracy"),
        ("class", 7, "balanced_accuracy"),
        ("multilabel", 1, "macro_f1"),
        ("multilabel", 4, "macro_f1"),
        ("score", 1, "mae"),
        ("score", 3, "mae"),
    ],
)
def test_each_kind_has_a_monitor(target, outputs, default):
    spec = make_spec(target=target, outputs=outputs)
    assert choose_monitor(spec, None) == default
    with pytest.raises(InputError, match=r"monitor: 'acuracy' is unknown"):
        choose_monitor(spec, "acuracy")


def test_errors_fall_and_the_rest_rises():
    for name in ("mae", "log_loss", "rmse", "per_dimension_mae/valence", "mae_non0"):
        assert is_better(name, 1.0, 2.0)
        assert not is_better(name, 2.0, 1.0)
    for name in ("balanced_accuracy", "per_class_f1/happy", "ccc", "corr"):
        assert is_better(name, 2.0, 1.0)
        assert not is_better(name, 1.0, 2.0)
    assert not is_better("ccc", 1.0, 1.0)
    assert is_better("ccc", NAN, None)
    assert is_better("ccc", -1.0, NAN)
    assert not is_better("ccc", NAN, -math.inf)
