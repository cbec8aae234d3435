"""The recipes that ship, on the real data they are for, held against what those data's descriptions count."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from mmaffect.data import load_dataset, load_recipe

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
FILES = sorted(p for p in RECIPES.glob("*.toml") if "\nfile = " in p.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def loaded(real_data):
    """Splits of a recipe, read once for each kind of sequence."""
    known = {}

    def load(name, sequence=None):
        recipe = load_recipe(RECIPES / f"{name}.toml")
        if (name, sequence) not in known:
            known[name, sequence] = load_dataset(recipe, real_data(Path(recipe.file).stem), sequence=sequence)
        return known[name, sequence]

    return load


@pytest.fixture
def arrays(real_data):
    return lambda name: np.load(real_data(name) / f"{name}.npz", allow_pickle=False)


def parts(splits):
    return {"train": splits.train, "valid": splits.valid, "test": splits.test}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recipe_reads_and_is_named_after_its_file(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.text.startswith("#")
    assert "/" not in recipe.file


def test_there_is_a_recipe_for_every_task():
    assert [p.stem for p in FILES] == [
        "iemocap4", "iemocap6", "iemocap8", "iemocap_text", "iemocap_vad", "mosi", "mosi_text3", "mosi_words3",
        "mosi_words3_iid", "mosi_words3_ood", "mosi_words7", "ravdess", "ravdess_contour", "wesad",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("iemocap6", {"happy": 504, "sad": 839, "neutral": 1324, "angry": 933, "excited": 742, "frustrated": 1468}),
        ("iemocap4", {"happy": 1194, "sad": 839, "neutral": 1324, "angry": 933}),
        (
            "iemocap8",
            {
                "neutral": 1324,
                "frustrated": 1468,
                "angry": 933,
                "sad": 839,
                "excited": 742,
                "happy": 452,
                "surprised": 89,
                "fearful": 30,
            },
        ),
        ("iemocap_vad", {"valence": 7869, "activation": 7869, "dominance": 7869}),
        (
            "ravdess",
            {"neutral": 72} | dict.fromkeys(["calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"], 144),
        ),
        ("wesad", {"baseline": 844, "stress": 468, "amusement": 253, "meditation": 484}),
        ("mosi", {"sentiment": 1447}),
        ("mosi_words3", {"negative": 738, "neutral": 65, "positive": 644}),
        ("mosi_words7", {"-3": 64, "-2": 300, "-1": 272, "0": 261, "1": 223, "2": 263, "3": 64}),
    ],
)
def test_labels_count_as_described(loaded, name, labels):
    report = loaded(name).report
    assert {k: sum(report.labels[s][k] for s in report.labels) for k in labels} == labels
    assert set(report.labels["train"]) == set(labels)
    assert report.empty_rows == report.dropped_empty == sum(report.repaired.values()) == 0


@pytest.mark.parametrize(
    ("name", "sequence", "samples"),
    [
        ("iemocap6", "dialogue", (58, 32, 30)),
        ("iemocap6", "window", (2729, 1569, 1512)),
        ("iemocap6", "single", (2729, 1569, 1512)),
        ("ravdess_contour", "single", (720, 180, 180)),
        ("wesad", "window", (1302, 374, 373)),
        ("mosi", "dialogue", (42, 10, 10)),
        ("mosi", "window", (994, 250, 203)),
        ("mosi_words3", "single", (994, 250, 203)),
    ],
)
def test_splits_count_as_described(loaded, name, sequence, samples):
    assert tuple(len(part) for part in parts(loaded(name, sequence)).values()) == samples


def test_text_is_there_for_as_many_turns_as_described(loaded):
    splits = loaded("iemocap6", "dialogue")
    assert splits.report.missing == {"text": 7869 - 5929, "audio": 0}
    assert int(splits.train.observed["text"].sum()) == 5929
    assert splits.train.spec.speakers == 2


@pytest.mark.parametrize(
    ("name", "column"), [("iemocap6", "speaker"), ("ravdess", "actor"), ("wesad", "subject"), ("mosi", "video_id")]
)
def test_nobody_is_in_two_splits(loaded, name, column):
    seen = [{n for group in part.groups[column] for n in group.split("+")} for part in parts(loaded(name)).values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) > 3


@pytest.mark.parametrize(("name", "column"), [("iemocap6", "dialog_id"), ("mosi", "video_id"), ("wesad", "subject")])
def test_windows_never_cross_sequences_and_end_with_their_label(loaded, arrays, name, column):
    file = arrays(Path(load_recipe(RECIPES / f"{name}.toml").file).stem)
    sequence = file[column]
    recipe = load_recipe(RECIPES / f"{name}.toml")
    ids = file[recipe.id].tolist() if recipe.id else [str(i) for i in range(len(sequence))]
    row_of = {name: row for row, name in enumerate(ids)}
    for part in parts(loaded(name, "window")).values():
        spans = next(iter(part.spans.values())).numpy()
        rows = np.array([row_of[name] for name in part.ids])
        assert (spans[:, 1] == rows + 1).all()
        assert (sequence[spans[:, 0]] == sequence[rows]).all()
        longest = spans[:, 1] - spans[:, 0] == recipe.context
        at_start = (spans[:, 0] == 0) | (sequence[spans[:, 0] - 1] != sequence[rows])
        assert (longest | at_start).all()
        expected = file[recipe.target.array][rows]
        np.testing.assert_array_equal(part.targets, expected)


@pytest.mark.parametrize("name", ["iemocap6", "mosi"])
def test_normalised_training_data_have_mean_zero_and_sd_one(loaded, arrays, name):
    splits = loaded(name)
    file = arrays("iemocap" if name == "iemocap6" else name)
    rows = torch.from_numpy(file["split"] == "train") & splits.train.observed["text"]
    seen = splits.train.values["text"][rows].double()
    # Two columns of these embeddings are constant: they become zero.
    wanted = torch.from_numpy(np.ptp(file["text_minilm"][rows], axis=0) > 0).double()
    assert wanted.sum() == 382
    assert seen.mean(0).abs().max() < 1e-5
    assert (seen.std(0, correction=0) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "modality", "column"),
    [("iemocap6", "audio", "speaker"), ("ravdess", "audio", "actor"), ("wesad", "ecg", "subject")],
)
def test_each_group_has_mean_zero_and_sd_one_where_nothing_was_clipped(loaded, arrays, name, modality, column):
    values = loaded(name).train.values[modality].double()
    who = arrays("iemocap" if name == "iemocap6" else name)[column]
    for group in np.unique(who):
        mine = values[torch.from_numpy(who == group)]
        inside = mine.abs().amax(0) < 9.9
        assert inside.any()
        assert mine[:, inside].mean(0).abs().max() < 1e-5
        assert (mine[:, inside].std(0, correction=0) - 1).abs().max() < 1e-4


def test_the_contour_has_as_many_frames_as_described(loaded):
    train = loaded("ravdess_contour").train
    lengths = torch.cat([p.lengths["contour"] for p in parts(loaded("ravdess_contour")).values()])
    assert (int(lengths.min()), int(lengths.max()), int(lengths.sum())) == (211, 259, 275239)
    assert dict(train.spec.modalities) == {"audio": 193, "vision": 35, "contour": 1}


def test_a_linear_model_finds_what_the_description_says(loaded):
    """Rows, labels and actors are still together: chance is 12.5 %, the description has 77, 53 and 89 %."""
    splits = loaded("ravdess")
    train, valid, test = (part.batch() for part in parts(splits).values())

    def recall(*names):
        x = [torch.cat([part.inputs[n][:, 0] for n in names], 1).numpy() for part in (train, valid, test)]
        model = LogisticRegression(C=0.05, max_iter=300)
        model.fit(np.concatenate(x[:2]), np.concatenate([train.targets, valid.targets]))
        return balanced_accuracy_score(test.targets, model.predict(x[2]))

    assert recall("vision") == pytest.approx(0.77, abs=0.06)
    assert recall("audio", "vision") == pytest.approx(0.89, abs=0.06)


def test_one_session_or_subject_can_be_left_out(real_data):
    recipe = load_recipe(RECIPES / "iemocap4.toml")
    splits = load_dataset(recipe, real_data("iemocap"), holdout=("session", 4))
    assert (set(splits.test.groups["session"]), set(splits.valid.groups["session"])) == ({"4"}, {"1"})
    wesad = load_dataset(load_recipe(RECIPES / "wesad.toml"), real_data("wesad"), holdout=("subject", 11))
    assert set(wesad.test.groups["subject"]) == {"11"}
    assert set(wesad.valid.groups["subject"]).isdisjoint(wesad.train.groups["subject"])


def test_words_are_those_of_the_training_videos_and_of_nobody_else(loaded, arrays):
    splits = loaded("mosi_words3")
    file, tokenizer = arrays("mosi"), splits.tokenizers["text"]
    counts = Counter(" ".join(file["sentence"][file["split"] == "train"]).lower().split())
    assert set(tokenizer.words) == {word for word, count in counts.items() if count >= 2}
    heard = set(" ".join(file["sentence"]).lower().split()) - set(counts)
    assert len(heard) > 500  # words of the other videos alone
    assert heard.isdisjoint(tokenizer.words)
    sentence = dict(zip(file["utt_id"].tolist(), file["sentence"].tolist(), strict=True))
    for part in parts(splits).values():
        for i in range(len(part)):
            told = tokenizer.decode(part[i].inputs["text"].tolist())
            words = sentence[part.ids[i]].lower().split()[:48]
            assert told == ["[START]", *(w if w in tokenizer.words else "[UNKNOWN]" for w in words), "[END]"]
        assert int(part.protected("text").sum()) == 2 * len(part)
        assert part.spec.tokens == {"text": tokenizer.vocabulary}


def test_the_seven_classes_are_the_labels_of_acc7(loaded, arrays):
    file = arrays("mosi")
    rows = dict(zip(file["utt_id"].tolist(), np.round(file["label"]).tolist(), strict=True))
    for part in parts(loaded("mosi_words7")).values():
        assert [t - 3 for t in part.targets.tolist()] == [rows[name] for name in part.ids]


def test_words_mislead_out_of_distribution_and_sizes_and_classes_are_those_of_the_random_split(loaded, arrays):
    file = arrays("mosi")
    text = dict(zip(file["utt_id"].tolist(), np.char.lower(file["sentence"]).tolist(), strict=True))
    found = {}
    for kind in ("iid", "ood"):
        splits = loaded(f"mosi_words3_{kind}")
        sides = [[text[i] for i in part.ids] for part in parts(splits).values()]
        counts = [np.bincount(part.targets.numpy()).tolist() for part in parts(splits).values()]
        assert counts == [[516, 45, 451], [111, 10, 97], [111, 10, 96]]
        assert len({i for part in parts(splits).values() for i in part.ids}) == 1447
        words = CountVectorizer(binary=True, token_pattern=r"\S+").fit(sides[0])
        model = LogisticRegression(C=0.3, max_iter=2000, class_weight="balanced")
        model.fit(words.transform(sides[0]), splits.train.targets)
        found[kind] = [
            balanced_accuracy_score(part.targets, model.predict(words.transform(side)))
            for part, side in zip((splits.valid, splits.test), sides[1:], strict=True)
        ]
    assert min(found["iid"]) > 0.4  # in three classes
    assert found["ood"][1] < 0.2  # what words say in training is wrong in test
    assert found["ood"][0] > 0.4  # and right in validation, which is like training
