import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmaffect.data import Normaliser, Vocabulary, read_mmsa
from mmaffect.ops import InputError

SIZES = {"train": 4, "valid": 2, "test": 2}


def content(*, unaligned: bool = False, seed: int = 0) -> dict[str, dict[str, Any]]:
    """The layout of MMSA: text 6 steps, audio and vision 6 (aligned) or 8 and 5, real frames first."""
    rng = np.random.default_rng(seed)
    made = {}
    for split, size in SIZES.items():
        text = np.array([2 + i % 5 for i in range(size)])
        audio = np.array([1 + (2 * i) % 8 for i in range(size)]) if unaligned else text - 1
        vision = np.array([1 + i % 5 for i in range(size)]) if unaligned else text - 1
        mask = (np.arange(6) < text[:, None]).astype(np.int64)
        ids = rng.integers(1000, 2000, (size, 6)) * mask

        def frames(lengths: np.ndarray, steps: int, width: int, dtype: Any) -> np.ndarray:
            drawn = rng.normal(1, 1, (len(lengths), steps, width)).astype(dtype)
            return drawn * (np.arange(steps) < lengths[:, None])[..., None]

        made[split] = {
            "raw_text": np.array(["so good"] * size),
            "audio": frames(audio, 8 if unaligned else 6, 3, np.float64),
            "vision": frames(vision, 5 if unaligned else 6, 2, np.float32),
            "text": rng.normal(size=(size, 6, 4)).astype(np.float32),
            "text_bert": np.stack([ids, mask, 0 * mask], 1).astype(np.float32),
            "id": [f"{split}{i // 2}$_${i}" for i in range(size)],
            "annotations": ["Neutral"] * size,
            "classification_labels": np.arange(size) % 3,
            "regression_labels": np.linspace(-3.2, 3, size),
        }
        if unaligned:
            made[split] |= {"audio_lengths": audio.tolist(), "vision_lengths": vision.tolist()}
    return made


def save(folder: Path, data: object) -> Path:
    path = folder / "mosi.pkl"
    path.write_bytes(pickle.dumps(data))
    return path


@pytest.mark.parametrize("unaligned", [False, True])
def test_samples_are_those_of_the_file(tmp_path: Path, unaligned: bool) -> None:
    data = content(unaligned=unaligned)
    splits = read_mmsa(save(tmp_path, data))
    for split, dataset in zip(SIZES, splits[:3], strict=True):
        table = data[split]
        assert dataset.ids == tuple(table["id"])
        assert dataset.groups == {"video": tuple(name.split("$_$")[0] for name in table["id"])}
        for i in range(SIZES[split]):
            sample = dataset[i]
            text = int(table["text_bert"][i, 1].sum())
            lengths = {"text": text, "audio": text - 1, "vision": text - 1}
            if unaligned:
                lengths |= {name: table[f"{name}_lengths"][i] for name in ("audio", "vision")}
            assert list(sample.inputs) == ["text", "audio", "vision"]
            for name, value in sample.inputs.items():
                assert value.dtype == torch.float32
                np.testing.assert_array_equal(value, table[name][i, : lengths[name]].astype(np.float32))
                assert sample.masks[name].all()
            assert sample.target.item() == pytest.approx(table["regression_labels"][i])
            assert sample.steps is None
    spec = splits.train.spec
    assert dict(spec.modalities) == {"text": 4, "audio": 3, "vision": 2}
    assert (spec.target, spec.classes, spec.sequence) == ("score", ("sentiment",), "single")
    assert splits.report.samples == SIZES
    assert splits.report.repaired == {"text": 0, "audio": 0, "vision": 0}
    assert splits.train.batch().present.all()
    assert splits.normaliser.mean == {}


def test_lengths_count_even_where_frames_are_zero_or_padding_is_not(tmp_path: Path) -> None:
    data = content(unaligned=True)
    data["train"]["audio"][1] = 0
    data["train"]["audio"][2] = 7
    splits = read_mmsa(save(tmp_path, data))
    assert splits.train[1].inputs["audio"].tolist() == [[0.0] * 3] * 3
    assert splits.train[2].inputs["audio"].shape == (5, 3)


def test_a_modality_without_frames_is_missing_and_counted(tmp_path: Path) -> None:
    data = content(unaligned=True)
    data["train"]["audio_lengths"][1] = 0
    splits = read_mmsa(save(tmp_path, data))
    assert splits.report.missing == {"text": 0, "audio": 1, "vision": 0}
    assert splits.train.batch().present.tolist() == [[True, True, True], [True, False, True]] + [[True] * 3] * 2
    aligned = content()
    aligned["test"]["vision"][1] = 0
    splits = read_mmsa(save(tmp_path, aligned))
    assert splits.test.batch().present.tolist() == [[True, True, True], [True, True, False]]


def test_a_sample_without_anything_is_left_out_and_counted(tmp_path: Path) -> None:
    data = content(unaligned=True)
    data["train"]["audio_lengths"][1] = 0
    splits = read_mmsa(save(tmp_path, data), modalities=("audio",))
    assert splits.report.dropped_empty == splits.report.empty_rows == 1
    assert splits.train.ids == ("train0$_$0", "train1$_$2", "train1$_$3")


def test_without_text_bert_text_is_cut_at_its_last_frame(tmp_path: Path) -> None:
    data = content()
    for table in data.values():
        del table["text_bert"]
        table["text"][:, 4:] = 0
        table["text"][:, 1] = 0  # a zero frame between others stays
    splits = read_mmsa(save(tmp_path, data), modalities=("text",))
    np.testing.assert_array_equal(splits.train[0].inputs["text"], data["train"]["text"][0, :4])


def test_token_ids_stay_whole_numbers(tmp_path: Path) -> None:
    data = content()
    splits = read_mmsa(save(tmp_path, data), text="text_bert", modalities=("vision", "text"))
    assert splits.train.spec.names == ("vision", "text")
    tokens = splits.train[2].inputs["text"]
    assert tokens.dtype == torch.int64
    np.testing.assert_array_equal(tokens, data["train"]["text_bert"][2, :, :4].T)
    batch = splits.train.batch()
    assert batch.inputs["text"].dtype == torch.int64
    np.testing.assert_array_equal(batch.inputs["text"][..., 1].bool(), batch.masks["text"])


def test_infinity_and_nan_are_repaired_and_counted(tmp_path: Path) -> None:
    data = content()
    data["train"]["audio"][1, 0] = [-np.inf, np.nan, 2.0]
    data["valid"]["audio"][0, 0, 0] = 1e300  # beyond float32
    data["train"]["audio"][0, 5, 0] = 0
    path = save(tmp_path, data)
    splits = read_mmsa(path)
    assert splits.report.repaired == {"text": 0, "audio": 3, "vision": 0}
    assert splits.train[1].inputs["audio"][0].tolist() == [0.0, 0.0, 2.0]
    absent = read_mmsa(path, nonfinite="absent")
    assert absent.train[1].masks["audio"].tolist() == [False, True]
    assert absent.train[1].inputs["audio"].isfinite().all()
    with pytest.raises(InputError, match=r"mosi.pkl: 'audio': 3 values in 2 frames are NaN or infinite; expected"):
        read_mmsa(path, nonfinite="raise")


def test_normalisation_knows_training_frames_alone(tmp_path: Path) -> None:
    data = content(unaligned=True)
    data["train"]["audio"][1, 0, 0] = -np.inf
    data["test"]["audio"] *= 50
    splits = read_mmsa(save(tmp_path, data), normalise=("audio",), clip=2.0)
    lengths = data["train"]["audio_lengths"]
    frames = np.concatenate([a[:n] for a, n in zip(data["train"]["audio"], lengths, strict=True)]).astype(np.float32)
    frames[~np.isfinite(frames)] = np.nan
    expected = (frames - np.nanmean(frames, 0)) / np.nanstd(frames, 0)
    found = torch.cat([splits.train[i].inputs["audio"] for i in range(4)])
    np.testing.assert_allclose(found, np.nan_to_num(expected).clip(-2, 2), atol=1e-5)
    assert splits.train[1].inputs["audio"][0, 0] == 0
    assert max(float(splits.test[i].inputs["audio"].abs().max()) for i in range(2)) == 2
    np.testing.assert_array_equal(splits.train[0].inputs["vision"], data["train"]["vision"][0, :1])
    assert isinstance(splits.normaliser, Normaliser)
    np.testing.assert_allclose(splits.normaliser.mean["audio"], np.nanmean(frames, 0), rtol=1e-5)


def test_classes_and_labels_of_one_modality(tmp_path: Path) -> None:
    data = content()
    for table in data.values():
        table["regression_labels_T"] = -table["regression_labels"]
        table["classification_labels_A"] = np.zeros(len(table["id"]), dtype=int)
    data["train"]["classification_labels"] = np.array([0, 2, 2, np.nan])
    path = save(tmp_path, data)
    splits = read_mmsa(path, target="classification")
    assert splits.train.targets.tolist() == [0, 2, 2]
    assert splits.report.dropped_unlabelled == 1
    assert splits.report.labels["train"] == {"negative": 1, "neutral": 0, "positive": 2}
    assert splits.train.spec.class_shares == pytest.approx((1 / 3, 0, 2 / 3))
    texts = read_mmsa(path, target="regression_T")
    assert texts.test.targets.tolist() == pytest.approx([3.2, -3.0])
    assert read_mmsa(path, target="classification_A", classes=("no", "yes")).test.targets.tolist() == [0, 0]


def spoil(data: dict[str, Any], split: str, key: str, value: object) -> dict[str, Any]:
    data[split][key] = value
    return data


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([1], {}, "mosi.pkl: expected a dict of train, valid, test, got list"),
        ({"train": {}, "val": {}}, {}, "split 'valid': no such key; did you mean 'val'"),
        ({"train": [], "valid": {}, "test": {}}, {}, "split 'train': expected a dict of arrays, got list"),
        (content(), {"modalities": ("text", "vison")}, "train: 'vison': no such key; did you mean 'vision'"),
        (content(), {"modalities": ("text", "text")}, "modalities: expected different keys"),
        (content(), {"modalities": ()}, "modalities: expected different keys of the file, at least one"),
        (content(), {"target": "emotion"}, "target: 'emotion' is unknown"),
        (
            content(),
            {"target": "regression_T"},
            "train: 'regression_labels_T': no such key; did you mean 'regression_l",
        ),
        (content(), {"text": "glove"}, "text: 'glove' is unknown"),
        (content(), {"nonfinite": "keep"}, "nonfinite: 'keep' is unknown"),
        (content(), {"normalise": ("audoi",)}, "normalise: 'audoi' is unknown; did you mean 'audio'"),
        (content(), {"clip": 0.0}, "clip: expected a value > 0"),
        (content(), {"target": "classification", "classes": ("a", "b")}, r"classes 0 … 1, got 2 \(1 samples hold"),
        (spoil(content(), "valid", "audio", np.ones((2, 3))), {}, r"valid: 'audio': expected shape \(N, T, D\), got"),
        (
            spoil(content(), "valid", "audio", np.ones((2, 6, 4))),
            {},
            r"'audio': expected frames of one width, got 3, 4",
        ),
        (spoil(content(), "valid", "audio", [[1], [1, 2]]), {}, "valid: 'audio': expected entries of one shape"),
        (spoil(content(), "valid", "audio", "x"), {}, "valid: 'audio': expected an array or a list, got str"),
        (spoil(content(), "valid", "audio", np.array([["a"]] * 2)), {}, "valid: 'audio': expected numbers, got <U1"),
        (spoil(content(), "valid", "audio", np.array(["a", 1], object)), {}, "expected numbers, got objects"),
        (
            spoil(content(), "test", "audio", np.ones((3, 6, 3))),
            {},
            "test: 'audio': expected 2 entries as in 'id', got",
        ),
        (spoil(content(), "test", "id", []), {}, "test: 'id': expected at least one sample, got none"),
        (
            spoil(content(), "test", "id", ["a$_$1", "a$_$1"]),
            {},
            r"different names of the samples, got 'a\$_\$1' 2 times",
        ),
        (spoil(content(), "test", "id", np.ones((2, 1, 1))), {}, r"test: 'id': expected \(N,\) or \(N, K\) names"),
        (spoil(content(), "test", "audio_lengths", [1, 7]), {}, "whole numbers of 0 … 6, the steps .* 1 … 7"),
        (spoil(content(), "test", "audio_lengths", [1, 1.5]), {}, "'audio_lengths': expected whole numbers of 0 … 6"),
        (spoil(content(), "test", "regression_labels", [1, np.inf]), {}, "'regression_labels': expected finite scores"),
        (spoil(content(), "test", "regression_labels", [np.nan] * 2), {}, "split 'test': expected labelled samples"),
        (spoil(content(), "test", "text_bert", np.ones((2, 3, 5))), {}, "expected 6 steps as in 'text', got 5"),
        (spoil(content(), "test", "text_bert", np.ones((2, 2, 6))), {}, r"'text_bert': expected shape \(N, 3, T\)"),
        (spoil(content(), "test", "text_bert", np.full((2, 3, 6), 2)), {}, "expected a mask of ones, then zeros"),
        (spoil(content(), "test", "text_bert", np.eye(3, 6)[[[2, 1, 0]] * 2]), {}, "expected a mask of ones, then zer"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_mmsa(save(tmp_path, data), **options)


def test_token_ids_that_are_none_are_refused(tmp_path: Path) -> None:
    data = content()
    data["train"]["text_bert"][0, 0, 0] = 0.5
    with pytest.raises(InputError, match="train: 'text_bert': expected whole numbers of at least 0"):
        read_mmsa(save(tmp_path, data), text="text_bert")


def test_a_modality_without_any_frame_is_refused(tmp_path: Path) -> None:
    data = content()
    for table in data.values():
        table["vision"][:] = 0
    with pytest.raises(
        InputError, match="'vision': expected frames, got only padding or none; leave this modality out"
    ):
        read_mmsa(save(tmp_path, data))
    data = content(unaligned=True)
    data["train"]["audio"][:, :, 1] = np.nan
    with pytest.raises(
        InputError, match="audio: expected finite values in the training split, got none in 1 columns of"
    ):
        read_mmsa(save(tmp_path, data), normalise=("audio",))


def test_code_in_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mosi.pkl: asks for 'builtins.print', which is refused"):
        read_mmsa(save(tmp_path, {"train": print}))


def test_the_ids_of_text_bert_are_a_token_modality(tmp_path: Path) -> None:
    data = content()
    for table in data.values():
        lengths = table["text_bert"][:, 1].sum(1).astype(int)
        table["text_bert"][:, 0, 0] = 101
        table["text_bert"][np.arange(len(lengths)), 0, lengths - 1] = 102
    data["train"]["text_bert"][3, 0, 1] = 100  # an unknown word is a word
    splits = read_mmsa(save(tmp_path, data), text="tokens", normalise=("audio",))
    spec = splits.train.spec
    assert dict(spec.modalities) == {"text": 30522, "audio": 3, "vision": 2}
    assert spec.tokens["text"].protected == (0, 101, 102)
    for split, dataset in zip(SIZES, splits[:3], strict=True):
        for i in range(SIZES[split]):
            ids, mask = data[split]["text_bert"][i, :2].astype(int)
            sample = dataset[i]
            assert sample.inputs["text"].dtype == torch.int64
            assert sample.inputs["text"].tolist() == ids[mask > 0].tolist()
            # The shortest are two tokens, start and end: nothing is said.
            assert sample.masks["text"].tolist() == [bool(mask.sum() > 2)] * mask.sum()
    assert (
        splits.report.missing["text"] == sum(int((t["text_bert"][:, 1].sum(1) == 2).sum()) for t in data.values()) > 0
    )
    assert dataset.batch().inputs["text"].shape == (2, 3)
    chinese = Vocabulary(21128, 100, 103, (0, 100, 101, 102, 103))
    assert read_mmsa(save(tmp_path, data), text="tokens", vocabulary=chinese).train.spec.modalities["text"] == 21128
    with pytest.raises(InputError, match=r"'text_bert': expected token ids of 0 … 999, got 1\d\d\d"):
        read_mmsa(save(tmp_path, data), text="tokens", vocabulary=chinese._replace(size=1000))
    with pytest.raises(InputError, match="normalise: 'text' is unknown"):
        read_mmsa(save(tmp_path, data), text="tokens", normalise=("text",))
