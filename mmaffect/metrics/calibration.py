"""Does confidence mean what it says: calibration error, Brier score, reliability curve."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmaffect.metrics.labelled import labelled_classes
from mmaffect.ops import check_choice

Binning = Literal["equal_width", "equal_mass"]


class ReliabilityCurve(NamedTuple):
    """Bins in order of confidence, empty ones left out: mean confidence, accuracy and number of samples of each."""

    confidence: list[float]
    accuracy: list[float]
    samples: list[int]


def reliability_curve(
    logits: Tensor, target: Tensor, *, bins: int = 15, binning: Binning = "equal_width"
) -> ReliabilityCurve:
    """Accuracy against confidence, the probability of the class predicted (Guo et al., 2017).

    Args:
        logits: unnormalised scores.
        target: classes, -100 = unlabelled (left out).
        bins: their number M.
        binning: ``"equal_width"``: the intervals ((m−1)/M, m/M], closed on the right; ``"equal_mass"``: as many
            samples in each as can be (Nixon et al., 2019), samples of the same confidence always together, so that
            the order of the samples changes nothing.

    Shape:
        ``logits (N, C)`` or ``(B, T, C)`` with ``target (N,)`` or ``(B, T)``.

    Returns:
        The curve; its lists hold only bins that have a sample.

    Raises:
        ValueError: if ``bins`` is below 1 or ``binning`` unknown, or as
            :func:`mmaffect.metrics.labelled.labelled_classes`.

    Example:
        >>> logits = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.05, 0.95]]).log()
        >>> curve = reliability_curve(logits, torch.tensor([0, 1, 1]), bins=4)
        >>> [round(c, 4) for c in curve.confidence], curve.accuracy, curve.samples
        ([0.75, 0.95], [0.5, 1.0], [2, 1])
    """
    check_choice("binning", binning, ("equal_width", "equal_mass"))
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, got {bins}")
    scores, truth = labelled_classes(logits, target)
    confidence = scores.softmax(1).amax(1)
    right = (scores.argmax(1) == truth).double()
    if binning == "equal_width":
        index = torch.bucketize(confidence, torch.linspace(0.0, 1.0, bins + 1, dtype=torch.float64)[1:-1])
    else:
        rank = torch.searchsorted(confidence.sort().values, confidence)  # samples strictly less confident
        index = rank * bins // len(rank)
    count = torch.bincount(index, minlength=bins)
    filled = count > 0
    sums = [torch.bincount(index, weights=values, minlength=bins)[filled] for values in (confidence, right)]
    mean_confidence, accuracy = (values / count[filled] for values in sums)
    return ReliabilityCurve(mean_confidence.tolist(), accuracy.tolist(), count[filled].tolist())


def expected_calibration_error(
    logits: Tensor, target: Tensor, *, bins: int = 15, binning: Binning = "equal_width"
) -> float:
    """Mean gap between accuracy and confidence, ``Σ_m n_m/n |accuracy_m − confidence_m|`` (Guo et al., 2017, eq. 3).

    Arguments, shapes and errors are those of :func:`reliability_curve`. It depends on the bins: name both.

    Example:
        >>> logits = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.05, 0.95]]).log()
        >>> round(expected_calibration_error(logits, torch.tensor([0, 1, 1]), bins=4), 4)
        0.1833
    """
    curve = reliability_curve(logits, target, bins=bins, binning=binning)
    gaps = (n * abs(a - c) for c, a, n in zip(curve.confidence, curve.accuracy, curve.samples, strict=True))
    return sum(gaps) / sum(curve.samples)


def brier_score(logits: Tensor, target: Tensor) -> float:
    """Mean squared distance of the probabilities from the truth, **summed over classes** (Brier, 1950): 0 … 2.

    For two classes it is twice the figure that uses one probability alone. Arguments, shapes and errors are those of
    :func:`mmaffect.metrics.emotion_metrics`.

    Example:
        >>> round(brier_score(torch.tensor([[0.75, 0.25]]).log(), torch.tensor([0])), 4)
        0.125
    """
    scores, truth = labelled_classes(logits, target)
    one_hot = torch.nn.functional.one_hot(truth, scores.shape[1])
    return float((scores.softmax(1) - one_hot).square().sum(1).mean())


def calibration_metrics(logits: Tensor, target: Tensor, *, bins: int = 15) -> dict[str, float]:
    """Both calibration errors and the Brier score: ``ece_equal_width``, ``ece_equal_mass``, ``brier``.

    Arguments, shapes and errors are those of :func:`reliability_curve`.

    Example:
        >>> list(calibration_metrics(torch.tensor([[1.0, 0.0]]), torch.tensor([0])))
        ['ece_equal_width', 'ece_equal_mass', 'brier']
    """
    return {
        "ece_equal_width": expected_calibration_error(logits, target, bins=bins, binning="equal_width"),
        "ece_equal_mass": expected_calibration_error(logits, target, bins=bins, binning="equal_mass"),
        "brier": brier_score(logits, target),
    }
