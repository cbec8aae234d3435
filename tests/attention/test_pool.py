"""The pool against its formula step by step, the published size, and samples without a step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmaffect.attention import AttentionPool


@given(st.integers(0, 1000), st.integers(1, 6), st.booleans())
def test_equals_its_formula(seed, steps, bias):
    torch.manual_seed(seed)
    pool = AttentionPool(4, bias=bias).double()
    x, mask = torch.randn(3, steps, 4, dtype=torch.float64), torch.rand(3, steps) > 0.4
    pooled, weights = pool(x, mask)
    shift = pool.project.bias if bias else 0.0
    for b in range(3):
        real = [t for t in range(steps) if mask[b, t]]
        scores = [torch.tanh(pool.project.weight @ x[b, t] + shift) @ pool.score.weight[0] for t in real]
        total = sum(s.exp() for s in scores)
        expected = torch.zeros(4, dtype=torch.float64)
        for t, score in zip(real, scores, strict=True):
            torch.testing.assert_close(weights[b, t], score.exp() / total)
            expected = expected + score.exp() / total * x[b, t]
        torch.testing.assert_close(pooled[b], expected)
        assert (weights[b][~mask[b]] == 0).all()


def test_size_is_that_of_cider():
    pools = nn.ModuleList(AttentionPool(32) for _ in range(3))
    assert sum(p.numel() for p in pools[0].parameters()) == 1_089
    assert sum(p.numel() for p in pools.parameters()) == 3_267
    assert sum(p.numel() for p in AttentionPool(32, bias=False).parameters()) == 32 * 32 + 32


def test_the_bias_of_the_scores_changes_nothing():
    torch.manual_seed(0)
    pool, x = AttentionPool(4).double(), torch.randn(2, 3, 4, dtype=torch.float64)
    before = pool(x).pooled
    before.square().sum().backward()
    assert pool.score.bias.grad.abs().item() < 1e-15
    nn.init.constant_(pool.score.bias, 5.0)
    torch.testing.assert_close(pool(x).pooled, before)


def test_a_sample_without_a_step_gives_zeros_and_no_gradient():
    pool = AttentionPool(4)
    x = torch.randn(2, 3, 4)
    x[1] = torch.nan
    x.requires_grad_()
    pooled, weights = pool(x, torch.tensor([[True] * 3, [False] * 3]))
    assert (pooled[1] == 0).all()
    assert (weights[1] == 0).all()
    pooled.sum().backward()
    assert (x.grad[1] == 0).all()
    assert (x.grad[0] != 0).any()
    assert all(p.grad.isfinite().all() for p in pool.parameters())


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="dim: expected a value > 0"):
        AttentionPool(0)
    pool = AttentionPool(4)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 4"):
        pool(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) with B = 2, T = 3"):
        pool(torch.zeros(2, 3, 4), torch.ones(2, 4, dtype=torch.bool))
