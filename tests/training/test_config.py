import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.ops import InputError
from mmaffect.training.config import Stage, TrainConfig, plan, rate_factor


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs: expected None or at least 1, got 0"),
        ("batch_size", 0, "batch_size: expected at least 1, got 0"),
        ("accumulate", 0, "accumulate: expected at least 1, got 0"),
        ("accumulate", 33, "accumulate: expected at most batch_size = 32, got 33"),
        ("learning_rate", 0.0, "learning_rate: expected a value > 0, got 0.0"),
        ("learning_rate", math.nan, "learning_rate: expected a value > 0, got nan"),
        ("learning_rate", math.inf, "learning_rate: expected a finite value, got inf"),
        ("weight_decay", -1.0, "weight_decay: expected a value >= 0, got -1.0"),
        ("weight_decay", math.nan, "weight_decay: expected a value >= 0, got nan"),
        ("warmup", 1.0, r"warmup: expected a fraction in \[0, 1\), got 1.0"),
        ("clip_norm", 0.0, "clip_norm: expected a value > 0, got 0.0"),
        ("patience", 0, "patience: expected None or at least 1, got 0"),
    ],
)
def test_config_refuses(field, value, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{field: value})


@pytest.mark.parametrize("field", ["optimizer", "schedule", "mixed_precision", "regime", "sampling"])
def test_config_refuses_unknown_choices(field):
    with pytest.raises(InputError, match=f"{field}: 'banana' is unknown"):
        TrainConfig(**{field: "banana"})


def test_stage_refuses():
    with pytest.raises(ValueError, match="epochs: expected at least 1 in stage 'a', got 0"):
        Stage("a", 0)
    with pytest.raises(ValueError, match="name: expected a stage's name"):
        Stage("", 1)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=5), st.integers(0, 500))
def test_plan_keeps_the_total_the_order_and_the_proportions(epochs, more):
    stages = [Stage(f"s{i}", e, missing=i % 2 == 0) for i, e in enumerate(epochs)]
    total = len(stages) + more
    planned = plan(stages, total)
    assert sum(s.epochs for s in planned) == total
    assert [(s.name, s.missing) for s in planned] == [(s.name, s.missing) for s in stages]
    for stage, before in zip(planned, stages, strict=True):
        assert abs(stage.epochs - 1 - more * before.epochs / sum(epochs)) <= 1


def test_plan_without_a_total_changes_nothing():
    stages = (Stage("a", 3), Stage("b", 4))
    assert plan(stages, None) == stages


def test_plan_refuses():
    with pytest.raises(ValueError, match="stages: expected at least one, got none"):
        plan((), 3)
    with pytest.raises(ValueError, match="stages: expected different names"):
        plan((Stage("a", 1), Stage("a", 1)), None)
    with pytest.raises(ValueError, match="epochs: expected at least one for each of the 2 stages, got 1"):
        plan((Stage("a", 1), Stage("b", 1)), 1)


@given(st.integers(1, 300), st.floats(0, 0.99), st.sampled_from(["constant", "cosine"]))
def test_rate_rises_to_one_and_does_not_rise_again(steps, warmup, schedule):
    factors = [rate_factor(s, steps, schedule, warmup) for s in range(steps)]
    rising = math.ceil(warmup * steps)
    assert all(0 < f <= 1 for f in factors)
    assert factors[:rising] == sorted(factors[:rising])
    assert factors[rising:] == sorted(factors[rising:], reverse=True)
    assert factors[min(rising, steps - 1)] == 1.0


def test_cosine_is_torchs():
    import torch

    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
    for step in range(10):
        assert rate_factor(step, 10, "cosine", 0.0) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
