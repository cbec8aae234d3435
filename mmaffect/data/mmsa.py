"""Pickles of MMSA and CH-SIMS: aligned and unaligned MOSI, MOSEI, SIMS."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mmaffect.data.arrays import Array
from mmaffect.data.assemble import assemble
from mmaffect.data.frames import nonzero_frames, stack_frames, up_to_last
from mmaffect.data.load import Splits
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.pickled_splits import SplitTable, read_split_tables
from mmaffect.data.recipe import NonFinite
from mmaffect.data.targets import UNLABELLED, Targets
from mmaffect.data.vocabulary import Vocabulary
from mmaffect.ops import InputError, check_choice

BERT = Vocabulary(30522, unknown=100, mask=103, special=(0, 100, 101, 102, 103))
_POLARITIES = ("negative", "neutral", "positive")


def read_mmsa(
    path: str | PathLike[str],
    *,
    modalities: Sequence[str] = ("text", "audio", "vision"),
    text: Literal["text", "text_bert", "tokens"] = "text",
    vocabulary: Vocabulary = BERT,
    target: str = "regression",
    classes: Sequence[str] = _POLARITIES,
    nonfinite: NonFinite = "zero",
    normalise: Sequence[str] = (),
    clip: float = 10.0,
) -> Splits:
    """Read a pickle of MMSA (Yu et al., 2020; Mao et al., 2022), aligned or not, or of CH-SIMS.

    ``{"train", "valid", "test"}``, each with ``text (N, T, 768)`` (frozen BERT), ``text_bert (N, 3, T)`` (ids, mask,
    segments), ``audio``, ``vision (N, T, D)``, ``id`` (``"video$_$clip"``) and labels. Each modality is cut to its
    real frames, which come first: by ``NAME_lengths`` where the file has them (unaligned); for the text by the mask in
    ``text_bert``; else up to the last frame that is not all zero. So all frames of an aligned file keep their number,
    and step k of one modality is step k of the other. A modality without a frame is missing, and counted.

    Values become float32. NaN and infinity, which COVAREP features hold, are treated as ``nonfinite`` says, and counted
    in ``report.repaired``. Labels outside the usual range are kept as they are, those that are NaN are unlabelled.

    Args:
        path: the file.
        modalities: keys of the file, in the order wanted; any with an array ``(N, T, D)``.
        text: what stands for the modality ``"text"``: ``"text"``, vectors of a frozen BERT; ``"tokens"``, the ids in
            ``text_bert``, a token modality (see ``DataSpec.tokens``); ``"text_bert"``, its int64 columns ids, mask,
            segments.
        vocabulary: of the tokenizer that made ``text_bert``, for ``"tokens"``: that of BERT, uncased, by default; a
            Chinese BERT's (CH-SIMS) has 21128 ids.
        target: ``"regression"`` (scores) or ``"classification"`` (classes), with ``"_T"``, ``"_A"``, ``"_V"`` for the
            labels of CH-SIMS that were given to one modality alone.
        classes: names of the classes 0, 1, …
        nonfinite: ``"zero"``, ``"absent"`` (the frame is missing) or ``"raise"``.
        normalise: modalities to be standardised by statistics of the training split.
        clip: standardised values are held within this many standard deviations.

    Returns:
        ``train``, ``valid``, ``test`` (single samples, grouped by ``"video"``), ``report``, ``normaliser``.

    Raises:
        InputError: naming file, split, key, what was given and what was expected.
    """
    label = str(Path(path))
    check_choice("text", text, ("text", "text_bert", "tokens"))
    kind, _, suffix = target.partition("_")
    check_choice("target", kind, ("regression", "classification"))
    if not modalities or len(set(modalities)) != len(modalities):
        raise InputError(f"modalities: expected different keys of the file, at least one, got {tuple(modalities)}")
    tables = read_split_tables(path, "id")
    rows = {}
    for name in modalities:
        key = "text_bert" if name == "text" and text == "tokens" else text if name == "text" else name
        parts = [_tokens(table) if key == "text_bert" else _frames(table, key) for table in tables]
        rows[name] = stack_frames(
            [frames for frames, _ in parts],
            np.concatenate([steps for _, steps in parts]),
            f"{label}: {key!r}",
            nonfinite=nonfinite,
        )
    tokens = {"text": vocabulary} if text == "tokens" and "text" in rows else {}
    for name in tokens:
        rows[name] = _ids(rows[name], vocabulary, f"{label}: 'text_bert'")
    key = f"{kind}_labels{'_' if suffix else ''}{suffix}"
    columns = [table.numbers(key, "N") for table in tables]
    ids = ["$_$".join(parts) for table in tables for parts in table.names("id")]
    return assemble(
        label,
        ids,
        rows,
        _scores(columns, tables, key) if kind == "regression" else _classes(columns, tables, key, len(classes)),
        np.repeat(np.arange(3), [len(column) for column in columns]),
        kind="score" if kind == "regression" else "class",
        classes=("sentiment",) if kind == "regression" else classes,
        groups={"video": [name.split("$_$")[0] for name in ids]},
        normalise=normalise,
        clip=clip,
        tokens=tokens,
    )


def _ids(rows: ModalityRows, vocabulary: Vocabulary, where: str) -> ModalityRows:
    """The ids of the columns ids, mask, segments; a sentence that is start and end alone is not there."""
    ids = rows.values[:, 0].contiguous()
    if len(ids) and int(ids.max()) >= vocabulary.size:
        raise InputError(f"{where}: expected token ids of 0 … {vocabulary.size - 1}, got {int(ids.max())}")
    word = ~torch.isin(ids, torch.tensor(vocabulary.protected, dtype=torch.int64))
    words = torch.zeros(len(rows.spans), dtype=torch.int64).index_add_(0, rows.owner, word.long())
    observed = words[rows.owner] > 0
    return rows._replace(values=ids, observed=observed, valid=observed)


def _frames(table: SplitTable, key: str) -> tuple[Array, Array]:
    array = table.numbers(key, "N T D")
    steps = np.arange(array.shape[1])
    if f"{key}_lengths" in table:
        real = steps < table.counts(f"{key}_lengths", len(steps))[:, None]
    elif key == "text" and "text_bert" in table:
        real = _mask(table)
        if real.shape != array.shape[:2]:
            raise InputError(
                f"{table.where}: 'text_bert': expected {len(steps)} steps as in 'text', got {real.shape[1]}"
            )
    else:
        real = up_to_last(nonzero_frames(array))
    with np.errstate(over="ignore"):
        return array[real].astype(np.float32), real.sum(1)


def _mask(table: SplitTable) -> Array:
    mask = table.numbers("text_bert", "N 3 T")[:, 1]
    if not np.isin(mask, (0, 1)).all() or (np.diff(mask.astype(np.int8), axis=1) > 0).any():
        raise InputError(f"{table.where}: 'text_bert': expected a mask of ones, then zeros, in its second row")
    return mask.astype(bool)


def _tokens(table: SplitTable) -> tuple[Array, Array]:
    array, real = table.numbers("text_bert", "N 3 T"), _mask(table)
    if not ((array >= 0) & (array < 2**31) & (array % 1 == 0)).all():
        raise InputError(f"{table.where}: 'text_bert': expected whole numbers of at least 0")
    return array.transpose(0, 2, 1)[real].astype(np.int64), real.sum(1)


def _scores(columns: list[Array], tables: list[SplitTable], key: str) -> Targets:
    for column, table in zip(columns, tables, strict=True):
        if np.isinf(column).any():
            raise InputError(f"{table.where}: {key!r}: expected finite scores, or NaN, got infinity")
    values = torch.from_numpy(np.concatenate(columns).astype(np.float32))
    return Targets(values, ~values.isnan())


def _classes(columns: list[Array], tables: list[SplitTable], key: str, classes: int) -> Targets:
    codes = [np.where(np.isnan(column), UNLABELLED, column) for column in columns]
    for column, table in zip(codes, tables, strict=True):
        wrong = column[~np.isin(column, [UNLABELLED, *range(classes)])]
        if len(wrong):
            raise InputError(
                f"{table.where}: {key!r}: expected classes 0 … {classes - 1}, got {wrong[0]} ({len(wrong)} samples "
                "hold such values); name all classes in 'classes'"
            )
    values = torch.from_numpy(np.concatenate(codes).astype(np.int64))
    return Targets(values, values != UNLABELLED)
