import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mmaffect.ops import InputError
from mmaffect.training import Patterns, Protocol, Stage, TrainConfig, evaluate, fit, protocol
from tests.training.tiny import WIDTHS, Config, make_dataset, make_spec, make_system

NAMES = tuple(WIDTHS)
QUICK = TrainConfig(epochs=2, batch_size=10, learning_rate=0.05)
NONE = protocol("none", NAMES)
HALF = protocol("random", NAMES, rates=[0.5])


@pytest.fixture
def data():
    return make_dataset(24), make_dataset(16, seed=1)


class Watching:
    """Keeps what the loss was given, over a system."""

    def __init__(self, system):
        self.calls, self.inner = [], system.loss
        system.loss = self

    def __call__(self, observed, complete, progress):
        self.calls.append((observed, complete, progress))
        return self.inner(observed, complete, progress)


def test_it_learns_and_leaves_the_best_weights(tmp_path):
    train, valid = make_dataset(200), make_dataset(200, seed=0)
    system = make_system(Config(dropout=0.0, width=8))
    before = evaluate(system, valid).metrics["balanced_accuracy"]
    config = TrainConfig(epochs=12, batch_size=20, learning_rate=0.05, schedule="cosine")
    result = fit(system, train, valid, config, protocol=NONE, out=tmp_path / "run")
    assert result.value > max(0.75, before + 0.2)
    assert evaluate(system, valid).metrics["balanced_accuracy"] == result.value
    assert result.value == max(row["monitor"] for row in result.history)
    assert result.history[result.epoch]["monitor"] == result.value
    best = load_file(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(best[n], t) for n, t in system.state_dict().items())


def test_the_run_directory_holds_all(tmp_path, data):
    system = make_system(Config(staged=True))
    result = fit(
        system, *data, replace(QUICK, epochs=3), protocol=HALF, out=tmp_path / "run", description={"recipe": "[data]"}
    )
    out = tmp_path / "run"
    assert {p.name for p in out.iterdir()} == {
        "config.json",
        "log.jsonl",
        "tensorboard",
        "last.safetensors",
        "best.safetensors",
        "result.json",
    }
    config = json.loads((out / "config.json").read_text())
    assert config["description"] == {"recipe": "[data]"}
    assert config["train"]["learning_rate"] == 0.05
    assert config["system"]["config"]["width"] == 4
    assert config["data"] == {"train": data[0].fingerprint, "valid": data[1].fingerprint}
    assert config["protocol"]["name"] == "random"
    assert config["spec"]["modalities"] == WIDTHS
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert tuple(rows) == result.history
    assert [(r["stage"], r["epoch"], r["step"]) for r in rows] == [
        ("complete", 0, 3),
        ("missing", 0, 6),
        ("missing", 1, 9),
    ]
    assert [tuple(r["valid"]) for r in rows] == [("complete",), ("0.5",), ("0.5",)]
    assert set(rows[0]["loss"]) == {"task", "size"}
    told = json.loads((out / "result.json").read_text())
    assert told["valid"] == rows[told["best"]["row"]]["valid"]
    assert told["best"]["stage"] == result.stage == "missing"


def test_a_run_is_a_function_of_its_seed(tmp_path, data):
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + number)
        system = make_system()
        torch.manual_seed(number)
        before = torch.get_rng_state()
        fit(system, *data, QUICK, protocol=HALF, out=tmp_path / str(number), seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        weights.append(system.head.weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_one_plain_step_is_torchs(tmp_path, data):
    """One epoch of one batch, without dropout: the same as a hand-written step of AdamW with clipping."""
    train, valid = data
    config = TrainConfig(epochs=1, batch_size=24, learning_rate=0.1, weight_decay=0.2, clip_norm=0.3, warmup=0.9)
    system, reference = make_system(Config(dropout=0.0)), make_system(Config(dropout=0.0))
    fit(system, train, valid, config, protocol=NONE, out=tmp_path / "run")
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.1, weight_decay=0.2)
    batch = train.collate([train[i] for i in range(24)])
    sum(reference.loss(batch, batch, None).values()).backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.3)
    optimizer.step()
    for one, other in zip(system.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_accumulation_changes_nothing(tmp_path):
    data = make_dataset(23, sequence="dialogue"), make_dataset(8, sequence="dialogue", seed=1)
    systems = []
    for accumulate in (1, 2, 7):  # 23 samples in batches of 7: pieces of unequal size, some empty
        config = TrainConfig(epochs=2, batch_size=7, accumulate=accumulate, learning_rate=0.02)
        systems.append(make_system(Config(dropout=0.0), spec=make_spec("dialogue")))
        fit(systems[-1], *data, config, protocol=HALF, out=tmp_path / str(accumulate))
    for system in systems[1:]:
        for one, other in zip(systems[0].parameters(), system.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_stages_and_regimes_decide_what_the_loss_reads(tmp_path, data):
    system = make_system(Config(staged=True))
    seen = Watching(system)
    fit(system, *data, replace(QUICK, epochs=3), protocol=HALF, out=tmp_path / "simulated")
    stages = {p.stage: (o, c) for o, c, p in seen.calls}
    observed, complete = stages["complete"]
    assert all(torch.equal(observed.masks[n], complete.masks[n]) for n in NAMES)
    observed, complete = stages["missing"]
    assert (observed.present.sum(1) <= 1).all()
    assert complete.present.sum() > observed.present.sum()
    assert not observed.inputs["text"][~observed.masks["text"]].any()


def test_truly_missing_never_shows_what_is_absent(tmp_path, data):
    system = make_system(Config(staged=True))
    seen = Watching(system)
    config = replace(QUICK, epochs=4, regime="truly")
    result = fit(system, *data, config, protocol=HALF, out=tmp_path / "run")
    shown = {}
    for observed, complete, _ in seen.calls:
        assert complete is None
        for row, there in zip(observed.index.tolist(), observed.present.tolist(), strict=True):
            shown.setdefault(row, set()).add(tuple(there))
    assert len(shown) == 24
    assert all(len(patterns) == 1 for patterns in shown.values())  # over all epochs and stages
    assert tuple(result.history[0]["valid"]) == ("0.5",)


def test_masks_are_drawn_anew_every_epoch_when_simulated(tmp_path, data):
    system = make_system()
    seen = Watching(system)
    fit(system, *data, replace(QUICK, epochs=4), protocol=HALF, out=tmp_path / "run")
    shown = {}
    for observed, _, _ in seen.calls:
        for row, there in zip(observed.index.tolist(), observed.present.tolist(), strict=True):
            shown.setdefault(row, set()).add(tuple(there))
    assert max(len(patterns) for patterns in shown.values()) > 1


def test_progress_runs_through_each_stage(tmp_path, data):
    system = make_system(Config(staged=True))
    seen = Watching(system)
    fit(system, *data, replace(QUICK, epochs=3), protocol=NONE, out=tmp_path / "run")
    assert [(p.stage, p.epoch, p.epochs) for _, _, p in seen.calls[::3]] == [
        ("complete", 0, 1),
        ("missing", 0, 2),
        ("missing", 1, 2),
    ]
    fractions = [p.fraction for _, _, p in seen.calls]
    assert fractions == pytest.approx([0, 1 / 3, 2 / 3, *(i / 6 for i in range(6))])


def test_a_sample_left_with_nothing_has_no_say(tmp_path):
    """Sample 0 lacks audio; where only audio is shown its label, even a wrong one, changes nothing."""
    only = Patterns("audio", NAMES, ("audio",))
    weights = []
    for label in (0, 1):
        train = make_dataset(24)
        train.targets[0] = label
        system = make_system()
        fit(
            system,
            train,
            make_dataset(9, seed=1),
            QUICK,
            protocol=Protocol("p", only, (only,)),
            out=tmp_path / str(label),
        )
        weights.append(system.head.weight)
    assert torch.equal(*weights)


def test_patience_counts_in_the_last_stage_only(tmp_path, data):
    system = make_system(Config(staged=True))
    system.stages = (Stage("first", 5), Stage("last", 9))
    config = TrainConfig(batch_size=24, learning_rate=1e-12, patience=2)  # nothing ever improves
    result = fit(system, *data, config, protocol=NONE, out=tmp_path / "run")
    assert result.stopped_early
    assert [r["stage"] for r in result.history] == ["first"] * 5 + ["last"] * 3
    assert (result.stage, result.epoch) == ("last", 0)


@pytest.mark.parametrize(("target", "outputs"), [("multilabel", 3), ("score", 1), ("score", 3)])
@pytest.mark.parametrize("sequence", ["single", "dialogue"])
def test_every_kind_of_target_trains(tmp_path, target, outputs, sequence):
    train, valid = (make_dataset(24, sequence=sequence, target=target, outputs=outputs, seed=s) for s in (0, 1))
    result = fit(make_system(spec=train.spec), train, valid, QUICK, protocol=HALF, out=tmp_path / "run")
    assert math.isfinite(result.value)
    best = min if target == "score" else max
    assert result.value == best(r["monitor"] for r in result.history)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains(tmp_path, data, precision):
    result = fit(
        system_in_single_precision(),
        *data,
        replace(QUICK, mixed_precision=precision),
        protocol=NONE,
        out=tmp_path / "run",
    )
    assert all(math.isfinite(v) for row in result.history for v in row["loss"].values())


def test_a_loss_that_is_not_finite_is_placed(tmp_path, data):
    system = make_system()
    inner, calls = system.loss, []

    def loss(observed, complete, progress):
        calls.append(observed)
        terms = inner(observed, complete, progress)
        return terms | {"kl": torch.tensor(torch.nan)} if len(calls) == 5 else terms

    system.loss = loss
    with pytest.raises(FloatingPointError, match="loss: 'kl' is nan at stage 'train', epoch 1, step 1; samples s"):
        fit(system, *data, QUICK, protocol=NONE, out=tmp_path / "run")


def test_what_a_system_reports_stands_in_the_log(tmp_path, data):
    system, told = make_system(), []
    system.after_validation = told.append
    system.report = lambda: {"validations": len(told)}  # what it says, it says of the epoch that ended
    result = fit(system, *data, QUICK, protocol=NONE, out=tmp_path / "run")
    assert [row["system"] for row in result.history] == [{"validations": n + 1} for n in range(len(result.history))]
    silent = fit(make_system(), *data, QUICK, protocol=NONE, out=tmp_path / "silent")
    assert "system" not in silent.history[0]


def test_after_step_is_called_after_every_step(tmp_path, data):
    system, calls = make_system(), []
    system.after_step = lambda: calls.append(system.head.weight.detach().clone())
    fit(system, *data, QUICK, protocol=NONE, out=tmp_path / "run")
    assert len(calls) == 6
    assert not torch.equal(calls[0], calls[1])


def test_progress_bar_is_shown_on_request_only(tmp_path, data, capsys):
    fit(make_system(), *data, QUICK, protocol=NONE, out=tmp_path / "silent")
    assert capsys.readouterr() == ("", "")
    fit(make_system(), *data, QUICK, protocol=NONE, out=tmp_path / "shown", progress_bar=True)
    assert "train 2/2" in capsys.readouterr().err


def test_resume_of_another_run_is_refused(tmp_path, data):
    fit(make_system(), *data, QUICK, protocol=NONE, out=tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"train\.batch_size: 10 there, 5 now; .*seed: 0 there, 4 now"):
        fit(make_system(), *data, replace(QUICK, batch_size=5), protocol=HALF, out=tmp_path, resume=True, seed=4)
    with pytest.raises(InputError, match=r"data\.valid"):
        fit(make_system(), data[0], data[0], QUICK, protocol=NONE, out=tmp_path, resume=True)
    with pytest.raises(InputError, match="is not empty"):
        fit(make_system(), *data, QUICK, protocol=NONE, out=tmp_path)
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def without_loss():
    system = make_system()
    system.loss = None
    return system


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"system": without_loss}, "system: expected a method loss"),
        ({"train": lambda: make_dataset(4).subset([])}, "train: expected at least one sample, got none"),
        ({"valid": lambda: make_dataset(4, outputs=4)}, "valid: expected the spec of train"),
        ({"protocol": lambda: protocol("fixed", ("audio", "text"))}, "protocol: is for modalities"),
        ({"config": lambda: replace(QUICK, monitor="mae")}, "monitor: 'mae' is unknown"),
        ({"seed": lambda: -1}, "seed: expected a value >= 0, got -1"),
        ({"checkpoint_steps": lambda: 0}, "checkpoint_steps: expected None or at least 1, got 0"),
        ({"description": lambda: {"a": object()}}, "description: expected values that JSON can hold"),
    ],
)
def test_nothing_is_written_before_all_checks_pass(tmp_path, data, change, message):
    given = {
        "system": make_system(),
        "train": data[0],
        "valid": data[1],
        "config": QUICK,
        "protocol": NONE,
        "out": tmp_path / "run",
        **{name: make() for name, make in change.items()},
    }
    with pytest.raises(ValueError, match=message):
        fit(**given)
    assert not (tmp_path / "run").exists()


def system_in_single_precision():
    """The tiny system computes in double precision; here its sums are made of single ones."""

    class Single(type(make_system())):
        def double(self):
            return self

        def represent(self, batch):
            total = 0
            for name, layer in self.project.items():
                mask = batch.masks[name].unsqueeze(-1)
                total = total + layer((batch.inputs[name] * mask).sum(1)) * mask.any(1)
            return torch.tanh(total)

    torch.manual_seed(0)
    return Single(Config(), make_spec())
