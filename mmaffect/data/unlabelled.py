"""From new files to data without labels, for a system that was fitted."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch

from mmaffect.data.arrays import ArrayFile
from mmaffect.data.build import build_dataset, normalised, read_sequence
from mmaffect.data.dataset import MultimodalDataset
from mmaffect.data.layout import cut_samples
from mmaffect.data.normalise import Normaliser
from mmaffect.data.recipe import Recipe
from mmaffect.data.rows import read_rows
from mmaffect.data.spec import DataSpec
from mmaffect.data.targets import blank_targets
from mmaffect.data.tokenizer import Tokenizer
from mmaffect.ops import InputError


class Unlabelled(NamedTuple):
    """New data, and what became of each row.

    Args:
        dataset: the samples.
        ids: names of all rows, those of a sequence together.
        used: False where a row is in no sample, since there is nothing to read; a prediction is made for each other
            row, in this order.
    """

    dataset: MultimodalDataset
    ids: tuple[str, ...]
    used: tuple[bool, ...]


def load_unlabelled(
    recipe: Recipe,
    file: str | PathLike[str],
    normaliser: Normaliser,
    sequence: str | None,
    context: int | None,
    spec: DataSpec,
    tokenizers: Mapping[str, Tokenizer] | None = None,
) -> MultimodalDataset:
    """Load new data without labels for a fitted system: the recipe's target, split and fold columns are not read.

    A modality whose array the file lacks is missing from every row; one whose array is there needs its ``available``
    column too, where the recipe names one. Groups are normalised by their own statistics. A row without any modality
    makes no sample.

    Args:
        recipe: the one the system was fitted with.
        file: an ``.npz`` file, a folder that holds the recipe's file, or a folder of ``.npy`` files.
        normaliser: from that fit.
        sequence: as in that fit; None: as in ``spec``.
        context: as in that fit; None: as in the recipe.
        spec: of that fit; modalities, widths and speakers must agree.
        tokenizers: from that fit; they are needed for what is token ids.

    Returns:
        A dataset with targets of -100 or NaN.

    Raises:
        InputError: naming file, key, what was given and what was expected; if the file has none of the modalities.
    """
    return read_unlabelled(recipe, file, normaliser, sequence, context, spec, tokenizers).dataset


def read_unlabelled(
    recipe: Recipe,
    file: str | PathLike[str],
    normaliser: Normaliser,
    sequence: str | None,
    context: int | None,
    spec: DataSpec,
    tokenizers: Mapping[str, Tokenizer] | None = None,
) -> Unlabelled:
    """`load_unlabelled`, with the names of rows that make no sample, for a table that has them all."""
    kind, steps = read_sequence(recipe, sequence or spec.sequence, context)
    if kind != spec.sequence or tuple(recipe.modalities) != spec.names:
        raise InputError(
            f"{recipe.source}: expected the sequence kind {spec.sequence!r} and the modalities {spec.names} that the "
            f"system was fitted with, got {kind!r} and {tuple(recipe.modalities)}"
        )
    path = Path(file)
    source = ArrayFile(path / recipe.file if (path / recipe.file).exists() else path)
    rows = read_rows(source, recipe, kind, dict(spec.modalities))
    known = {name: tokenizer.vocabulary for name, tokenizer in (tokenizers or {}).items()}
    if known != spec.tokens or known.keys() != rows.sentences.keys():
        raise InputError(
            f"{recipe.source}: expected the tokenizers of {tuple(spec.tokens)} that the system was fitted with, "
            f"got those of {tuple(known)}, and a recipe with tokenizers for {tuple(rows.sentences)}"
        )
    rows = rows.tokenised(recipe, tokenizers or {})
    for name, modality in rows.modalities.items():
        if name in known:
            continue
        width = modality.values.shape[1]
        if width != spec.modalities[name]:
            array = recipe.modalities[name].array
            raise InputError(
                f"{source.label}: modalities.{name}.array = {array!r}: expected {spec.modalities[name]} columns as in "
                f"the data the system was fitted with, got {width}"
            )
    speakers = 0 if rows.speaker is None else int(rows.speaker.max()) + 1
    if speakers > spec.speakers:
        raise InputError(
            f"{source.label}: groups.speaker = {recipe.speaker!r}: expected at most {spec.speakers} in a conversation, "
            f"as in the data the system was fitted with, got {speakers}"
        )
    targets = blank_targets(recipe.target, len(rows.ids))
    cut = cut_samples(rows.layout, kind, steps, targets.labelled, rows.something)
    if len(cut.row) == 0:
        raise InputError(f"{source.label}: expected at least one row with a modality, got none of {len(rows.ids)}")
    everything = torch.ones(len(cut.row), dtype=torch.bool)
    dataset = build_dataset(spec, rows, normalised(rows, normaliser), targets, cut, everything)
    used = torch.zeros(len(rows.ids), dtype=torch.bool)
    if kind == "dialogue":
        for start, stop in cut.spans.tolist():
            used[start:stop] = True
    else:
        used[cut.row] = True
    return Unlabelled(dataset, tuple(rows.ids.tolist()), tuple(used.tolist()))
