"""Sentiment scores in [-1, 1] (CH-SIMS): other cuts, other sides, and clipping before everything."""

import torch
from torch import Tensor

from mmaffect.metrics.confusion import weighted_f1
from mmaffect.metrics.correlation import pearson
from mmaffect.metrics.labelled import labelled_scores


def sims_metrics(pred: Tensor, target: Tensor) -> dict[str, float]:
    """The figures reported on CH-SIMS, which differ from those on MOSI and MOSEI in every definition.

    Predictions **and truths** are clipped to ±1 first, also for error and correlation. Classes are intervals closed
    on the right:

    ===========================  ==========================================================
    ``acc2_sims``, ``f1_sims``   cut at 0: **non-positive** (≤ 0) against positive (> 0)
    ``acc3_sims``                cuts at -0.1, 0.1
    ``acc5_sims``                cuts at -0.7, -0.1, 0.1, 0.7
    ``mae_sims``, ``corr_sims``  after clipping
    ===========================  ==========================================================

    The cuts are taken in the precision of each argument: a score stored as 0.1 in single precision is a little more
    than 0.1, yet belongs to the interval that ends at 0.1, as it does where the comparison is made in that precision.

    Args:
        pred: predicted scores.
        target: true scores, NaN = unlabelled (left out).

    Shape:
        Both of one shape: ``(N,)``, ``(B, T)``, …

    Returns:
        Floats by name; ``corr_sims`` is NaN if clipped predictions or truths are constant. F1 is weighted by the
        truth's shares.

    Raises:
        ValueError: if the shapes differ, nothing is labelled, or a labelled entry is not finite.

    Example:
        >>> figures = sims_metrics(torch.tensor([0.0, 3.0, -0.5]), torch.tensor([0.0, 1.0, -0.8]))
        >>> {name: round(value, 4) for name, value in figures.items() if name.startswith(("acc", "mae"))}
        {'acc2_sims': 1.0, 'acc3_sims': 1.0, 'acc5_sims': 0.6667, 'mae_sims': 0.1}
    """
    score, truth = (values.clamp(-1.0, 1.0) for values in labelled_scores(pred, target))

    def classes(*cuts: float) -> tuple[Tensor, Tensor]:
        return _intervals(score, pred.dtype, *cuts), _intervals(truth, target.dtype, *cuts)

    two, three, five = classes(0.0), classes(-0.1, 0.1), classes(-0.7, -0.1, 0.1, 0.7)
    return {
        "acc2_sims": float((two[0] == two[1]).double().mean()),
        "f1_sims": weighted_f1(*two),
        "acc3_sims": float((three[0] == three[1]).double().mean()),
        "acc5_sims": float((five[0] == five[1]).double().mean()),
        "mae_sims": float((score - truth).abs().mean()),
        "corr_sims": pearson(score, truth),
    }


def _intervals(x: Tensor, dtype: torch.dtype, *cuts: float) -> Tensor:
    precision = dtype if dtype.is_floating_point else torch.float64
    return torch.bucketize(x, torch.tensor(cuts, dtype=precision).double())
