"""Agreement of two series of scores: Pearson's correlation and Lin's concordance."""

import torch
from torch import Tensor

from mmaffect.metrics.labelled import labelled_scores


def pearson(pred: Tensor, target: Tensor) -> float:
    """Pearson's correlation over the labelled entries.

    Args:
        pred: predicted scores.
        target: true scores, NaN = unlabelled.

    Shape:
        Both of one shape, whichever.

    Returns:
        A value in -1 … 1; **NaN if either series is constant** (so also for a single sample), as in the field.
        Constant is decided by equality, not by a variance that rounding keeps above zero.

    Raises:
        ValueError: as :func:`mmaffect.metrics.labelled.labelled_scores`.

    Example:
        >>> round(pearson(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 3.0])), 4)
        0.982
        >>> pearson(torch.tensor([0.1, 0.1, 0.1]), torch.tensor([1.0, 2.0, 3.0]))
        nan
    """
    x, y = (_centred(values) for values in labelled_scores(pred, target))
    x, y = x / x.abs().max(), y / y.abs().max()  # no overflow nor underflow in the squares; 0/0 if constant
    return float((x @ y / (x.norm() * y.norm())).clamp(-1.0, 1.0))


def concordance(pred: Tensor, target: Tensor) -> float:
    r"""Concordance correlation coefficient over the labelled entries (Lin, 1989).

    .. math:: \rho_c = \frac{2 s_{xy}}{s_x^2 + s_y^2 + (\bar x - \bar y)^2}

    **Convention: population moments** (divided by n), as in Lin's paper and the field's challenges. torchmetrics'
    ``ConcordanceCorrCoef`` divides by n − 1; with population covariance :math:`s_{xy}`,
    :math:`1/\rho_c = 1/\rho_{n-1} + (\bar x - \bar y)^2 / (2 n s_{xy})`; the two agree if the means do.

    Args:
        pred: predicted scores.
        target: true scores, NaN = unlabelled.

    Shape:
        Both of one shape, whichever.

    Returns:
        A value in -1 … 1; 0 if one series is constant, or both at different values; NaN if both are constant at
        the same value, where numerator and denominator vanish.

    Raises:
        ValueError: as :func:`mmaffect.metrics.labelled.labelled_scores`.

    Example:
        The n − 1 form, and the bridge from it:

        >>> x, y = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([2.0, 3.0, 4.0]).double()
        >>> gap, covariance = float((x.mean() - y.mean()) ** 2), float(((x - x.mean()) * (y - y.mean())).mean())
        >>> sample_form = 2 * (1.5 * covariance) / float(x.var() + y.var() + gap)
        >>> round(sample_form, 6), round(concordance(x, y), 6)
        (0.794118, 0.75)
        >>> round(1 / (1 / sample_form + gap / (2 * 3 * covariance)), 6)
        0.75
    """
    x, y = labelled_scores(pred, target)
    gap = (x[0] if _constant(x) else x.mean()) - (y[0] if _constant(y) else y.mean())
    x, y = _centred(x), _centred(y)
    return float((2.0 * (x * y).mean() / (x.square().mean() + y.square().mean() + gap.square())).clamp(-1.0, 1.0))


def _constant(x: Tensor) -> bool:
    return bool(x.max() == x.min())


def _centred(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if _constant(x) else x - x.mean()
