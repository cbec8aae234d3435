"""Real-valued affect such as valence, activation and dominance: agreement and error per dimension and on average."""

import torch
from torch import Tensor

from mmaffect.metrics.correlation import concordance, pearson
from mmaffect.metrics.labelled import labelled_scores


def score_metrics(pred: Tensor, target: Tensor, *, dimensions: int | None = None) -> dict[str, float | list[float]]:
    """Concordance, correlation and errors of K scores.

    ``ccc`` is Lin's concordance with population moments (see :func:`mmaffect.metrics.concordance` for the bridge to
    torchmetrics' n − 1 form), ``corr`` Pearson's correlation, ``mae`` and ``rmse`` the errors in the scores' own unit;
    each also as ``per_dimension_*``, a list of K.

    Args:
        pred: predicted scores.
        target: true scores, NaN = unlabelled, entry by entry: a dimension uses the entries that it has.
        dimensions: K. Left out: 1 for one-dimensional arguments, else the length of the last axis. Say 1 for a
            single score over time ``(B, T)``, which looks like T scores.

    Shape:
        Both ``(N,)``, ``(N, K)`` or ``(B, T, K)``; of any shape for K = 1.

    Returns:
        Floats and lists. A dimension without any label is NaN throughout and left out of the means. What the
        *predictions* make undefined is not left out: a model constant in one dimension has a ``corr`` of NaN, lest
        collapsing there should pay (its ``ccc`` is 0).

    Raises:
        ValueError: if the shapes differ, the last axis is not K long, nothing is labelled, or a labelled entry is not
            finite.

    Example:
        >>> target = torch.tensor([[1.0, 5.0], [2.0, float("nan")], [4.0, 3.0]])
        >>> figures = score_metrics(torch.tensor([[1.0, 4.0], [2.0, 0.0], [4.0, 2.0]]), target)
        >>> figures["mae"], figures["per_dimension_mae"], round(figures["per_dimension_ccc"][1], 4)
        (0.5, [0.0, 1.0], 0.6667)
    """
    if pred.shape != target.shape:
        raise ValueError(f"pred: expected the shape of target {tuple(target.shape)}, got {tuple(pred.shape)}")
    if dimensions is None:
        dimensions = pred.shape[-1] if pred.dim() > 1 else 1
    if dimensions < 1 or (dimensions > 1 and (pred.dim() == 0 or pred.shape[-1] != dimensions)):
        raise ValueError(f"dimensions: expected the length of the last axis of {tuple(pred.shape)}, got {dimensions}")
    labelled_scores(pred, target)  # the checks over all dimensions at once
    columns = zip(pred.reshape(-1, dimensions).unbind(1), target.reshape(-1, dimensions).unbind(1), strict=True)
    rows = [_figures(column, truth) for column, truth in columns]
    with_labels = [row for row in rows if row is not None]
    nothing = dict.fromkeys(with_labels[0], float("nan"))
    means = {name: sum(row[name] for row in with_labels) / len(with_labels) for name in nothing}
    return {**means, **{f"per_dimension_{name}": [(row or nothing)[name] for row in rows] for name in nothing}}


def _figures(pred: Tensor, target: Tensor) -> dict[str, float] | None:
    if bool(torch.isnan(target).all()):
        return None
    score, truth = labelled_scores(pred, target)
    return {
        "ccc": concordance(score, truth),
        "corr": pearson(score, truth),
        "mae": float((score - truth).abs().mean()),
        "rmse": float((score - truth).square().mean().sqrt()),
    }
