"""Recipes: one TOML file says where a dataset's arrays are and what they mean, so new data needs no code."""

import re
import tomllib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, cast

from mmaffect.data.spec import SequenceKind
from mmaffect.data.split_recipe import SplitRecipe, read_split
from mmaffect.data.target_recipe import TargetRecipe, read_target
from mmaffect.data.toml_table import Scalar, Table
from mmaffect.ops import InputError

Normalise = Literal["none", "train", "group"]
NonFinite = Literal["raise", "zero", "absent"]


@dataclass(frozen=True)
class ModalityRecipe:
    """One modality.

    Args:
        array: its values, ``(N,)``, ``(N, D)``, ``(N, T, D)`` (padded behind); ``(R,)``, ``(R, D)`` with ``offsets``;
            strings ``(N,)`` with ``tokenizer``.
        available: bool array ``(N,)``; False where the modality is really missing.
        normalise: ``"none"``; ``"train"``: mean and sd of the training split; ``"group"``: of each group, label-free.
        normalise_by: the column of the groups, for ``"group"``.
        log: the columns that become ``log(x + log_offset)`` first: True for all, or ``(first, stop)``.
        log_offset: see ``log``.
        offsets: int array ``(N + 1,)``: sample i is rows ``offsets[i]:offsets[i + 1]`` of ``array`` (``single`` only).
        lengths: int array ``(N,)``: how many of the T steps are real (``single`` only).
        tokenizer: what makes token ids of sentences (``single`` only): ``"words"``, the words of the training split;
            or a folder with a Hugging Face tokenizer, relative to the data folder. None: the array holds numbers.
        min_count: rarer words are unknown, for ``"words"``.
        max_tokens: longer sentences lose their last tokens; start and end count. None: as many as the tokenizer takes.
    """

    array: str
    available: str | None = None
    normalise: Normalise = "train"
    normalise_by: str | None = None
    log: bool | tuple[int, int] = False
    log_offset: float = 1.0
    offsets: str | None = None
    lengths: str | None = None
    tokenizer: str | None = None
    min_count: int = 2
    max_tokens: int | None = None


@dataclass(frozen=True)
class ConfounderRecipe:
    """An observed discrete confounder: its column and the values it takes, in the order of their codes."""

    array: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Recipe:
    """A dataset described: see the fields of a recipe file in ``load_recipe``."""

    name: str
    file: str
    modalities: dict[str, ModalityRecipe]
    target: TargetRecipe
    split: SplitRecipe
    id: str | None = None
    sequence: SequenceKind = "single"
    context: int = 8
    sequence_by: str | None = None
    speaker: str | None = None
    fold: tuple[str, ...] = ()
    confounder: ConfounderRecipe | None = None
    nonfinite: NonFinite = "raise"
    clip: float = 10.0
    source: str = "recipe"
    text: str = ""


def load_recipe(path: str | PathLike[str]) -> Recipe:
    """Read a recipe (TOML).

    Top level: ``name``, ``file`` (an ``.npz`` inside the data folder, or ``"."`` for a folder of ``.npy`` files),
    ``sequence`` (``dialogue`` | ``window`` | ``single``), and optionally ``id`` (row names), ``context`` (steps of a
    window, 8), ``nonfinite`` (``raise``; ``zero``: such an entry becomes zero after normalisation; ``absent``: such a
    row becomes a missing one) and ``clip`` (normalised values are held within this many sd, 10). Tables:
    ``[modalities.NAME]`` (``ModalityRecipe``), ``[target]`` (``TargetRecipe``), ``[groups]`` (``sequence``,
    ``speaker``, ``fold``), ``[split]`` (``array`` with ``train``, ``valid``, ``test`` values; or ``by``, ``shares``,
    ``seed``; or ``method``: ``SplitRecipe``), ``[confounder]`` (``array``, ``values``).

    Args:
        path: the file.

    Raises:
        InputError: naming the file, the key, what was given and what was expected.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        ...     _ = file.write('name = "toy"')
        ...     file.flush()
        ...     load_recipe(file.name)
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: ...: file: expected a string, got nothing (the key is missing)
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; expected a recipe in TOML") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: is not TOML: {error}") from error
    source = path.name
    known = ("name", "file", "id", "sequence", "context", "nonfinite", "clip")
    tables = ("modalities", "target", "groups", "split", "confounder")
    top = Table(source, "", values, known + tables)
    groups = Table(source, "groups", values.get("groups", {}), ("sequence", "speaker", "fold"))
    recipe = Recipe(
        name=top.text("name"),
        file=top.inside("file", "the data folder"),
        modalities=_modalities(top),
        target=read_target(source, values.get("target", {})),
        split=read_split(source, values.get("split", {})),
        id=top.text_or_none("id"),
        sequence=cast(SequenceKind, top.choice("sequence", ("dialogue", "window", "single"))),
        context=top.integer("context", 8, 1),
        sequence_by=groups.text_or_none("sequence"),
        speaker=groups.text_or_none("speaker"),
        fold=groups.texts("fold"),
        confounder=_confounder(source, values["confounder"]) if "confounder" in values else None,
        nonfinite=cast(NonFinite, top.choice("nonfinite", ("raise", "zero", "absent"), "raise")),
        clip=top.positive("clip", 10.0),
        source=source,
        text=text,
    )
    if recipe.sequence != "single" and recipe.sequence_by is None:
        groups.fail("sequence", f"a column, since sequence = {recipe.sequence!r}")
    return recipe


def _modalities(top: Table) -> dict[str, ModalityRecipe]:
    tables = top.values.get("modalities", {})
    if not isinstance(tables, dict) or not tables:
        top.fail("modalities", "at least one table [modalities.NAME]")
    return {name: _modality(top.file, name, values) for name, values in tables.items()}


def _modality(source: str, name: str, values: object) -> ModalityRecipe:
    if not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"{source}: modalities: expected names of letters, digits, _ and -, got {name!r}")
    numeric = ("normalise", "normalise_by", "log", "log_offset", "offsets", "lengths")
    table = Table(
        source, f"modalities.{name}", values, ("array", "available", *numeric, "tokenizer", "min_count", "max_tokens")
    )
    if "tokenizer" in table.values:
        return _text(table, numeric)
    for key in ("min_count", "max_tokens"):
        if key in table.values:
            table.fail(key, "no such key without a tokenizer")
    log: bool | tuple[int, int] = False
    if "log" in table.values:
        given = table.values["log"]
        whole = isinstance(given, list) and len(given) == 2 and all(type(v) is int for v in given)
        if not isinstance(given, bool) and not (whole and 0 <= given[0] < given[1]):
            table.fail("log", "true, false or a range of columns [first, stop]")
        log = given if isinstance(given, bool) else (given[0], given[1])
    normalise = table.choice("normalise", ("none", "train", "group"), "train")
    if (normalise == "group") != ("normalise_by" in table.values):
        table.fail("normalise_by", "a column of groups with normalise = 'group', and only there")
    if "offsets" in table.values and "lengths" in table.values:
        table.fail("lengths", "either offsets or lengths, not both")
    return ModalityRecipe(
        array=table.text("array"),
        available=table.text_or_none("available"),
        normalise=cast(Normalise, normalise),
        normalise_by=table.text_or_none("normalise_by"),
        log=log,
        log_offset=table.positive("log_offset", 1.0),
        offsets=table.text_or_none("offsets"),
        lengths=table.text_or_none("lengths"),
    )


def _text(table: Table, numeric: tuple[str, ...]) -> ModalityRecipe:
    """A modality of sentences; what is done to numbers cannot be asked for."""
    for key in numeric:
        if key in table.values:
            table.fail(key, "no such key beside a tokenizer")
    tokenizer = table.text("tokenizer")
    if tokenizer != "words" and "min_count" in table.values:
        table.fail("min_count", "no such key beside a tokenizer from a folder")
    return ModalityRecipe(
        array=table.text("array"),
        available=table.text_or_none("available"),
        normalise="none",
        tokenizer=tokenizer if tokenizer == "words" else table.inside("tokenizer", "the data folder"),
        min_count=table.integer("min_count", 2, 1),
        max_tokens=table.integer("max_tokens", 3, 3) if "max_tokens" in table.values else None,
    )


def _confounder(source: str, values: object) -> ConfounderRecipe:
    table = Table(source, "confounder", values, ("array", "values"))
    options = table.scalars("values")
    if len(set(options)) < 2 or len(set(options)) != len(options):
        table.fail("values", "at least two different values")
    return ConfounderRecipe(table.text("array"), options)
