"""What figures of results read: rows of metrics by condition, each with mean and spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from mmaffect.ops import InputError, check_choice


class Estimate(Protocol):
    """Mean and standard deviation over seeds; a spread of NaN is not drawn. `mmaffect.training.Spread` is one."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        ...

    @property
    def sd(self) -> float:
        """Over the seeds; NaN for a single one."""
        ...


class Row(Protocol):
    """Metrics under one condition. `mmaffect.training.SummaryRow` is one."""

    @property
    def condition(self) -> str:
        """Its name."""
        ...

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """By name."""
        ...


def by_condition(rows: Sequence[Row], metric: str, where: str) -> dict[str, Estimate]:
    """One metric of each condition, in order.

    Args:
        rows: one a condition.
        metric: its name.
        where: what the caller calls the rows.

    Raises:
        InputError: (a ValueError) if there are no rows, a condition stands twice, or the metric is unknown.
    """
    names = [row.condition for row in rows]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{where}: expected at least one row, each of another condition, got {names}")
    for row in rows:
        check_choice("metric", metric, row.metrics)
    return {row.condition: row.metrics[metric] for row in rows}


def check_same(where: str, what: str, wanted: Sequence[str], given: Sequence[str]) -> None:
    """Raise unless two lists hold the same names, in whatever order.

    Raises:
        InputError: (a ValueError) naming those that are missing or too many.

    Example:
        >>> check_same("results['gru']", "conditions", ["text", "audio"], ["audio"])
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: results['gru']: expected the conditions ['text', 'audio'], got ['audio']
    """
    if sorted(wanted) != sorted(given):
        raise InputError(f"{where}: expected the {what} {list(wanted)}, got {list(given)}")
