"""Losses and the validation metric over the epochs of a training, several seeds in one figure."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mmaffect.ops import InputError, check_choice
from mmaffect.plots.style import COLORS, GREY, add_legend, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]


class Span(NamedTuple):
    """Epochs of a stage, counted from 1 over all stages, both included."""

    name: str
    first: int
    last: int


def training_curves(histories: Sequence[History], *, metric: str | None = None) -> "Figure":
    """Draw each term of the loss, and the validation metric, over the epochs of all stages.

    One panel each, since terms differ in scale. One seed is a line; of several, each is a thin line and their mean a
    thick one, as far as all of them got: beyond, it would jump whenever one stops. Stages are shaded.

    Args:
        histories: one a seed, the rows of its log (`mmaffect.training.FitResult.history`).
        metric: of the validation, its mean over the conditions; by default the one that selected the weights.

    Returns:
        The figure; its axes are the terms in the order in which they first appear, then the metric.

    Raises:
        InputError: (a ValueError) if there is no history or an empty one, rows lack a field, the metric is unknown,
            or the seeds went through different stages.

    Example:
        >>> row = {"stage": "main", "loss": {"task": 1.0}, "monitor": 0.5, "valid": {"complete": {"accuracy": 0.5}}}
        >>> figure = training_curves([[row, row]], metric="accuracy")
        >>> [axes.get_title() for axes in figure.axes]
        ['loss: task', 'validation: accuracy']
    """
    _check(histories)
    spans = _spans(histories)
    terms = list(dict.fromkeys(term for history in histories for row in history for term in row["loss"]))
    panels = {f"loss: {t}": [[_number(row["loss"].get(t)) for row in h] for h in histories] for t in terms}
    if metric is None:
        panels["validation: monitor"] = [[_number(row["monitor"]) for row in h] for h in histories]
    else:
        check_choice("metric", metric, {n for h in histories for row in h for m in row["valid"].values() for n in m})
        panels[f"validation: {metric}"] = [
            [_mean([_number(m.get(metric)) for m in row["valid"].values()]) for row in h] for h in histories
        ]

    columns = 2 if len(panels) == 4 else min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(max(5.0, 3.2 * columns), 0.8 + 2.4 * lines)
    handles: list[Artist] = []
    for number, (title, runs) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, number + 1)
        color = COLORS[0] if number < len(terms) else COLORS[1]
        _draw(axes, runs, color)
        handles = _shade(axes, spans)
        axes.set_title(title, fontsize="medium")
        if number + columns >= len(panels):
            axes.set_xlabel("epoch")
        tidy(axes)
    labels = [f"stage: {span.name}" for span in spans] if handles else []
    if len(histories) > 1:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=GREY, linewidth=0.7, alpha=0.6), Line2D([], [], color=GREY), *handles]
        labels = ["one seed", f"mean of {len(histories)} seeds", *labels]
    if handles:
        add_legend(figure, handles, labels)
    return figure


def _check(histories: Sequence[History]) -> None:
    if not histories or not all(histories):
        raise InputError("histories: expected at least one, of at least one row each")
    for history in histories:
        if isinstance(history, Mapping):
            raise InputError("histories: expected one list of rows a seed, got rows; wrap a single history in a list")
        for row in history:
            for field in ("stage", "loss", "monitor", "valid"):
                if field not in row:
                    raise InputError(f"histories: expected rows with the field {field!r}, got one with {sorted(row)}")


def _spans(histories: Sequence[History]) -> list[Span]:
    """The stages of the longest history; all others must be a beginning of it."""
    longest = [row["stage"] for row in max(histories, key=len)]
    for number, history in enumerate(histories):
        stages = [row["stage"] for row in history]
        if stages != longest[: len(stages)]:
            raise InputError(f"histories[{number}]: expected the stages of the longest, epoch by epoch, got {stages}")
    starts = [k for k, name in enumerate(longest) if k == 0 or name != longest[k - 1]]
    ends = [*starts[1:], len(longest)]
    return [Span(longest[start], start + 1, end) for start, end in zip(starts, ends, strict=True)]


def _draw(axes: "Axes", runs: list[list[float]], color: str) -> None:
    from matplotlib.ticker import MaxNLocator

    # Markers, since a value between two gaps has no line.
    if len(runs) > 1:
        for run in runs:
            axes.plot(range(1, len(run) + 1), run, color=color, linewidth=0.7, alpha=0.45, marker=".", markersize=1.5)
        runs = [[_mean(list(values)) for values in zip(*runs, strict=False)]]
    axes.plot(range(1, len(runs[0]) + 1), runs[0], color=color, linewidth=1.6, marker=".", markersize=4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))


def _shade(axes: "Axes", spans: list[Span]) -> "list[Artist]":
    """A band a stage and a line where it changes; nothing for a single one."""
    if len(spans) == 1:
        return []
    bands: list[Artist] = []
    for number, span in enumerate(spans):
        color = COLORS[2 + number % (len(COLORS) - 2)]
        bands.append(axes.axvspan(span.first - 0.5, span.last + 0.5, color=color, alpha=0.13, linewidth=0, zorder=0))
        if number:
            axes.axvline(span.first - 0.5, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_xlim(0.5, spans[-1].last + 0.5)
    return bands


def _number(value: float | None) -> float:
    """A value of the log, in which NaN is null."""
    return math.nan if value is None else float(value)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
