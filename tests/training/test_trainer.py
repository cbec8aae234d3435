import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmaffect.training.checkpoint import read_checkpoint
from tests.training import worker

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


class Nursery:
    """A process that forks trainings."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.worker"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, out, *, event=0, seconds=None, checkpoint_steps=None):
        """Train until done, until the n-th touch of the disk, or for so long; the exit status."""
        self.process.stdin.write(
            json.dumps({"out": str(out), "event": event, "checkpoint_steps": checkpoint_steps}) + "\n"
        )
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if seconds is not None:
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):  # it may be done already
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def nursery():
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    made = Nursery()
    yield made
    made.process.stdin.close()
    made.process.wait()


@pytest.fixture(scope="module")
def whole(nursery, tmp_path_factory):
    """Runs that nobody disturbed, and how long they took."""
    out = tmp_path_factory.mktemp("whole")
    runs = {}
    for steps in (None, 2):
        started = time.perf_counter()
        assert nursery.run(out / str(steps), checkpoint_steps=steps) == 0
        runs[steps] = out / str(steps), time.perf_counter() - started
    return runs


def rows(out):
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def assert_same_run(out, reference):
    for name in ("best.safetensors", "last.safetensors"):
        one, other = load_file(out / name), load_file(reference / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[n], other[n]) for n in one)
    assert rows(out) == rows(reference)
    assert json.loads((out / "result.json").read_text()) == json.loads((reference / "result.json").read_text())
    assert events(out) == events(reference)
    assert not [p.name for p in out.iterdir() if p.name.endswith(".tmp")]


def events(out):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    tags = [tag for tag in read.Tags()["scalars"] if tag != "seconds"]
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in tags}


def test_checkpoints_within_epochs_change_nothing(whole):
    assert_same_run(whole[2][0], whole[None][0])


@pytest.mark.parametrize("seed", range(2))
def test_killed_while_writing_and_resumed_is_the_same_run(nursery, whole, tmp_path, seed):
    """Killed again and again at the n-th touch of the disk: files torn, not flushed, or not yet renamed."""
    draw = random.Random(seed)
    deaths = 0
    while True:
        status = nursery.run(tmp_path / "run", event=draw.randint(1, 22), checkpoint_steps=[None, 2][seed % 2])
        if status == 0:
            break
        assert status == -signal.SIGKILL
        deaths += 1
    assert deaths >= 2
    assert_same_run(tmp_path / "run", whole[None][0])


def test_every_touch_of_the_disk_may_be_the_last(nursery, whole, tmp_path):
    """A death at touches spread over the whole run: before the first checkpoint, between best and last, at the end."""
    total = worker.count_touches(tmp_path / "counted")
    for event in range(1, total + 1, 5):
        out = tmp_path / f"at{event}"
        assert nursery.run(out, event=event) == -signal.SIGKILL
        assert nursery.run(out) == 0
        assert_same_run(out, whole[None][0])
    assert nursery.run(tmp_path / "beyond", event=total + 1) == 0


def test_killed_at_any_moment_and_resumed_is_the_same_run(nursery, whole, tmp_path):
    draw = random.Random(7)
    reference, seconds = whole[2]
    killed = 0
    for trial in range(3):
        out = tmp_path / f"run{trial}"
        for _ in range(2):
            killed += nursery.run(out, seconds=draw.uniform(0, 0.8 * seconds), checkpoint_steps=2) == -signal.SIGKILL
        assert nursery.run(out, checkpoint_steps=2) == 0
        assert_same_run(out, reference)
    assert killed > 0


def test_a_finished_run_is_handed_back(whole):
    out = whole[None][0]
    before = (out / "last.safetensors").read_bytes()
    system, _, result = worker.train(out)
    assert (out / "last.safetensors").read_bytes() == before
    best = read_checkpoint(out / "best.safetensors")
    assert all(torch.equal(t, best.tensors[n]) for n, t in system.state_dict().items())
    assert result.value == best.state["value"]
    assert result.epochs == 4


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "tests.training.worker", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize(("name", "config", "samples", "steered"), worker.PARALLEL)
def test_two_processes_are_one(together, tmp_path, name, config, samples, steered):
    """Same weights in both, equal to one process that sees the same batches whole."""
    first, second = (load_file(together / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[n], second[n]) for n in first)
    whole = worker.replace_accumulation(config)
    system, (_, valid), result = worker.train(
        tmp_path / "one", config=whole, dropout=0.0, samples=samples, steered=steered
    )
    for n, tensor in system.state_dict().items():
        if n.startswith("by_spread"):  # follows means over pieces, which a cut changes
            continue
        torch.testing.assert_close(first[n], tensor, rtol=0, atol=1e-6)
    told = [json.loads((together / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0] == told[1]
    assert len(told[0]["history"]) == len(result.history)
    for row, alone in zip(told[0]["history"], result.history, strict=True):
        assert row["loss"] == pytest.approx(alone["loss"], abs=1e-6)
        assert row["monitor"] == pytest.approx(alone["monitor"], abs=1e-6)
    assert (told[0]["settled"] is None) == (not steered)
    if steered:
        assert told[0]["settled"]["surplus"] == pytest.approx(result.settled["surplus"], abs=1e-6)
    from mmaffect.training import evaluate, predict

    found = evaluate(system, valid)
    assert tuple(told[0]["ids"]) == found.ids
    torch.testing.assert_close(first["_predictions"], found.predictions, rtol=0, atol=1e-6)
    torch.testing.assert_close(first["_values"], predict(system, valid).values, rtol=0, atol=1e-6)
