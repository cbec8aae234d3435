"""Packed dropout: its law, its derivatives, and what it leaves alone."""

import sys

import pytest
import torch
from scipy import stats

from mmaffect.ops import dropout

SIZE = 200_000


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("backend", [None, "aot_eager"])
def test_elements_drop_at_the_rate_wherever_they_stand(rate, backend):
    torch.compiler.reset()
    function = torch.compile(dropout, fullgraph=True, backend=backend) if backend else dropout
    torch.manual_seed(0)
    dropped = function(torch.ones(SIZE), rate) == 0
    for lane in range(4):  # four elements share a word of random bits
        count = int(dropped[lane::4].sum())
        assert stats.binomtest(count, SIZE // 4, rate).pvalue > 1e-4
    torch.compiler.reset()


@pytest.mark.parametrize("rate", [0.1, 1 / 3, 0.5, 1e-4])
def test_over_all_random_numbers_the_mean_is_exact(rate, monkeypatch):
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    monkeypatch.setattr(sys.modules["mmaffect.ops.dropout"], "_random_bits", lambda size: every[:size])
    out = dropout(torch.ones(2**16, dtype=torch.float64), rate)
    assert int((out == 0).sum()) == round(rate * 2**16)
    assert out.mean().item() == pytest.approx(1, abs=1e-12)


def test_elements_drop_independently():
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(SIZE), 0.3) == 0).double() - 0.3
    for lag in (1, 2, 3, 4, 5):
        correlation = (dropped[:-lag] * dropped[lag:]).mean() / 0.21
        assert correlation.abs() < 4 / SIZE**0.5


@pytest.mark.parametrize("rate", [0.1, 0.3, 1 / 3, 1e-4])
def test_the_mean_is_exact_and_the_rate_off_by_at_most_half_a_level(rate):
    torch.manual_seed(0)
    scale = dropout(torch.ones(SIZE, dtype=torch.float64), rate).max().item()
    realised = 1 - 1 / scale  # the scale undoes the rate in force
    assert realised * 65536 == pytest.approx(round(realised * 65536), abs=1e-6)
    assert abs(realised - rate) <= 2**-17


def test_limits_of_the_rate():
    x = torch.randn(5)
    assert torch.equal(dropout(x, 0.0), x)
    assert torch.equal(dropout(x, 1.0), torch.zeros(5))
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"rate: expected 0 <= rate <= 1, got {rate}"):
            dropout(x, rate)


def test_evaluation_changes_nothing_and_draws_nothing():
    x = torch.randn(5)
    state = torch.get_rng_state()
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (7,), (2, 3, 5)])
def test_any_shape(shape):
    x = torch.full(shape, 3.0)
    out = dropout(x, 0.5)
    assert out.shape == shape
    assert ((out == 0) | (out == 6)).all()


def test_strided_values_keep_their_place():
    torch.manual_seed(0)
    x = torch.arange(1.0, 41).reshape(5, 8).mT
    out = dropout(x, 0.5)
    kept = out != 0
    assert 0 < kept.sum() < 40
    assert torch.equal(out[kept], 2 * x[kept])


def test_the_global_seed_decides():
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(dropout(torch.ones(100), 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scales_in_at_least_single_precision(dtype):
    torch.manual_seed(0)
    x = torch.randn(1000).to(dtype)
    out = dropout(x, 0.1)
    assert out.dtype == dtype
    kept = out != 0
    # A scale rounded to half precision before the product would be off where the rounded product is not.
    scale = 65536 / (65536 - 6554)
    assert torch.equal(out[kept], (x.float() * scale if dtype != torch.float64 else x * scale).to(dtype)[kept])


def test_first_and_second_derivatives():
    def seeded(x):
        torch.manual_seed(0)
        return dropout(x.square(), 0.4)

    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(seeded, x)
    torch.autograd.gradgradcheck(seeded, x)
    out = seeded(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient == 0, out == 0)


def test_runs_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = dropout(torch.randn(3, 4) @ torch.randn(4, 5), 0.5)
    assert out.dtype == torch.bfloat16


def test_exports_in_evaluation_for_any_length():
    class Layer(torch.nn.Module):
        def forward(self, x):
            return dropout(2 * x, 0.5, training=self.training)

    shapes = ({0: torch.export.Dim("steps")},)
    program = torch.export.export(Layer().eval(), (torch.ones(3, 2),), dynamic_shapes=shapes).module()
    assert torch.equal(program(torch.ones(5, 2)), 2 * torch.ones(5, 2))


def test_other_devices_use_pytorchs_own():
    assert dropout(torch.empty(3, 2, device="meta"), 0.5).shape == (3, 2)
