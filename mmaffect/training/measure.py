"""The metrics of a kind of target, by name, as plain numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmaffect.data import DataSpec
from mmaffect.metrics import emotion_metrics, multilabel_metrics, score_metrics, sentiment_metrics
from mmaffect.metrics.labelled import UNLABELLED
from mmaffect.ops import check_choice

_FALLING = ("mae", "mse", "rmse", "ece", "brier", "nll", "loss")


def labelled(spec: DataSpec, targets: Tensor) -> Tensor:
    """Rows with some label: not -100 (classes, labels), not NaN (labels, scores); of several one is enough.

    Shape:
        ``targets (..., C)`` where a row has several labels or scores, else ``(...)`` → bool ``(...)``.

    Example:
        >>> labelled(DataSpec({"text": 2}, "class", ("sad", "happy"), "single"), torch.tensor([1, -100])).tolist()
        [True, False]
    """
    known = ~targets.isnan()
    if spec.target != "score":
        known &= targets != UNLABELLED
    several = spec.target == "multilabel" or (spec.target == "score" and spec.outputs > 1)
    return known.any(-1) if several else known


def measure(spec: DataSpec, predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Metrics of labelled rows, by the kind of target.

    Classes: `emotion_metrics`; several labels: `multilabel_metrics`; one score: `sentiment_metrics`; several:
    `score_metrics`. A metric with one value a class or score is spelled out as ``"per_class_f1/happy"``.

    Args:
        spec: kind of target and names of the classes.
        predictions: logits or scores.
        targets: labels; each row has some.

    Shape:
        ``predictions (R, C)`` or ``(R,)``; ``targets (R,)`` or ``(R, C)``.
    """
    found: Mapping[str, float | list[float]]
    if spec.target == "class":
        found = emotion_metrics(predictions, targets)
    elif spec.target == "multilabel":
        found = multilabel_metrics(predictions, targets)
    elif spec.outputs == 1:
        found = sentiment_metrics(predictions, targets)
    else:
        found = score_metrics(predictions, targets)
    flat: dict[str, float] = {}
    for name, value in found.items():
        values = torch.as_tensor(value, dtype=torch.float64)
        if values.dim() == 0:
            flat[name] = values.item()
        else:
            flat |= {f"{name}/{c}": v for c, v in zip(spec.classes, values.tolist(), strict=True)}
    return flat


def choose_monitor(spec: DataSpec, monitor: str | None) -> str:
    """The metric that selects the weights: the one asked for, if there is such a one, else the kind's own.

    Raises:
        InputError: (a ValueError) if the metric is unknown; the nearest are offered.
    """
    # Two rows a class, right and wrong ones: enough for every metric to show its name.
    if spec.target == "class":
        targets = torch.arange(spec.outputs).repeat(2)
        predictions = torch.eye(spec.outputs)[targets.roll(1)]
    else:
        targets = (torch.arange(4) % 2).float()[:, None].expand(4, spec.outputs).clone()
        predictions = targets.roll(1, 0) + torch.arange(4.0)[:, None] / 10
        if spec.target == "score" and spec.outputs == 1:
            targets, predictions = targets[:, 0], predictions[:, 0]
    names = tuple(measure(spec, predictions, targets))
    if monitor is None:
        monitor = {"class": "balanced_accuracy", "multilabel": "macro_f1", "score": "mae"}[spec.target]
    check_choice("monitor", monitor, names)
    return monitor


def mean_over_conditions(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over the conditions under which it is defined; NaN if it is under none.

    Args:
        metrics: by condition, then by name, as `measure` gives them.

    Example:
        >>> nan = float("nan")
        >>> mean_over_conditions({"a": {"mae": 1.0, "corr": nan}, "b": {"mae": 2.0, "corr": 0.5}})
        {'mae': 1.5, 'corr': 0.5}
    """
    names = next(iter(metrics.values()))
    table = torch.tensor([[by_name[name] for name in names] for by_name in metrics.values()], dtype=torch.float64)
    return dict(zip(names, table.nanmean(0).tolist(), strict=True))


def is_better(monitor: str, value: float, best: float | None) -> bool:
    """Whether a value of the monitored metric beats the best so far; errors fall, everything else rises.

    Example:
        >>> is_better("mae", 0.5, 0.6), is_better("macro_f1", 0.5, 0.6), is_better("mae", float("nan"), 0.6)
        (True, False, False)
    """
    if best is None or best != best:
        return True
    falling = any(part in _FALLING for part in monitor.split("/")[0].split("_"))
    return value < best if falling else value > best
