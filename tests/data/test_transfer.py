import numpy as np
import pytest
import torch

from mmaffect.data import load_dataset, load_recipe, load_transfer
from mmaffect.ops import InputError

RECIPE = """
name = "{name}"
file = "{name}.npz"
id = "id"
sequence = "{sequence}"
[modalities.voice]
array = "voice"
normalise = "{normalise}"
{by}
[modalities.words]
array = "words"
tokenizer = "words"
min_count = 1
[target]
kind = "class"
array = "label"
classes = {classes}
unlabelled = [-1]
[groups]
sequence = "talk"
fold = ["talk"]
[split]
array = "split"
"""
MOODS = ["sad", "happy", "calm"]
POLES = ["negative", "positive", "neutral"]
MAP = {"sad": "negative", "happy": "positive"}


@pytest.fixture
def pair(tmp_path):
    """Two datasets of thirty rows each: other scales, other words, other names of the labels."""

    def write(name, classes, *, seed, sequence="single", normalise="train", width=2, vectors=False, target=None):
        rng = np.random.default_rng(seed)
        rows = 30
        np.savez(
            tmp_path / f"{name}.npz",
            id=np.array([f"{name}{i}" for i in range(rows)]),
            voice=rng.normal(10 * seed, 1 + seed, (rows, width)).astype(np.float32),
            words=np.array([f"we {name} {['low', 'high', 'flat'][i % 3]}" for i in range(rows)]),
            label=np.where(np.arange(rows) % 10 == 9, -1, np.arange(rows) % 3),
            talk=np.repeat([f"{name}_t{t}" for t in range(6)], 5),
            split=np.repeat(["train", "train", "train", "valid", "test", "test"], 5),
            who=np.array(["a", "b"])[np.arange(rows) % 2],
        )
        by = 'normalise_by = "who"' if normalise == "group" else ""
        text = RECIPE.format(name=name, sequence=sequence, normalise=normalise, by=by, classes=classes)
        if vectors:
            start = text.index("[modalities.words]")
            text = text[:start] + text[text.index("[target]") :]
        if target:
            text = text.replace('kind = "class"', f'kind = "{target}"').replace("unlabelled = [-1]\n", "")
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        return load_recipe(path)

    def load(first=None, second=None, **options):
        one = write("one", MOODS, seed=1, **(first or {}))
        two = write("two", **{"classes": POLES, "seed": 2, **(second or {})})
        return load_transfer(one, tmp_path, two, tmp_path, **{"mapping": MAP, **options})

    load.write, load.folder = write, tmp_path
    return load


def test_test_comes_from_the_other_set_and_all_else_from_the_first(pair):
    found = pair()
    splits = found.splits
    assert all(i.startswith("one") for part in (splits.train, splits.valid) for i in part.ids)
    assert all(i.startswith("two") for i in splits.test.ids)
    assert {int(i[3:]) for i in splits.test.ids} == {i for i in range(20, 30) if i % 3 < 2 and i % 10 != 9}
    spec = splits.train.spec
    assert spec.classes == ("negative", "positive")
    assert splits.valid.spec == splits.test.spec == spec
    labels = splits.train.targets
    assert spec.class_shares == pytest.approx([(labels == c).double().mean().item() for c in (0, 1)])
    wanted = [[0, 1][int(i[3:]) % 3] for i in splits.test.ids]
    assert splits.test.targets.tolist() == wanted


def test_words_and_normalisation_are_those_of_the_first(pair):
    found = pair()
    splits = found.splits
    alone = load_dataset(pair.write("one", MOODS, seed=1), pair.folder)
    assert splits.normaliser.state_dict().keys() == alone.normaliser.state_dict().keys()
    assert torch.equal(splits.normaliser.mean["voice"], alone.normaliser.mean["voice"])
    assert splits.tokenizers["words"].state_dict() == alone.tokenizers["words"].state_dict()
    file = np.load(pair.folder / "two.npz")
    row = int(splits.test.ids[0][3:])
    given = torch.from_numpy(file["voice"][row]).double()
    wanted = (given - alone.normaliser.mean["voice"]) / alone.normaliser.sd["voice"]
    torch.testing.assert_close(splits.test[0].inputs["voice"][0].double(), wanted.clamp(-10, 10), rtol=1e-5, atol=1e-5)
    vocabulary = splits.train.spec.tokens["words"]
    ids = splits.test[0].inputs["words"]
    assert (ids == vocabulary.unknown).sum() == 1  # "two", which the first set never says
    assert ids.max() < vocabulary.size


def test_groups_of_the_other_set_are_normalised_by_themselves_where_its_recipe_says_so(pair):
    splits = pair(second={"normalise": "group"}).splits
    file = np.load(pair.folder / "two.npz")
    row = int(splits.test.ids[0][3:])
    own = file["voice"][file["who"] == file["who"][row]].astype(np.float64)
    wanted = (file["voice"][row] - own.mean(0)) / own.std(0)
    np.testing.assert_allclose(splits.test[0].inputs["voice"][0].numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_labels_in_common_with_nothing_are_counted(pair):
    found = pair()
    assert {k: v for k, v in found.left_out["test"].items() if v} == {"neutral": 3}
    assert {k: v for k, v in found.left_out["train"].items() if v} == {"calm": 5}
    text = str(found)
    assert "test: neutral 3 left out, having no label in common" in text
    assert "tested on two as single: 30 rows" in text
    kept = pair(mapping={**MAP, "calm": "neutral"})
    assert kept.left_out == {split: {} for split in ("train", "valid", "test")}
    assert kept.splits.test.spec.classes == ("negative", "positive", "neutral")


def test_without_a_mapping_the_classes_are_the_same_in_any_order(pair):
    splits = pair(second={"classes": ["calm", "sad", "happy"]}, mapping=None).splits
    assert splits.test.spec.classes == ("sad", "happy", "calm")
    assert splits.test.targets.tolist() == [(int(i[3:]) % 3 - 1) % 3 for i in splits.test.ids]
    with pytest.raises(InputError, match=r"two\.toml: expected the classes \('sad', 'happy', 'calm'\) of one"):
        pair(mapping=None)


@pytest.mark.parametrize("sequence", ["window", "dialogue"])
def test_turns_without_a_common_label_stay_as_context(pair, sequence):
    vectors = {"vectors": True, "sequence": sequence}
    found = pair(first=vectors, second=vectors)
    test = found.splits.test
    if sequence == "dialogue":
        assert test.ids == ("two_t4", "two_t5")
        assert [t.target.tolist() for t in (test[0], test[1])] == [[-100, 0, 1, -100, 0], [1, -100, 0, 1, -100]]
    else:
        assert max(test.lengths["voice"]) == 5
        assert (test.targets >= 0).all()
    assert {k: v for k, v in found.left_out["test"].items() if v} == {"neutral": 3}


def test_a_dialogue_that_no_label_is_left_of_is_left_out(pair):
    vectors = {"vectors": True, "sequence": "dialogue"}
    pair.write("one", MOODS, seed=1, **vectors)
    one, two = (pair.write(n, c, seed=s, **vectors) for n, c, s in (("one", MOODS, 1), ("two", POLES, 2)))
    arrays = dict(np.load(pair.folder / "two.npz"))
    arrays["label"][20:25] = 2
    np.savez(pair.folder / "two.npz", **arrays)
    found = load_transfer(one, pair.folder, two, pair.folder, mapping=MAP)
    assert found.splits.test.ids == ("two_t5",)
    arrays["label"][20:] = 2
    np.savez(pair.folder / "two.npz", **arrays)
    with pytest.raises(InputError, match="mapping: expected labelled samples in split 'test', got none"):
        load_transfer(one, pair.folder, two, pair.folder, mapping=MAP)


def test_scores_need_no_mapping(pair):
    scores = {"vectors": True, "target": "score", "classes": ["mood"]}
    one, two = (pair.write(n, ["mood"], seed=s, vectors=True, target="score") for n, s in (("one", 1), ("two", 2)))
    splits = load_transfer(one, pair.folder, two, pair.folder).splits
    assert splits.test.spec == splits.train.spec
    assert len(splits.test) == 10
    with pytest.raises(InputError, match=r"mapping: expected classes, one\.toml has a target of the kind 'score'"):
        load_transfer(one, pair.folder, two, pair.folder, mapping=MAP)
    with pytest.raises(InputError, match=r"two\.toml: expected target = 'class' as in one\.toml, got 'score'"):
        pair(first={"vectors": True}, second=scores)


def test_what_does_not_fit_is_refused(pair):
    with pytest.raises(InputError, match=r"two\.toml: modalities: expected voice, words, as in the data it"):
        pair(second={"vectors": True})
    with pytest.raises(InputError, match=r"two\.toml: expected the widths .*'voice': 2.* got .*'voice': 3"):
        pair(second={"width": 3})
    with pytest.raises(InputError, match=r"mapping: 'angry' is a class of neither one\.toml"):
        pair(mapping={"angry": "negative", "happy": "positive"})
    with pytest.raises(InputError, match=r"mapping: expected at least two common classes, got \('negative',\)"):
        pair(mapping={"sad": "negative"})
    first, second = {"vectors": True, "sequence": "dialogue"}, {"vectors": True}
    with pytest.raises(InputError, match=r"two\.toml: expected sequence = 'dialogue' as in one\.toml, got 'single'"):
        pair(first=first, second=second)
    pair(first=first, second=second, sequence="window")
    words = pair.write("one", MOODS, seed=1)
    pair.write("two", POLES, seed=2)
    text = (pair.folder / "two.toml").read_text()
    numbers = text.replace('array = "words"\ntokenizer = "words"\nmin_count = 1', 'array = "voice"')
    (pair.folder / "two.toml").write_text(numbers)
    other = load_recipe(pair.folder / "two.toml")
    with pytest.raises(InputError, match=r"expected sentences with a tokenizer in \('words',\), as in the data"):
        load_transfer(words, pair.folder, other, pair.folder, mapping=MAP)


def test_the_same_set_twice_is_that_set(pair):
    recipe = pair.write("one", MOODS, seed=1)
    twice = load_transfer(recipe, pair.folder, recipe, pair.folder).splits
    once = load_dataset(recipe, pair.folder)
    assert [part.fingerprint for part in twice[:3]] == [part.fingerprint for part in once[:3]]
