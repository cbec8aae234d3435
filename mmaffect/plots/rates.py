"""A metric over missing rates, several systems in one figure."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from mmaffect.metrics import area_under_rates
from mmaffect.ops import InputError
from mmaffect.plots.rows import Row, by_condition
from mmaffect.plots.style import add_legend, mark, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RateCurve(NamedTuple):
    """A metric over missing rates, each list one entry a rate.

    Args:
        rates: strictly increasing within [0, 1].
        mean: of the metric over seeds; NaN leaves a gap.
        sd: over seeds, NaN where there is none; None for no band.
    """

    rates: Sequence[float]
    mean: Sequence[float]
    sd: Sequence[float] | None = None


def rate_curve(rows: Sequence[Row], metric: str) -> RateCurve:
    """The curve of a metric in a summary whose conditions are named by their rates, such as ``"0.3"``.

    Args:
        rows: one a rate, in any order, as `mmaffect.training.summary` gives with the protocols "random" and "feature".
        metric: its name.

    Raises:
        InputError: (a ValueError) if the metric is unknown, a condition is no number, or two are the same.
    """
    found: dict[float, tuple[float, float]] = {}
    for condition, estimate in by_condition(rows, metric, "rows").items():
        try:
            rate = float(condition)
        except ValueError:
            raise InputError(
                f"rows: expected conditions named by their rate, such as '0.3', got {condition!r}"
            ) from None
        if rate in found:
            raise InputError(f"rows: expected each rate once, got {rate:g} twice")
        found[rate] = (estimate.mean, estimate.sd)
    rates = sorted(found)
    return RateCurve(rates, [found[rate][0] for rate in rates], [found[rate][1] for rate in rates])


def rate_curves(curves: Mapping[str, RateCurve], *, metric: str, areas: bool = False) -> "Figure":
    """Draw a metric over missing rates: a line a system, with a band of one standard deviation to each side.

    Args:
        curves: by system.
        metric: what the axis is called.
        areas: whether the legend shows each area under the curve, divided by the span of the rates
            (:func:`mmaffect.metrics.area_under_rates`).

    Returns:
        The figure, with one axes.

    Raises:
        InputError: (a ValueError) if there is no system, lists differ in length, rates are not strictly increasing
            within [0, 1], a spread is negative, or areas are wanted of curves over different rates, which no one
            may compare, or over a single one.

    Example:
        >>> gru = RateCurve([0.0, 0.5], [0.7, 0.5], [0.01, 0.02])
        >>> figure = rate_curves({"gru": gru}, metric="accuracy", areas=True)
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['gru (area 0.600)']
    """
    if not curves:
        raise InputError("curves: expected at least one system, got none")
    for name, curve in curves.items():
        _check(f"curves[{name!r}]", curve)
    spans = {tuple(curve.rates) for curve in curves.values()}
    if areas and (len(spans) > 1 or len(next(iter(spans))) < 2):
        raise InputError(f"areas: expected curves over the same rates, at least two, got {sorted(spans)}")

    figure = new_figure(6.0, 4.2)
    axes = figure.subplots()
    handles, labels = [], []
    for number, (name, curve) in enumerate(curves.items()):
        look = mark(number)
        handles += axes.plot(
            curve.rates, curve.mean, color=look.color, marker=look.marker, linestyle=look.line, markersize=4
        )
        if curve.sd is not None:
            low = [m - s for m, s in zip(curve.mean, curve.sd, strict=True)]
            high = [m + s for m, s in zip(curve.mean, curve.sd, strict=True)]
            axes.fill_between(curve.rates, low, high, color=look.color, alpha=0.18, linewidth=0)
        area = f" (area {area_under_rates(curve.rates, curve.mean).normalised:.3f})" if areas else ""
        labels.append(name + area)
    axes.set(xlabel="missing rate", ylabel=metric)
    tidy(axes)
    add_legend(figure, handles, labels)
    return figure


def _check(where: str, curve: RateCurve) -> None:
    rates, mean, sd = curve
    sizes = [len(values) for values in (rates, mean, sd) if values is not None]
    if not sizes[0] or len(set(sizes)) > 1:
        raise InputError(f"{where}: expected at least one rate and lists of one length, got lengths {sizes}")
    increasing = all(a < b for a, b in pairwise(rates))
    if not (increasing and rates[0] >= 0 and rates[-1] <= 1):
        raise InputError(f"{where}: expected rates strictly increasing within [0, 1], got {list(rates)}")
    if any(s < 0 or math.isinf(s) for s in sd or ()):
        raise InputError(f"{where}: expected standard deviations of at least 0, got {list(sd or ())}")
