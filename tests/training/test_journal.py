import json

import pytest

from mmaffect.ops import InputError
from mmaffect.training.journal import Journal, read_rows


def row(number):
    return {
        "stage": "s",
        "epoch": number,
        "step": 10 * number,
        "loss": {"task": float(number)},
        "monitor": float("nan"),
    }


def write(out, keep, numbers):
    journal = Journal(out, keep)
    for number in numbers:
        journal.write(row(number))
    journal.close()


def scalars(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(out / "tensorboard"))
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_rows_are_strict_json_and_events(tmp_path):
    write(tmp_path, 0, [0, 1])
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["epoch"] for line in lines] == [0, 1]
    assert scalars(tmp_path) == {"loss/task": [(0, 0.0), (10, 1.0)]}


def test_rows_the_checkpoint_does_not_know_are_dropped_everywhere(tmp_path):
    write(tmp_path, 0, [0, 1, 2])
    write(tmp_path, 1, [5, 6])
    assert [r["epoch"] for r in read_rows(tmp_path)] == [0, 5, 6]
    assert scalars(tmp_path) == {"loss/task": [(0, 0.0), (50, 5.0), (60, 6.0)]}
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_torn_row_is_dropped(tmp_path):
    write(tmp_path, 0, [0, 1])
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"epoch": 2, "los')
    assert [r["epoch"] for r in read_rows(tmp_path)] == [0, 1]
    write(tmp_path, 2, [2])
    assert [r["epoch"] for r in read_rows(tmp_path)] == [0, 1, 2]


def test_a_log_shorter_than_the_checkpoint_is_refused(tmp_path):
    write(tmp_path, 0, [0])
    with pytest.raises(InputError, match="holds 1 rows, the checkpoint knows of 3"):
        Journal(tmp_path, 3)
