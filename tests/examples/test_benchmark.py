"""Many systems on many sets: every study is train.py's own, and the table over them is what they measured."""

import json
import math
from dataclasses import replace
from statistics import mean

import pytest

from examples import benchmark
from examples.report import Study
from examples.systems import gru, linear
from mmaffect.ops import InputError

WORLD = """
name = "{name}"
[synthetic]
sequence = "{name}"
sizes = [16, 8, 12]
lengths = [2, 3]
"""
SYSTEMS = ("linear", "gru,hidden=4")


@pytest.fixture
def worlds(tmp_path, monkeypatch):
    for module in (linear, gru):
        monkeypatch.setattr(module, "TRAINING", replace(module.TRAINING, epochs=1))
    for name in ("dialogue", "single"):
        (tmp_path / f"{name}.toml").write_text(WORLD.format(name=name))
    return tmp_path


def call(folder, *more, systems=SYSTEMS, recipes=("dialogue", "single"), seeds=2):
    paths = [str(folder / f"{name}.toml") for name in recipes]
    flags = ["--systems", *systems, "--recipes", *paths, "--seeds", str(seeds), "--out", str(folder / "out"), "--quiet"]
    benchmark.main([*flags, *more])


def test_the_table_over_all_is_what_the_studies_measured(worlds, capsys):
    call(worlds)
    names = ["dialogue/none", "single/none"]
    over = json.loads((worlds / "out" / "result.json").read_text())
    assert list(over["studies"]) == names
    labels = ["linear", "gru (hidden=4)"]
    text = (worlds / "out" / "table.md").read_text()
    ranks = []
    for name in names:
        systems = json.loads((worlds / "out" / name / "result.json").read_text())["systems"]
        assert list(systems) == labels
        means = [
            [mean(100 * e["metrics"]["balanced_accuracy"] for e in seed.values()) for seed in systems[label]["seeds"]]
            for label in labels
        ]
        assert over["studies"][name]["metric"] == "UA"
        for label, found in zip(labels, means, strict=True):
            assert over["studies"][name]["seeds"][label] == pytest.approx(found)
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {name}: UA")]
        assert [cell.split("±")[0].strip() for cell in row.split("|")[2:-1]] == [f"{mean(m):.1f}" for m in means]
        one, other = map(mean, means)
        ranks.append([1.5, 1.5] if one == other else [1.0, 2.0] if one > other else [2.0, 1.0])
    expected = [mean(column) for column in zip(*ranks, strict=True)]
    assert list(over["mean_rank"].values()) == expected
    assert text.rstrip().endswith(f"| mean rank | {expected[0]:.2f} | {expected[1]:.2f} |")
    assert capsys.readouterr().out.rstrip().endswith(text.rstrip())

    logs = {path: path.read_bytes() for path in worlds.glob("out/**/log.jsonl")}
    assert len(logs) == 8
    call(worlds, "--resume")
    assert logs == {path: path.read_bytes() for path in worlds.glob("out/**/log.jsonl")}
    assert json.loads((worlds / "out" / "result.json").read_text()) == over


@pytest.mark.parametrize(
    ("flags", "changed", "message"),
    [
        ((), {"seeds": 0}, "--seeds, --threads: expected at least 1, got 0 and 1"),
        ((), {"systems": ("gru", "gru")}, "--systems: expected at least one, each once, got gru gru"),
        ((), {"recipes": ("single", "single")}, "--recipes: expected at least one, each once"),
        (("--data", "a", "b", "c"), {}, "--data: expected one folder for all recipes or one for each of the 2, got 3"),
        ((), {"systems": ("grru",)}, "'grru' is unknown; did you mean 'gru'"),
        ((), {"systems": ("gru,hidden",)}, "'hidden' is unknown"),
        (("--missing", "deletion"), {}, "--missing: 'deletion' is unknown"),
        ((), {"systems": ("gru,hidden=-1",)}, "dialogue/none: .*hidden"),
        ((), {"systems": ("gru,dropout=.1", "gru,dropout=1")}, r"dialogue/none: systems: .* folders, got gru .*=\.1"),
        ((), {"recipes": ("dialogue", "absent")}, r"absent/none: .*absent\.toml"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(worlds, flags, changed, message):
    with pytest.raises(InputError, match=message):
        call(worlds, *flags, **changed)
    assert not (worlds / "out").exists()


def test_every_set_under_every_protocol(worlds):
    recipes = [str(worlds / f"{name}.toml") for name in ("dialogue", "single")]
    flags = ["--missing", "fixed", "feature", "--data", "one", "other", "--out", str(worlds / "out")]
    grid = benchmark.parse(["--systems", *SYSTEMS, "--recipes", *recipes, *flags])
    commas = ["--missing", "fixed,feature", "--data", "one,other", *flags[-2:]]
    assert benchmark.parse(["--systems", ",".join(SYSTEMS), "--recipes", ",".join(recipes), *commas]) == grid
    assert grid.systems == SYSTEMS
    planned = {name: (p.conditions.name, o.data.name) for name, (p, o) in benchmark.plan(grid).items()}
    assert planned == {
        "dialogue/fixed": ("fixed", "one"),
        "dialogue/feature": ("feature", "one"),
        "single/fixed": ("fixed", "other"),
        "single/feature": ("feature", "other"),
    }


def test_nothing_is_written_over_an_earlier_table(worlds):
    call(worlds, systems=("linear",), recipes=("single",), seeds=1)
    before = (worlds / "out" / "table.md").read_bytes()
    with pytest.raises(InputError, match=r"--out: .*out is not empty; give --resume"):
        call(worlds, systems=("linear",), recipes=("dialogue",), seeds=1)
    assert (worlds / "out" / "table.md").read_bytes() == before


def test_a_metric_that_is_not_defined_ranks_last_and_does_not_undo_the_table(worlds, monkeypatch):
    measured = Study.means
    monkeypatch.setattr(Study, "means", lambda s, label: [math.nan] if label == "linear" else measured(s, label))
    call(worlds, systems=("linear", "gru,hidden=4", "gru,hidden=5"), recipes=("single",), seeds=1)
    over = json.loads((worlds / "out" / "result.json").read_text())
    assert over["mean_rank"]["linear"] == 3
    assert sum(over["mean_rank"].values()) == 6
    assert over["studies"]["single/none"]["seeds"]["linear"] == [None]


def test_recipes_of_one_name_would_share_a_folder(worlds):
    (worlds / "deep").mkdir()
    (worlds / "deep" / "single.toml").write_text(WORLD.format(name="single"))
    with pytest.raises(InputError, match=r"--recipes: expected files of different names, .* got single single"):
        call(worlds, recipes=("single", "deep/single"))
