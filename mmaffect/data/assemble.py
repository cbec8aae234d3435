"""From the rows of a file in one of the field's formats to training, validation and test data."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmaffect.data.arrays import Array
from mmaffect.data.dataset import MultimodalDataset
from mmaffect.data.layout import cut_samples, lay_out, number_speakers
from mmaffect.data.load import Splits
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.normalise import Normaliser, group_statistics
from mmaffect.data.report import Report
from mmaffect.data.spec import DataSpec, SequenceKind, TargetKind
from mmaffect.data.split_recipe import SPLITS
from mmaffect.data.targets import Targets
from mmaffect.data.vocabulary import Vocabulary
from mmaffect.ops import InputError, check_choice, check_positive


def assemble(
    label: str,
    ids: Sequence[str],
    modalities: dict[str, ModalityRows],
    targets: Targets,
    split: Array,
    *,
    kind: TargetKind,
    classes: Sequence[str],
    groups: dict[str, Sequence[str]],
    normalise: Sequence[str],
    clip: float,
    dialogue: Sequence[str] | None = None,
    speaker: Sequence[str] | None = None,
    sequence: SequenceKind = "single",
    context: int = 8,
    tokens: Mapping[str, Vocabulary] | None = None,
) -> Splits:
    """Build three datasets. Samples without a label or without any modality are left out and counted.

    Args:
        label: the file, for messages and for the report.
        ids: names of the rows, all different.
        modalities: by name; one row a sample where time is shared.
        targets: one a row.
        split: 0 = train, 1 = valid, 2 = test, anything else = none of them.
        kind: of target.
        classes: names of classes, labels or scores.
        groups: what each row belongs to, by name of the grouping.
        normalise: modalities to be standardised by the mean and standard deviation of the training split.
        clip: standardised values are held within this many standard deviations.
        dialogue: the conversation of each row; rows of one must follow each other. None: there is none.
        speaker: who speaks; None where unknown.
        sequence: kind of sequence.
        context: rows of a window.
        tokens: the modalities that are token ids, which cannot be normalised; none by default.

    Raises:
        InputError: if a name occurs twice, a modality to be normalised is unknown, token ids, or never seen in
            training, or a split is empty.
    """
    names, counts = np.unique(np.asarray(ids), return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"{label}: expected different names of the samples, got {str(names[counts.argmax()])!r} "
            f"{counts.max()} times"
        )
    check_positive(clip=clip, context=context)
    check_choice("sequence", sequence, ("dialogue", "window", "single"))
    words = dict(tokens or {})
    for name in normalise:
        check_choice("normalise", name, modalities.keys() - words.keys())
    chosen = torch.from_numpy(np.asarray(split))
    layout = lay_out(np.arange(len(ids)) if dialogue is None or sequence == "single" else np.asarray(dialogue))
    who = None
    if speaker is not None and sequence != "single":
        who = torch.from_numpy(number_speakers(layout, np.asarray(speaker)[layout.order]))
    something = torch.stack([modality.there for modality in modalities.values()]).any(0)
    cut = cut_samples(layout, sequence, context, targets.labelled, something)
    samples = {name: int((chosen[cut.row] == code).sum()) for code, name in enumerate(SPLITS)}
    for name, count in samples.items():
        if count == 0:
            raise InputError(f"{label}: split {name!r}: expected labelled samples that have a modality, got none")
    normaliser = _fit(label, {name: modalities[name] for name in normalise}, chosen == 0, clip)
    labels = {name: _count(targets, chosen == code, kind, classes) for code, name in enumerate(SPLITS)}
    train = torch.tensor(list(labels["train"].values()), dtype=torch.float64)
    spec = DataSpec(
        modalities={n: words[n].size if n in words else m.values.shape[1] for n, m in modalities.items()},
        target=kind,
        classes=tuple(classes),
        sequence=sequence,
        speakers=0 if who is None else int(who.max()) + 1,
        class_shares=tuple((train / train.sum()).tolist()) if kind == "class" else (),
        tokens=words,
    )
    values = {
        name: normaliser.apply(name, m.values, m.valid) if name in normaliser.mean else m.values
        for name, m in modalities.items()
    }

    def dataset(code: int) -> MultimodalDataset:
        mine = chosen[cut.row] == code
        spans, rows = cut.spans[mine], cut.row[mine].tolist()
        by_turn = sequence == "dialogue"
        return MultimodalDataset(
            spec,
            values=values,
            observed={name: m.observed for name, m in modalities.items()},
            spans=spans if sequence != "single" else {name: m.spans[rows] for name, m in modalities.items()},
            targets=targets.values if by_turn else targets.values[rows],
            ids=[dialogue[i] if by_turn and dialogue is not None else ids[i] for i in rows],
            row_ids=ids if by_turn else None,
            speaker=who,
            groups={name: _members(column, spans, rows, by_turn) for name, column in groups.items()},
        )

    report = Report(
        name=label,
        sequence=sequence,
        rows=len(ids),
        labelled=int(targets.labelled.sum()),
        samples=samples,
        labels=labels,
        repaired={name: m.repaired for name, m in modalities.items()},
        missing={name: int((~m.there).sum()) for name, m in modalities.items()},
        empty_rows=int((~something).sum()),
        dropped_unlabelled=cut.unlabelled,
        dropped_empty=cut.empty,
    )
    return Splits(dataset(0), dataset(1), dataset(2), report, normaliser)


def _members(column: Sequence[str], spans: Tensor, rows: list[int], by_turn: bool) -> list[str]:
    """What each sample belongs to; several names (the speakers of a dialogue) are joined by "+"."""
    if not by_turn:
        return [column[i] for i in rows]
    return ["+".join(sorted(set(column[start:stop]))) for start, stop in spans.tolist()]


def _fit(label: str, modalities: dict[str, ModalityRows], training: Tensor, clip: float) -> Normaliser:
    mean, sd = {}, {}
    for name, modality in modalities.items():
        used = training[modality.owner]
        values, valid = modality.values[used], modality.valid[used]
        found = group_statistics(values, valid, torch.zeros(len(values), dtype=torch.int64), 1)
        empty = int((found.number[0] == 0).sum())
        if empty:
            raise InputError(
                f"{label}: {name}: expected finite values in the training split, got none in {empty} columns of "
                f"{values.shape[1]}"
            )
        mean[name], sd[name] = found.mean[0], found.sd[0]
    return Normaliser(mean, sd, clip)


def _count(targets: Targets, mine: Tensor, kind: TargetKind, classes: Sequence[str]) -> dict[str, int]:
    """Labelled rows by class, label (where it is 1) or score."""
    values = targets.values[mine & targets.labelled]
    if kind == "class":
        counts = torch.bincount(values, minlength=len(classes))
    else:
        columns = values.reshape(len(values), -1)
        counts = (columns == 1).sum(0) if kind == "multilabel" else (~columns.isnan()).sum(0)
    return dict(zip(classes, counts.tolist(), strict=True))
