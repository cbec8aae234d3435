"""Dialogues of GCNet and MoMKE: a pickle of labels and speakers, and a folder of features by modality."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mmaffect.data.arrays import Array
from mmaffect.data.assemble import assemble
from mmaffect.data.load import Splits
from mmaffect.data.recipe import NonFinite
from mmaffect.data.safe_unpickle import safe_unpickle
from mmaffect.data.spec import SequenceKind
from mmaffect.data.targets import Targets
from mmaffect.data.utterance_features import Faces, read_features
from mmaffect.ops import InputError, check_choice

_TABLES = ("utterances", "labels", "speakers", "texts")


class _Dialogues(NamedTuple):
    """Utterances dialogue by dialogue, and the dialogues of each split, as the file names them."""

    dialogue: list[str]
    utterance: list[str]
    label: Array
    speaker: list[str]
    splits: list[set[str]]


def read_gcnet(
    path: str | PathLike[str],
    features: str | PathLike[str],
    modalities: Mapping[str, str],
    *,
    classes: Sequence[str] | None = None,
    fold: str | None = None,
    session: int = 4,
    sequence: SequenceKind = "dialogue",
    context: int = 8,
    faces: Faces = "speaker",
    nonfinite: NonFinite = "zero",
    normalise: Sequence[str] = (),
    clip: float = 10.0,
) -> Splits:
    """Read dialogues as GCNet (Lian et al., 2023) and MoMKE (Xu et al., 2024) keep them.

    The pickle is a list: utterances, labels, speakers and texts by dialogue, then the dialogues for training,
    validation and test (MOSI, MOSEI), or for training and test alone (IEMOCAP). Features lie in
    ``features/<folder>/<utterance>.npy``, ``(D,)`` or ``(T, D)`` (averaged over time), or in a folder
    ``<utterance>/`` of a file a face. An utterance without features lacks that modality, and is counted; it is not
    taken for zeros. NaN and infinity are left out of the average and counted in ``report.repaired``.

    A file without validation dialogues is divided by session, a character of the dialogue's name: ``fold`` is tested,
    the next session in order (the first after the last) is the validation split, and the others train. Without
    ``fold`` the file's test dialogues are tested, and the last session among its training dialogues is the validation
    split. So nothing is selected on the test split, as the original does.

    Args:
        path: the pickle.
        features: folder of the folders of features.
        modalities: folder by name of the modality, in the order wanted.
        classes: names of the classes 0, 1, …; None: labels are scores.
        fold: the session to be tested.
        session: where in a dialogue's name its session stands; for IEMOCAP, ``"Ses01F_impro01"``, 4.
        sequence: ``"dialogue"``, ``"window"`` or ``"single"``.
        context: utterances of a window.
        faces: of a folder of faces, those of the ``"speaker"`` (their file names contain ``F`` or ``M``) or ``"all"``.
        nonfinite: what becomes of a value that is not finite at any time: ``"zero"``, ``"absent"`` or ``"raise"``.
        normalise: modalities to be standardised by statistics of the training split.
        clip: standardised values are held within this many standard deviations.

    Returns:
        ``train``, ``valid``, ``test`` (grouped by ``"dialogue"`` and, where they count, ``"session"`` and
        ``"speaker"``), ``report``, ``normaliser``. Dialogues in no split are counted in ``report.rows`` alone.

    Raises:
        InputError: naming file, entry, what was given and what was expected.
    """
    label = str(Path(path))
    if not modalities:
        raise InputError("modalities: expected at least one, with the folder of its features, got none")
    data = _read(path)
    by_session = len(data.splits) == 2
    if fold is not None and not by_session:
        raise InputError(f"{label}: fold: expected None, since the file has validation dialogues, got {fold!r}")
    groups: dict[str, Sequence[str]] = {"dialogue": data.dialogue}
    splits = data.splits
    known = any(data.speaker)
    if by_session:
        short = [name for name in data.dialogue if len(name) <= session]
        if session < 0 or short:
            raise InputError(
                f"{label}: session: expected a place in every dialogue's name, got {session} in {short[:1]}"
            )
        column = [name[session] for name in data.dialogue]
        groups["session"] = column
        splits = _by_session(label, data, column, session, fold)
    if known:
        prefix = groups.get("session", [""] * len(data.speaker))
        groups["speaker"] = [part + who for part, who in zip(prefix, data.speaker, strict=True)]
    code = {name: k for k, names in enumerate(splits) for name in names}
    return assemble(
        label,
        data.utterance,
        {
            name: read_features(Path(features) / folder, data.utterance, data.speaker, faces=faces, nonfinite=nonfinite)
            for name, folder in modalities.items()
        },
        _targets(label, data.label, classes),
        np.array([code.get(name, -1) for name in data.dialogue]),
        kind="score" if classes is None else "class",
        classes=("sentiment",) if classes is None else classes,
        groups=groups,
        normalise=normalise,
        clip=clip,
        dialogue=data.dialogue,
        speaker=data.speaker if known else None,
        sequence=sequence,
        context=context,
    )


def _read(path: str | PathLike[str]) -> _Dialogues:
    content = safe_unpickle(path)
    if not isinstance(content, list | tuple) or len(content) not in (6, 7):
        given = f"{type(content).__name__} of {len(content)}" if hasattr(content, "__len__") else type(content).__name__
        raise InputError(
            f"{path}: expected a list of {', '.join(_TABLES)}, then train, (valid) and test dialogues, got {given}"
        )
    for name, table in zip(_TABLES, content, strict=False):
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name}: expected a dict by dialogue, got {type(table).__name__}")
    utterances, labels, speakers = (dict(table) for table in content[:3])
    dialogue: list[str] = []
    columns: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for key, names in utterances.items():
        rows = [names, labels.get(key), speakers.get(key)]
        if not all(isinstance(row, list | tuple | np.ndarray) and len(row) == len(names) for row in rows):
            raise InputError(f"{path}: dialogue {str(key)[:80]!r}: expected as many labels and speakers as utterances")
        dialogue += [str(key)] * len(names)
        for column, row in zip(columns, rows, strict=True):
            column.extend(row)
    try:
        label = np.array(columns[1]).astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path}: labels: expected one number an utterance") from None
    if label.shape != (len(dialogue),) or not dialogue:
        raise InputError(f"{path}: labels: expected one number an utterance, got shape {label.shape}")
    parts = []
    for name, part in zip(
        ("train", "valid", "test") if len(content) == 7 else ("train", "test"), content[4:], strict=True
    ):
        if not isinstance(part, set | frozenset | list | tuple | np.ndarray):
            raise InputError(f"{path}: {name} dialogues: expected their names, got {type(part).__name__}")
        parts.append({str(key) for key in part})
        unknown = sorted(parts[-1] - set(dialogue))
        if unknown:
            raise InputError(f"{path}: {name} dialogues: {unknown[0][:80]!r} has no utterances")
    if sum(map(len, parts)) != len(set().union(*parts)):
        raise InputError(f"{path}: expected every dialogue in one split, got some in two")
    return _Dialogues(dialogue, [str(u) for u in columns[0]], label, [str(s) for s in columns[2]], parts)


def _by_session(label: str, data: _Dialogues, column: list[str], session: int, fold: str | None) -> list[set[str]]:
    """Dialogues for training, validation and test."""
    train, test = data.splits
    if fold is None:
        names = sorted({name[session] for name in train})
        if len(names) < 2:
            raise InputError(f"{label}: expected at least 2 sessions in training dialogues, got {names}")
        valid = {name for name in train if name[session] == names[-1]}
        return [train - valid, valid, test]
    names = sorted(set(column))
    if len(names) < 3:
        raise InputError(f"{label}: fold: expected at least 3 sessions (test, valid, train), got {names}")
    check_choice("fold", fold, names)
    following = names[(names.index(fold) + 1) % len(names)]
    of = {part: {d for d, s in zip(data.dialogue, column, strict=True) if s == part} for part in names}
    rest = set().union(*(of[part] for part in names if part not in (fold, following)))
    return [rest, of[following], of[fold]]


def _targets(label: str, values: Array, classes: Sequence[str] | None) -> Targets:
    if classes is None:
        if np.isinf(values).any():
            raise InputError(f"{label}: labels: expected finite scores, or NaN, got infinity")
        if (values % 1 == 0).all() and values.min() >= 0:
            raise InputError(
                f"{label}: labels: expected scores, got whole numbers of 0 … {values.max():.0f}; name the classes in "
                "'classes'"
            )
        scores = torch.from_numpy(values.astype(np.float32))
        return Targets(scores, ~scores.isnan())
    wrong = values[~np.isin(values, np.arange(len(classes)))]
    if len(wrong):
        raise InputError(
            f"{label}: labels: expected classes 0 … {len(classes) - 1}, got {wrong[0]} ({len(wrong)} utterances hold "
            "such labels)"
        )
    return Targets(torch.from_numpy(values.astype(np.int64)), torch.ones(len(values), dtype=torch.bool))
