"""Computational sequences of the CMU Multimodal SDK: HDF5 files of features and labels by segment."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from typing import NamedTuple

import numpy as np

from mmaffect.data.arrays import Array
from mmaffect.data.assemble import assemble
from mmaffect.data.csd_file import CsdFile
from mmaffect.data.csd_labels import ALL_LABELS, ZeroRows, csd_targets
from mmaffect.data.frames import stack_frames
from mmaffect.data.load import Splits
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.recipe import NonFinite
from mmaffect.data.split_recipe import SPLITS
from mmaffect.ops import InputError, check_choice

_SEGMENT = re.compile(r"(.+)\[(\d+)\]")


class _Segment(NamedTuple):
    """Whose it is, and from when to when, ``(2,)`` in seconds."""

    video: str
    interval: Array


def read_csd(
    paths: Mapping[str, str | PathLike[str]],
    labels: str | PathLike[str],
    splits: Mapping[str, Sequence[str]],
    *,
    target: str = "sentiment",
    zero_rows: ZeroRows | None = None,
    columns: Sequence[str] | None = None,
    nonfinite: NonFinite = "zero",
    normalise: Sequence[str] = (),
    clip: float = 10.0,
) -> Splits:
    """Read ``.csd`` files (Zadeh et al., 2018), aligned by the SDK or not.

    ``/<root>/data/<key>/{features (n, D), intervals (n, 2)}``; the root's name is not the file's, the first is taken.
    After the SDK's alignment keys are segments, ``video[3]``; without, they are videos, and row i of a video's labels
    is its segment i. A segment's frames are those of its own key, else those of its video whose interval overlaps
    the segment's. The SDK omits a segment from a modality where nothing overlaps, so that files differ in their keys:
    here such a segment lacks that modality, and is counted in ``report.missing``. Segments a modality has but the
    labels lack are unlabelled, and counted too.

    Args:
        paths: file by name of the modality, in the order wanted.
        labels: file of labels: "All Labels" of MOSEI, ``(n, 7)``, or "Opinion Segment Labels" of MOSI, ``(n, 1)``.
        splits: names of the videos in ``"train"``, ``"valid"`` and ``"test"``. Other videos are in
            ``report.rows`` alone.
        target: ``"sentiment"`` (a score) or ``"emotion"``: six labels, 1 where the intensity is above 0, since a
            segment can show several.
        zero_rows: for ``"emotion"``, what becomes of the many rows whose six intensities are all 0: ``"drop"``:
            they are unlabelled; ``"neutral"``: they get a seventh label of that name; ``"keep"``: they show none of
            the six; ``"argmax"``: they show the first, as in code that takes the largest of equals (with the
            usual order: happy, a plain error, here for comparison only). To be said, as it changes every result.
        columns: names of the columns of ``labels``; None: those of the SDK, ``sentiment`` and, where there are seven
            columns, happy, sad, anger, surprise, disgust, fear. Legacy ``.h5`` files use another order.
        nonfinite: what becomes of NaN and infinity: ``"zero"``, ``"absent"`` (the frame is missing) or ``"raise"``.
        normalise: modalities to be standardised by statistics of the training split.
        clip: standardised values are held within this many standard deviations.

    Returns:
        ``train``, ``valid``, ``test`` (single samples, grouped by ``"video"``), ``report``, ``normaliser``.

    Raises:
        InputError: naming file, key, what was given and what was expected; or if h5py is not installed.
    """
    if not paths:
        raise InputError("paths: expected a file for at least one modality, got none")
    check_choice("target", target, ("sentiment", "emotion"))
    parts = _splits(splits)
    with ExitStack() as stack:
        segments, table = _segments(stack.enter_context(CsdFile(labels)))
        names = _columns(table, columns, str(labels))
        files = {name: stack.enter_context(CsdFile(path)) for name, path in paths.items()}
        unlabelled = {key for file in files.values() for key in file.keys if _SEGMENT.fullmatch(key)} - set(segments)
        for key in sorted(unlabelled):
            segments[key] = _Segment(_video(key), np.full(2, np.nan))
        table = np.concatenate([table, np.full((len(unlabelled), table.shape[1]), np.nan)])
        rows = {name: _modality(file, segments, nonfinite) for name, file in files.items()}
    found = csd_targets(table, names, target, zero_rows, str(labels))
    code = {video: k for k, videos in enumerate(parts) for video in videos}
    video = [segment.video for segment in segments.values()]
    return assemble(
        str(labels),
        list(segments),
        rows,
        found.targets,
        np.array([code.get(name, -1) for name in video]),
        kind="score" if target == "sentiment" else "multilabel",
        classes=found.classes,
        groups={"video": video},
        normalise=normalise,
        clip=clip,
    )


def _splits(splits: Mapping[str, Sequence[str]]) -> list[set[str]]:
    if set(splits) != set(SPLITS):
        raise InputError(
            f"splits: expected videos for each of {', '.join(SPLITS)}, got {', '.join(splits) or 'nothing'}"
        )
    parts = [set(splits[name]) for name in SPLITS]
    twice = (parts[0] & parts[1]) | (parts[0] & parts[2]) | (parts[1] & parts[2])
    if twice:
        raise InputError(f"splits: expected every video in one split, got {min(twice)!r} in two")
    return parts


def _columns(table: Array, columns: Sequence[str] | None, label: str) -> tuple[str, ...]:
    width = table.shape[1]
    names = tuple(columns) if columns is not None else ALL_LABELS[:width] if width in (1, len(ALL_LABELS)) else ()
    if len(names) != width:
        wanted = f"{len(names)} ({', '.join(names)})" if columns is not None else f"1 or {len(ALL_LABELS)}"
        raise InputError(f"{label}: expected {wanted} columns of labels, got {width}; name them in 'columns'")
    return names


def _video(key: str) -> str:
    match = _SEGMENT.fullmatch(key)
    return match[1] if match else key


def _segments(file: CsdFile) -> tuple[dict[str, _Segment], Array]:
    """Segments by name, and their labels ``(N, C)``.

    Where the SDK's alignment left several rows to a segment (its neighbours', where they overlap), the longest counts.
    """
    segments: dict[str, _Segment] = {}
    rows: list[Array] = []
    for key in file.keys:
        entry = file.read(key)
        if _SEGMENT.fullmatch(key):
            chosen = [int(np.argmax(entry.intervals[:, 1] - entry.intervals[:, 0]))] if len(entry.features) else []
            names = [key]
        else:
            chosen = list(range(len(entry.features)))
            names = [f"{key}[{i}]" for i in chosen]
        for name, row in zip(names, chosen, strict=False):
            if name in segments:
                raise InputError(f"{file.path}: expected labels by segment or by video, got both for {name!r}")
            segments[name] = _Segment(_video(name), entry.intervals[row])
            rows.append(entry.features[row])
    widths = sorted({len(row) for row in rows})
    if len(widths) != 1:
        raise InputError(f"{file.path}: expected labels of one width, got {', '.join(map(str, widths)) or 'no labels'}")
    return segments, np.stack(rows).astype(np.float64)


def _modality(file: CsdFile, segments: Mapping[str, _Segment], nonfinite: NonFinite) -> ModalityRows:
    frames: list[Array] = []
    steps = np.zeros(len(segments), dtype=np.int64)
    video, whole = "", None
    for index, (key, segment) in enumerate(segments.items()):
        if key in file:
            found = file.read(key).features
        elif segment.video in file:
            if video != segment.video or whole is None:  # segments of a video follow each other
                video, whole = segment.video, file.read(segment.video)
            start, end = segment.interval
            found = whole.features[(whole.intervals[:, 0] < end) & (whole.intervals[:, 1] > start)]
        else:
            continue
        steps[index] = len(found)
        if len(found):
            with np.errstate(over="ignore"):
                frames.append(found.astype(np.float32))
    return stack_frames(frames, steps, str(file.path), nonfinite=nonfinite)
