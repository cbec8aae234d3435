import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.missing import feature_rate, features


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.35, 0.5, 0.9, 1.0])
def test_each_real_step_is_dropped_at_the_rate(rate):
    mask = torch.arange(50) < torch.arange(1, 51)[:, None].repeat(40, 1)  # every length from 1 to 50
    kept = feature_rate(mask, rate, seeded())
    n = int(mask.sum())
    assert kept.dtype == torch.bool
    assert kept.shape == mask.shape
    assert not kept[~mask].any()
    assert abs(int(kept.sum()) / n - (1 - rate)) <= 4.5 * math.sqrt(rate * (1 - rate) / n)


def test_rate_zero_keeps_even_at_noise_zero(monkeypatch):
    monkeypatch.setattr(features, "uniform", lambda *size, generator, device: torch.zeros(size))
    mask = torch.ones(2, 3, dtype=torch.bool)
    assert feature_rate(mask, 0.0).all()
    assert not feature_rate(mask, 1e-6).any()


def test_steps_are_independent():
    kept = feature_rate(torch.ones(20_000, 10, dtype=torch.bool), 0.3, seeded(1))
    correlation = torch.corrcoef(kept.double().T) - torch.eye(10)
    assert correlation.abs().max() < 5 / math.sqrt(20_000)
    number = kept.sum(1).double()  # binomial: its variance is n r (1 - r), with a relative error of √(2/N)
    assert abs(number.var().item() / (10 * 0.3 * 0.7) - 1) < 5 * math.sqrt(2 / 20_000)


def test_a_rate_for_each_sample_even_in_a_square_mask():
    rates = torch.tensor([0.0, 1.0, 0.5, 0.25])
    kept = feature_rate(torch.ones(4, 4, dtype=torch.bool), rates, seeded(2))
    assert kept[0].all()
    assert not kept[1].any()
    many = feature_rate(torch.ones(4, 40_000, dtype=torch.bool), rates, seeded(3))
    assert ((many.double().mean(1) - (1 - rates)).abs() <= 4.5 * 0.5 / 200).all()


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 3, 2)])
def test_any_number_of_axes_after_the_samples(shape):
    rates = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    kept = feature_rate(torch.ones(shape, dtype=torch.bool), rates)
    assert kept[0::2].all()
    assert not kept[1::2].any()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 5), st.integers(0, 9), st.floats(0, 1), st.integers(0, 2**31))
def test_a_seeded_subset_that_spares_the_protected(b, t, rate, seed):
    mask = torch.rand(b, t, generator=seeded(seed)) < 0.7
    protect = torch.rand(b, t, generator=seeded(seed + 1)) < 0.3
    kept = feature_rate(mask, rate, seeded(seed), protect=protect)
    assert not (kept & ~mask).any()
    assert kept[mask & protect].all()
    assert torch.equal(kept, feature_rate(mask, rate, seeded(seed), protect=protect))
    free = ~protect
    assert torch.equal(kept & free, feature_rate(mask, rate, seeded(seed)) & free)


def test_a_higher_rate_drops_more_of_the_same():
    mask = torch.ones(20, 30, dtype=torch.bool)
    kept = [feature_rate(mask, r / 10, seeded(4)) for r in range(11)]
    assert all(not (more & ~less).any() for less, more in itertools.pairwise(kept))


def test_the_drawing_of_a_step_does_not_read_the_mask():
    mask = torch.ones(3, 5, dtype=torch.bool)
    other = mask.clone()
    other[1:] = False
    assert torch.equal(feature_rate(mask, 0.5, seeded(5))[0], feature_rate(other, 0.5, seeded(5))[0])


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), torch.tensor([0.5, float("nan")])])
def test_refuses_rates_outside_the_unit_interval(rate):
    with pytest.raises(ValueError, match="rate: expected 0 <= rate <= 1, got"):
        feature_rate(torch.ones(2, 3, dtype=torch.bool), rate)


def test_refuses_other_shapes_and_dtypes():
    mask = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"mask: expected bool of shape \(B, T\), got torch.float32 of shape \(2, 3\)"):
        feature_rate(mask.float(), 0.5)
    with pytest.raises(ValueError, match=r"rate: expected a number or a tensor of shape \(2,\), got shape \(3,\)"):
        feature_rate(mask, torch.zeros(3))
    with pytest.raises(ValueError, match=r"protect: expected the shape of its mask, \(2, 3\), got \(2, 2\)"):
        feature_rate(mask, 0.5, protect=mask[:, :2])
    with pytest.raises(ValueError, match=r"protect: expected bool of shape \(B, T\), got torch.int64"):
        feature_rate(mask, 0.5, protect=mask.long())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_generator_on_the_host_gives_the_same_mask_on_any_device():
    mask = torch.ones(4, 50, dtype=torch.bool)
    kept = feature_rate(mask.cuda(), 0.5, seeded(6))
    assert kept.device.type == "cuda"
    assert torch.equal(kept.cpu(), feature_rate(mask, 0.5, seeded(6)))
    assert feature_rate(mask.cuda(), 0.5).device.type == "cuda"
