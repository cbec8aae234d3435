"""The coverage diagram: how often the truth lies in intervals of a given level."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmaffect.metrics import CoverageCurve
from mmaffect.ops import InputError
from mmaffect.plots.style import GREY, add_legend, mark, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def coverage_diagram(curves: Mapping[str, CoverageCurve]) -> "Figure":
    """Draw the coverage of predictive intervals against their level for each system, and below how wide they are.

    Below the diagonal intervals are too narrow: the system is surer than it may be. Of calibrated systems the one with
    the narrower intervals knows more. The error of the legend is the mean gap over the levels drawn, as
    :func:`mmaffect.metrics.interval_calibration_error`.

    Args:
        curves: by system, from :func:`mmaffect.metrics.interval_coverage`.

    Returns:
        The figure; its axes are the diagram and the mean widths, in the units of what is predicted.

    Raises:
        InputError: (a ValueError) if there is no curve, or one is empty or has lists of different lengths.

    Example:
        >>> figure = coverage_diagram({"imder": CoverageCurve([0.5, 0.9], [0.4, 0.8], [1.0, 2.5], 100)})
        >>> figure.axes[0].get_ylabel(), [text.get_text() for text in figure.legends[0].get_texts()]
        ('coverage', ['calibrated', 'imder (error 0.100)'])
    """
    if not curves:
        raise InputError("curves: expected at least one system, got none")
    for name, curve in curves.items():
        sizes = [len(values) for values in curve[:3]]
        if not sizes[0] or len(set(sizes)) > 1:
            raise InputError(
                f"curves[{name!r}]: expected at least one level and lists of one length, got lengths {sizes}"
            )

    figure = new_figure(5.0, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    handles = upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    labels = ["calibrated"]
    for number, (name, (level, coverage, width, _)) in enumerate(curves.items()):
        look = mark(number)
        style = {"color": look.color, "marker": look.marker, "linestyle": look.line, "markersize": 4, "clip_on": False}
        handles += upper.plot(level, coverage, **style)
        lower.plot(level, width, **style)
        error = sum(abs(c - p) for c, p in zip(coverage, level, strict=True)) / len(level)
        labels.append(f"{name} (error {error:.3f})")
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="coverage")
    lower.set(xlabel="level of the interval", ylabel="mean width")
    lower.set_ylim(bottom=0)
    for axes in (upper, lower):
        tidy(axes, grid="both")
    add_legend(figure, handles, labels)
    return figure
