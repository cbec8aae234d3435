"""Which split each row is in: a column, groups dealt out, or one group left out."""

from collections.abc import Sequence

import numpy as np

from mmaffect.data.arrays import Array, ArrayFile
from mmaffect.data.layout import Layout
from mmaffect.data.recipe import Recipe
from mmaffect.data.shift import word_shift_split
from mmaffect.data.spec import SequenceKind, TargetKind
from mmaffect.data.split import stratified_group_split
from mmaffect.data.split_recipe import SPLITS
from mmaffect.data.targets import Targets, encode_values
from mmaffect.data.toml_table import near
from mmaffect.ops import InputError, check_choice


def assign_splits(
    file: ArrayFile,
    recipe: Recipe,
    kind: SequenceKind,
    layout: Layout,
    targets: Targets,
    holdout: Sequence[object] | None,
) -> Array:
    """Assign each ordered row to 0 = train, 1 = valid or 2 = test.

    Raises:
        InputError: if the column, its values or the held-out group are unknown, there are fewer than three groups,
            or a sequence has rows in two splits (in dialogues and windows).
    """
    if holdout is not None:
        if len(holdout) < 2:
            raise InputError(f"holdout: expected a column and at least one of its values, got {tuple(holdout)}")
        name = str(holdout[0])
        check_choice("holdout", name, recipe.fold)
        column = file.column(name, "groups.fold")[layout.order]
        split, what = _leave_out(column, [str(v) for v in holdout[1:]], f"{file.label}: {name}"), f"holdout = {name!r}"
    elif recipe.split.array is not None:
        what = f"split.array = {recipe.split.array!r}"
        column = file.column(recipe.split.array, "split.array")[layout.order]
        codes = {value: code for code, value in enumerate(recipe.split.names)}
        split = encode_values(column, codes, f"{file.label}: {what}")
    elif recipe.split.method is not None:
        what = f"split.method = {recipe.split.method!r}"
        split = _by_words(file, recipe, layout, targets)
    else:
        name = recipe.split.by or ""
        what = f"split.by = {name!r}"
        column = file.column(name, "split.by")[layout.order]
        split = stratified_group_split(
            _strata(targets, recipe.target.kind), column, recipe.split.shares, recipe.split.seed
        )
    for code, name in enumerate(SPLITS):
        if not (split == code).any():
            raise InputError(f"{file.label}: {what}: expected rows in split {name!r}, got none")
    if kind != "single":
        crossing = split != split[layout.bounds[layout.code, 0]]
        if crossing.any():
            row = int(crossing.argmax())
            first = int(split[layout.bounds[layout.code[row], 0]])
            raise InputError(
                f"{file.label}: {what}: sequence {str(layout.names[layout.code[row]])!r} is in {SPLITS[first]!r} "
                f"and in {SPLITS[int(split[row])]!r}; expected every sequence ({recipe.sequence_by}) within one split"
            )
    return split


def _by_words(file: ArrayFile, recipe: Recipe, layout: Layout, targets: Targets) -> Array:
    """A split in which words and labels go together otherwise in test, or a random one like it."""
    chosen, text = recipe.split, recipe.split.text or ""
    where = f"{file.label}: split.text = {text!r}"
    if recipe.target.kind == "multilabel":
        raise InputError(f"{where}: split.method needs a target of one class or of scores a row, got several labels")
    documents = file.column(text, "split.text")[layout.order]
    if documents.dtype.kind != "U":
        raise InputError(f"{where}: expected strings, got {documents.dtype}")
    try:
        return word_shift_split(
            documents.tolist(),
            _strata(targets, recipe.target.kind),
            chosen.shares,
            kind=chosen.method or "ood",
            groups=None if chosen.by is None else file.column(chosen.by, "split.by")[layout.order],
            ids=None if recipe.id is None else file.column(recipe.id, "id")[layout.order],
            seed=chosen.seed,
            min_count=chosen.min_count,
            smoothing=chosen.smoothing,
            most=chosen.most,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _leave_out(column: Array, test: list[str], where: str) -> Array:
    groups, code = np.unique(column, return_inverse=True)
    names = [str(g) for g in groups.tolist()]
    for value in test:
        if value not in names:
            raise InputError(f"{where}: no group {value!r} to hold out; {near(value, names)}")
    held = [names.index(value) for value in test]
    left = [g for g in range(len(names)) if g not in held]
    if len(left) < 2:
        raise InputError(f"{where}: expected two groups beside the {len(held)} held out, got {len(left)}")
    following = [(max(held) + step) % len(names) for step in range(1, len(names) + 1)]
    valid = next(g for g in following if g in left)
    split_of = np.zeros(len(names), dtype=np.int64)
    split_of[valid], split_of[held] = 1, 2
    return np.asarray(split_of[code.reshape(-1)])


def _strata(targets: Targets, kind: TargetKind) -> Array:
    """What a split is stratified by: classes, labels, or quarters of the mean score."""
    values = targets.values.numpy()
    if kind == "class":
        return values
    if kind == "multilabel":
        return np.nan_to_num(values)
    labelled = targets.labelled.numpy()
    mean = np.nanmean(values[labelled].reshape(labelled.sum(), -1), 1)
    strata = np.full(len(values), -1)
    strata[labelled] = np.searchsorted(np.quantile(mean, (0.25, 0.5, 0.75)), mean, side="right")
    return strata
