import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from mmaffect.missing import add_noise, blank_frames, choose_frames, gaussian_noise, mask_frames
from mmaffect.ops import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def values(b=3, t=5, d=2, seed=0):
    return torch.randn(b, t, d, generator=seeded(seed)), torch.rand(b, t, generator=seeded(seed + 1)) < 0.7


def test_noise_is_measured_in_standard_deviations():
    x, mask = values(20, 50, 4)
    std = torch.tensor([0.5, 1.0, 2.0, 10.0])
    noisy = gaussian_noise(x, mask, 0.25, seeded(2), std=std)
    error = (noisy - x)[mask] / (0.25 * std)
    for feature in error.T:
        assert kstest(feature.numpy(), "norm").pvalue > 1e-4
    assert (torch.corrcoef(error.T) - torch.eye(4)).abs().max() < 5 / math.sqrt(len(error))


def test_noise_by_hand_with_a_level_for_each_sample():
    x = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    mask = torch.ones(2, 1, dtype=torch.bool)
    noise = torch.tensor([[[1.0, -1.0]], [[2.0, 0.5]]])
    noisy = add_noise(x, mask, noise, torch.tensor([0.0, 0.5]), std=torch.tensor([1.0, 10.0]))
    assert noisy.tolist() == [[[1.0, 2.0]], [[4.0, 6.5]]]


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e6])
def test_what_stands_under_the_mask_does_not_matter(junk):
    x, mask = values()
    spoilt = torch.where(mask[..., None], x, torch.full_like(x, junk)).requires_grad_()
    noisy = gaussian_noise(spoilt, mask, 0.5, seeded(3))
    assert torch.equal(noisy, gaussian_noise(x, mask, 0.5, seeded(3)))
    assert (noisy[~mask] == 0).all()
    noisy.sum().backward()
    assert torch.equal(spoilt.grad, mask[..., None].expand_as(x).to(x.dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_noise_keeps_the_dtype_and_is_seeded(dtype):
    x, mask = values()
    noisy = gaussian_noise(x.to(dtype), mask, 0.5, seeded(4))
    assert noisy.dtype == dtype
    assert torch.equal(noisy, gaussian_noise(x.to(dtype), mask, 0.5, seeded(4)))
    assert not torch.equal(noisy, gaussian_noise(x.to(dtype), mask, 0.5, seeded(5)))
    assert torch.equal(gaussian_noise(x, mask, 0.0), x * mask[..., None])


def test_noise_refuses():
    x, mask = values()
    with pytest.raises(ValueError, match="level: expected a finite level >= 0, got -1"):
        gaussian_noise(x, mask, -1.0)
    with pytest.raises(ValueError, match=r"x: expected floating-point values, got torch\.int64"):
        gaussian_noise(x.long(), mask, 1.0)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\), got \(3, 5\)"):
        gaussian_noise(x[..., 0], mask, 1.0)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) or .* of mask \(3, 4\), got \(3, 5, 2\)"):
        gaussian_noise(x, mask[:, :4], 1.0)
    with pytest.raises(ValueError, match=r"mask: expected bool of shape \(B, T\), got torch\.float32"):
        gaussian_noise(x, mask.float(), 1.0)
    with pytest.raises(ValueError, match=r"noise: expected shape .* with B = 3, T = 5, D = 2, got \(3, 5, 1\)"):
        add_noise(x, mask, x[..., :1], 1.0)
    with pytest.raises(ValueError, match=r"std: expected shape \(D\) with D = 2, got \(3,\)"):
        gaussian_noise(x, mask, 1.0, std=torch.ones(3))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(0, 12), st.floats(0, 1), st.integers(0, 2**31))
def test_the_share_is_met_within_one_frame(b, t, share, seed):
    mask = torch.rand(b, t, generator=seeded(seed)) < 0.7
    chosen = choose_frames(mask, share, seeded(seed))
    assert not (chosen & ~mask).any()
    wanted = mask.sum(1) * share
    assert ((chosen.sum(1) - wanted).abs() < 1 + 1e-9).all()
    assert torch.equal(chosen, choose_frames(mask, share, seeded(seed)))


@pytest.mark.parametrize("length", [1, 3, 7])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_share_is_met_in_expectation_and_any_frame_is_as_likely(length, share):
    n = 20_000
    mask = (torch.arange(9) >= 2) & (torch.arange(9) < 2 + length)
    chosen = choose_frames(mask.expand(n, 9), share, seeded(length))
    rate = chosen[:, mask].double().mean(0)
    assert ((rate - share).abs() <= 4.5 * math.sqrt(share * (1 - share) / n)).all()
    number = chosen.sum(1)
    assert number.min() >= math.floor(share * length)
    assert number.max() <= math.floor(share * length) + 1


def test_frames_are_chosen_without_replacement_every_set_alike():
    n = 30_000
    chosen = choose_frames(torch.ones(n, 4, dtype=torch.bool), 0.5, seeded(6))
    code = (chosen.long() * torch.tensor([8, 4, 2, 1])).sum(1)
    seen = torch.bincount(code, minlength=16)
    pairs = [c for c in range(16) if c.bit_count() == 2]
    assert seen[pairs].sum() == n
    assert chisquare(seen[pairs].numpy()).pvalue > 1e-4


def test_a_share_for_each_sample():
    chosen = choose_frames(torch.ones(3, 4, dtype=torch.bool), torch.tensor([0.0, 0.5, 1.0]), seeded(7))
    assert chosen.sum(1).tolist() == [0, 2, 4]


def test_marked_or_not():
    x, mask = torch.ones(1, 3, 2), torch.tensor([[True, True, False]])
    chosen = torch.tensor([[False, True, True]])
    zero = blank_frames(x, mask, chosen, mark="zero")
    absent = blank_frames(x, mask, chosen, mark="absent")
    assert torch.equal(zero.x, absent.x)
    assert zero.x[0, :, 0].tolist() == [1.0, 0.0, 0.0]
    assert torch.equal(zero.mask, mask)
    assert absent.mask.tolist() == [[True, False, False]]


@pytest.mark.parametrize("mark", ["zero", "absent"])
def test_masked_frames_take_no_values_and_no_gradient(mark):
    x, mask = values()
    chosen = choose_frames(mask, 0.5, seeded(8))
    spoilt = torch.where((mask & ~chosen)[..., None], x, torch.full_like(x, float("nan"))).requires_grad_()
    out = mask_frames(spoilt, mask, 0.5, seeded(8), mark=mark)
    assert torch.equal(out.x, mask_frames(x, mask, 0.5, seeded(8), mark=mark).x)
    out.x.sum().backward()
    assert torch.equal(spoilt.grad != 0, (mask & ~chosen)[..., None].expand_as(x))


def test_frames_of_token_ids():
    ids = torch.tensor([[101, 7, 102]])
    out = blank_frames(ids, torch.ones(1, 3, dtype=torch.bool), torch.tensor([[False, True, False]]), mark="absent")
    assert out.x.tolist() == [[101, 0, 102]]


def test_frames_refuse():
    x, mask = values()
    with pytest.raises(InputError, match="mark: 'zeros' is unknown; did you mean 'zero'"):
        mask_frames(x, mask, 0.5, mark="zeros")
    with pytest.raises(ValueError, match=r"share: expected 0 <= share <= 1, got 1\.5"):
        choose_frames(mask, 1.5)
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\), got \(3, 5, 2\)"):
        choose_frames(torch.ones(3, 5, 2, dtype=torch.bool), 0.5)
    with pytest.raises(ValueError, match=r"chosen: expected the shape of its mask, \(3, 5\), got \(3, 4\)"):
        blank_frames(x, mask, mask[:, :4], mark="zero")
    with pytest.raises(ValueError, match=r"x: expected shape .* of mask \(3, 5\), got \(3,\)"):
        blank_frames(x[:, 0, 0], mask, mask, mark="zero")
