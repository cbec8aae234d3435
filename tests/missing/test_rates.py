import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, chi2_contingency, chisquare

from mmaffect.missing import random_rate, rates


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def kept_law(m, rate):
    """P(k kept) for k = 1 … m: a binomial without its zero, with SciPy's root for its parameter."""

    def law(p):
        weight = binom.pmf(np.arange(1, m + 1), m, p)
        return weight / weight.sum()

    k = np.arange(1, m + 1)
    return law(brentq(lambda p: law(p) @ k - m * (1 - rate), 1e-9, 1 - 1e-12, xtol=1e-14))


def grid(m):
    most = (m - 1) / m
    return [0.0, most, *[r / 10 for r in range(1, 10) if r / 10 < most], most - 0.01]


@pytest.mark.parametrize(("m", "rate"), [(m, rate) for m in range(2, 7) for rate in grid(m)])
def test_realised_rate_and_law(m, rate):
    n = 40_000
    kept = random_rate(n, m, rate, seeded(m))
    number = kept.sum(1)
    assert kept.shape == (n, m)
    assert kept.dtype == torch.bool
    assert number.min() >= 1
    if rate == 0:
        assert kept.all()
    elif rate == (m - 1) / m:
        assert (number == 1).all()
        assert chisquare(kept.sum(0).numpy()).pvalue > 1e-4
    else:
        law, k = kept_law(m, rate), np.arange(1, m + 1)
        deviation = math.sqrt(law @ k**2 - (law @ k) ** 2) / (m * math.sqrt(n))
        assert abs((~kept).double().mean().item() - rate) < 4.5 * deviation
        # Exchangeable: every modality is missing at the rate.
        assert (kept.double().mean(0) - (1 - rate)).abs().max() < 4.5 * math.sqrt(rate * (1 - rate) / n)
        seen = np.bincount(number.numpy(), minlength=m + 1)[1:]
        often = n * law > 5
        seen, wanted = (np.append(v[often], v[~often].sum() + 1) for v in (seen, n * law))
        assert chisquare(seen, wanted).pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.4, 0.499])
def test_law_for_two_by_hand(rate):
    # P(both) + P(one) = 1 and 2 P(both) + P(one) = 2 (1 - rate): P(both) = 1 - 2 rate, each alone: rate.
    n = 100_000
    kept = random_rate(n, 2, rate, seeded(1))
    seen = [kept.all(1).sum(), (kept[:, 0] & ~kept[:, 1]).sum(), (kept[:, 1] & ~kept[:, 0]).sum()]
    assert chisquare(seen, [n * (1 - 2 * rate), n * rate, n * rate]).pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.65])
def test_law_for_three_by_hand(rate):
    # 1 + q + q² = 1/(1 - rate); a pattern of k has weight p^k q^(3-k) over 1 - q³.
    n = 100_000
    q = (-1 + math.sqrt(4 / (1 - rate) - 3)) / 2
    p = 1 - q
    kept = random_rate(n, 3, rate, seeded(2))
    code = (kept.long() * torch.tensor([4, 2, 1])).sum(1)
    seen = torch.bincount(code, minlength=8)[1:].numpy()
    law = np.array([p ** (c.bit_count()) * q ** (3 - c.bit_count()) for c in range(1, 8)]) / (1 - q**3)
    assert law.sum() == pytest.approx(1)
    assert chisquare(seen, n * law).pvalue > 1e-4


def test_rows_are_independent():
    kept = random_rate(120_000, 2, 0.3, seeded(3))
    state = kept[:, 0].long() + 2 * kept[:, 1].long() - 1
    table = torch.bincount(3 * state[0::2] + state[1::2], minlength=9).reshape(3, 3).numpy()
    assert chi2_contingency(table).pvalue > 1e-4


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(2, 6), st.floats(0, 1), st.integers(0, 2**31))
def test_any_rate_is_realised(m, share, seed):
    rate, n = share * (m - 1) / m, 10_000
    kept = random_rate(n, m, rate, seeded(seed))
    assert kept.any(1).all()
    # Bernstein: independent rows with values in [0, 1] and variance at most rate (1 - rate).
    assert abs((~kept).double().mean().item() - rate) <= 5 * math.sqrt(rate * (1 - rate) / n) + 4 / n


def test_a_rate_for_each_sample():
    n = 8_000
    rates = torch.tensor([0.0, 0.25, 2 / 3])  # single precision: the last lies above the bound by rounding
    kept = random_rate(3 * n, 3, rates.repeat(n), seeded(4)).reshape(n, 3, 3)
    assert kept[:, 0].all()
    assert abs((~kept[:, 1]).double().mean().item() - 0.25) < 4.5 * math.sqrt(0.25 * 0.75 / n)
    assert (kept[:, 2].sum(1) == 1).all()


@pytest.mark.parametrize("m", range(2, 12))
def test_the_bound_however_it_was_rounded(m, monkeypatch):
    # Noise of zero keeps whatever has any chance at all, be it that of a rounding error.
    monkeypatch.setattr(rates, "uniform", lambda *size, generator: torch.zeros(size, dtype=torch.float64))
    ways = [(m - 1) / m, 1 - 1 / m, torch.tensor(1 - 1 / m), torch.tensor([(m - 1) / m] * 500), np.float64(1 - 1 / m)]
    for rate in ways:
        assert (random_rate(500, m, rate).sum(1) == 1).all()
    below = torch.nextafter(torch.tensor((m - 1) / m), torch.tensor(0.0))
    assert (random_rate(1, m, below).sum(1) == 1).all()
    assert random_rate(1, m, 0.999 * (m - 1) / m).all()


def test_same_generator_same_masks():
    assert torch.equal(random_rate(50, 3, 0.5, seeded(5)), random_rate(50, 3, 0.5, seeded(5)))
    assert not torch.equal(random_rate(50, 3, 0.5, seeded(5)), random_rate(50, 3, 0.5, seeded(6)))
    state = torch.get_rng_state()
    random_rate(50, 3, 0.5, seeded(5))
    assert torch.equal(torch.get_rng_state(), state)


def test_many_modalities_and_no_samples():
    kept = random_rate(4000, 40, 0.9, seeded(7))
    assert kept.any(1).all()
    assert abs((~kept).double().mean().item() - 0.9) < 4.5 * 0.3 / math.sqrt(4000)
    assert random_rate(0, 3, 0.5).shape == (0, 3)
    assert random_rate(0, 3, torch.zeros(0)).shape == (0, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_result_lies_on_the_device_of_the_generator():
    kept = random_rate(2000, 3, 0.5, torch.Generator("cuda").manual_seed(0))
    assert kept.device.type == "cuda"
    assert kept.any(1).all()


def test_one_modality_admits_only_rate_zero():
    assert random_rate(5, 1, 0.0).all()
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 0 \(one of m = 1"):
        random_rate(5, 1, 0.1)


@pytest.mark.parametrize("rate", [0.7, 1.0, 2 / 3 + 1e-9, -0.1, float("nan"), float("inf"), torch.tensor([0.1, 0.7])])
def test_refuses_impossible_rates(rate):
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 0.666667 \(one of m = 3 modalities is always"):
        random_rate(2, 3, rate)


def test_refuses_other_shapes_and_sizes():
    with pytest.raises(ValueError, match=r"rate: expected a number or a tensor of shape \(4,\), got shape \(3,\)"):
        random_rate(4, 2, torch.zeros(3))
    with pytest.raises(ValueError, match=r"rate: expected a number or a tensor of shape \(4,\), got shape \(4, 1\)"):
        random_rate(4, 2, torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"n, m: expected n >= 0 samples and m >= 1 modalities, got n = 1, m = 0"):
        random_rate(1, 0, 0.0)
    with pytest.raises(ValueError, match="got n = -1, m = 2"):
        random_rate(-1, 2, 0.0)
