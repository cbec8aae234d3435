"""Leave one group out: every group is tested once, by a system that never saw it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmaffect.data import DataSpec, MultimodalDataset
from mmaffect.ops import InputError, check_choice
from mmaffect.training.evaluate import Evaluation, Rows, assemble, join


class Fold(NamedTuple):
    """One fold: row numbers for ``dataset.subset``.

    Args:
        name: the group that is tested.
        train: rows to learn from.
        valid: rows to select by.
        test: rows of the group.
    """

    name: str
    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]


def leave_one_group_out(dataset: MultimodalDataset, by: str, *, valid_groups: int = 1) -> Iterator[Fold]:
    """Yield a fold a group; validation is on whole groups too: those that follow the tested one, in a circle.

    So no group is on two sides of a fold, and every group is tested once and validates ``valid_groups`` times.

    Args:
        dataset: with ``groups[by]``.
        by: name of the grouping, e.g. ``"session"`` or ``"subject"``.
        valid_groups: how many groups validate.

    Raises:
        InputError: (a ValueError) if there is no such grouping, or too few groups to leave one for training.

    Example:
        ::

            for fold in leave_one_group_out(dataset, "session"):
                train, valid, test = (dataset.subset(rows) for rows in fold[1:])
    """
    check_choice("by", by, dataset.groups)
    column = dataset.groups[by]
    names = sorted(set(column), key=_natural)
    if valid_groups < 1 or len(names) < valid_groups + 2:
        raise InputError(
            f"valid_groups: expected at least 1, with 1 group to test and 1 to train on beside it, "
            f"got {valid_groups} of the {len(names)} groups of {by!r}"
        )
    for number, name in enumerate(names):
        validating = {names[(number + k) % len(names)] for k in range(1, valid_groups + 1)}
        sides: tuple[list[int], list[int], list[int]] = ([], [], [])
        for row, group in enumerate(column):
            sides[2 if group == name else 1 if group in validating else 0].append(row)
        yield Fold(name, *map(tuple, sides))


def pool(spec: DataSpec, evaluations: Sequence[Evaluation]) -> Evaluation:
    """Measure the predictions of all folds together, as if one system had made them.

    Not the mean of the folds' metrics: that weighs small folds up and is undefined where a fold lacks a class.

    Args:
        spec: of the dataset.
        evaluations: one a fold, under one condition.

    Raises:
        InputError: if there is none, or nothing to measure.
    """
    if not evaluations:
        raise InputError("evaluations: expected at least one, got none")
    return assemble(spec, join([Rows(e.predictions, e.targets, e.ids, e.present, e.filled) for e in evaluations]))


def _natural(name: str) -> tuple[int, str]:
    """Numbers by value where groups are numbered: 2 before 10."""
    return (int(name), "") if name.isdigit() else (0, name)
