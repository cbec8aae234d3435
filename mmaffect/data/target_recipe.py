"""The table of a recipe that says what is predicted."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

from mmaffect.data.spec import TargetKind
from mmaffect.data.toml_table import Scalar, Table


@dataclass(frozen=True)
class TargetRecipe:
    """What is predicted.

    Args:
        kind: ``"class"``, ``"multilabel"`` or ``"score"``.
        array: ``(N,)`` for classes, ``(N, C)`` of 0 and 1 for labels, ``(N,)`` or ``(N, K)`` for scores.
        classes: names of the classes, labels or scores.
        values: for each class the values of the array that mean it; None: the array holds indices of ``classes``.
        unlabelled: values that mean "no label for this task".
        range: least and greatest score that is allowed.
        bins: of a column of scores that is cut into classes: the edges between them, or ``"round"``, the nearest whole
            number (half to even, as 7-class accuracy is computed). None: the array holds classes.
    """

    kind: TargetKind
    array: str
    classes: tuple[str, ...]
    values: tuple[tuple[Scalar, ...], ...] | None = None
    unlabelled: tuple[Scalar, ...] = ()
    range: tuple[float, float] | None = None
    bins: tuple[float, ...] | Literal["round"] | None = None


def read_target(source: str, values: object) -> TargetRecipe:
    """Read the table ``[target]``.

    Args:
        source: the recipe's file name, for messages.
        values: what TOML gave.

    Raises:
        InputError: naming the key, what was given and what was expected.
    """
    table = Table(source, "target", values, ("kind", "array", "classes", "values", "unlabelled", "range", "bins"))
    kind = cast(TargetKind, table.choice("kind", ("class", "multilabel", "score")))
    classes = table.texts("classes")
    least = 2 if kind == "class" else 1
    if len(classes) < least:
        table.fail("classes", f"a list of at least {least} names")
    meant: tuple[tuple[Scalar, ...], ...] | None = None
    if "values" in table.values:
        given = table.values["values"]
        if kind != "class" or not isinstance(given, list) or len(given) != len(classes):
            table.fail("values", f"only for kind = 'class', one entry a class ({len(classes)})")
        meant = tuple(tuple(v) if isinstance(v, list) else (v,) for v in given)
        flat = [v for entry in meant for v in entry]
        if not all(isinstance(v, str | int | float) for v in flat) or len(set(flat)) != len(flat):
            table.fail("values", "different strings, numbers or lists of these")
    limits: tuple[float, float] | None = None
    if "range" in table.values:
        low, high = table.numbers("range", 2)
        if (kind != "score" and "bins" not in table.values) or low >= high:
            table.fail("range", "only for kind = 'score', [least, greatest], or beside bins")
        limits = (low, high)
    bins = _bins(table, len(classes), limits) if "bins" in table.values else None
    return TargetRecipe(kind, table.text("array"), classes, meant, table.scalars("unlabelled"), limits, bins)


def _bins(table: Table, classes: int, limits: tuple[float, float] | None) -> tuple[float, ...] | Literal["round"]:
    """Where a score is cut into classes."""
    if table.values.get("kind") != "class" or "values" in table.values:
        table.fail("bins", "only for kind = 'class', and not beside values")
    if table.values["bins"] == "round":
        low, high = limits or (0.0, 0.0)
        if low % 1 or high % 1 or high - low + 1 != classes:
            table.fail("bins", f"with 'round' a range of {classes} whole numbers, one a class")
        return "round"
    edges = table.numbers("bins", classes - 1)
    if any(a > b for a, b in pairwise(edges)) or any(edges.count(e) > 2 for e in edges):
        table.fail("bins", "ascending edges, each at most twice, or 'round'")
    return edges
