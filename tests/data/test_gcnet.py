import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmaffect.data import read_gcnet
from mmaffect.ops import InputError

FOLDERS = {"text": "deberta", "audio": "wav2vec"}


class Iemocap:
    """Five sessions of two dialogues of three utterances; ``labels[d][i] = (d + i) % 4``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names = [f"Ses0{s}{g}_impro0{s}" for s in range(1, 6) for g in "FM"]
        self.utterances = {name: [f"{name}_{who}00{i}" for i, who in enumerate("FMF")] for name in self.names}
        self.labels: dict[str, Any] = {name: [(d + i) % 4 for i in range(3)] for d, name in enumerate(self.names)}
        self.speakers = {name: ["F", "M", "F"] for name in self.names}
        self.splits: list[Any] = [set(self.names[:8]), set(self.names[8:])]
        rng = np.random.default_rng(0)
        self.features: dict[str, dict[str, np.ndarray]] = {"deberta": {}, "wav2vec": {}}
        for name in self.flat:
            self.features["deberta"][name] = rng.normal(size=4).astype(np.float32)
            self.features["wav2vec"][name] = rng.normal(size=(int(rng.integers(1, 5)), 3))

    @property
    def flat(self) -> list[str]:
        return [u for names in self.utterances.values() for u in names]

    def save(self) -> Path:
        for name, table in self.features.items():
            (self.folder / name).mkdir(exist_ok=True)
            for utterance, array in table.items():
                np.save(self.folder / name / f"{utterance}.npy", array)
        texts = {name: ["hi"] * 3 for name in self.names}
        path = self.folder / "IEMOCAP_features_raw_4way.pkl"
        path.write_bytes(pickle.dumps([self.utterances, self.labels, self.speakers, texts, *self.splits], 2))
        return path

    def read(self, **options: Any) -> Any:
        options = {"classes": ("happy", "sad", "neutral", "angry")} | options
        return read_gcnet(self.save(), self.folder, options.pop("modalities", FOLDERS), **options)


@pytest.fixture
def iemocap(tmp_path: Path) -> Iemocap:
    return Iemocap(tmp_path)


def test_dialogues_are_those_of_the_file(iemocap: Iemocap) -> None:
    splits = iemocap.read()
    assert splits.train.ids == tuple(iemocap.names[:6])
    assert splits.valid.ids == tuple(iemocap.names[6:8])  # the last session that is not the test session
    assert splits.test.ids == tuple(iemocap.names[8:])
    for dataset in splits[:3]:
        for i, name in enumerate(dataset.ids):
            sample = dataset[i]
            assert sample.target.tolist() == iemocap.labels[name]
            assert sample.speaker is not None
            assert sample.speaker.tolist() == [0, 1, 0]
            assert dataset.step_ids(i) == tuple(iemocap.utterances[name])
            for modality, folder in FOLDERS.items():
                arrays = [iemocap.features[folder][u] for u in iemocap.utterances[name]]
                expected = [a if a.ndim == 1 else a.mean(0) for a in arrays]
                np.testing.assert_allclose(sample.inputs[modality], expected, rtol=1e-6)
    spec = splits.train.spec
    assert (spec.sequence, spec.target, spec.speakers) == ("dialogue", "class", 2)
    assert dict(spec.modalities) == {"text": 4, "audio": 3}
    assert splits.train.groups["session"] == ("1", "1", "2", "2", "3", "3")
    assert splits.train.groups["speaker"][:2] == ("1F+1M", "1F+1M")
    assert splits.report.labels["test"] == {"happy": 1, "sad": 2, "neutral": 2, "angry": 1}
    assert splits.train.batch().targets.shape == (6, 3)


@pytest.mark.parametrize(("fold", "valid"), [("1", "2"), ("4", "5"), ("5", "1")])
def test_folds_by_session(iemocap: Iemocap, fold: str, valid: str) -> None:
    splits = iemocap.read(fold=fold)
    assert set(splits.test.groups["session"]) == {fold}
    assert set(splits.valid.groups["session"]) == {valid}
    assert set(splits.train.groups["session"]) == set("12345") - {fold, valid}
    assert len(splits.train) == 6


def test_windows_and_single_utterances(iemocap: Iemocap) -> None:
    windows = iemocap.read(sequence="window", context=2)
    assert windows.train.ids == tuple(iemocap.flat[:18])
    assert windows.train.lengths["text"].tolist() == [1, 2, 2] * 6
    single = iemocap.read(sequence="single")
    assert single.train.batch().inputs["text"].shape == (18, 1, 4)
    assert single.train.groups["speaker"][:3] == ("1F", "1M", "1F")


def test_scores_with_validation_dialogues_and_unknown_speakers(iemocap: Iemocap) -> None:
    iemocap.labels = {name: [-1.5, 0.0, 3.2] for name in iemocap.names}
    iemocap.speakers = {name: [""] * 3 for name in iemocap.names}
    iemocap.splits = [set(iemocap.names[:5]), iemocap.names[5:7], np.array(iemocap.names[7:9])]
    splits = iemocap.read(classes=None)
    assert splits.test.ids == tuple(iemocap.names[7:9])
    assert splits.train.batch().targets[0].tolist() == pytest.approx([-1.5, 0.0, 3.2])
    assert splits.train.spec.target == "score"
    assert splits.train.speaker is None
    assert splits.train.spec.speakers == 0
    assert splits.train.groups.keys() == {"dialogue"}
    assert splits.report.rows == 30
    assert sum(splits.report.samples.values()) == 9  # the tenth dialogue is in no split


def test_utterances_without_features_lack_the_modality(iemocap: Iemocap) -> None:
    lacking = iemocap.utterances[iemocap.names[0]][1]
    del iemocap.features["wav2vec"][lacking]
    iemocap.features["deberta"][iemocap.utterances[iemocap.names[0]][2]] = np.zeros((0, 4))
    splits = iemocap.read()
    assert splits.report.missing == {"text": 1, "audio": 1}
    batch = splits.train.batch()
    assert batch.masks["audio"][0].tolist() == [True, False, True]
    assert batch.masks["text"][0].tolist() == [True, True, False]
    assert batch.inputs["audio"][0, 1].tolist() == [0.0] * 3


def test_faces_of_the_speaker(iemocap: Iemocap) -> None:
    faces = iemocap.folder / "manet"
    for name in iemocap.flat:
        (faces / name).mkdir(parents=True)
        for who, value in (("F", 1.0), ("M", 5.0)):
            for i in range(2):
                np.save(faces / name / f"{name}_{who}{i}.npy", np.array([value + i, 0.0]))
    modalities = FOLDERS | {"vision": "manet"}
    splits = iemocap.read(modalities=modalities)
    assert splits.train[0].inputs["vision"].tolist() == [[1.5, 0.0], [5.5, 0.0], [1.5, 0.0]]
    everybody = iemocap.read(modalities=modalities, faces="all")
    assert everybody.train[0].inputs["vision"].tolist() == [[3.5, 0.0]] * 3
    for path in (faces / iemocap.flat[0]).glob("*_F*.npy"):
        path.unlink()
    assert iemocap.read(modalities=modalities).report.missing["vision"] == 1


def test_what_is_not_finite_is_left_out_of_the_mean_and_counted(iemocap: Iemocap) -> None:
    first, second = iemocap.flat[:2]
    iemocap.features["wav2vec"][first] = np.array([[1.0, -np.inf, 3.0], [3.0, 4.0, np.nan]])
    iemocap.features["wav2vec"][second] = np.array([[1.0, np.nan, 3.0]])
    splits = iemocap.read()
    assert splits.train[0].inputs["audio"][:2].tolist() == [[2.0, 4.0, 3.0], [1.0, 0.0, 3.0]]
    assert splits.report.repaired == {"text": 0, "audio": 3}
    assert iemocap.read(nonfinite="absent").train[0].masks["audio"].tolist() == [True, False, True]
    with pytest.raises(InputError, match="wav2vec: 3 values are NaN or infinite; expected finite values"):
        iemocap.read(nonfinite="raise")


def test_normalisation_knows_training_dialogues_alone(iemocap: Iemocap) -> None:
    splits = iemocap.read(normalise=("text",))
    rows = np.stack([iemocap.features["deberta"][u] for u in iemocap.flat[:18]])
    found = splits.train.batch().inputs["text"].reshape(18, 4)
    np.testing.assert_allclose(found, (rows - rows.mean(0)) / rows.std(0), atol=1e-5)


def change(**attributes: Any) -> Any:
    def apply(data: Iemocap) -> None:
        for name, value in attributes.items():
            setattr(data, name, value)

    return apply


def spoil(table: str, value: Any) -> Any:
    """Replace the entry of the first dialogue."""

    def apply(data: Iemocap) -> None:
        getattr(data, table)[data.names[0]] = value

    return apply


@pytest.mark.parametrize(
    ("alter", "options", "message"),
    [
        (change(splits=[]), {}, "expected a list of utterances, labels, speakers, texts, then .* got list of 4"),
        (change(labels=[1]), {}, "labels: expected a dict by dialogue, got list"),
        (spoil("labels", [1, 2]), {}, "dialogue 'Ses01F_impro01': expected as many labels and speakers as utterances"),
        (spoil("speakers", "FMF"), {}, "dialogue 'Ses01F_impro01': expected as many labels and speakers"),
        (spoil("labels", ["a", 1, 2]), {}, "labels: expected one number an utterance"),
        (spoil("labels", [0, 1, 4]), {}, r"labels: expected classes 0 … 3, got 4.0 \(1 utterances"),
        (spoil("labels", [0, 1, np.inf]), {"classes": None}, "labels: expected finite scores, or NaN, got infinity"),
        (change(), {"classes": None}, "labels: expected scores, got whole numbers of 0 … 3; name the classes"),
        (change(splits=[1, 2]), {}, "train dialogues: expected their names, got int"),
        (change(splits=[{"x"}, {"y"}]), {}, "train dialogues: 'x' has no utterances"),
        (change(splits=[{"Ses01F_impro01"}] * 2), {}, "expected every dialogue in one split, got some in two"),
        (change(splits=[{"Ses01F_impro01"}, {"Ses02F_impro02"}]), {}, "at least 2 sessions in training .* got .'1'"),
        (change(), {"fold": "6"}, "fold: '6' is unknown; .*Known: 1, 2, 3, 4, 5"),
        (change(), {"session": 40}, "session: expected a place in every dialogue's name, got 40 in .'Ses01F_impro01'"),
        (change(), {"fold": "F", "session": 5}, "fold: expected at least 3 sessions"),
        (change(), {"modalities": {}}, "modalities: expected at least one"),
        (change(), {"modalities": {"text": "bert"}}, "bert: not found; expected a folder of features"),
        (change(), {"faces": "none"}, "faces: 'none' is unknown"),
        (change(), {"sequence": "clip"}, "sequence: 'clip' is unknown"),
        (spoil("utterances", ["../../x", "a", "b"]), {}, "names of utterances that can be file names, got '../../x'"),
        (spoil("utterances", ["a", "a", "b"]), {}, "expected different names of the samples, got 'a' 2 times"),
    ],
)
def test_what_is_wrong_is_said(iemocap: Iemocap, alter: Any, options: dict[str, Any], message: str) -> None:
    iemocap.save()
    alter(iemocap)
    iemocap.features = {}
    with pytest.raises(InputError, match=message):
        iemocap.read(**options)


def test_fold_is_refused_where_the_file_has_validation_dialogues(iemocap: Iemocap) -> None:
    iemocap.splits.insert(1, set())
    with pytest.raises(InputError, match="fold: expected None, since the file has validation dialogues, got '1'"):
        iemocap.read(fold="1")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([object()]), "Ses01F_impro01_F000.npy: cannot be read as an array of numbers: .*allow_pickle"),
        (np.array(["a"]), "F000.npy: expected numbers, got <U1"),
        (np.zeros((2, 2, 3)), r"F000.npy: expected shape \(D,\) or \(T, D\), got \(2, 2, 3\)"),
        (np.array(1.0), r"F000.npy: expected shape \(D,\) or \(T, D\), got \(\)"),
        (np.zeros(7), r"F000: expected 7 columns as before, got 3|: expected 7 columns as before"),
    ],
)
def test_arrays_that_cannot_be_used(iemocap: Iemocap, array: np.ndarray, message: str) -> None:
    iemocap.features["wav2vec"][iemocap.flat[0]] = array
    with pytest.raises(InputError, match=message):
        iemocap.read()


def test_a_leading_axis_of_one_is_dropped(iemocap: Iemocap) -> None:
    iemocap.features["wav2vec"][iemocap.flat[0]] = np.arange(6.0).reshape(1, 2, 3)
    assert iemocap.read().train[0].inputs["audio"][0].tolist() == [1.5, 2.5, 3.5]


def test_folders_without_any_feature_or_of_unequal_faces(iemocap: Iemocap) -> None:
    (iemocap.folder / "none").mkdir()
    with pytest.raises(InputError, match=r"none: expected an \.npy file or folder for each of 30 utterances, got none"):
        iemocap.read(modalities={"text": "none"})
    faces = iemocap.folder / "none" / iemocap.flat[0]
    faces.mkdir()
    np.save(faces / "F0.npy", np.zeros(2))
    np.save(faces / "F1.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"expected arrays of one width, got \[2, 3\]"):
        iemocap.read(modalities={"text": "none"})
