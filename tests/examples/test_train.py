"""The training script as a user runs it: on small files of their own, and with every mistake they can make."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import predict, train
from mmaffect.ops import InputError

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name = "toy"
file = "toy.npz"
id = "id"
sequence = "dialogue"
[modalities.face]
array = "face"
available = "has_face"
normalise = "train"
[modalities.voice]
array = "voice"
normalise = "group"
normalise_by = "who"
[target]
kind = "class"
array = "label"
classes = ["sad", "happy"]
unlabelled = [-1]
[groups]
sequence = "talk"
speaker = "who"
fold = ["part"]
[split]
array = "split"
"""
TINY = ["--training.epochs", "2", "--config.hidden", "8", "--config.heads", "2", "--quiet"]


def arrays(seed=0, turns=4, talks=12):
    """Twelve dialogues of four turns whose label is the sign of a face feature."""
    rng = np.random.default_rng(seed)
    rows = turns * talks
    talk = np.repeat(np.arange(talks), turns)
    face = rng.normal(size=(rows, 3)).astype(np.float32)
    label = (face[:, 0] > 0).astype(np.int64)
    label[::7] = -1
    return {
        "id": np.array([f"u{i}" for i in range(rows)]),
        "face": face,
        "has_face": rng.random(rows) > 0.2,
        "voice": rng.normal(size=(rows, 2)).astype(np.float32),
        "label": label,
        "talk": np.array([f"t{t:02d}" for t in talk]),
        "who": np.array([f"t{t:02d}{'ab'[i % 2]}" for i, t in enumerate(talk)]),
        "part": talk % 3,
        "split": np.array(["train", "valid", "test"])[np.minimum(talk // 4, 2)],
    }


@pytest.fixture
def toy(tmp_path):
    """A folder with data and recipe, and the arguments that name them."""
    np.savez(tmp_path / "toy.npz", **arrays())
    (tmp_path / "toy.toml").write_text(RECIPE)
    return tmp_path


def call(toy, *extra, system="carn", out="run"):
    train.main(
        [system, "--recipe", str(toy / "toy.toml"), "--data", str(toy), "--out", str(toy / out), "--seeds", "2", *extra]
    )


@pytest.mark.parametrize("missing", ["none", "fixed", "random", "deletion", "feature", "corruption"])
def test_every_protocol_runs_to_the_end(toy, capsys, missing):
    rates = ["--rates", "0.0", "0.5"] if missing in ("random", "deletion", "feature") else []
    rates += ["--modality", "face"] if missing == "deletion" else []
    call(toy, "--missing", missing, "--beside", "linear,epochs=2", *rates, *TINY)
    table = capsys.readouterr().out
    assert "| condition" in table
    assert all(column in table for column in ("WA", "UA", "macro-F1", " ± "))
    result = json.loads((toy / "run" / "result.json").read_text())
    assert set(result["systems"]) == {"carn", "linear (epochs=2)"}
    assert all(len(system["seeds"]) == 2 for system in result["systems"].values())
    for name in ("table.md", "training_curves.png", "attention.png"):
        assert (toy / "run" / name).stat().st_size > 0
    run = toy / "run" / "carn" / "seed1"
    assert {"config.json", "log.jsonl", "best.safetensors", "test.json", "recipe.toml"} <= {
        p.name for p in run.iterdir()
    }
    config = json.loads((run / "config.json").read_text())
    assert config["seed"] == 1
    assert config["system"]["config"]["hidden"] == 8
    assert set(config["data"]) == {"train", "valid"}


def test_rates_may_come_in_any_order(toy, capsys):
    call(toy, "--missing", "random", "--rates", "0.5", "0", "--beside", "none", *TINY)
    assert "Area under the curve" in capsys.readouterr().out
    assert list(json.loads((toy / "run" / "result.json").read_text())["systems"]["carn"]["table"]) == ["0", "0.5"]


def test_undefined_metrics_are_null_not_a_crash(toy, capsys):
    recipe = RECIPE.replace('kind = "class"', 'kind = "score"').replace(
        'classes = ["sad", "happy"]', 'classes = ["mood"]'
    )
    (toy / "toy.toml").write_text(recipe.replace("unlabelled = [-1]\n", ""))
    edited(toy, label=np.zeros(48, np.float32))
    call(toy, "--missing", "fixed", "--beside", "linear,epochs=2", *TINY)
    capsys.readouterr()
    result = json.loads((toy / "run" / "result.json").read_text())["systems"]["carn"]
    assert result["table"]["face"]["Acc-2 (non0)"]["mean"] is None


def test_each_condition_may_have_a_model_of_its_own(toy, capsys):
    apart = ["--missing", "random", "--rates", "0", "0.5", "--per-condition", "--beside", "none", *TINY]
    call(toy, *apart)
    assert "one model a condition" in capsys.readouterr().out
    result = json.loads((toy / "run" / "result.json").read_text())
    assert result["per_condition"]
    for rate in ("0", "0.5"):
        run = toy / "run" / "carn" / "seed1" / f"under_{rate}"
        config = json.loads((run / "config.json").read_text())
        assert config["protocol"]["train"]["rates"] == [float(rate)]
        assert list(json.loads((run / "test.json").read_text())) == [rate]
        # Alone it is the same model: what one is trained under and measured under has nothing to do with the other.
        call(toy, *apart[:2], "--rates", rate, "--beside", "none", *TINY, out=f"alone{rate}")
        alone = json.loads((toy / f"alone{rate}" / "result.json").read_text())["systems"]["carn"]["table"]
        assert alone[rate] == result["systems"]["carn"]["table"][rate]
    before = (toy / "run" / "carn" / "seed0" / "under_0" / "log.jsonl").read_bytes()
    call(toy, *apart, "--resume")
    assert (toy / "run" / "carn" / "seed0" / "under_0" / "log.jsonl").read_bytes() == before
    capsys.readouterr()


def test_deleted_turns_stay_deleted_in_truly_missing_training(toy, capsys):
    flags = ["--missing", "deletion", "--modality", "face", "--rates", "0.5", "--per-condition", "--beside", "none"]
    call(toy, *flags, "--training.regime", "truly", *TINY)
    capsys.readouterr()
    config = json.loads((toy / "run" / "carn" / "seed0" / "under_0.5" / "config.json").read_text())
    assert config["train"]["regime"] == "truly"
    assert config["protocol"]["train"] == {
        "kind": "Deletion",
        "name": "0.5",
        "names": ["face", "voice"],
        "modality": "face",
        "rates": [0.5],
    }


def test_patterns_may_be_chosen(toy, capsys):
    call(toy, "--missing", "fixed", "--patterns", "voice", "--beside", "none", *TINY)
    capsys.readouterr()
    assert list(json.loads((toy / "run" / "result.json").read_text())["systems"]["carn"]["table"]) == ["voice"]


def test_the_table_is_what_the_runs_measured(toy, capsys):
    call(toy, "--missing", "fixed", "--beside", "none", *TINY)
    capsys.readouterr()
    result = json.loads((toy / "run" / "result.json").read_text())["systems"]["carn"]
    measured = [
        json.loads((toy / "run" / "carn" / f"seed{seed}" / "test.json").read_text())["face"]["metrics"]
        for seed in (0, 1)
    ]
    values = [100 * m["balanced_accuracy"] for m in measured]
    assert result["table"]["face"]["UA"]["mean"] == pytest.approx(np.mean(values))
    assert result["table"]["face"]["UA"]["sd"] == pytest.approx(np.std(values, ddof=1))


def test_same_command_same_numbers_and_resume_repeats_nothing(toy, capsys):
    call(toy, "--missing", "fixed", "--beside", "none", *TINY)
    call(toy, "--missing", "fixed", "--beside", "none", *TINY, out="again")
    first, again = (json.loads((toy / o / "result.json").read_text()) for o in ("run", "again"))
    assert first == again
    before = (toy / "run" / "carn" / "seed0" / "log.jsonl").read_bytes()
    call(toy, "--missing", "fixed", "--beside", "none", *TINY, "--resume")
    assert json.loads((toy / "run" / "result.json").read_text()) == first
    assert (toy / "run" / "carn" / "seed0" / "log.jsonl").read_bytes() == before
    capsys.readouterr()


def test_ablations_stand_beside_the_system(toy, capsys):
    call(toy, "--beside", "none", "--ablations", *TINY)
    out = capsys.readouterr().out
    for label in ("w/o CCE", "w/o CSS", "w/ MSE", "w/ vanilla attention"):
        assert f"## carn {label}" in out
        assert f"| carn {label} " in out.split("side by side")[1].splitlines()[2]


def test_folds_test_every_group_once(toy, capsys):
    call(toy, "--beside", "none", "--folds", "part", *TINY)
    capsys.readouterr()
    result = json.loads((toy / "run" / "result.json").read_text())["systems"]["carn"]["seeds"][0]["complete"]
    labelled = int((arrays()["label"] >= 0).sum())
    assert result["counted"] == labelled
    assert len(list((toy / "run" / "carn" / "seed0").iterdir())) == 3


def test_sequence_kinds_by_flag(toy, capsys):
    call(toy, "--beside", "gru,epochs=2", "--sequence", "window", "--context", "3", *TINY)
    call(toy, "--beside", "none", "--sequence", "single", *TINY, system="carn", out="single")
    capsys.readouterr()


def test_predict_reads_new_data_without_labels(toy, capsys):
    call(toy, "--missing", "fixed", "--beside", "none", *TINY)
    new = {k: v for k, v in arrays(seed=1).items() if k not in ("label", "split", "part", "face", "has_face")}
    np.savez(toy / "new.npz", **new)
    predict.main([str(toy / "run" / "carn" / "seed0"), "--data", str(toy / "new.npz"), "--out", str(toy / "p.csv")])
    lines = (toy / "p.csv").read_text().splitlines()
    assert lines[0] == "id,has_face,has_voice,probability_sad,probability_happy,prediction"
    assert len(lines) == 1 + len(new["id"])
    for line in lines[1:]:
        _, face, voice, sad, happy, said = line.split(",")
        assert (face, voice) == ("0", "1")
        assert float(sad) + float(happy) == pytest.approx(1, abs=1e-5)
        assert said == ("sad" if float(sad) >= float(happy) else "happy")
    assert "had nothing to read" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["dialogue", "window", "single"])
def test_predict_writes_every_row_though_there_be_nothing_to_read(toy, kind, capsys):
    tiny = ["--training.epochs", "1", "--config.hidden", "8", "--quiet"]
    call(toy, "--seeds", "1", "--missing", "fixed", "--beside", "none", "--sequence", kind, *tiny, system="gru")
    new = {k: v for k, v in arrays().items() if k not in ("label", "split", "part", "voice")}
    new["has_face"] = np.arange(48) >= 6  # the first dialogue has nothing, the second is without its first turns
    np.savez(toy / "new.npz", **new)
    predict.main([str(toy / "run" / "gru" / "seed0"), "--data", str(toy / "new.npz"), "--out", str(toy / "p.csv")])
    rows = [line.split(",") for line in (toy / "p.csv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == new["id"].tolist()
    assert [row[1] for row in rows] == ["0"] * 6 + ["1"] * 42
    assert [row[-1] == "" for row in rows] == [True] * 6 + [False] * 42
    assert "48 rows written" in capsys.readouterr().out


def test_predict_repeats_the_tests_probabilities(toy, capsys):
    call(toy, "--beside", "none", *TINY)
    np.savez(toy / "all.npz", **arrays())
    predict.main([str(toy / "run" / "carn" / "seed0"), "--data", str(toy / "all.npz"), "--out", str(toy / "p.csv")])
    rows = [line.split(",") for line in (toy / "p.csv").read_text().splitlines()[1:]]
    data = arrays()
    test = (data["split"] == "test") & (data["label"] >= 0)
    said = np.array([row[-1] for row in rows])[test]
    truth = np.array(["sad", "happy"])[data["label"][test]]
    measured = json.loads((toy / "run" / "carn" / "seed0" / "test.json").read_text())["complete"]["metrics"]
    assert (said == truth).mean() == pytest.approx(measured["accuracy"])
    capsys.readouterr()


def edited(toy, **changes):
    np.savez(toy / "toy.npz", **{k: v for k, v in (arrays() | changes).items() if v is not None})


def recipe_without(toy, line):
    (toy / "toy.toml").write_text(RECIPE.replace(line + "\n", ""))


def bad_column():
    face = arrays()["face"]
    face[:, 1] = np.nan
    return face


MISTAKES = {
    "unknown system": (lambda toy: None, ["cran"], "system: 'cran' is unknown; did you mean 'carn'"),
    "no system": (
        lambda toy: None,
        [],
        "expected the name of a system first, one of: affect_diff, carn, cider, gru, imder, linear",
    ),
    "missing key": (lambda toy: recipe_without(toy, 'array = "voice"'), ["carn"], "voice.*array"),
    "unknown key": (
        lambda toy: (toy / "toy.toml").write_text(RECIPE.replace("unlabelled", "unlabeled")),
        ["carn"],
        "unlabeled.*unlabelled",
    ),
    "no array": (lambda toy: edited(toy, voice=None), ["carn"], "voice"),
    "lengths differ": (lambda toy: edited(toy, voice=arrays()["voice"][:-1]), ["carn"], "voice.*48.*47|voice.*47.*48"),
    "all-NaN column": (lambda toy: edited(toy, face=bad_column()), ["carn"], "face"),
    "nothing there": (
        lambda toy: (
            (toy / "toy.toml").write_text(
                RECIPE.replace('array = "voice"', 'array = "voice"\navailable = "has_voice"')
            ),
            edited(toy, has_face=np.zeros(48, bool), has_voice=np.zeros(48, bool)),
        ),
        ["carn"],
        "toy.npz",
    ),
    "empty split": (lambda toy: edited(toy, split=np.array(["train"] * 48)), ["carn"], "split.*valid"),
    "label outside": (lambda toy: edited(toy, label=np.full(48, 7)), ["carn"], "label.*7"),
    "no file": (lambda toy: (toy / "toy.npz").unlink(), ["carn"], "toy.npz"),
    "corrupt file": (lambda toy: (toy / "toy.npz").write_bytes(b"PK\x03\x04 nonsense"), ["carn"], "toy.npz"),
    "unknown fold": (
        lambda toy: None,
        ["carn", "--folds", "parts"],
        "--folds: 'parts' is unknown; did you mean 'part'",
    ),
    "unknown modality": (
        lambda toy: None,
        ["carn", "--missing", "fixed", "--patterns", "face+voce"],
        r"--missing fixed: .*voce.*did you mean 'voice'",
    ),
    "nothing to delete": (
        lambda toy: None,
        ["carn", "--missing", "deletion", "--modality", "fase"],
        "--missing deletion: modality: 'fase' is unknown; did you mean 'face'",
    ),
    "rate too high": (lambda toy: None, ["carn", "--missing", "random", "--rates", "0.7"], "random.*0.7"),
    "unknown floor": (lambda toy: None, ["carn", "--beside", "gruu"], "system: 'gruu' is unknown; did you mean 'gru'"),
    "bad floor": (lambda toy: None, ["carn", "--beside", "gru,hidden"], "--beside: expected NAME or NAME,FIELD=VALUE"),
    "no seeds": (lambda toy: None, ["carn", "--seeds", "0"], "--seeds: expected at least 1, got 0"),
    "config that does not fit": (
        lambda toy: None,
        ["carn", "--config.hidden", "18"],
        "config of carn: dim: .*heads = 4",
    ),
    "too few epochs": (lambda toy: None, ["carn", "--training.epochs", "1"], "epochs: .* each of the 2 stages, got 1"),
    "speakers as folds": (
        lambda toy: (toy / "toy.toml").write_text(RECIPE.replace('fold = ["part"]', 'fold = ["who"]')),
        ["carn", "--folds", "who"],
        "--folds who: expected a column that is constant within a dialogue",
    ),
    "no ablations": (lambda toy: None, ["gru", "--ablations"], "--ablations: gru has none"),
    "bad monitor": (lambda toy: None, ["carn", "--training.monitor", "UAR"], "monitor: 'UAR' is unknown"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_paragraph_and_leave_nothing(toy, name):
    spoil, words, message = MISTAKES[name]
    spoil(toy)
    rest = ["--recipe", str(toy / "toy.toml"), "--data", str(toy), "--out", str(toy / "run"), *words[1:]]
    with pytest.raises(InputError, match=message) as caught:
        train.main([*words[:1], *rest] if words else [])
    assert "\n\n" not in str(caught.value)
    assert not (toy / "run").exists()


def test_resume_with_another_config_is_refused(toy, capsys):
    call(toy, "--beside", "none", *TINY)
    before = {p: p.read_bytes() for p in (toy / "run").rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"config\.dropout: 0\.3 there, 0\.1 now"):
        call(toy, "--beside", "none", *TINY, "--config.dropout", "0.1", "--resume")
    with pytest.raises(InputError, match=r"--out: .* is not empty; give --resume"):
        call(toy, "--beside", "none", *TINY)
    assert {p: p.read_bytes() for p in (toy / "run").rglob("*") if p.is_file()} == before
    capsys.readouterr()


def test_the_command_exits_with_two_and_no_traceback(toy):
    command = [sys.executable, str(ROOT / "examples" / "train.py"), "cran", "--recipe", "x", "--out", str(toy / "run")]
    done = subprocess.run(command, cwd=toy, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: system: 'cran' is unknown; did you mean 'carn'")
    assert "Traceback" not in done.stderr
    assert not (toy / "run").exists()


def test_a_value_out_of_range_leaves_with_two(toy, capsys):
    with pytest.raises(SystemExit) as caught:
        call(toy, "--training.learning-rate", "-1")
    assert caught.value.code == 2
    assert "learning_rate: expected a value > 0" in capsys.readouterr().err
    assert not (toy / "run").exists()


@pytest.mark.parametrize(
    ("run", "message"),
    [("nowhere", "config.json cannot be read"), ("run", "expected the directory of a finished run")],
)
def test_predict_says_what_is_wrong(toy, run, message):
    with pytest.raises(InputError, match=message):
        predict.main([str(toy / run), "--data", str(toy / "toy.npz"), "--out", str(toy / "p.csv")])
    with pytest.raises(InputError, match="--out: the folder"):
        predict.main([str(toy / run), "--data", "x", "--out", str(toy / "no" / "p.csv")])


def test_predictions_that_cannot_be_written_say_so(toy):
    call(toy, "--seeds", "1", "--beside", "none", "--training.epochs", "1", "--quiet", system="linear")
    (toy / "p.csv").mkdir()
    with pytest.raises(InputError, match=r"--out: .*p\.csv cannot be written \(Is a directory\)"):
        predict.main(
            [str(toy / "run" / "linear" / "seed0"), "--data", str(toy / "toy.npz"), "--out", str(toy / "p.csv")]
        )
