"""Sentences of a recipe's string array: read, and once the training split is known, turned into token ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmaffect.data.arrays import Array, ArrayFile
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.recipe import ModalityRecipe
from mmaffect.data.subwords import SubwordTokenizer
from mmaffect.data.tokenizer import Tokenizer, WordTokenizer
from mmaffect.ops import InputError, check_choice


@dataclass(frozen=True)
class Sentences:
    """One sentence a row, ``(N,)``, and where it is there, bool ``(N,)``."""

    text: Array
    available: Array


def read_sentences(file: ArrayFile, name: str, recipe: ModalityRecipe, order: Array) -> Sentences:
    """Read a column of sentences; one that is not available, or blank, is not there.

    Args:
        file: where from.
        name: the modality, for messages.
        recipe: its description.
        order: order of the dataset's rows.

    Raises:
        InputError: if it is no column of strings.
    """
    key = f"modalities.{name}"
    column = file.column(recipe.array, f"{key}.array")
    if column.dtype.kind != "U":
        raise InputError(
            f"{file.label}: {key}.array = {recipe.array!r}: expected strings, since there is a tokenizer, "
            f"got {column.dtype}"
        )
    text = column[order]
    available = np.char.strip(text) != ""
    if recipe.available is not None:
        available &= file.flags(recipe.available, f"{key}.available")[order]
    return Sentences(text, available)


def no_sentences(rows: int) -> Sentences:
    """Sentences of a file that holds none."""
    return Sentences(np.full(rows, ""), np.zeros(rows, dtype=bool))


def fit_tokenizer(
    recipe: ModalityRecipe, sentences: Sentences, training: Tensor, folder: Path, where: str
) -> Tokenizer:
    """The tokenizer that a recipe names: words of the training split, or one from a folder.

    Args:
        recipe: of the modality.
        sentences: of all rows.
        training: bool; the rows of the training split ``(N,)``.
        folder: what a relative path of the recipe starts from.
        where: file and key, for messages.

    Raises:
        InputError: if the training split has no words, or there is no tokenizer in the folder.
    """
    try:
        if recipe.tokenizer == "words":
            used = sentences.text[training.numpy() & sentences.available].tolist()
            return WordTokenizer.fit(used, min_count=recipe.min_count, max_tokens=recipe.max_tokens)
        return SubwordTokenizer.from_folder(folder / str(recipe.tokenizer), max_tokens=recipe.max_tokens)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def restore_tokenizer(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose ``state_dict`` was saved.

    Raises:
        InputError: if it is no such state.

    Example:
        >>> restore_tokenizer(WordTokenizer(["film"]).state_dict()).encode(["a film"])
        [[3, 1, 5, 4]]
    """
    check_choice("tokenizer", state.get("kind"), ("words", "subwords"))
    if state["kind"] == "words":
        return WordTokenizer.from_state_dict(state)
    return SubwordTokenizer.from_state_dict(state)


def token_rows(sentences: Sentences, tokenizer: Tokenizer) -> ModalityRows:
    """Token ids of every row, one after the other; none where there is no sentence, or none but start and end."""
    at = np.flatnonzero(sentences.available)
    found = tokenizer.encode(sentences.text[at].tolist())
    ends = set(tokenizer.vocabulary.protected)
    steps = np.zeros(len(sentences.text), dtype=np.int64)
    kept = [ids if set(ids) - ends else [] for ids in found]
    steps[at] = [len(ids) for ids in kept]
    ids = torch.tensor([i for row in kept for i in row], dtype=torch.int64)
    count = torch.from_numpy(steps)
    stop = count.cumsum(0)
    return ModalityRows(
        values=ids,
        observed=torch.ones(len(ids), dtype=torch.bool),
        valid=torch.ones(len(ids), dtype=torch.bool),
        spans=torch.stack([stop - count, stop], 1),
        owner=torch.arange(len(count)).repeat_interleave(count),
        repaired=0,
    )
