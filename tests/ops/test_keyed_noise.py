"""Noise by keys: SciPy's tests of a standard normal, independence of neighbours, and no dependence on anything else."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmaffect.ops import keyed_normal

KEYS = st.integers(-(2**63), 2**63 - 1)


def grid(*sizes, seed=0, dtype=torch.float64):
    places = [torch.arange(n).view(-1, *[1] * (len(sizes) - 1 - axis)) for axis, n in enumerate(sizes)]
    return keyed_normal(seed, *places, dtype=dtype)


def reference(*keys):
    """The same in Python's unbounded integers, splitmix64 as its authors print it."""
    state = 0
    for key in keys:
        z = ((state + 0x9E3779B97F4A7C15) % 2**64) ^ (key % 2**64)
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        state = z ^ (z >> 31)
    first, second = state >> 41, (state >> 18) % 2**23
    return math.sqrt(-2 * math.log((first + 0.5) / 2**23)) * math.cos(2 * math.pi * second / 2**23)


@settings(deadline=None, max_examples=60)
@given(st.lists(KEYS, min_size=1, max_size=5))
def test_against_unbounded_integers(keys):
    assert keyed_normal(*keys, dtype=torch.float64).item() == pytest.approx(reference(*keys), abs=1e-12)
    assert keyed_normal(*(torch.tensor(k) for k in keys)).item() == pytest.approx(reference(*keys), abs=1e-5)


def test_mix_is_the_published_splitmix64():
    """The first numbers of the published generator from seed 1234567, whose n-th state is seed + n γ."""
    from mmaffect.ops.keyed_noise import _GOLDEN, _mix

    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    states = torch.tensor(1234567) + _GOLDEN * torch.arange(1, 5)
    assert [value % 2**64 for value in _mix(states).tolist()] == published


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_it_is_normal(seed):
    values = grid(400, 500, seed=seed).flatten().numpy()
    size = len(values)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - moment) < 4.5 * math.sqrt(spread / size), power
    assert 4 < np.abs(values).max() < 5.8


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("distance", [1, 2, 16])
def test_neighbouring_keys_are_independent(axis, distance):
    """Of values and of their squares, along each key: steps of a sample, samples, draws, and across seeds."""
    values = torch.stack([grid(24, 32, 40, seed=seed) for seed in range(20)]).numpy().swapaxes(0, axis)
    one, other = values[:-distance].ravel(), values[distance:].ravel()
    limit = 4.5 / math.sqrt(len(one))
    assert abs(np.corrcoef(one, other)[0, 1]) < limit
    assert abs(np.corrcoef(one**2, other**2)[0, 1]) < limit
    # Jointly: the angle of a pair of independent normal numbers is uniform, and its squared radius exponential.
    assert stats.kstest(np.arctan2(one, other)[::7], stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 1e-4
    assert stats.kstest((one**2 + other**2)[::7], stats.expon(scale=2).cdf).pvalue > 1e-4


def test_samples_of_one_seed_look_like_those_of_another():
    row = torch.arange(2000)[:, None]
    one, other = (keyed_normal(seed, row, torch.arange(30)) for seed in (3, 4))
    assert stats.ks_2samp(one.flatten(), other.flatten()).pvalue > 1e-3
    assert (one == other).float().mean() < 1e-3
    assert len(one.unique()) > 0.99 * one.numel()


@settings(deadline=None, max_examples=30)
@given(st.lists(KEYS, min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 4))
def test_batch_order_and_padding_change_nothing(rows, steps, more):
    rows = torch.tensor(rows)
    noise = keyed_normal(5, rows[:, None], torch.arange(steps))
    longer = keyed_normal(5, rows.flip(0)[:, None], torch.arange(steps + more))
    assert torch.equal(noise, longer.flip(0)[:, :steps])
    assert torch.equal(noise[0, 0], keyed_normal(5, rows[0], 0))


def test_order_and_number_of_keys_count():
    values = [keyed_normal(*keys).item() for keys in [(0,), (0, 0), (0, 0, 0), (1, 2), (2, 1), (1,), (-1,), (1, 0)]]
    assert len(set(values)) == len(values)


def test_dtypes_round_the_same_numbers():
    wide = grid(50, 50)
    assert (grid(50, 50, dtype=torch.float32) - wide).abs().max() < 2e-6
    for dtype in (torch.bfloat16, torch.float16):
        narrow = grid(50, 50, dtype=dtype)
        assert narrow.dtype == dtype
        assert torch.equal(narrow, grid(50, 50, dtype=torch.float32).to(dtype))


def test_compiled_and_exported():
    class Draw(torch.nn.Module):
        def forward(self, row):
            return keyed_normal(9, row[:, None], torch.arange(4))

    row = torch.tensor([3, 2**62, -5])
    expected = Draw()(row)
    assert torch.equal(torch.compile(Draw(), fullgraph=True, backend="aot_eager")(row), expected)
    assert torch.equal(torch.export.export(Draw(), (row,)).module()(row), expected)


def test_refusals():
    with pytest.raises(ValueError, match="keys: expected at least one, got none"):
        keyed_normal()
    with pytest.raises(ValueError, match=r"keys: expected int64, got torch\.int32"):
        keyed_normal(0, torch.tensor(1, dtype=torch.int32))
