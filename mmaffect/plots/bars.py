"""Bars of a metric in groups, one bar a system: by condition, by class."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmaffect.ops import InputError, check_choice
from mmaffect.plots.rows import Estimate, Row, by_condition, check_same
from mmaffect.plots.style import GREY, add_legend, mark, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_WIDEST = 14.0  # inches; names that need more stand upright


def condition_bars(
    results: Mapping[str, Sequence[Row]], *, metric: str, conditions: Sequence[str] | None = None
) -> "Figure":
    r"""Draw a metric by condition, such as the patterns of available modalities: one bar a system, ± one deviation.

    A bar that is NaN is written "n/a", so that it is not taken for zero.

    Args:
        results: by system, one row a condition, as `mmaffect.training.summary` gives them.
        metric: its name.
        conditions: which, and in what order; by default all, as in the first system.

    Returns:
        The figure, with one axes.

    Raises:
        InputError: (a ValueError) if there is no system or no condition wanted, the metric or a condition is unknown,
            or systems differ in conditions.

    Example:
        >>> from mmaffect.training import summary
        >>> rows = summary([{"audio": {"mae": 1.0}, "audio+text": {"mae": 0.5}}])
        >>> figure = condition_bars({"gru": rows}, metric="mae")
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['audio', 'audio+\ntext']
    """
    found = {name: by_condition(rows, metric, f"results[{name!r}]") for name, rows in results.items()}
    return _bars(found, metric, conditions, "conditions")


def per_class_bars(
    results: Mapping[str, Sequence[Row]],
    *,
    metric: str = "per_class_f1",
    condition: str = "complete",
    classes: Sequence[str] | None = None,
) -> "Figure":
    """Draw a metric by class: one bar a system, ± one deviation (CARN, figure 3).

    A bar that is NaN is written "n/a": a class that did not occur is not one that was never found.

    Args:
        results: by system, one row a condition; metrics of single classes are named ``"per_class_f1/happy"``.
        metric: what stands before the slash.
        condition: which of the rows.
        classes: which, and in what order; by default all, as in the first system.

    Returns:
        The figure, with one axes.

    Raises:
        InputError: (a ValueError) if there is no system or no class wanted, the metric, condition or a class is
            unknown, or systems differ in classes.

    Example:
        >>> from mmaffect.training import summary
        >>> rows = summary([{"complete": {"per_class_f1/sad": 0.5, "per_class_f1/happy": 0.7}}])
        >>> figure = per_class_bars({"gru": rows})
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['sad', 'happy']
    """
    found: dict[str, dict[str, Estimate]] = {}
    for name, rows in results.items():
        check_choice("condition", condition, [row.condition for row in rows])
        metrics = next(row.metrics for row in rows if row.condition == condition)
        check_choice("metric", metric, {m.split("/", 1)[0] for m in metrics if "/" in m})
        found[name] = {m.split("/", 1)[1]: e for m, e in metrics.items() if m.startswith(f"{metric}/")}
    return _bars(found, metric, classes, "classes")


def _bars(
    results: Mapping[str, Mapping[str, Estimate]], metric: str, wanted: Sequence[str] | None, what: str
) -> "Figure":
    """Groups of bars: ``results[system][group]``."""
    if not results:
        raise InputError("results: expected at least one system, got none")
    first = list(next(iter(results.values())))
    for name, groups in results.items():
        check_same(f"results[{name!r}]", what, first, list(groups))
    chosen = first if wanted is None else list(wanted)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"{what}: expected at least one, each once, got {chosen}")
    for group in chosen:
        check_choice(what, group, first)

    # Names break after the plus of a pattern and at blanks; the figure is as wide as bars and names need.
    names = [group.replace("+", "+\n").replace(" ", "\n") for group in chosen]
    letters = max(len(line) for name in names for line in name.split("\n"))
    bars, label = 0.25 + 0.14 * len(results), 0.15 + 0.09 * letters
    upright = len(chosen) * label > _WIDEST
    across = bars if upright else max(bars, label)
    below = 0.09 * max(len(group) for group in chosen) if upright else 0.0
    figure = new_figure(max(5.0, 0.9 + across * len(chosen)), 3.8 + below)
    axes = figure.subplots()
    width = 0.8 / len(results)
    handles: list[Artist] = []
    for number, groups in enumerate(results.values()):
        look = mark(number)
        at = [k + (number - (len(results) - 1) / 2) * width for k in range(len(chosen))]
        mean, sd = [groups[g].mean for g in chosen], [groups[g].sd for g in chosen]
        error = {"elinewidth": 1.0, "capsize": 2.0, "ecolor": "#333333"}
        handles.append(
            axes.bar(at, mean, width, yerr=sd, color=look.color, hatch=look.hatch, edgecolor="white", error_kw=error)[0]
        )
        for x, value in zip(at, mean, strict=True):
            if math.isnan(value):
                axes.text(x, 0, " n/a", rotation=90, ha="center", va="bottom", fontsize="small", color=GREY)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(chosen)), chosen if upright else names, rotation=90 if upright else 0)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(metric)
    axes.set_xlim(-0.6, len(chosen) - 0.4)
    tidy(axes)
    add_legend(figure, handles, list(results))
    return figure
