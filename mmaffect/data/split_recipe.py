"""How a recipe says who is in which split."""

import math
from dataclasses import dataclass
from typing import Literal, cast

from mmaffect.data.toml_table import Scalar, Table

SPLITS = ("train", "valid", "test")
_DEALT = ("shares", "seed")
_WORDS = ("text", "min_count", "smoothing", "most")


@dataclass(frozen=True)
class SplitRecipe:
    """Who is in which split: a column and its three values; groups dealt out; or a split by what words say of labels.

    Args:
        array: the column; None: the split is made.
        names: its values for train, valid and test.
        by: column of groups that stay whole. Without ``method`` they are dealt out by ``stratified_group_split``.
        shares: of train, valid and test, where the split is made.
        seed: of that.
        method: ``"ood"`` or ``"iid"``: by ``word_shift_split``, whose classes are those of the target, or the quarters
            of its mean score.
        text: column of sentences, for ``method``.
        min_count: as in ``word_shift_split``.
        smoothing: as there.
        most: as there.
    """

    array: str | None = None
    names: tuple[Scalar, Scalar, Scalar] = SPLITS
    by: str | None = None
    shares: tuple[float, ...] = (0.7, 0.15, 0.15)
    seed: int = 0
    method: Literal["ood", "iid"] | None = None
    text: str | None = None
    min_count: int = 5
    smoothing: float = 1.0
    most: float = math.inf


def read_split(source: str, values: object) -> SplitRecipe:
    """Read the table ``[split]``.

    Args:
        source: name of the recipe, for messages.
        values: what TOML gave.

    Raises:
        InputError: naming file, key, what was given and what was expected.
    """
    table = Table(source, "split", values, ("array", *SPLITS, "by", *_DEALT, "method", *_WORDS))
    known: tuple[str, ...]
    if "method" in table.values:
        kind, known = "method", ("method", "by", *_DEALT, *_WORDS)
        table.choice("method", ("ood", "iid"))
        table.text("text")
    elif "array" in table.values and "by" not in table.values:
        kind, known = "array", ("array", *SPLITS)
    elif "by" in table.values and "array" not in table.values:
        kind, known = "by", ("by", *_DEALT)
    else:
        table.fail("array", "either split.array (a column), split.by (groups to deal out) or split.method")
    for key in table.values:
        if key not in known:
            table.fail(key, f"no such key beside split.{kind}")
    names = [table.values.get(name, name) for name in SPLITS]
    for key, name in zip(SPLITS, names, strict=True):
        if not isinstance(name, str | int) or names.count(name) > 1:
            table.fail(key, "a value of the split's column, unlike the other two")
    shares = table.numbers("shares", 3) if "shares" in table.values else SplitRecipe.shares
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        table.fail("shares", "three positive shares that sum to 1")
    train, valid, test = names
    return SplitRecipe(
        array=table.text_or_none("array"),
        names=(train, valid, test),
        by=table.text_or_none("by"),
        shares=shares,
        seed=table.integer("seed", 0, 0),
        method=cast(Literal["ood", "iid"] | None, table.text_or_none("method")),
        text=table.text_or_none("text"),
        min_count=table.integer("min_count", 5, 1),
        smoothing=table.positive("smoothing", 1.0),
        most=table.positive("most", math.inf) if "most" in table.values else math.inf,
    )
