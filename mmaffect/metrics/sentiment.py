"""Sentiment scores in [-3, 3] (MOSI, MOSEI): every variant of the field's figures under a name of its own."""

import torch
from torch import Tensor

from mmaffect.metrics.confusion import weighted_f1
from mmaffect.metrics.correlation import pearson
from mmaffect.metrics.labelled import labelled_scores


def sentiment_metrics(pred: Tensor, target: Tensor) -> dict[str, float]:
    """Accuracies, F1, error and correlation of predicted sentiment.

    ==================================  ==============================================================================
    ``acc2_has0``, ``f1_has0``          negative against non-negative: truth ≥ 0 and pred ≥ 0, all samples
    ``acc2_non0``, ``f1_non0``          negative against positive: samples with truth = 0 are dropped, then truth > 0
                                        and pred > 0 (the only form in IMDer, MoMKE and GCNet)
    ``acc3``, ``acc5``, ``acc7``        the same as the next; MMSA's convention is the one most tables follow
    ``acc7_half_even`` and 3, 5         both clipped to ±3 (±2, ±1), rounded half to even (0.5 → 0, 1/3 → 0, 2.5 → 2)
    ``acc7_away_from_zero`` and 3, 5    the same clip, then the SDK's README: 0 < a ≤ 1 → 1, so 1/3 → 1
    ``mae``, ``corr``                   mean absolute error and Pearson's correlation, unclipped, all samples
    ``mae_non0``, ``corr_non0``         the same without the samples whose truth is 0 (MoMKE)
    ==================================  ==============================================================================

    F1 is weighted by the classes' shares in the *truth*; see :func:`mmaffect.metrics.weighted_f1` for published
    figures that were computed with the arguments swapped. Nothing is rounded: average over seeds first.

    Args:
        pred: predicted scores.
        target: true scores, NaN = unlabelled (left out, whatever ``pred`` holds there).

    Shape:
        Both of one shape: ``(N,)``, ``(B, T)``, …

    Returns:
        Floats by name. NaN where a figure is not defined: ``corr`` if predictions or truths are constant, the
        ``non0`` figures if every truth is 0.

    Raises:
        ValueError: if the shapes differ, nothing is labelled, or a labelled entry is not finite.

    Example:
        >>> figures = sentiment_metrics(torch.tensor([0.6, -1.0, 0.4]), torch.tensor([1 / 3, 0.0, 2.5]))
        >>> {name: round(figures[name], 4) for name in ("acc2_has0", "acc2_non0", "acc7", "acc7_away_from_zero")}
        {'acc2_has0': 0.6667, 'acc2_non0': 1.0, 'acc7': 0.0, 'acc7_away_from_zero': 0.3333}
    """
    score, truth = labelled_scores(pred, target)
    coarse = {
        f"acc{2 * bound + 1}_{rule}": _agreement(
            rounded(score.clamp(-bound, bound)), rounded(truth.clamp(-bound, bound))
        )
        for rule, rounded in (("half_even", torch.round), ("away_from_zero", _away_from_zero))
        for bound in (1, 2, 3)
    }
    polar = truth != 0
    score_non0, truth_non0 = score[polar], truth[polar]
    some = bool(polar.any())
    return {
        "acc2_has0": _agreement(score >= 0, truth >= 0),
        "acc2_non0": _agreement(score_non0 > 0, truth_non0 > 0),
        "f1_has0": weighted_f1(score >= 0, truth >= 0),
        "f1_non0": weighted_f1(score_non0 > 0, truth_non0 > 0),
        **{f"acc{classes}": coarse[f"acc{classes}_half_even"] for classes in (3, 5, 7)},
        **coarse,
        "mae": float((score - truth).abs().mean()),
        "mae_non0": float((score_non0 - truth_non0).abs().mean()),
        "corr": pearson(score, truth),
        "corr_non0": pearson(score_non0, truth_non0) if some else float("nan"),
    }


def _agreement(a: Tensor, b: Tensor) -> float:
    return float((a == b).double().mean())


def _away_from_zero(x: Tensor) -> Tensor:
    return x.sign() * x.abs().ceil()
