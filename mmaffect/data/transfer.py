"""Train on one dataset, test on another: what the first fitted is applied to the second, and labels are mapped."""

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.data.dataset import MultimodalDataset
from mmaffect.data.load import Splits, load_dataset
from mmaffect.data.recipe import Recipe
from mmaffect.data.spec import DataSpec
from mmaffect.data.targets import UNLABELLED
from mmaffect.ops import InputError


class Transfer(NamedTuple):
    """A dataset to train on and another to test on.

    Args:
        splits: train and valid of the first, test of the second, with the report, the normaliser and the tokenizers of
            the first.
        test_report: of the second; what is said there of train and valid is not used.
        left_out: rows of each label that none of the common ones stands for: by split, then by label.
    """

    splits: Splits
    test_report: str
    left_out: dict[str, dict[str, int]]

    def __str__(self) -> str:
        lines = [str(self.splits.report), f"tested on {self.test_report}"]
        for split, counts in self.left_out.items():
            listed = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            lines.append(f"  {split}: {listed or 'nothing'} left out, having no label in common")
        return "\n".join(lines)


def load_transfer(
    recipe: Recipe,
    folder: str | PathLike[str],
    test_recipe: Recipe,
    test_folder: str | PathLike[str],
    *,
    mapping: Mapping[str, str] | None = None,
    sequence: str | None = None,
    context: int | None = None,
    tokenizer: str | PathLike[str] | None = None,
) -> Transfer:
    """Load train and valid of one dataset and the test split of another, as a system trained on the first meets it.

    The second is read with the words and tokenizers, and normalised with the training statistics, of the first; but
    where its own recipe normalises within groups, which takes no labels, each group goes by its own.

    Args:
        recipe: of the first.
        folder: of its files.
        test_recipe: of the second: the same kind of target and sequence, and modalities of the same names and widths.
        test_folder: of its files.
        mapping: from class to common class, for both. A class named like a common one stands for it; rows of any other
            are left out and counted (in dialogues the turns stay as context). None: both have the same classes.
        sequence: sequence kind of both; the recipes' by default.
        context: steps of a window of both; the recipes' by default.
        tokenizer: ``"words"`` or a folder, in place of the first recipe's.

    Raises:
        InputError: if the two do not fit together: naming what was expected and what was given; or if a class of the
            mapping is in neither, or a split is left without labels.
    """
    first = load_dataset(recipe, folder, sequence=sequence, context=context, tokenizer=tokenizer)
    second = load_dataset(test_recipe, test_folder, sequence=sequence, context=context, fitted=first)
    ours, theirs = first.train.spec, second.test.spec
    for name in ("target", "sequence"):
        if getattr(ours, name) != getattr(theirs, name):
            raise InputError(
                f"{test_recipe.source}: expected {name} = {getattr(ours, name)!r} as in {recipe.source}, "
                f"got {getattr(theirs, name)!r}"
            )
    for name in ("speakers", "confounders"):
        most, given = getattr(ours, name), getattr(theirs, name)
        if given > most or (given == 0) != (most == 0):
            wanted = f"1 to {most}" if most else "none"
            raise InputError(f"{test_recipe.source}: expected {wanted} {name} as in {recipe.source}, got {given}")
    if mapping is None:
        if set(ours.classes) != set(theirs.classes) or (ours.target != "class" and ours.classes != theirs.classes):
            raise InputError(
                f"{test_recipe.source}: expected the classes {ours.classes} of {recipe.source}, or a mapping, "
                f"got {theirs.classes}"
            )
        common = ours.classes
    elif ours.target != "class":
        raise InputError(f"mapping: expected classes, {recipe.source} has a target of the kind {ours.target!r}")
    else:
        common = tuple(dict.fromkeys(mapping.values()))
        for name in mapping:
            if name not in (*ours.classes, *theirs.classes):
                raise InputError(
                    f"mapping: {name!r} is a class of neither {recipe.source} {ours.classes} "
                    f"nor {test_recipe.source} {theirs.classes}"
                )
    if len(common) < 2 and ours.target == "class":
        raise InputError(f"mapping: expected at least two common classes, got {common}")
    mapped, left_out = {}, {}
    if ours.target != "class":
        mapped = {"train": first.train, "valid": first.valid, "test": replace_spec(second.test, ours)}
    else:
        for split, dataset in (("train", first.train), ("valid", first.valid), ("test", second.test)):
            classes = dataset.spec.classes
            names = [(mapping or {}).get(name, name) for name in classes]
            codes = torch.tensor([common.index(n) if n in common else UNLABELLED for n in names])
            counts = torch.bincount(_labels(dataset), minlength=len(classes)).tolist()
            left_out[split] = {
                name: n for name, n, c in zip(classes, counts, codes.tolist(), strict=True) if c == UNLABELLED
            }
            mapped[split] = _relabelled(dataset, replace(ours, classes=common, class_shares=()), codes)
            if len(mapped[split]) == 0:
                raise InputError(f"mapping: expected labelled samples in split {split!r}, got none of {classes}")
        known = torch.bincount(_labels(mapped["train"]), minlength=len(common)).double()
        spec = replace(mapped["train"].spec, class_shares=tuple((known / known.sum()).tolist()))
        mapped = {split: replace_spec(dataset, spec) for split, dataset in mapped.items()}
    splits = first._replace(train=mapped["train"], valid=mapped["valid"], test=mapped["test"])
    return Transfer(splits, str(second.report), left_out)


def replace_spec(dataset: MultimodalDataset, spec: DataSpec, targets: Tensor | None = None) -> MultimodalDataset:
    """The same samples under another spec, and with other targets if some are given."""
    shared = spec.sequence != "single"
    return MultimodalDataset(
        spec,
        values=dataset.values,
        observed=dataset.observed,
        spans=dataset.spans[spec.names[0]] if shared else dataset.spans,
        targets=dataset.targets if targets is None else targets,
        ids=dataset.ids,
        row_ids=dataset.row_ids,
        speaker=dataset.speaker,
        confounder=dataset.confounder,
        groups=dataset.groups,
    )


def _labels(dataset: MultimodalDataset) -> Tensor:
    """Labels of a dataset's own rows."""
    targets = dataset.targets
    if dataset.spec.sequence == "dialogue":
        spans = dataset.spans[dataset.spec.names[0]]
        targets = torch.cat([targets[:0], *(targets[start:stop] for start, stop in spans.tolist())])
    return targets[targets != UNLABELLED]


def _relabelled(dataset: MultimodalDataset, spec: DataSpec, codes: Tensor) -> MultimodalDataset:
    """Classes by their new codes; samples that no label is left of are left out."""
    known = dataset.targets != UNLABELLED
    targets = torch.where(known, codes[torch.where(known, dataset.targets, 0)], UNLABELLED)
    changed = replace_spec(dataset, spec, targets)
    labelled = targets != UNLABELLED
    if spec.sequence == "dialogue":
        before = torch.cat([torch.zeros(1, dtype=torch.int64), labelled.long().cumsum(0)])
        spans = dataset.spans[spec.names[0]]
        labelled = before[spans[:, 1]] > before[spans[:, 0]]
    return changed.subset(labelled.nonzero().flatten())
