import numpy as np
import pytest
import torch

from mmaffect.data import Normaliser, collate, load_dataset, load_unlabelled
from mmaffect.data.unlabelled import read_unlabelled
from mmaffect.ops import InputError


def load(toy, **options):
    return load_dataset(toy.recipe(), toy.save(), **options)


def expected_text(toy):
    """Normalised by hand: what was observed in training, population statistics."""
    x, has = toy.arrays["words"].astype(np.float64), toy.arrays["has_text"]
    seen = x[has & (toy.arrays["split"] == "train")]
    return np.where(has[:, None], (x - seen.mean(0)) / seen.std(0), 0.0)


def expected_audio(toy):
    """Normalised by hand: by person, and as in training where a person has a single row."""
    x, person = toy.arrays["sound"], toy.arrays["person"]
    seen = x[toy.arrays["split"] == "train"]
    out = (x - seen.mean(0)) / seen.std(0)
    for who in np.unique(person):
        mine = person == who
        if mine.sum() > 1:
            out[mine] = (x[mine] - x[mine].mean(0)) / x[mine].std(0)
    return out


def test_dialogues(toy):
    train, valid, test, report, normaliser, tokenizers = load(toy)
    assert train.ids == ("talk0", "talk1", "talk2", "talk3")
    assert (valid.ids, test.ids) == (("talk4",), ("talk5",))
    text, audio = expected_text(toy), expected_audio(toy)
    for part in (train, valid, test):
        for i in range(len(part)):
            sample = part[i]
            rows = np.flatnonzero(toy.arrays["talk"] == sample.id)
            np.testing.assert_allclose(sample.inputs["text"], text[rows], atol=1e-5)
            np.testing.assert_allclose(sample.inputs["audio"], audio[rows], atol=1e-5)
            assert sample.masks["text"].tolist() == toy.arrays["has_text"][rows].tolist()
            labels = toy.arrays["label"][rows]
            assert sample.target.tolist() == np.where(labels < 0, -100, labels).tolist()
            assert part.step_ids(i) == tuple(toy.arrays["name"][rows])
    assert train.spec == valid.spec
    assert (dict(train.spec.modalities), train.spec.speakers, train.spec.outputs) == ({"text": 4, "audio": 2}, 2, 3)
    assert train.groups == {"talk": train.ids, "part": ("1", "1", "2", "2")}
    assert (report.samples, report.dropped_unlabelled) == ({"train": 4, "valid": 1, "test": 1}, 0)
    assert set(normaliser.mean) == {"text", "audio"}
    assert tokenizers == {}


def test_windows(toy):
    train, valid, test, report, *_ = load(toy, sequence="window")
    text = expected_text(toy)
    row_of = {name: row for row, name in enumerate(toy.arrays["name"].tolist())}
    for part in (train, valid, test):
        for i in range(len(part)):
            sample, row = part[i], row_of[part.ids[i]]
            rows = [r for r in range(row - 2, row + 1) if r >= 0 and toy.arrays["talk"][r] == toy.arrays["talk"][row]]
            assert sample.target == toy.arrays["label"][row] >= 0
            np.testing.assert_allclose(sample.inputs["text"], text[rows], atol=1e-5)
            assert len(sample.speaker) == len(sample.steps) == len(rows)
            assert part.groups["part"][i] == str(toy.arrays["part"][row])
    assert sum(map(len, (train, valid, test))) == (toy.arrays["label"] >= 0).sum()
    assert report.dropped_unlabelled == (toy.arrays["label"] < 0).sum()
    assert load(toy, sequence="window", context=100).train.max_steps == 7
    assert load(toy, sequence="window", context=1).train.max_steps == 1


def test_single_rows(toy):
    train = load(toy, sequence="single").train
    labelled = (toy.arrays["label"] >= 0) & (toy.arrays["split"] == "train")
    assert train.ids == tuple(toy.arrays["name"][labelled])
    assert train.max_steps == 1
    assert train.spec.speakers == 0
    assert train[0].speaker is None
    assert collate([train[0], train[1]]).steps is None


def test_training_statistics_are_of_the_training_split_alone(toy):
    before = load(toy)
    test = toy.arrays["split"] != "train"
    toy.arrays["words"][test] = 1e4
    after = load(toy)
    torch.testing.assert_close(after.normaliser.mean, before.normaliser.mean, rtol=0, atol=0)
    torch.testing.assert_close(after.train.batch().inputs["text"], before.train.batch().inputs["text"], rtol=0, atol=0)
    assert after.test.batch().inputs["text"].max() == 10.0  # held within the clip


def test_values_may_be_left_as_they_are(toy):
    splits = load(toy.change(('normalise = "train"', 'normalise = "none"')))
    rows = toy.arrays["talk"] == "talk0"
    expected = np.where(toy.arrays["has_text"][rows, None], toy.arrays["words"][rows], 0.0)
    np.testing.assert_array_equal(splits.train[0].inputs["text"], expected)
    assert set(splits.normaliser.mean) == {"audio"}


def test_values_where_text_is_not_available_do_not_matter(toy):
    before = load(toy)
    toy.arrays["words"][~toy.arrays["has_text"]] = np.nan
    after = load(toy)
    assert [getattr(after, p).fingerprint for p in ("train", "valid", "test")] == [
        getattr(before, p).fingerprint for p in ("train", "valid", "test")
    ]
    assert after.report.repaired == {"text": 0, "audio": 0}


def test_what_is_not_finite_becomes_the_mean_or_absent(toy):
    toy.arrays["has_text"][:] = True
    toy.arrays["words"][[0, 5], 2] = [np.nan, -np.inf]
    with pytest.raises(InputError, match=r"modalities\.text\.array = 'words': 2 values in 2 observed rows are NaN"):
        load(toy)
    zero = load(toy.change(("context = 3", 'context = 3\nnonfinite = "zero"')))
    assert zero.report.repaired == {"text": 2, "audio": 0}
    assert zero.train[0].inputs["text"][0, 2] == 0.0
    assert zero.train[0].masks["text"].all()
    clean = toy.arrays["words"][(toy.arrays["split"] == "train") & np.isfinite(toy.arrays["words"]).all(1), 2]
    np.testing.assert_allclose(zero.normaliser.mean["text"][2], clean.astype(float).mean(), rtol=1e-6)
    absent = load(toy.change(('"zero"', '"absent"')))
    assert not absent.train[0].masks["text"][0]
    assert absent.train[0].inputs["text"][0].tolist() == [0.0] * 4
    assert absent.report.missing["text"] == 2


def test_samples_without_label_or_modality_are_left_out_and_counted(toy):
    toy.arrays["label"][toy.arrays["talk"] == "talk1"] = -1
    silent = toy.arrays["talk"] == "talk2"
    toy.arrays["has_text"][silent] = False
    toy.arrays["has_sound"] = ~silent
    toy.change(('array = "sound"', 'array = "sound"\navailable = "has_sound"'))
    train, _, _, report, *_ = load(toy)
    assert train.ids == ("talk0", "talk3")
    assert (report.dropped_unlabelled, report.dropped_empty, report.empty_rows) == (1, 1, silent.sum())


def test_a_fold_is_left_out(toy):
    splits = load(toy, holdout=("part", 2))
    assert splits.test.ids == ("talk2", "talk3")
    assert splits.valid.ids == ("talk4",)
    assert splits.train.ids == ("talk0", "talk1", "talk5")


def test_rows_need_not_lie_by_sequence(toy):
    before = load(toy)
    # Turns of several talks are interleaved, but each talk's own turns keep their order.
    order = np.argsort(np.concatenate([np.arange(n) for n in (5, 3, 7, 4, 6, 5)]), kind="stable")
    toy.arrays = {key: array[order] for key, array in toy.arrays.items()}
    after = load(toy)
    for part in ("train", "valid", "test"):
        mine, theirs = getattr(after, part), getattr(before, part)
        assert mine.ids == theirs.ids
        # Sums over rows in another order differ in the last digits.
        torch.testing.assert_close(mine.batch().inputs, theirs.batch().inputs)
        assert mine.batch().targets.tolist() == theirs.batch().targets.tolist()
        assert mine.step_ids(0) == theirs.step_ids(0)


def test_ragged_modalities_and_a_folder_of_arrays(toy, tmp_path):
    lengths = np.random.default_rng(3).integers(0, 6, toy.rows)
    toy.arrays["track"] = np.random.default_rng(4).normal(7, 3, lengths.sum())
    toy.arrays["track_at"] = np.concatenate([[0], lengths.cumsum()])
    toy.change(("[target]", '[modalities.track]\narray = "track"\noffsets = "track_at"\n[target]'), ("toy.npz", "."))
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name, array in toy.arrays.items():
        np.save(folder / f"{name}.npy", array)
    train = load_dataset(toy.recipe(), folder, sequence="single").train
    training = toy.arrays["split"] == "train"
    kept = training & (toy.arrays["label"] >= 0)
    assert train.lengths["track"].tolist() == lengths[kept].tolist()
    frames = toy.arrays["track"][np.repeat(training, lengths)]
    first = np.flatnonzero(kept)[0]
    own = toy.arrays["track"][toy.arrays["track_at"][first] : toy.arrays["track_at"][first + 1]]
    np.testing.assert_allclose(train[0].inputs["track"][:, 0], (own - frames.mean()) / frames.std(), rtol=1e-5)
    with pytest.raises(InputError, match=r"modalities\.track\.array = 'track': several rows a sample cannot share"):
        load_dataset(toy.recipe(), folder)


def test_other_kinds_of_target(toy):
    toy.arrays["vad"] = np.random.default_rng(0).uniform(1, 5, (toy.rows, 2)).astype(np.float32)
    toy.arrays["tags"] = (toy.arrays["vad"] > 3).astype(np.int8)
    toy.change(('kind = "class"', 'kind = "score"'), ('"label"', '"vad"'), ('["sad", "happy", "calm"]', '["v", "a"]'))
    scores = load(toy)
    assert scores.train.batch().targets.shape == (4, 7, 2)
    assert scores.report.labels["train"] == {"v": 19, "a": 19}
    toy.change(('kind = "score"', 'kind = "multilabel"'), ('"vad"', '"tags"'))
    tags = load(toy, sequence="window")
    assert tags.train.batch().targets.shape == (19, 2)
    ones = toy.arrays["tags"][toy.arrays["split"] == "train"].sum(0)
    assert tags.report.labels["train"] == {"v": ones[0], "a": ones[1]}


def spoil(name, value):
    return lambda toy: toy.arrays.__setitem__(name, value(toy.arrays[name]))


def column_of_nan(x):
    return np.where(np.arange(x.shape[1]) == 1, np.nan, x)


ABSENT = ("context = 3", 'nonfinite = "absent"')
ZERO = ("context = 3", 'nonfinite = "zero"')


@pytest.mark.parametrize(
    ("change", "toml", "message"),
    [
        (
            spoil("label", lambda x: np.where(x == 1, 7, x)),
            (),
            r"toy\.npz: target\.array = 'label': 7 is not expected \(\d+ rows hold such values\); known: 0, 1, 2, -1",
        ),
        (spoil("label", lambda x: x[:-1]), (), r"target\.array = 'label': expected 30 rows as in id = 'name', got 29"),
        (
            spoil("label", lambda x: np.full_like(x, -1)),
            (),
            r"target\.array = 'label': expected some labelled rows, got none of 30",
        ),
        (
            spoil("label", lambda x: np.where(np.arange(30) < 25, x, -1)),
            (),
            r"split 'test': expected labelled samples that have a modality, got none",
        ),
        (
            spoil("split", lambda x: np.where(x == "test", "valid", x)),
            (),
            r"split\.array = 'split': expected rows in split 'test', got none",
        ),
        (
            spoil("split", lambda x: np.where(np.arange(30) == 1, "test", x)),
            (),
            r"sequence 'talk0' is in 'train' and in 'test'",
        ),
        (
            spoil("sound", column_of_nan),
            (),
            r"modalities\.audio\.array = 'sound': 30 values in 30 observed rows are NaN",
        ),
        (
            spoil("sound", column_of_nan),
            (ZERO,),
            r"'sound': expected finite values in the training split, got none in 1 columns of 2, the first is 1",
        ),
        (
            spoil("sound", column_of_nan),
            (ABSENT,),
            r"modalities\.audio\.array = 'sound': expected finite values in the training split, got none in 2 columns",
        ),
        (
            spoil("has_text", np.zeros_like),
            (),
            r"modalities\.text\.array = 'words': expected finite values in the training split, got none in 4 columns",
        ),
        (spoil("words", lambda x: x.astype(str)), (), r"modalities\.text\.array = 'words': expected numbers, got <U32"),
        (
            spoil("words", lambda x: x.astype(object)),
            (),
            r"modalities\.text\.array = 'words': holds Python objects \(a pickle\), which are refused",
        ),
        (lambda toy: toy.arrays.pop("label"), (), r"target\.array = 'label': no such array; .*known: "),
    ],
)
def test_what_is_wrong_is_said(toy, change, toml, message):
    change(toy)
    with pytest.raises(InputError, match=message):
        load(toy.change(*toml))


def test_options_that_cannot_be_are_said(toy):
    with pytest.raises(InputError, match="sequence: 'windows' is unknown; did you mean 'window'"):
        load(toy, sequence="windows")
    with pytest.raises(InputError, match="context: expected at least 1 step, got 0"):
        load(toy, sequence="window", context=0)
    with pytest.raises(InputError, match=r"toy\.npz: not found; expected it at"):
        load_dataset(toy.recipe(), toy.folder / "elsewhere")


@pytest.mark.parametrize("kind", ["dialogue", "window", "single"])
def test_new_data_are_treated_as_the_test_split_was(toy, kind):
    splits = load(toy, sequence=kind)
    rows = toy.arrays["split"] == "test"
    new = {k: v[rows] for k, v in toy.arrays.items() if k not in ("label", "split", "part")}
    np.savez(toy.folder / "new.npz", **new)
    normaliser = Normaliser.from_state_dict(splits.normaliser.state_dict())
    data = load_unlabelled(toy.recipe(), toy.folder / "new.npz", normaliser, None, None, splits.train.spec)
    assert data.spec == splits.train.spec
    assert len(data) == (1 if kind == "dialogue" else rows.sum())
    where = {name: i for i, name in enumerate(data.ids)}
    for i, name in enumerate(splits.test.ids):
        mine, theirs = data[where[name]], splits.test[i]
        torch.testing.assert_close(mine.inputs, theirs.inputs)
        torch.testing.assert_close(mine.masks, theirs.masks)
        torch.testing.assert_close(mine.speaker, theirs.speaker)
    assert (data.batch().targets == -100).all()


def test_new_data_may_lack_modalities_but_not_all(toy):
    splits = load(toy)
    del toy.arrays["words"], toy.arrays["label"], toy.arrays["split"], toy.arrays["part"]
    recipe = toy.recipe()
    args = (recipe, toy.save(), splits.normaliser, None, None, splits.train.spec)
    batch = load_unlabelled(*args).batch()
    assert batch.present.tolist() == [[False, True]] * 6
    assert batch.inputs["text"].shape[-1] == 4
    toy.arrays["words"] = toy.arrays.pop("sound").repeat(2, 1)
    toy.arrays["has_text"] = np.ones_like(toy.arrays["has_text"])
    toy.save()
    assert load_unlabelled(*args).batch().present.tolist() == [[True, False]] * 6
    told = toy.arrays.pop("has_text")
    toy.save()  # where text is absent would be read as there
    with pytest.raises(InputError, match=r"toy\.npz: modalities\.text\.available = 'has_text': no such array"):
        load_unlabelled(*args)
    toy.arrays["has_text"] = told
    del toy.arrays["words"]
    toy.save()
    with pytest.raises(InputError, match=r"toy\.npz: modalities: expected at least one of the arrays 'words', 'sound'"):
        load_unlabelled(*args)


def test_new_rows_with_nothing_have_no_sample(toy):
    splits = load(toy, sequence="single")
    toy.arrays["sound"][:4] = np.nan
    toy.arrays["has_text"][:5] = [False, False, True, False, True]
    toy.change(("context = 3", 'nonfinite = "absent"'))
    args = (toy.recipe(), toy.save(), splits.normaliser, "single", None, splits.train.spec)
    assert load_unlabelled(*args).ids == tuple(n for i, n in enumerate(toy.arrays["name"]) if i not in (0, 1, 3))
    found = read_unlabelled(*args)
    assert [n for n, used in zip(found.ids, found.used, strict=True) if not used] == toy.arrays["name"][
        [0, 1, 3]
    ].tolist()
    toy.arrays["has_text"][:] = False
    toy.arrays["sound"][:] = np.nan
    toy.save()
    with pytest.raises(InputError, match=r"toy\.npz: expected at least one row with a modality, got none of 30"):
        load_unlabelled(*args)


def test_new_data_that_do_not_fit_the_system_are_refused(toy):
    splits = load(toy)
    spec = splits.train.spec

    def again(kind=None):
        return load_unlabelled(toy.recipe(), toy.save(), splits.normaliser, kind, None, spec)

    with pytest.raises(
        InputError, match=r"toy\.toml: expected the sequence kind 'dialogue' and the modalities \('text', 'au"
    ):
        again("window")
    toy.arrays["person"] = np.array([f"p{i}" for i in range(toy.rows)])
    with pytest.raises(InputError, match=r"groups\.speaker = 'person': expected at most 2 in a conversation, .* got 7"):
        again()
    toy.arrays["sound"] = toy.arrays["sound"][:, :1]
    with pytest.raises(
        InputError, match=r"modalities\.audio\.array = 'sound': expected 2 columns as in the data the system"
    ):
        again()
    del toy.arrays["person"]
    with pytest.raises(InputError, match=r"modalities\.audio\.normalise_by = 'person': no such array"):
        again()
