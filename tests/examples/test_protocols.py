"""The script under protocols that leave nothing, and from one dataset to another."""

import json

import numpy as np
import pytest

from examples.sources import read_mapping
from mmaffect.ops import InputError
from tests.examples.test_train import RECIPE, TINY, arrays, call

TOKENS = """
name = "toy"
file = "toy.npz"
id = "id"
sequence = "single"
[modalities.words]
array = "words"
tokenizer = "words"
min_count = 1
[modalities.voice]
array = "voice"
[target]
kind = "class"
array = "label"
classes = ["sad", "happy"]
unlabelled = [-1]
[split]
array = "split"
"""
FAST = ["--training.epochs", "1", "--quiet"]


@pytest.fixture
def toy(tmp_path):
    """The folder of tests/examples/test_train.py."""
    np.savez(tmp_path / "toy.npz", **arrays())
    (tmp_path / "toy.toml").write_text(RECIPE)
    return tmp_path


@pytest.mark.parametrize("missing", ["feature", "stmfm"])
def test_a_curve_ends_with_nothing_left_and_counts_the_same_rows(toy, capsys, missing):
    call(toy, "--missing", missing, "--rates", "0", "0.5", "1", "--beside", "linear", *FAST, system="gru")
    table = capsys.readouterr().out
    assert "## Area under the curve over missing rates (AUILC)" in table
    assert "Left with nothing, hence predicted for every system from the labels of the training split:" in table
    systems = json.loads((toy / "run" / "result.json").read_text())["systems"]
    rows = [{rate: seed["counted"] for rate, seed in each.items()} for s in systems.values() for each in s["seeds"]]
    assert all(len(set(by_rate.values())) == 1 and by_rate == rows[0] for by_rate in rows)
    for system in systems.values():
        for seed in system["seeds"]:
            assert seed["0"]["filled"] == 0
            assert seed["1"]["filled"] == seed["1"]["counted"]
            assert seed["1"]["metrics"] == systems["gru"]["seeds"][0]["1"]["metrics"]
            assert seed["1"]["metrics"]["balanced_accuracy"] == 0.5
    assert (toy / "run" / "rate_curves.png").stat().st_size > 0


def test_options_of_protocols_reach_them(toy, capsys):
    wide = ["--missing", "rmfm_same", "--patterns", "face=0.5+voice", "voice=1"]
    call(toy, *wide, "--beside", "none", *FAST, system="gru", out="same")
    call(toy, "--missing", "rmm", "--keep-one", "--rates", "0.5", "--beside", "none", *FAST, system="gru", out="rmm")
    coin = ["--missing", "feature", "--rates", "0", "--training-rates", "position", "--beside", "none"]
    call(toy, *coin, *FAST, system="gru", out="coin")
    capsys.readouterr()
    recorded = {
        name: json.loads((toy / name / "gru" / "seed0" / "config.json").read_text())["protocol"]
        for name in ("same", "rmm", "coin")
    }
    assert [c["rates"] for c in recorded["same"]["evaluation"]] == [[0.5, 0.0], [1.0, 1.0]]
    assert recorded["rmm"]["train"]["keep_one"]
    assert recorded["coin"]["train"]["rate"] == 0.5
    assert all(protocol["empty"] == "prior" for protocol in recorded.values())


def test_shared_time_is_asked_for_before_anything_is_written(toy):
    with pytest.raises(InputError, match=r"\(tmfm\) needs modalities that share their time"):
        call(toy, "--missing", "tmfm", "--sequence", "single", "--beside", "none", *FAST, system="gru")
    assert not (toy / "run").exists()


def test_words_go_missing_up_to_all_of_them(toy, capsys):
    rng = np.random.default_rng(0)
    words = np.array(["low", "high", "and", "so"])
    label = arrays()["label"]
    text = [" ".join([words[max(c, 0)], *rng.choice(words[2:], 3)]) for c in label]
    np.savez(toy / "toy.npz", **arrays(), words=np.array(text))
    (toy / "toy.toml").write_text(TOKENS)
    call(toy, "--missing", "feature", "--rates", "0", "0.5", "1", "--beside", "none", *FAST, system="gru")
    capsys.readouterr()
    seed = json.loads((toy / "run" / "result.json").read_text())["systems"]["gru"]["seeds"][0]
    assert seed["0"]["filled"] == 0
    assert seed["1"]["filled"] == seed["1"]["counted"] == seed["0"]["counted"]


def test_a_system_may_be_tested_on_another_set(toy, capsys):
    other = toy / "other"
    other.mkdir()
    np.savez(other / "toy.npz", **arrays(seed=1))
    renamed = RECIPE.replace('name = "toy"', 'name = "far"').replace('["sad", "happy"]', '["low", "high"]')
    (toy / "far.toml").write_text(renamed)
    far = ["--test-recipe", str(toy / "far.toml"), "--test-data", str(other), "--beside", "none"]
    call(toy, *far, "--map", "sad=low, happy=high", *TINY)
    assert "# toy, tested on far, missing: none" in capsys.readouterr().out
    result = json.loads((toy / "run" / "result.json").read_text())
    assert result["classes"] == ["low", "high"]
    description = json.loads((toy / "run" / "carn" / "seed0" / "config.json").read_text())["description"]
    assert description["tested_on"] == "far"
    assert description["map"] == {"sad": "low", "happy": "high"}
    with pytest.raises(InputError, match=r"far\.toml: expected the classes \('sad', 'happy'\) of toy\.toml, or a map"):
        call(toy, *far, *TINY, out="unmapped")
    call(toy, "--test-recipe", str(toy / "toy.toml"), "--beside", "none", *TINY, out="itself")
    call(toy, "--beside", "none", *TINY, out="plain")
    one, same = (json.loads((toy / n / "result.json").read_text())["systems"] for n in ("itself", "plain"))
    assert one["carn"]["seeds"] == same["carn"]["seeds"]  # tested on itself it is what it is
    capsys.readouterr()


def test_what_does_not_go_together_is_refused(toy):
    with pytest.raises(InputError, match="--test-data, --map: expected only beside --test-recipe"):
        call(toy, "--map", "sad=low", *TINY)
    with pytest.raises(InputError, match="--folds: expected none beside --test-recipe"):
        call(toy, "--test-recipe", str(toy / "toy.toml"), "--folds", "part", *TINY)
    (toy / "world.toml").write_text("[synthetic]\nsamples = 40\n")
    with pytest.raises(InputError, match=r"--test-recipe: expected recipes of files, world\.toml describes a"):
        call(toy, "--test-recipe", str(toy / "world.toml"), *TINY)
    for wrong in ("sad", "sad=low,sad=high", "sad=", "a=b=c"):
        with pytest.raises(InputError, match="--map: expected CLASS=COMMON pairs joined by commas"):
            read_mapping(wrong)
