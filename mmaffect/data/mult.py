"""Pickles of the Multimodal Transformer: MOSI, MOSEI and IEMOCAP, padded at the front."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from mmaffect.data.arrays import Array
from mmaffect.data.assemble import assemble
from mmaffect.data.frames import from_first, nonzero_frames, stack_frames
from mmaffect.data.load import Splits
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.pickled_splits import SplitTable, read_split_tables
from mmaffect.data.recipe import NonFinite
from mmaffect.data.targets import Targets
from mmaffect.ops import InputError

_EMOTIONS = ("neutral", "happy", "sad", "angry")


def read_mult(
    path: str | PathLike[str],
    *,
    modalities: Sequence[str] = ("text", "audio", "vision"),
    aligned: bool | None = None,
    classes: Sequence[str] | None = None,
    nonfinite: NonFinite = "zero",
    normalise: Sequence[str] = (),
    clip: float = 10.0,
) -> Splits:
    """Read a pickle of the Multimodal Transformer (Tsai et al., 2019), as MultiBench uses them too.

    ``{"train", "valid", "test"}``, each with arrays ``(N, T, D)`` by modality, ``labels`` and, mostly, ``id``. Frames
    are padded with zeros at the front: the zero frames before a modality's first that is not are padding, and what is
    zero throughout is missing, and counted. (MultiBench leaves out samples without text; here they stay, with what
    they have.) Where modalities are aligned they keep one clock: each is cut at the first frame of any of them, and
    its own zeros from there on are masked, so that step k of one is step k of the other.

    Labels ``(N, 1, 1)`` are scores; ``(N, C, 2)``, as in IEMOCAP, say for each of C emotions (no, yes), and become
    labels of 0 and 1. Values become float32. NaN and infinity are treated as ``nonfinite`` says and counted in
    ``report.repaired``.

    Args:
        path: the file.
        modalities: keys of the file, in the order wanted.
        aligned: whether steps of the modalities belong together; None: they do where arrays are equally long.
        classes: names of the scores or labels; ``("sentiment",)`` and IEMOCAP's four emotions by default.
        nonfinite: ``"zero"``, ``"absent"`` (the frame is missing) or ``"raise"``.
        normalise: modalities to be standardised by statistics of the training split.
        clip: standardised values are held within this many standard deviations.

    Returns:
        ``train``, ``valid``, ``test`` (single samples; grouped by ``"video"`` where ``id`` has several parts, which
        are joined by ``"$_$"``), ``report``, ``normaliser``.

    Raises:
        InputError: naming file, split, key, what was given and what was expected.
    """
    label = str(Path(path))
    if not modalities or len(set(modalities)) != len(modalities):
        raise InputError(f"modalities: expected different keys of the file, at least one, got {tuple(modalities)}")
    tables = read_split_tables(path, "labels")
    arrays = {name: [table.numbers(name, "N T D") for table in tables] for name in modalities}
    common = [{parts[k].shape[1] for parts in arrays.values()} for k in range(3)]
    if aligned is None:
        aligned = all(len(sizes) == 1 for sizes in common)
    for table, sizes in zip(tables, common, strict=True):
        if aligned and len(sizes) != 1:
            raise InputError(f"{table.where}: expected equally many steps in aligned data, got {sorted(sizes)}")
    rows = _rows(label, arrays, aligned, nonfinite)
    targets, multilabel = _targets(tables, label)
    names = tuple(classes) if classes is not None else _EMOTIONS if multilabel else ("sentiment",)
    width = targets.values.shape[1] if multilabel else 1
    if len(names) != width:
        raise InputError(f"{label}: 'labels': expected a name for each of {width} in 'classes', got {names}")
    ids = [table.names("id") if "id" in table else None for table in tables]
    named = [
        [f"{part}-{i}" for i in range(table.size or 0)] if parts is None else ["$_$".join(p) for p in parts]
        for table, parts, part in zip(tables, ids, ("train", "valid", "test"), strict=True)
    ]
    known = [parts for parts in ids if parts is not None and all(len(p) > 1 for p in parts)]
    return assemble(
        label,
        [name for part in named for name in part],
        rows,
        targets,
        np.repeat(np.arange(3), [len(part) for part in named]),
        kind="multilabel" if multilabel else "score",
        classes=names,
        groups={"video": [p[0] for parts in known for p in parts]} if len(known) == 3 else {},
        normalise=normalise,
        clip=clip,
    )


def _rows(label: str, arrays: dict[str, list[Array]], aligned: bool, nonfinite: NonFinite) -> dict[str, ModalityRows]:
    filled = {name: [from_first(nonzero_frames(part)) for part in parts] for name, parts in arrays.items()}
    clock = [np.logical_or.reduce([parts[k] for parts in filled.values()]) if aligned else None for k in range(3)]
    rows = {}
    for name, parts in arrays.items():
        kept = [own if shared is None else shared for own, shared in zip(filled[name], clock, strict=True)]
        with np.errstate(over="ignore"):
            frames = [part[real].astype(np.float32) for part, real in zip(parts, kept, strict=True)]
        rows[name] = stack_frames(
            frames,
            np.concatenate([real.sum(1) for real in kept]),
            f"{label}: {name!r}",
            nonfinite=nonfinite,
            observed=np.concatenate([own[real] for own, real in zip(filled[name], kept, strict=True)]),
        )
    return rows


def _targets(tables: list[SplitTable], label: str) -> tuple[Targets, bool]:
    """Scores ``(N,)``, or labels ``(N, C)`` of 0 and 1; and whether they are labels."""
    multilabel = tables[0].dimensions("labels")[-1] == 2
    columns = []
    for table in tables:
        array = table.numbers("labels", "N C 2" if multilabel else "N 1 1")
        if multilabel and not (np.isin(array, (0, 1)).all() and (array.sum(-1) == 1).all()):
            raise InputError(f"{table.where}: 'labels': expected one 1 and one 0 for each emotion (no, yes)")
        if not multilabel and np.isinf(array).any():
            raise InputError(f"{table.where}: 'labels': expected finite scores, or NaN, got infinity")
        columns.append((array[:, :, 1] if multilabel else array[:, 0, 0]).astype(np.float32))
    if len({column.shape[1:] for column in columns}) != 1:
        raise InputError(f"{label}: 'labels': expected equally many emotions in each split")
    values = torch.from_numpy(np.concatenate(columns))
    return Targets(values, ~values.reshape(len(values), -1).isnan().any(1)), multilabel
