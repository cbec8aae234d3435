"""One vector an utterance, from a folder of ``.npy`` files."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from mmaffect.data.arrays import Array
from mmaffect.data.frames import stack_frames
from mmaffect.data.modality_rows import ModalityRows
from mmaffect.data.recipe import NonFinite
from mmaffect.ops import InputError, check_choice

Faces = Literal["speaker", "all"]


def read_features(
    folder: str | PathLike[str],
    utterances: Sequence[str],
    speakers: Sequence[str],
    *,
    faces: Faces = "speaker",
    nonfinite: NonFinite = "zero",
) -> ModalityRows:
    """Read ``<utterance>.npy``, or all ``.npy`` of a folder ``<utterance>/``, averaged over time.

    The mean is over what is finite, column by column; what is not is counted, and a column without anything finite is
    treated as ``nonfinite`` says. An utterance without a file, or with an empty one, lacks the modality.

    Args:
        folder: the features of one modality.
        utterances: their names.
        speakers: who speaks each; ``""`` where unknown.
        faces: of a folder ``<utterance>/``, which holds a file a face: those whose file name, apart from the
            utterance's, contains the speaker's name, or all. All where the speaker is unknown.
        nonfinite: ``"zero"``, ``"absent"`` (the utterance lacks the modality) or ``"raise"``.

    Returns:
        One row an utterance.

    Raises:
        InputError: if the folder or all files are missing, a name is no file name, or an array is damaged, holds
            objects, or is of another shape than ``(D,)`` or ``(T, D)``.
    """
    check_choice("faces", faces, ("speaker", "all"))
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: not found; expected a folder of features, one .npy file or folder an utterance")
    means: dict[int, Array] = {}
    repaired = 0
    for index, (name, speaker) in enumerate(zip(utterances, speakers, strict=True)):
        frames = [_frames(path) for path in _files(folder, name, speaker if faces == "speaker" else "")]
        frames = [part for part in frames if len(part)]
        widths = {part.shape[1] for part in frames}
        if len(widths) > 1:
            raise InputError(f"{folder / name}: expected arrays of one width, got {sorted(widths)}")
        if frames:
            means[index], wrong = _mean(np.concatenate(frames))
            repaired += wrong
    if not means:
        raise InputError(
            f"{folder}: expected an .npy file or folder for each of {len(utterances)} utterances, got none"
        )
    if repaired and nonfinite == "raise":
        raise InputError(
            f"{folder}: {repaired} values are NaN or infinite; expected finite values, or nonfinite = 'zero'"
        )
    steps = np.isin(np.arange(len(utterances)), list(means))
    width = next(iter(means.values())).shape[0]
    for index, mean in means.items():
        if mean.shape[0] != width:
            raise InputError(f"{folder / utterances[index]}: expected {width} columns as before, got {mean.shape[0]}")
    # Time is shared in a dialogue, so that an utterance that lacks the modality has a row too, which is not observed.
    table = np.zeros((len(utterances), width), dtype=np.float32)
    table[list(means)] = np.stack(list(means.values()))
    rows = stack_frames([table], np.ones(len(table)), str(folder), nonfinite=nonfinite, observed=steps)
    return rows._replace(repaired=repaired)


def _files(folder: Path, name: str, speaker: str) -> list[Path]:
    if name in ("", ".", "..") or any(c in name for c in "/\\\0"):
        raise InputError(f"{folder}: expected names of utterances that can be file names, got {name[:80]!r}")
    if (folder / f"{name}.npy").is_file():
        return [folder / f"{name}.npy"]
    found = sorted((folder / name).glob("*.npy")) if (folder / name).is_dir() else []
    return [path for path in found if speaker in path.stem.replace(name, "")]


def _frames(path: Path) -> Array:
    """Frames ``(T, D)`` of a file, in float64."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path}: cannot be read as an array of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise InputError(f"{path}: expected numbers, got {getattr(array, 'dtype', type(array).__name__)}")
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise InputError(f"{path}: expected shape (D,) or (T, D), got {array.shape}")
    return array.reshape(-1, array.shape[-1]).astype(np.float64)


def _mean(frames: Array) -> tuple[Array, int]:
    """Mean over the finite values of each column, NaN where there are none; and how many are not finite."""
    finite = np.isfinite(frames)
    count = finite.sum(0)
    total = np.where(finite, frames, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), int((~finite).sum())
