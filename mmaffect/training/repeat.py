"""Several seeds: mean and spread of every metric under every condition."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from mmaffect.ops import InputError, check_choice

Results = Mapping[str, Mapping[str, float]]


class Spread(NamedTuple):
    """Mean and spread over seeds.

    Args:
        mean: over the seeds; NaN if one is.
        sd: sample standard deviation (n - 1); NaN for a single seed, or if a value is not finite.
        seeds: how many.
    """

    mean: float
    sd: float
    seeds: int


class SummaryRow(NamedTuple):
    """Metrics under one condition.

    Args:
        condition: its name.
        metrics: mean and spread by name.
    """

    condition: str
    metrics: dict[str, Spread]


def repeat(run: Callable[[int], Results], seeds: Iterable[int]) -> list[Results]:
    """Call ``run`` with each seed, in order.

    Args:
        run: trains and measures once: metrics by condition.
        seeds: all different.

    Raises:
        ValueError: if there is no seed or one stands twice.
    """
    listed = list(seeds)
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"seeds: expected at least one, all different, got {listed}")
    return [run(seed) for seed in listed]


def summary(results: Sequence[Results]) -> list[SummaryRow]:
    """Mean and spread over runs: one row a condition.

    Args:
        results: one a seed, of the same conditions and metrics.

    Raises:
        InputError: (a ValueError) if there is none or they differ in conditions or metrics.

    Example:
        >>> rows = summary([{"complete": {"accuracy": 0.5}}, {"complete": {"accuracy": 0.7}}])
        >>> rows[0].condition, round(rows[0].metrics["accuracy"].mean, 6), round(rows[0].metrics["accuracy"].sd, 6)
        ('complete', 0.6, 0.141421)
    """
    if not results:
        raise InputError("results: expected at least one, got none")
    shape = {condition: tuple(metrics) for condition, metrics in results[0].items()}
    for number, result in enumerate(results):
        given = {condition: tuple(metrics) for condition, metrics in result.items()}
        if given != shape:
            raise InputError(
                f"results: expected the conditions and metrics of the first, {shape}, got {given} at {number}"
            )
    return [
        SummaryRow(condition, {name: _spread([r[condition][name] for r in results]) for name in names})
        for condition, names in shape.items()
    ]


def _spread(values: list[float]) -> Spread:
    if not all(math.isfinite(v) for v in values):
        return Spread(statistics.fmean(values), math.nan, len(values))
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan, len(values))


def render(
    rows: Sequence[SummaryRow],
    *,
    metrics: Sequence[str] | None = None,
    style: Literal["text", "markdown"] = "text",
    digits: int = 3,
) -> str:
    """A table of a summary: conditions down, metrics across, ``mean ± sd`` (the mean alone for one seed).

    Args:
        rows: from `summary`.
        metrics: columns; all that have no slash in their name (none of a single class) by default.
        style: ``"text"`` or ``"markdown"``.
        digits: after the point.

    Raises:
        InputError: (a ValueError) on no rows, an unknown metric or style.

    Example:
        >>> print(render(summary([{"complete": {"mae": 1.0}}, {"complete": {"mae": 2.0}}]), digits=1))
        condition  mae
        complete   1.5 ± 0.7
    """
    check_choice("style", style, ("text", "markdown"))
    if not rows:
        raise InputError("rows: expected at least one, got none")
    columns = [m for m in rows[0].metrics if "/" not in m] if metrics is None else list(metrics)
    for name in columns:
        check_choice("metrics", name, rows[0].metrics)
    table = [["condition", *columns]]
    table += [[row.condition, *(_cell(row.metrics[name], digits) for name in columns)] for row in rows]
    widths = [max(len(line[k]) for line in table) for k in range(len(table[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in table]
    if style == "text":
        return "\n".join("  ".join(line).rstrip() for line in padded)
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _cell(spread: Spread, digits: int) -> str:
    if math.isnan(spread.sd):
        return f"{spread.mean:.{digits}f}"
    return f"{spread.mean:.{digits}f} ± {spread.sd:.{digits}f}"
