"""From a recipe and a folder to training, validation and test data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.data.arrays import ArrayFile, locate
from mmaffect.data.build import build_dataset, normalised, read_sequence
from mmaffect.data.dataset import MultimodalDataset
from mmaffect.data.layout import Cut, cut_samples
from mmaffect.data.normalise import Normaliser, group_statistics
from mmaffect.data.partition import assign_splits
from mmaffect.data.recipe import Recipe
from mmaffect.data.report import Report
from mmaffect.data.rows import Rows, read_rows
from mmaffect.data.sentences import fit_tokenizer
from mmaffect.data.spec import DataSpec
from mmaffect.data.split_recipe import SPLITS
from mmaffect.data.targets import Targets, encode_targets
from mmaffect.data.tokenizer import Tokenizer
from mmaffect.ops import InputError


class Splits(NamedTuple):
    """A dataset in three parts, with what was done to it.

    Args:
        train: what is learned from.
        valid: what models are selected on.
        test: what is reported.
        report: counts.
        normaliser: training statistics, to be kept for new data.
        tokenizers: of the modalities that are token ids, to be kept for new data.
    """

    train: MultimodalDataset
    valid: MultimodalDataset
    test: MultimodalDataset
    report: Report
    normaliser: Normaliser
    tokenizers: Mapping[str, Tokenizer] = {}


def load_dataset(
    recipe: Recipe,
    folder: str | PathLike[str],
    *,
    sequence: str | None = None,
    context: int | None = None,
    holdout: Sequence[object] | None = None,
    tokenizer: str | PathLike[str] | None = None,
    fitted: Splits | None = None,
) -> Splits:
    """Load what a recipe describes.

    Values are normalised with statistics of the observed rows of the training split (labelled or not), or within
    each group; then held within ``± clip``. Words are learned from the training split alone. Samples without a label or
    without any modality are left out and counted.

    Args:
        recipe: from ``load_recipe``.
        folder: holds the recipe's file.
        sequence: sequence kind; the recipe's by default.
        context: steps of a window; the recipe's by default.
        holdout: ``(column, value, ...)``: leave these groups of one of the recipe's ``fold`` columns out as the test
            split; the next group in order (the first after the last) is the validation split, the rest trains.
        tokenizer: ``"words"`` or a folder, in place of the recipe's, for all that is text.
        fitted: another dataset, whose training statistics and tokenizers are used in place of this one's own; it must
            have the same modalities.

    Raises:
        InputError: naming file, key, what was given and what was expected.
    """
    kind, steps = read_sequence(recipe, sequence, context)
    file = ArrayFile(locate(folder, recipe.file))
    if tokenizer is not None:
        recipe = _with_tokenizer(recipe, tokenizer)
    if fitted is not None:
        recipe = _as_fitted(recipe, fitted)
    rows = read_rows(file, recipe, kind)
    key = "target.array"
    array = file.rows(recipe.target.array, key)[rows.layout.order]
    targets = encode_targets(array, recipe.target, f"{file.label}: {key} = {recipe.target.array!r}")
    split = torch.from_numpy(assign_splits(file, recipe, kind, rows.layout, targets, holdout))
    tokenizers = {
        name: fit_tokenizer(
            recipe.modalities[name], found, split == 0, Path(folder), f"{file.label}: modalities.{name}"
        )
        for name, found in rows.sentences.items()
        if fitted is None
    }
    tokenizers = tokenizers if fitted is None else dict(fitted.tokenizers)
    rows = rows.tokenised(recipe, tokenizers)
    tokens = {name: tokenizer.vocabulary for name, tokenizer in tokenizers.items()}
    normaliser = _fit(file, recipe, rows, split == 0) if fitted is None else fitted.normaliser
    spec = DataSpec(
        modalities={n: tokens[n].size if n in tokens else m.values.shape[1] for n, m in rows.modalities.items()},
        target=recipe.target.kind,
        classes=recipe.target.classes,
        sequence=kind,
        speakers=0 if rows.speaker is None else int(rows.speaker.max()) + 1,
        confounders=0 if recipe.confounder is None else len(recipe.confounder.values),
        class_shares=_shares(targets, split == 0, recipe),
        tokens=tokens,
    )
    if fitted is not None and spec.modalities != fitted.train.spec.modalities:
        raise InputError(
            f"{file.label}: {recipe.source}: expected the widths {dict(fitted.train.spec.modalities)}, as in the data "
            f"it is to be like, got {dict(spec.modalities)}"
        )
    cut = cut_samples(rows.layout, kind, steps, targets.labelled, rows.something)
    counts = {name: int((split[cut.row] == code).sum()) for code, name in enumerate(SPLITS)}
    for name, count in counts.items():
        if count == 0:
            raise InputError(f"{file.label}: split {name!r}: expected labelled samples that have a modality, got none")
    values = normalised(rows, normaliser)
    train, valid, test = (build_dataset(spec, rows, values, targets, cut, split[cut.row] == code) for code in range(3))
    return Splits(train, valid, test, _report(recipe, kind, rows, targets, split, cut, counts), normaliser, tokenizers)


def _with_tokenizer(recipe: Recipe, tokenizer: str | PathLike[str]) -> Recipe:
    """The recipe with another tokenizer for all that is text; a folder need not lie inside the data folder."""
    chosen = "words" if tokenizer == "words" else str(Path(tokenizer).absolute())
    if not any(modality.tokenizer for modality in recipe.modalities.values()):
        raise InputError(f"tokenizer: expected a recipe with a modality of sentences, {recipe.source} has none")
    modalities = {n: replace(m, tokenizer=chosen) if m.tokenizer else m for n, m in recipe.modalities.items()}
    return replace(recipe, modalities=modalities)


def _as_fitted(recipe: Recipe, fitted: Splits) -> Recipe:
    """The recipe with its modalities in the order of another dataset's, which must have the same."""
    names = fitted.train.spec.names
    if set(recipe.modalities) != set(names):
        raise InputError(
            f"{recipe.source}: modalities: expected {', '.join(names)}, as in the data it is to be like, "
            f"got {', '.join(recipe.modalities)}"
        )
    text = {name for name, modality in recipe.modalities.items() if modality.tokenizer is not None}
    if text != set(fitted.tokenizers):
        raise InputError(
            f"{recipe.source}: modalities: expected sentences with a tokenizer in {tuple(fitted.tokenizers)}, as in "
            f"the data it is to be like, got them in {tuple(sorted(text))}"
        )
    return replace(recipe, modalities={name: recipe.modalities[name] for name in names})


def _fit(file: ArrayFile, recipe: Recipe, rows: Rows, training: Tensor) -> Normaliser:
    """Statistics of what is observed in training; every modality must be, in every column."""
    mean, sd = {}, {}
    for name, modality in rows.modalities.items():
        if recipe.modalities[name].tokenizer is not None:
            continue
        used = training[modality.owner]
        values, valid = modality.values[used], modality.valid[used]
        found = group_statistics(values, valid, torch.zeros(len(values), dtype=torch.int64), 1)
        empty = (found.number[0] == 0).nonzero().flatten().tolist()
        if empty:
            raise InputError(
                f"{file.label}: modalities.{name}.array = {recipe.modalities[name].array!r}: expected finite values in "
                f"the training split, got none in {len(empty)} columns of {values.shape[1]}, the first is {empty[0]}"
            )
        if recipe.modalities[name].normalise != "none":
            mean[name], sd[name] = found.mean[0], found.sd[0]
    return Normaliser(mean, sd, recipe.clip)


def _shares(targets: Targets, training: Tensor, recipe: Recipe) -> tuple[float, ...]:
    """Share of each class among the labels of the training split."""
    if recipe.target.kind != "class":
        return ()
    counts = torch.bincount(targets.values[training & targets.labelled], minlength=len(recipe.target.classes))
    return tuple((counts.double() / counts.sum().clamp(min=1)).tolist())


def _report(
    recipe: Recipe, kind: str, rows: Rows, targets: Targets, split: Tensor, cut: Cut, samples: dict[str, int]
) -> Report:
    labels: dict[str, dict[str, int]] = {}
    for code, name in enumerate(SPLITS):
        mine = targets.values[(split == code) & targets.labelled]
        if recipe.target.kind == "class":
            counts = torch.bincount(mine, minlength=len(recipe.target.classes))
        else:
            columns = mine.reshape(len(mine), -1)
            counts = (columns == 1).sum(0) if recipe.target.kind == "multilabel" else (~columns.isnan()).sum(0)
        labels[name] = dict(zip(recipe.target.classes, counts.tolist(), strict=True))
    return Report(
        name=recipe.name,
        sequence=kind,
        rows=len(rows.ids),
        labelled=int(targets.labelled.sum()),
        samples=samples,
        labels=labels,
        repaired={name: modality.repaired for name, modality in rows.modalities.items()},
        missing={name: int((~modality.there).sum()) for name, modality in rows.modalities.items()},
        empty_rows=int((~rows.something).sum()),
        dropped_unlabelled=cut.unlabelled,
        dropped_empty=cut.empty,
    )
