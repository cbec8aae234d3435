"""One figure for a whole curve over missing rates."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.metrics.labelled import number_list


class RateArea(NamedTuple):
    """Area under a curve over missing rates, and the same divided by the span of the rates."""

    area: float
    normalised: float


def area_under_rates(rates: Sequence[float] | Tensor, values: Sequence[float] | Tensor) -> RateArea:
    """Area under a metric over missing rates by the trapezoid rule (AUILC).

    ``area = Σ (r_{i+1} − r_i)(v_i + v_{i+1})/2`` and ``normalised = area / (r_last − r_first)``. Over 0 … 1 the two
    are equal; over 0 … 0.7 only the second is on the metric's scale (a constant curve gives the constant), while
    the area depends on how far the rates go: never compare areas over different rates.

    Args:
        rates: missing rates in [0, 1], strictly increasing; the field takes steps of 0.1.
        values: the metric at each; NaN makes both figures NaN.

    Returns:
        The two figures.

    Raises:
        ValueError: if there are fewer than two rates, as many values as rates are not given, or the rates are not
            strictly increasing within [0, 1].

    Example:
        >>> area_under_rates([0.0, 0.5], [1.0, 0.5])
        RateArea(area=0.375, normalised=0.75)
    """
    r, v = number_list("rates", rates, least=2), number_list("values", values, least=2)
    if r.shape != v.shape:
        raise ValueError(f"values: expected one for each of the {len(r)} rates, got {len(v)}")
    if not bool((r.diff() > 0).all()):
        raise ValueError(f"rates: expected strictly increasing rates, got {r.tolist()}")
    if not (r[0] >= 0 and r[-1] <= 1):
        raise ValueError(f"rates: expected rates within [0, 1], got {r.tolist()}")
    area = float(torch.trapezoid(v, r))
    return RateArea(area, area / float(r[-1] - r[0]))
