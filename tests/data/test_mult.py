import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmaffect.data import read_mult
from mmaffect.ops import InputError

SIZES = {"train": 3, "valid": 2, "test": 2}


def content(*, steps: tuple[int, int, int] = (5, 5, 5), emotions: int = 0, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The layout of MulT: text, audio, vision of 2, 3 and 4 columns, zeros in front."""
    rng = np.random.default_rng(seed)
    made = {}
    for split, size in SIZES.items():
        table: dict[str, Any] = {}
        for name, total, width in zip(("text", "audio", "vision"), steps, (2, 3, 4), strict=True):
            lengths = 1 + np.arange(size) % total
            real = np.arange(total) >= total - lengths[:, None]
            table[name] = rng.normal(1, 1, (size, total, width)) * real[..., None]
        if emotions:
            yes = rng.integers(0, 2, (size, emotions))
            table["labels"] = np.eye(2)[yes]
        else:
            table["labels"] = np.linspace(-3, 3, size, dtype=np.float32)[:, None, None]
            table["id"] = np.array([[f"{split}{i // 2}", f"{i}.5", f"{i + 1}.5"] for i in range(size)]).astype("S")
        made[split] = table
    return made


def save(folder: Path, data: object) -> Path:
    path = folder / "mosei_senti_data.pkl"
    path.write_bytes(pickle.dumps(data, 2))
    return path


def test_zeros_in_front_are_padding(tmp_path: Path) -> None:
    data = content(steps=(5, 9, 7))
    splits = read_mult(save(tmp_path, data))
    for split, dataset in zip(SIZES, splits[:3], strict=True):
        for i in range(SIZES[split]):
            sample = dataset[i]
            for name, value in sample.inputs.items():
                np.testing.assert_array_equal(value, data[split][name][i, -(1 + i) :].astype(np.float32))
                assert value.dtype == torch.float32
                assert sample.masks[name].tolist() == [True] * (1 + i)
            assert sample.target.item() == pytest.approx(data[split]["labels"][i, 0, 0])
    assert splits.train.ids == ("train0$_$0.5$_$1.5", "train0$_$1.5$_$2.5", "train1$_$2.5$_$3.5")
    assert splits.train.groups == {"video": ("train0", "train0", "train1")}
    assert splits.train.spec.classes == ("sentiment",)
    assert dict(splits.train.spec.modalities) == {"text": 2, "audio": 3, "vision": 4}


def test_zeros_between_frames_are_frames(tmp_path: Path) -> None:
    data = content(steps=(5, 9, 7))
    data["train"]["audio"][2, -2] = 0
    sample = read_mult(save(tmp_path, data)).train[2]
    assert sample.masks["audio"].tolist() == [True] * 3
    assert sample.inputs["audio"][1].tolist() == [0.0, 0.0, 0.0]


def test_aligned_modalities_keep_one_clock(tmp_path: Path) -> None:
    data = content()
    data["train"]["audio"][2, :4] = 0  # text has 3 words; the sound starts with the last
    data["train"]["vision"][2] = 0
    splits = read_mult(save(tmp_path, data))
    sample = splits.train[2]
    assert {name: len(value) for name, value in sample.inputs.items()} == {"text": 3, "audio": 3, "vision": 3}
    assert {name: mask.tolist() for name, mask in sample.masks.items()} == {
        "text": [True, True, True],
        "audio": [False, False, True],
        "vision": [False, False, False],
    }
    np.testing.assert_array_equal(sample.inputs["audio"], data["train"]["audio"][2, 2:].astype(np.float32))
    assert splits.report.missing == {"text": 0, "audio": 0, "vision": 1}
    apart = read_mult(save(tmp_path, data), aligned=False)
    assert {name: len(value) for name, value in apart.train[2].inputs.items()} == {"text": 3, "audio": 1, "vision": 0}
    assert apart.report.missing == splits.report.missing


def test_samples_without_text_stay(tmp_path: Path) -> None:
    data = content(steps=(5, 9, 7))
    data["train"]["text"][0] = 0
    splits = read_mult(save(tmp_path, data))
    assert splits.train.batch().present.tolist() == [[False, True, True], [True] * 3, [True] * 3]
    assert splits.report.missing["text"] == 1


def test_infinity_is_repaired_and_counted(tmp_path: Path) -> None:
    data = content(steps=(5, 9, 7))
    data["train"]["audio"][1, -2] = [-np.inf, 0, 0]  # the first frame that is there
    splits = read_mult(save(tmp_path, data))
    assert splits.train[1].inputs["audio"].shape == (2, 3)
    assert splits.train[1].inputs["audio"][0].tolist() == [0.0, 0.0, 0.0]
    assert splits.report.repaired == {"text": 0, "audio": 1, "vision": 0}
    absent = read_mult(save(tmp_path, data), nonfinite="absent")
    assert absent.train[1].masks["audio"].tolist() == [False, True]


def test_one_hot_emotions(tmp_path: Path) -> None:
    data = content(steps=(5, 9, 7), emotions=4)
    data["train"]["labels"][0] = [[0, 1], [1, 0], [1, 0], [0, 1]]
    splits = read_mult(save(tmp_path, data))
    assert splits.train.targets[0].tolist() == [1, 0, 0, 1]
    assert splits.train.spec.target == "multilabel"
    assert splits.train.spec.classes == ("neutral", "happy", "sad", "angry")
    assert splits.train.ids == ("train-0", "train-1", "train-2")
    assert splits.train.groups == {}
    named = read_mult(save(tmp_path, content(emotions=2)), classes=("calm", "loud"))
    assert named.report.labels["train"].keys() == {"calm", "loud"}


def test_unlabelled_samples_are_counted(tmp_path: Path) -> None:
    data = content()
    data["train"]["labels"][1] = np.nan
    report = read_mult(save(tmp_path, data)).report
    assert (report.dropped_unlabelled, report.samples["train"]) == (1, 2)


def test_names_of_objects_and_single_names(tmp_path: Path) -> None:
    data = content()
    for table in data.values():
        table["id"] = np.array([row[0] + row[1] for row in table["id"].astype(str)], dtype=object)
    splits = read_mult(save(tmp_path, data))
    assert splits.train.ids == ("train00.5", "train01.5", "train12.5")
    assert splits.train.groups == {}


def spoil(data: dict[str, Any], split: str, key: str, value: object) -> dict[str, Any]:
    data[split][key] = value
    return data


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"train": {}, "valid": {}, "test": {}}, {}, "train: 'labels': no such key; known: nothing"),
        (content(), {"modalities": ("audio", "audio")}, "modalities: expected different keys"),
        (content(), {"modalities": ("words",)}, "train: 'words': no such key"),
        (
            content(steps=(5, 9, 7)),
            {"aligned": True},
            r"train: expected equally many steps in aligned data, got \[5, 7",
        ),
        (content(), {"classes": ("a", "b")}, "'labels': expected a name for each of 1 in 'classes', got"),
        (content(emotions=3), {}, "'labels': expected a name for each of 3 in 'classes'"),
        (spoil(content(), "valid", "labels", np.ones((2, 1, 2))), {}, r"valid: 'labels': expected shape \(N, 1, 1\)"),
        (
            spoil(content(), "valid", "labels", np.full((2, 1, 1), np.inf)),
            {},
            "valid: 'labels': expected finite scores",
        ),
        (spoil(content(emotions=4), "valid", "labels", np.ones((2, 4, 2))), {}, "valid: 'labels': expected one 1 and"),
        (spoil(content(emotions=4), "valid", "labels", np.full((2, 4, 2), 0.5)), {}, "'labels': expected one 1 and"),
        (
            spoil(content(emotions=4), "valid", "labels", np.eye(2)[np.ones((2, 3), int)]),
            {},
            "'labels': expected equally many emotions in each split",
        ),
        (
            spoil(content(), "test", "vision", np.ones((3, 5, 4))),
            {},
            "test: 'vision': expected 2 entries as in 'labels'",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_mult(save(tmp_path, data), **options)
