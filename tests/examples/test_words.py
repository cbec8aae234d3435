"""Sentences in, predictions out: a run on words, and the same run on sentences it has never seen."""

import csv
import json

import numpy as np
import pytest

from examples import predict, train
from mmaffect.ops import InputError
from tests.text_models import tiny_model, tiny_tokenizer

RECIPE = """
name = "said"
file = "said.npz"
id = "id"
sequence = "single"
[modalities.text]
array = "said"
tokenizer = "words"
[modalities.voice]
array = "voice"
[target]
kind = "class"
array = "score"
classes = ["negative", "neutral", "positive"]
bins = [0, 0]
[split]
array = "split"
"""
GOOD, BAD = ["fine", "film", "like"], ["not", "un", "i"]


@pytest.fixture
def said(tmp_path):
    """Two hundred sentences whose words say how they are meant; one in ten says nothing."""
    rng = np.random.default_rng(0)
    score = rng.choice([-1.0, 0.0, 1.0], 200)
    words = {-1.0: BAD, 0.0: ["it", "a"], 1.0: GOOD}
    sentences = [" ".join(rng.choice(words[s], rng.integers(1, 6))) for s in score]
    np.savez(
        tmp_path / "said.npz",
        id=[f"u{i}" for i in range(200)],
        said=np.where(rng.random(200) < 0.1, "", sentences),
        voice=rng.normal(size=(200, 2)),
        score=score,
        split=np.repeat(["train", "valid", "test"], [120, 40, 40]),
    )
    (tmp_path / "said.toml").write_text(RECIPE)
    return tmp_path


def call(folder, *extra, system="gru"):
    words = ["--recipe", str(folder / "said.toml"), "--data", str(folder), "--out", str(folder / "run")]
    train.main([system, *words, "--seeds", "1", "--beside", "none", "--quiet", *extra])
    return folder / "run" / system / "seed0"


def apply(run, folder, **arrays):
    np.savez(folder / "new.npz", **arrays)
    predict.main([str(run), "--data", str(folder / "new.npz"), "--out", str(folder / "out.csv")])
    with (folder / "out.csv").open() as file:
        return list(csv.DictReader(file))


def test_new_sentences_are_read_with_the_words_of_the_run(said):
    run = call(said, "--training.epochs", "12", "--training.learning-rate", "0.01", "--text.width", "8")
    assert set(json.loads((run / "tokenizers.json").read_text())["text"]["words"]) == {*GOOD, *BAD, "it", "a"}
    for file in said.glob("said.*"):
        file.unlink()  # the run stands alone
    sentences = ["Fine FILM, fine zebra!", "NOT... un", "it", "zebra unheard", "", " ?! "]
    rows = apply(run, said, id=list("abcdef"), said=sentences, voice=np.zeros((6, 2)))
    assert [row["prediction"] for row in rows[:3]] == ["positive", "negative", "neutral"]
    assert [row["has_text"] for row in rows] == ["1", "1", "1", "1", "0", "0"]
    assert rows[4]["probability_positive"] == rows[5]["probability_positive"]  # nothing said is nothing said
    assert rows[3]["prediction"]
    rows = apply(run, said, id=["a", "b"], said=["fine", "fine"])
    assert [(row["has_voice"], row["prediction"]) for row in rows] == [("0", "positive")] * 2
    rows = apply(run, said, id=["a", "b", "c"], said=["", "fine", " "])
    assert [(row["id"], row["has_text"], row["prediction"]) for row in rows] == [
        ("a", "0", ""),
        ("b", "1", "positive"),
        ("c", "0", ""),
    ]
    assert rows[0]["probability_neutral"] == "nan"
    rows = apply(run, said, id=["a"], voice=np.zeros((1, 2)))
    assert (rows[0]["has_text"], rows[0]["has_voice"]) == ("0", "1")


def test_a_run_on_words_goes_on_where_it_stopped(said):
    short = ["--training.epochs", "2", "--text.width", "4"]
    run = call(said, *short)
    before = (run / "test.json").read_text()
    call(said, *short, "--resume")
    assert (run / "test.json").read_text() == before
    with pytest.raises(InputError, match=r"--out: .* is not empty"):
        call(said, *short)


def test_a_pretrained_model_is_named_by_its_folder(said):
    folder = said / "model"
    folder.mkdir()
    tiny_tokenizer(folder)
    tiny_model(folder)
    options = ["--tokenizer", str(folder), "--text.encoder", "pretrained", "--text.folder", str(folder)]
    run = call(said, *options, "--training.epochs", "1")
    state = json.loads((run / "tokenizers.json").read_text())["text"]
    assert (state["kind"], state["max_tokens"]) == ("subwords", 8)
    (folder / "vocab.txt").unlink()  # the tokenizer is in the run
    rows = apply(run, said, id=["a", "b"], said=["A fine film", ""], voice=np.zeros((2, 2)))
    assert [row["has_text"] for row in rows] == ["1", "0"]
    assert all(row["prediction"] for row in rows)


def test_a_synthetic_world_says_nothing(tmp_path):
    (tmp_path / "world.toml").write_text("[synthetic]\nsizes = [20, 5, 5]\n")
    words = ["--recipe", str(tmp_path / "world.toml"), "--out", str(tmp_path / "run"), "--tokenizer", "words"]
    with pytest.raises(
        InputError, match=r"--tokenizer: world\.toml describes a synthetic world, which has no sentences"
    ):
        train.main(["linear", *words])
