"""Where an example's data come from: a recipe and its files, or a recipe of a synthetic world."""

import inspect
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mmaffect.data import (
    MultimodalDataset,
    Normaliser,
    Tokenizer,
    load_dataset,
    load_recipe,
    load_transfer,
    synthetic_affect,
)
from mmaffect.ops import InputError, check_choice


class Source(NamedTuple):
    """Three splits, what was done to them, and the text of the recipe.

    ``normaliser`` is None, and ``report`` empty, for a synthetic world. ``tokenizers`` are those of the modalities that
    are token ids.
    """

    train: MultimodalDataset
    valid: MultimodalDataset
    test: MultimodalDataset
    report: str
    normaliser: Normaliser | None
    text: str
    tokenizers: Mapping[str, Tokenizer] = {}


def load_source(
    recipe: Path,
    data: Path | None,
    *,
    sequence: str | None = None,
    context: int | None = None,
    holdout: tuple[str, str] | None = None,
    tokenizer: str | None = None,
) -> Source:
    """Load the data that a recipe describes.

    Args:
        recipe: TOML file; with a table ``[synthetic]`` it holds arguments of ``synthetic_affect``.
        data: folder of the recipe's files; not needed for a synthetic world.
        sequence: sequence kind; the recipe's by default.
        context: steps of a window; the recipe's by default.
        holdout: column and value of the group to leave out as the test split.
        tokenizer: ``"words"`` or the folder of one, in place of the recipe's.

    Raises:
        InputError: naming file, key, what was given and what was expected.
    """
    text = _read(recipe)
    if "[synthetic]" not in text.split():
        if data is None:
            raise InputError(f"--data: expected the folder that holds the files of {recipe.name}, got nothing")
        splits = load_dataset(
            load_recipe(recipe), data, sequence=sequence, context=context, holdout=holdout, tokenizer=tokenizer
        )
        return Source(*splits[:3], str(splits.report), splits.normaliser, text, splits.tokenizers)
    try:
        values = tomllib.loads(text)["synthetic"]
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{recipe}: is not TOML: {error}") from error
    if tokenizer is not None:
        raise InputError(f"--tokenizer: {recipe.name} describes a synthetic world, which has no sentences")
    if holdout is not None:
        raise InputError(f"--folds: {recipe.name} describes a synthetic world, which has no groups to leave out")
    for key in values:
        check_choice(f"{recipe.name}: synthetic", key, inspect.signature(synthetic_affect).parameters)
    if sequence is not None:
        values["sequence"] = sequence
    if context is not None:
        values["lengths"] = context
    try:
        world = synthetic_affect(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{recipe.name}: synthetic: {error}") from error
    return Source(world.train, world.valid, world.test, "", None, text)


def load_pair(
    recipe: Path,
    data: Path | None,
    test_recipe: Path,
    test_data: Path | None,
    mapping: Mapping[str, str] | None,
    *,
    sequence: str | None = None,
    context: int | None = None,
    tokenizer: str | None = None,
) -> Source:
    """Train and valid of one recipe, the test split of another: see `mmaffect.data.load_transfer`.

    Args:
        recipe: of the first.
        data: folder of its files.
        test_recipe: of the second.
        test_data: folder of its files; that of the first by default.
        mapping: from class to common class, for both; None: the classes are the same.
        sequence: sequence kind of both; the recipes' by default.
        context: steps of a window of both.
        tokenizer: ``"words"`` or the folder of one, in place of the first recipe's.

    Raises:
        InputError: naming file, key, what was given and what was expected.
    """
    text = _read(recipe)
    for path, content in ((recipe, text), (test_recipe, _read(test_recipe))):
        if "[synthetic]" in content.split():
            raise InputError(f"--test-recipe: expected recipes of files, {path.name} describes a synthetic world")
    if data is None:
        raise InputError(f"--data: expected the folder that holds the files of {recipe.name}, got nothing")
    found = load_transfer(
        load_recipe(recipe),
        data,
        load_recipe(test_recipe),
        test_data or data,
        mapping=mapping,
        sequence=sequence,
        context=context,
        tokenizer=tokenizer,
    )
    splits = found.splits
    return Source(*splits[:3], str(found), splits.normaliser, text, splits.tokenizers)


def read_mapping(given: str) -> dict[str, str]:
    """``"happy=positive,sad=negative"`` as a dict.

    Raises:
        InputError: on another form, or a class that stands twice.

    Example:
        >>> read_mapping("happy=positive, sad=negative")
        {'happy': 'positive', 'sad': 'negative'}
    """
    pairs = [tuple(part.strip() for part in entry.split("=")) for entry in given.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs) or len({pair[0] for pair in pairs}) < len(pairs):
        raise InputError(f"--map: expected CLASS=COMMON pairs joined by commas, each class once, got {given!r}")
    return {pair[0]: pair[1] for pair in pairs}


def _read(recipe: Path) -> str:
    try:
        return recipe.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{recipe}: cannot be read ({error}); expected a recipe in TOML") from error


def load_folds(
    recipe: Path,
    data: Path | None,
    by: str,
    *,
    sequence: str | None = None,
    context: int | None = None,
    tokenizer: str | None = None,
) -> dict[str, Source]:
    """Leave out one group of a column at a time: the data of every fold by the group that is tested.

    Each fold is loaded anew, so that its normalisation, and its words, know its own training groups only.

    Raises:
        InputError: if the recipe has no such column among its folds, or it holds fewer than three groups.
    """

    def load(holdout: tuple[str, str] | None = None) -> Source:
        return load_source(recipe, data, sequence=sequence, context=context, holdout=holdout, tokenizer=tokenizer)

    whole = load()
    check_choice("--folds", by, whole.train.groups)
    names = {name for part in (whole.train, whole.valid, whole.test) for name in part.groups[by]}
    if whole.train.spec.sequence == "dialogue" and any("+" in name for name in names):
        joined = next(name for name in sorted(names) if "+" in name)
        raise InputError(
            f"--folds {by}: expected a column that is constant within a dialogue, got {joined!r} in one; "
            "name another column, or give --sequence single"
        )
    if len(names) < 3:
        raise InputError(f"--folds: expected at least 3 groups in {by!r} (test, valid, train), got {sorted(names)}")
    ordered = sorted(names, key=lambda name: (int(name), "") if name.isdigit() else (0, name))
    return {name: load(holdout=(by, name)) for name in ordered}
