"""One metric against another, a point a system."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmaffect.ops import InputError, check_choice
from mmaffect.plots.rows import Row
from mmaffect.plots.style import add_legend, mark, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def trade_off(results: Mapping[str, Row], *, x: str, y: str) -> "Figure":
    """Draw each system as a point with one standard deviation to each side (Affect-Diff, figure 3).

    Accuracy against balanced accuracy, say: what predicts the frequent classes alone lies right and low.

    Args:
        results: by system, one row, such as an entry of `mmaffect.training.summary`.
        x: metric of the horizontal axis.
        y: metric of the vertical axis.

    Returns:
        The figure, with one axes.

    Raises:
        InputError: (a ValueError) if there is no system, or a metric is unknown.

    Example:
        >>> from mmaffect.training import summary
        >>> (row,) = summary([{"complete": {"accuracy": 0.6, "balanced_accuracy": 0.4}}])
        >>> figure = trade_off({"gru": row}, x="accuracy", y="balanced_accuracy")
        >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
        ('accuracy', 'balanced_accuracy')
    """
    if not results:
        raise InputError("results: expected at least one system, got none")
    for row in results.values():
        for metric in (x, y):
            check_choice("metric", metric, row.metrics)
    figure = new_figure(6.4, 5.2)
    axes = figure.subplots()
    handles = []
    for number, row in enumerate(results.values()):
        look, across, up = mark(number), row.metrics[x], row.metrics[y]
        # Beyond the seventh the same colours come again, hollow.
        filled = look.color if number < 7 else "white"
        point = axes.errorbar(
            [across.mean],
            [up.mean],
            xerr=[across.sd],
            yerr=[up.sd],
            color=look.color,
            marker=look.marker,
            markerfacecolor=filled,
            linestyle="none",
            markersize=7,
            elinewidth=0.8,
        )
        handles.append(point.lines[0])
    axes.set(xlabel=x, ylabel=y)
    tidy(axes, grid="both")
    add_legend(figure, handles, list(results))
    return figure
