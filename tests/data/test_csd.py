import builtins
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmaffect.data import read_csd
from mmaffect.ops import InputError

h5py = pytest.importorskip("h5py")

SPLITS = {"train": ["a", "b"], "valid": ["c"], "test": ["d"]}
# sentiment, happy, sad, anger, surprise, disgust, fear
LABELS = {
    "a[0]": [1.5, 2, 0, 0, 1 / 3, 0, 0],
    "a[1]": [-3.5, 0, 0, 0, 0, 0, 0],
    "b[0]": [0, 0, 1, 2, 0, 0, 0],
    "c[0]": [1, 0, 0, 0, 0, 0, 3],
    "c[1]": [1, 0, 0, 0, 0, 0, 0],
    "d[0]": [2, 1, 0, 0, 0, 0, 0],
}


def write(path: Path, entries: Mapping[str, tuple[Any, Any]], root: str = "Something Else") -> Path:
    with h5py.File(path, "w") as file:
        for key, (features, intervals) in entries.items():
            group = file.create_group(f"{root}/data/{key}")
            group["features"] = np.asarray(features)
            group["intervals"] = np.asarray(intervals, dtype=np.float32).reshape(-1, 2)
        file[f"{root}/metadata/md5"] = ['"x"']
    return path


def frames(seed: int, count: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def times(count: int) -> list[list[float]]:
    return [[i, i + 1.0] for i in range(count)]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write(tmp_path / "labels.csd", {k: ([row], [[0, 1]]) for k, row in LABELS.items()}, "All Labels")


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """Aligned: text has every segment, audio lacks a[1] and d[0]."""
    text = {key: (frames(i, 1 + i, 3), times(1 + i)) for i, key in enumerate(LABELS)}
    audio = {key: (frames(10 + i, 2, 2), times(2)) for i, key in enumerate(LABELS) if key not in ("a[1]", "d[0]")}
    return {"text": write(tmp_path / "glove.csd", text), "audio": write(tmp_path / "covarep.csd", audio)}


def test_segments_are_those_of_the_files(paths: dict[str, Path], labels: Path) -> None:
    splits = read_csd(paths, labels, SPLITS)
    assert splits.train.ids == ("a[0]", "a[1]", "b[0]")
    assert splits.valid.ids == ("c[0]", "c[1]")
    assert splits.test.ids == ("d[0]",)
    assert splits.train.groups == {"video": ("a", "a", "b")}
    np.testing.assert_array_equal(splits.train[2].inputs["text"], frames(2, 3, 3))
    np.testing.assert_array_equal(splits.valid[1].inputs["audio"], frames(14, 2, 2))
    assert splits.train.targets.tolist() == [1.5, -3.5, 0]
    assert dict(splits.train.spec.modalities) == {"text": 3, "audio": 2}
    assert (splits.train.spec.target, splits.train.spec.classes) == ("score", ("sentiment",))
    assert splits.train.values["text"].dtype == torch.float32


def test_segments_that_a_file_omits_lack_the_modality_and_are_counted(paths: dict[str, Path], labels: Path) -> None:
    splits = read_csd(paths, labels, SPLITS)
    assert splits.report.missing == {"text": 0, "audio": 2}
    assert splits.train.batch().present.tolist() == [[True, True], [True, False], [True, True]]
    assert splits.test.batch().present.tolist() == [[True, False]]
    audio = read_csd({"audio": paths["audio"]}, labels, SPLITS | {"test": ["b"], "train": ["a"]})
    assert audio.train.ids == ("a[0]",)
    assert audio.report.dropped_empty == 2


def test_segments_without_labels_and_videos_in_no_split_are_counted(
    tmp_path: Path, paths: dict[str, Path], labels: Path
) -> None:
    paths["vision"] = write(tmp_path / "v.csd", {"a[7]": (frames(0, 1, 2), times(1)), "z[0]": ([[1.0, 2]], [[0, 1]])})
    splits = read_csd(paths, labels, SPLITS)
    assert splits.report.missing == {"text": 2, "audio": 4, "vision": 6}
    assert (splits.report.rows, splits.report.labelled, splits.report.dropped_unlabelled) == (8, 6, 2)
    fewer = read_csd({"text": paths["text"]}, labels, SPLITS | {"train": ["b"]})
    assert fewer.report.rows == 6
    assert fewer.report.samples == {"train": 1, "valid": 2, "test": 1}


EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


@pytest.mark.parametrize(
    ("rule", "train", "valid"),
    [
        ("drop", [[1, 0, 0, 1, 0, 0], [0, 1, 1, 0, 0, 0]], [[0, 0, 0, 0, 0, 1]]),
        ("keep", [[1, 0, 0, 1, 0, 0], [0] * 6, [0, 1, 1, 0, 0, 0]], [[0, 0, 0, 0, 0, 1], [0] * 6]),
        (
            "neutral",
            [[1, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0, 0]],
            [[0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1]],
        ),
        (
            "argmax",
            [[1, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0]],
            [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]],
        ),
    ],
)
def test_rows_without_any_emotion(
    paths: dict[str, Path], labels: Path, rule: Any, train: list[list[int]], valid: list[list[int]]
) -> None:
    splits = read_csd(paths, labels, SPLITS, target="emotion", zero_rows=rule)
    assert splits.train.targets.tolist() == train
    assert splits.valid.targets.tolist() == valid
    assert splits.report.dropped_unlabelled == (2 if rule == "drop" else 0)
    assert splits.train.spec.target == "multilabel"
    assert splits.train.spec.classes == EMOTIONS + (("neutral",) if rule == "neutral" else ())


def test_other_columns_and_unlabelled_rows(tmp_path: Path, paths: dict[str, Path]) -> None:
    table = {k: ([[0.0, 1.0]], [[0, 1]]) for k in LABELS}
    table["a[1]"] = ([[np.nan, 1.0]], [[0, 1]])
    path = write(tmp_path / "two.csd", table)
    splits = read_csd(paths, path, SPLITS, target="emotion", zero_rows="drop", columns=("calm", "loud"))
    assert splits.train.targets.tolist() == [[0, 1], [0, 1]]
    assert splits.report.dropped_unlabelled == 1
    one = write(tmp_path / "mosi.csd", {k: ([[0.5]], [[0, 1]]) for k in LABELS}, "Opinion Segment Labels")
    assert read_csd(paths, one, SPLITS).test.targets.tolist() == [0.5]


def test_files_by_video_are_cut_by_time(tmp_path: Path) -> None:
    labels = write(
        tmp_path / "labels.csd",
        {v: ([[1.0], [2.0]], [[0, 2], [3, 5]]) for v in "abcd"},
    )
    words = [[0, 1.5], [1.5, 2.5], [2.5, 3.0], [4.5, 6.0]]
    text = {v: (np.arange(4.0)[:, None] + 10 * i, words) for i, v in enumerate("abcd")}
    sound = {v: ([[7.0]], [[0.0, 1.0]]) for v in "abcd"} | {"a[1]": ([[8.0], [9.0]], [[3, 4], [4, 5]])}
    paths = {"text": write(tmp_path / "t.csd", text), "audio": write(tmp_path / "s.csd", sound)}
    splits = read_csd(paths, labels, SPLITS)
    assert splits.train.ids == ("a[0]", "a[1]", "b[0]", "b[1]")
    assert splits.train[0].inputs["text"].tolist() == [[0.0], [1.0]]  # [2.5, 3.0] only touches [3, 5]
    assert splits.train[1].inputs["text"].tolist() == [[3.0]]
    assert splits.train[2].inputs["text"].tolist() == [[10.0], [11.0]]
    assert splits.train[1].inputs["audio"].tolist() == [[8.0], [9.0]]  # the segment's own key comes first
    assert splits.train.batch().present[:, 1].tolist() == [True, True, True, False]
    assert splits.train.targets.tolist() == [1, 2, 1, 2]


def test_of_several_rows_of_labels_the_longest_counts(tmp_path: Path, paths: dict[str, Path]) -> None:
    table = {k: ([[1.0], [2.0], [3.0]], [[0, 0.1], [0.1, 4], [4, 4.2]]) for k in LABELS}
    table["a[1]"] = (np.zeros((0, 1)), np.zeros((0, 2)))
    splits = read_csd(paths, write(tmp_path / "several.csd", table), SPLITS)
    assert splits.train.ids == ("a[0]", "b[0]")
    assert splits.train.targets.tolist() == [2.0, 2.0]
    assert splits.report.dropped_unlabelled == 1


def test_infinity_is_repaired_and_counted(tmp_path: Path, paths: dict[str, Path], labels: Path) -> None:
    sound = {k: (np.array([[-np.inf, 1.0], [np.nan, 2.0]]), times(2)) for k in ("a[0]", "c[0]")}
    sound["b[0]"] = (np.array([[1.0, 3.0]]), times(1))
    paths["audio"] = write(tmp_path / "c.csd", sound)
    splits = read_csd(paths, labels, SPLITS)
    assert splits.report.repaired == {"text": 0, "audio": 4}
    assert splits.train[0].inputs["audio"].tolist() == [[0.0, 1.0], [0.0, 2.0]]
    assert read_csd(paths, labels, SPLITS, nonfinite="absent").train.batch().present[:, 1].tolist() == [
        False,
        False,
        True,
    ]
    with pytest.raises(InputError, match=r"c.csd: 4 values in 4 frames are NaN or infinite"):
        read_csd(paths, labels, SPLITS, nonfinite="raise")
    normalised = read_csd(paths, labels, SPLITS, normalise=("audio",))
    np.testing.assert_allclose(normalised.normaliser.mean["audio"], [1.0, 2.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "valence"}, "target: 'valence' is unknown"),
        (
            {"target": "emotion"},
            "zero_rows: expected 'drop', 'neutral', 'keep' or 'argmax', since 2 of 6 labelled rows",
        ),
        ({"target": "emotion", "zero_rows": "happy"}, "zero_rows: 'happy' is unknown"),
        ({"columns": ("a", "b")}, r"labels.csd: expected 2 \(a, b\) columns of labels, got 7; name them in 'columns'"),
        ({"columns": tuple("abcdefg")}, "target = 'sentiment': expected columns for it, got a, b, c"),
    ],
)
def test_wrong_options_are_said(paths: dict[str, Path], labels: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_csd(paths, labels, SPLITS, **options)


def test_wrong_splits_are_said(paths: dict[str, Path], labels: Path) -> None:
    with pytest.raises(InputError, match="splits: expected videos for each of train, valid, test, got train"):
        read_csd(paths, labels, {"train": ["a"]})
    with pytest.raises(InputError, match="splits: expected every video in one split, got 'c' in two"):
        read_csd(paths, labels, SPLITS | {"test": ["d", "c"]})
    with pytest.raises(InputError, match="split 'test': expected labelled samples that have a modality, got none"):
        read_csd(paths, labels, SPLITS | {"test": ["zzz"]})
    with pytest.raises(InputError, match="paths: expected a file for at least one modality"):
        read_csd({}, labels, SPLITS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a[0]": ([[1.0]], [[0, 1]]), "b[0]": ([[1.0, 2.0]], [[0, 1]])}, "expected labels of one width, got 1, 2"),
        ({"a[0]": ([[1.0, 2.0]], [[0, 1]])}, "expected 1 or 7 columns of labels, got 2; name them in 'columns'"),
        ({"a[0]": ([[1.0]], [[0, 1]]), "a": ([[1.0]], [[0, 1]])}, r"by segment or by video, got both for 'a\[0\]'"),
        ({"a[0]": ([[np.inf]], [[0, 1]])}, "expected finite labels, or NaN, got infinity"),
        ({"a[0]": ([1.0], [[0, 1]])}, r"expected features \(n, D\) and intervals \(n, 2\), got \(1,\) and \(1, 2\)"),
        ({"a[0]": ([[1.0]], [[0, 1], [1, 2]])}, r"got \(1, 1\) and \(2, 2\)"),
        ({"a[0]": (np.array([[b"good"]]), [[0, 1]])}, "features: expected numbers, got"),
    ],
)
def test_wrong_labels_are_said(tmp_path: Path, paths: dict[str, Path], table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_csd(paths, write(tmp_path / "wrong.csd", table), SPLITS)


def test_without_h5py_the_extra_is_named(paths: dict[str, Path], labels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"labels.csd: needs h5py .* pip install 'mmaffect\[data\]'"):
        read_csd(paths, labels, SPLITS)
