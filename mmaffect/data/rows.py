"""The rows of a dataset, as a recipe's columns describe them: everything but target and split."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mmaffect.data.arrays import Array, ArrayFile
from mmaffect.data.layout import Layout, lay_out, number_speakers
from mmaffect.data.modality_rows import ModalityRows, absent_modality, read_modality
from mmaffect.data.recipe import Recipe
from mmaffect.data.sentences import Sentences, no_sentences, read_sentences, token_rows
from mmaffect.data.spec import SequenceKind
from mmaffect.data.targets import encode_values
from mmaffect.data.tokenizer import Tokenizer
from mmaffect.data.toml_table import near
from mmaffect.ops import InputError


@dataclass(frozen=True)
class Rows:
    """Rows in the order of ``layout``.

    Args:
        ids: their names.
        layout: which of them form a sequence; every row its own in ``"single"``.
        modalities: by name.
        within: codes of the groups a modality is normalised within, by name ``(N,)``.
        speaker: numbered within the conversation ``(N,)``; None where unknown or in ``"single"``.
        confounder: codes ``(N,)``; None where there is none.
        groups: what each row belongs to, as strings, by column name.
        sentences: of the modalities whose recipe names a tokenizer, which are not among ``modalities`` yet.
    """

    ids: Array
    layout: Layout
    modalities: dict[str, ModalityRows]
    within: dict[str, Tensor]
    speaker: Tensor | None
    confounder: Tensor | None
    groups: dict[str, Array]
    sentences: dict[str, Sentences] = field(default_factory=dict)

    def tokenised(self, recipe: Recipe, tokenizers: Mapping[str, Tokenizer]) -> "Rows":
        """The rows with token ids for sentences, modalities in the recipe's order."""
        tokens = {name: token_rows(found, tokenizers[name]) for name, found in self.sentences.items()}
        found = self.modalities | tokens
        return replace(self, modalities={name: found[name] for name in recipe.modalities}, sentences={})

    @cached_property
    def something(self) -> Tensor:
        """Rows with at least one modality, bool ``(N,)``."""
        return torch.stack([modality.there for modality in self.modalities.values()]).any(0)


def read_rows(file: ArrayFile, recipe: Recipe, kind: SequenceKind, widths: dict[str, int] | None = None) -> Rows:
    """Read a dataset's rows.

    Args:
        file: where from.
        recipe: what its arrays mean.
        kind: sequence kind.
        widths: for new data without labels, the width of each modality the system was fitted with: a modality the
            file lacks is missing from every row, and folds are not read.

    Raises:
        InputError: naming file, key, what was given and what was expected.
    """
    known = widths is None
    count = _count(file, recipe)
    layout = lay_out(np.arange(count))
    groups: dict[str, Array] = {}
    if kind != "single":
        if recipe.sequence_by is None:
            raise InputError(
                f"{recipe.source}: groups.sequence: expected a column, since the sequence kind is {kind!r}"
            )
        layout = lay_out(file.column(recipe.sequence_by, "groups.sequence"))
    if recipe.sequence_by is not None and (known or recipe.sequence_by in file):
        groups[recipe.sequence_by] = file.column(recipe.sequence_by, "groups.sequence")[layout.order].astype(str)
    for name in recipe.fold if known else ():
        groups[name] = file.column(name, "groups.fold")[layout.order].astype(str)
    modalities, sentences, within = {}, {}, {}
    for name, modality in recipe.modalities.items():
        if modality.tokenizer is not None:
            if kind != "single":
                raise InputError(
                    f"{recipe.source}: modalities.{name}.tokenizer: a turn of a {kind} has no time axis of its own "
                    "that tokens could be on; expected sequence = 'single'"
                )
            there = known or modality.array in file
            sentences[name] = read_sentences(file, name, modality, layout.order) if there else no_sentences(count)
            continue
        if widths is not None and modality.array not in file:
            modalities[name] = absent_modality(count, widths[name])
            continue
        modalities[name] = read_modality(
            file, name, modality, order=layout.order, shared=kind != "single", nonfinite=recipe.nonfinite
        )
        if modality.normalise_by is not None:
            column = file.column(modality.normalise_by, f"modalities.{name}.normalise_by")[layout.order]
            within[name] = torch.from_numpy(np.unique(column, return_inverse=True)[1].reshape(-1))
    speaker = None
    if recipe.speaker is not None and kind != "single":
        speaker = number_speakers(layout, file.column(recipe.speaker, "groups.speaker")[layout.order])
    return Rows(
        ids=_ids(file, recipe, count)[layout.order],
        layout=layout,
        modalities=modalities,
        within=within,
        speaker=None if speaker is None else torch.from_numpy(speaker),
        confounder=_confounder(file, recipe, layout),
        groups=groups,
        sentences=sentences,
    )


def _count(file: ArrayFile, recipe: Recipe) -> int:
    """Rows of the dataset: those of the row names, or of the first modality the file has."""
    arrays = [modality.array for modality in recipe.modalities.values()]
    if not any(array in file for array in arrays):
        raise InputError(
            f"{file.label}: modalities: expected at least one of the arrays {', '.join(map(repr, arrays))}, "
            f"got none; {near(arrays[0], file.names)}"
        )
    if recipe.id is not None:
        return len(file.column(recipe.id, "id"))
    name, first = next((n, m) for n, m in recipe.modalities.items() if m.array in file)
    if first.offsets is None:
        return len(file.rows(first.array, f"modalities.{name}.array"))
    return len(file.read(first.offsets, f"modalities.{name}.offsets")) - 1


def _ids(file: ArrayFile, recipe: Recipe, count: int) -> Array:
    if recipe.id is None:
        return np.arange(count).astype(str)
    ids = file.column(recipe.id, "id").astype(str)
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"{file.label}: id = {recipe.id!r}: expected different names, "
            f"got {str(names[counts.argmax()])!r} {counts.max()} times"
        )
    return ids


def _confounder(file: ArrayFile, recipe: Recipe, layout: Layout) -> Tensor | None:
    if recipe.confounder is None:
        return None
    column = file.column(recipe.confounder.array, "confounder.array")[layout.order]
    codes = {value: code for code, value in enumerate(recipe.confounder.values)}
    where = f"{file.label}: confounder.array = {recipe.confounder.array!r}"
    return torch.from_numpy(encode_values(column, codes, where))
