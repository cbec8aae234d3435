"""What the loop tells a system: how often, when, with what; and that what the system makes of it is not lost."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from mmaffect.training import TrainConfig, fit, protocol
from tests.training.tiny import WIDTHS, Config, make_dataset, make_spec, make_system

NAMES = tuple(WIDTHS)
RATES = protocol("random", NAMES, rates=[0.0, 0.5])
CONFIG = TrainConfig(
    epochs=4, batch_size=7, learning_rate=0.05, clip_norm=0.3, joint_clipping=True, sampling="balanced"
)


@pytest.fixture
def data():
    return make_dataset(24, sequence="dialogue"), make_dataset(16, sequence="dialogue", seed=1)


def steered():
    return make_system(Config(staged=True, steered=True), spec=make_spec("dialogue"))


def test_after_validation_gets_the_means_over_conditions_once_an_epoch(tmp_path, data):
    system, told = steered(), []
    system.after_validation = told.append
    result = fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    assert len(told) == len(result.history) == 4
    for metrics, row in zip(told, result.history, strict=True):
        conditions = list(row["valid"].values())
        assert len(conditions) == (1 if row["stage"] == "complete" else 2)
        assert metrics.keys() == conditions[0].keys()
        for name, value in metrics.items():
            assert value == pytest.approx(sum(c[name] for c in conditions) / len(conditions))
        assert {f"per_class_recall/c{i}" for i in range(3)} <= metrics.keys()
        assert metrics["balanced_accuracy"] == pytest.approx(row["monitor"])


def test_hooks_come_in_order(tmp_path, data):
    system, calls = steered(), []
    system.after_step = lambda: calls.append("step")
    system.after_validation = lambda metrics: calls.append("validation")
    fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    assert calls == (["step"] * 4 + ["validation"]) * 4


def test_a_step_that_loss_scaling_left_out_is_none(tmp_path):
    """A loss of 1e305 is finite (these systems are in float64), but not its gradient at the first scale, 65536."""
    system, steps, calls = make_system(Config(dropout=0.0)), [], []
    plain = system.loss

    def loss(observed, complete, progress):
        steps.append({n: p.detach().clone() for n, p in system.named_parameters()})
        factor = 1e305 if len(steps) == 2 else 1.0
        return {name: factor * term for name, term in plain(observed, complete, progress).items()}

    system.loss = loss
    system.after_step = lambda: calls.append(len(steps))
    config = TrainConfig(epochs=1, batch_size=6, mixed_precision="fp16")
    data = make_dataset(24), make_dataset(16, seed=1)
    fit(system, *data, config, protocol=protocol("none", NAMES), out=tmp_path / "run")
    assert all(torch.equal(steps[1][name], steps[2][name]) for name in steps[1])
    assert calls == [1, 3, 4]


def test_what_hooks_move_is_in_the_checkpoints(tmp_path, data):
    system = steered()
    start = {n: t.clone() for n, t in system.state_dict().items()}
    fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    for file in ("best.safetensors", "last.safetensors"):
        held = {n.removeprefix("system/"): t for n, t in load_file(tmp_path / "run" / file).items()}
        for name in ("average", "by_size.beta", "by_recall.beta"):
            assert not torch.equal(held[name], start[name])


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 4, 6, 11, 16])
@pytest.mark.parametrize("hook", ["loss", "after_step"])
def test_a_stopped_run_resumes_to_the_same_end(tmp_path, data, hook, stop):
    """Balanced drawing, joint clipping and hooks with state; the system is stopped in the middle of a step."""
    fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "whole", checkpoint_steps=3)
    system, count = steered(), 0
    inner = getattr(system, hook)

    def stopping(*given):
        nonlocal count
        count += 1
        if count == stop:
            raise StoppedError
        return inner(*given)

    setattr(system, hook, stopping)
    with pytest.raises(StoppedError):
        fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run", checkpoint_steps=3)
    fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "run", checkpoint_steps=3, resume=True)
    for file in ("best.safetensors", "last.safetensors"):
        one, other = (load_file(tmp_path / run / file) for run in ("run", "whole"))
        assert all(torch.equal(one[n], other[n]) for n in other)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def rows(out):
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def test_prepare_and_settle_are_told_once_with_their_splits(tmp_path, data):
    system, calls = steered(), []
    prepare, settle, loss = system.prepare, system.settle, system.loss

    def told(hook, inner):
        def call(*given):
            modes = {module.training for module in system.modules()}
            calls.append((hook, given, modes, torch.is_grad_enabled(), [t.clone() for t in system.parameters()]))
            return inner(*given)

        return call

    system.prepare, system.settle, system.loss = told("prepare", prepare), told("settle", settle), told("loss", loss)
    result = fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    assert [hook for hook, *_ in calls] == ["prepare"] + ["loss"] * 16 + ["settle"]
    assert calls[0][1] == (data[0],)
    assert calls[-1][1] == (data[1], RATES)
    for place in (0, -1):
        assert calls[place][2] == {False}
        assert not calls[place][3]
    assert calls[1][2] == {True}  # and the mode was given back
    best = load_file(tmp_path / "run" / "best.safetensors")
    names = [name for name, _ in system.named_parameters()]
    assert all(torch.equal(t, best[n]) for n, t in zip(names, calls[-1][4], strict=True))
    assert result.settled == {"surplus": system.surplus.tolist()}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["settled"] == result.settled


def test_what_is_prepared_is_in_both_files_and_what_is_settled_in_the_best(tmp_path, data):
    system = steered()
    fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    best, last = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("best", "last"))
    assert system.start.any()
    assert system.surplus.any()
    assert torch.equal(best["start"], system.start)
    assert torch.equal(last["system/start"], system.start)
    assert torch.equal(best["surplus"], system.surplus)
    assert not last["system/surplus"].any()


def test_draws_of_prepare_are_of_the_seed_and_move_no_other_draw(tmp_path, data):
    weights = []
    for number, draws in enumerate((0, 5, 0)):
        system = steered()
        prepare = system.prepare

        def drawing(train, prepare=prepare, draws=draws):
            prepare(train)
            torch.rand(draws)

        system.prepare = drawing
        torch.manual_seed(number)
        before = torch.get_rng_state()
        fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / str(number))
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(system.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(weights[0][n], other[n]) for n in other)


def test_nothing_is_written_where_prepare_raises(tmp_path, data):
    system = steered()
    system.prepare = lambda train: (_ for _ in ()).throw(ValueError("no such class"))
    with pytest.raises(ValueError, match="no such class"):
        fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_system_without_settle_settles_nothing(tmp_path, data):
    result = fit(make_system(spec=make_spec("dialogue")), *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    assert result.settled is None
    assert "settled" not in json.loads((tmp_path / "run" / "result.json").read_text())


def test_a_run_stopped_before_its_first_checkpoint_is_prepared_again(tmp_path, data):
    fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "whole")
    system = steered()
    system.loss = lambda *given: (_ for _ in ()).throw(StoppedError)
    with pytest.raises(StoppedError):
        fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "run", resume=True)
    same_files(tmp_path)


def test_a_run_stopped_after_it_is_not(tmp_path, data):
    fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "whole")
    system, epochs = steered(), []
    validated, inner = system.after_validation, system.loss
    system.after_validation = lambda metrics: (validated(metrics), epochs.append(metrics))
    system.loss = lambda *given: (_ for _ in ()).throw(StoppedError) if epochs else inner(*given)
    with pytest.raises(StoppedError):
        fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    system = steered()
    system.prepare = lambda train: pytest.fail("prepared again")
    fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run", resume=True)
    same_files(tmp_path)


@pytest.mark.parametrize("where", ["settle", "write", "name"])
def test_a_run_stopped_while_it_settles_settles_when_resumed(tmp_path, data, monkeypatch, where):
    """In the hook, before the file is flushed, or before it takes its name: the best weights stay whole throughout."""
    fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "whole")
    system, settled = steered(), []
    settle = system.settle

    def settling(*given):
        found = settle(*given)
        if where == "settle":
            raise StoppedError
        settled.append(found)
        return found

    def guarded(function):
        def call(*args):
            if settled:
                raise StoppedError
            return function(*args)

        return call

    system.settle = settling
    with monkeypatch.context() as patch:
        for name in {"settle": (), "write": ("fsync",), "name": ("replace",)}[where]:
            patch.setattr(os, name, guarded(getattr(os, name)))
        with pytest.raises(StoppedError):
            fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    assert not load_file(tmp_path / "run" / "best.safetensors")["surplus"].any()
    fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "run", resume=True)
    same_files(tmp_path)


def test_a_settled_run_is_not_settled_again(tmp_path, data):
    first = fit(steered(), *data, CONFIG, protocol=RATES, out=tmp_path / "run")
    before = (tmp_path / "run" / "best.safetensors").read_bytes()
    system = steered()
    system.settle = lambda *given: pytest.fail("settled again")
    second = fit(system, *data, CONFIG, protocol=RATES, out=tmp_path / "run", resume=True)
    assert second.settled == first.settled == {"surplus": system.surplus.tolist()}
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == before


def same_files(folder):
    for file in ("best.safetensors", "last.safetensors"):
        one, other = (load_file(folder / run / file) for run in ("run", "whole"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[n], other[n]) for n in other)


@pytest.mark.parametrize("joint", [False, True])
def test_only_joint_clipping_couples_groups(tmp_path, joint):
    """A term that moves the projections alone, and is huge in every other step: does the head notice?"""
    heads = []
    for scale in (0.0, 1e3):
        data = make_dataset(24), make_dataset(16, seed=1)
        system = make_system(Config(dropout=0.0))
        system.parameter_groups = lambda s=system: [
            {"params": list(s.head.parameters()), "name": "head"},
            {"params": list(s.project.parameters()), "name": "projections"},
        ]

        def loss(observed, complete, progress, s=system, scale=scale, steps=[]):  # noqa: B006 (counts its calls)
            steps.append(progress)
            hidden = s.represent(observed).detach()  # the head's gradient reaches nothing else
            task = torch.nn.functional.cross_entropy(s.head(hidden), observed.targets)
            return {"task": task, "other": scale * (len(steps) % 2) * s.represent(observed).square().sum()}

        system.loss = loss
        config = TrainConfig(epochs=1, batch_size=6, learning_rate=0.05, joint_clipping=joint)
        frozen = {n: p.detach().clone() for n, p in system.project.named_parameters()}

        def keep_projections(s=system, frozen=frozen):
            with torch.no_grad():
                for name, parameter in s.project.named_parameters():
                    parameter.copy_(frozen[name])

        system.after_step = keep_projections
        fit(system, *data, config, protocol=protocol("none", NAMES), out=tmp_path / f"{scale}")
        heads.append(system.head.weight.detach().clone())
    assert torch.equal(*heads) == (not joint)
