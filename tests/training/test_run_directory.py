import json
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from mmaffect.ops import InputError
from mmaffect.training.config import TrainConfig
from mmaffect.training.run_directory import check_directory, describe_system, differences, plain, start_directory
from tests.training.tiny import make_system

CONFIG = {"train": {"epochs": 3, "lr": 0.1}, "seed": 0}


@dataclass(frozen=True)
class Inner:
    sizes: MappingProxyType


def test_plain_is_what_json_gives_back():
    value = {
        "a": Inner(MappingProxyType({"text": (1, 2)})),
        "b": {"y", "x"},
        "c": Path("d"),
        "e": float("nan"),
        1: None,
    }
    found = plain(value)
    assert found == {"a": {"sizes": {"text": [1, 2]}}, "b": ["x", "y"], "c": "d", "e": None, "1": None}
    assert json.loads(json.dumps(found)) == found
    with pytest.raises(InputError, match="description: expected values that JSON can hold, got object"):
        plain({"a": object()})


def test_a_new_directory_is_not_touched_by_the_check(tmp_path):
    assert check_directory(tmp_path / "new", CONFIG, resume=False) is False
    assert check_directory(tmp_path / "new", CONFIG, resume=True) is False
    assert not (tmp_path / "new").exists()


def test_config_holds_what_was_asked_and_what_ran(tmp_path):
    start_directory(tmp_path / "run", CONFIG)
    text = (tmp_path / "run" / "config.json").read_text()
    found = json.loads(text)
    assert {k: found[k] for k in CONFIG} == CONFIG
    assert found["versions"].keys() == {"mmaffect", "python", "torch", "numpy", "platform", "accelerator"}
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text


def test_resume_needs_the_same_config(tmp_path):
    start_directory(tmp_path, CONFIG)
    assert check_directory(tmp_path, CONFIG, resume=True) is True
    other = {"train": {"epochs": 5, "lr": 0.1}, "seed": 0, "more": 1}
    with pytest.raises(InputError, match=r"train\.epochs: 3 there, 5 now; more: None there, 1 now"):
        check_directory(tmp_path, other, resume=True)


def test_a_run_from_before_an_option_was_there_goes_on_with_its_default(tmp_path):
    now = {"train": plain(TrainConfig())}
    start_directory(tmp_path, {"train": {n: v for n, v in now["train"].items() if n not in ("sampling", "accumulate")}})
    assert check_directory(tmp_path, now, resume=True) is True
    other = {"train": {**now["train"], "sampling": "balanced"}}
    with pytest.raises(InputError, match=r"otherwise: train\.sampling: 'uniform' there, 'balanced' now$"):
        check_directory(tmp_path, other, resume=True)


def test_a_run_from_before_there_were_tokens_goes_on_without_any(tmp_path):
    before = {**CONFIG, "spec": {"modalities": {"text": 4}}}
    start_directory(tmp_path, before)
    assert check_directory(tmp_path, before, resume=True) is True
    now = {**CONFIG, "spec": {"modalities": {"text": 4}, "tokens": {}}}
    assert check_directory(tmp_path, now, resume=True) is True
    now["spec"]["tokens"] = {"text": [4, 1, 1, [0]]}
    with pytest.raises(InputError, match=r"spec\.tokens\.text: None there, \[4, 1, 1, \[0\]\] now"):
        check_directory(tmp_path, now, resume=True)


def test_no_run_is_overwritten(tmp_path):
    start_directory(tmp_path, CONFIG)
    with pytest.raises(InputError, match=r"is not empty \(it holds config.json\); resume it with resume=True"):
        check_directory(tmp_path, CONFIG, resume=False)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"out: .*thesis\.tex/run cannot be written \(Not a directory\)"):
        start_directory(tmp_path / "thesis.tex" / "run", CONFIG)


def test_what_is_no_run_is_not_resumed(tmp_path):
    (tmp_path / ".config.json.tmp").write_text("{")  # killed before the config was there
    assert check_directory(tmp_path, CONFIG, resume=True) is False
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds no run to resume: config.json is not there, but thesis.tex"):
        check_directory(tmp_path, CONFIG, resume=True)
    with pytest.raises(InputError, match=r"expected a directory, .* is a file"):
        check_directory(tmp_path / "thesis.tex", CONFIG, resume=False)


def test_differences_reach_into_nested_values():
    assert differences({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}) == [("a.b", [1, 2], [1, 3])]
    assert differences({"a": 1}, {"a": 1}) == []


def test_a_system_is_described_by_name_and_config():
    described = describe_system(make_system())
    assert described == {"name": "Tiny", "config": {"width": 4, "dropout": 0.2, "staged": False, "steered": False}}
