"""CARN's attention against a loop over steps with the entmax package, and its masks."""

import entmax
import pytest
import torch

from mmaffect.attention import CausalEntmaxAttention


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("heads", [1, 2])
def test_equals_a_loop_with_the_package(include_self, heads):
    torch.manual_seed(0)
    layer = CausalEntmaxAttention(6, heads, include_self=include_self).double()
    x = 3 * torch.randn(2, 5, 6, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    out = layer(x, mask)
    width = 6 // heads
    for b in range(2):
        for i in range(5):
            sources = [j for j in range(i + include_self) if mask[b, j]]
            for h in range(heads):
                part = slice(h * width, (h + 1) * width)
                if not sources or not mask[b, i]:
                    assert (out.weights[b, h, i] == 0).all()
                    assert (out.y[b, i, part] == 0).all()
                    continue
                query, keys = layer.query(x[b, i])[part], layer.key(x[b, sources])[:, part]
                weights = entmax.entmax15(keys @ query / width**0.5, dim=0)
                torch.testing.assert_close(out.weights[b, h, i, sources], weights)
                torch.testing.assert_close(out.y[b, i, part], weights @ layer.value(x[b, sources])[:, part])


def test_weights_are_exactly_sparse_and_never_see_the_future():
    torch.manual_seed(0)
    layer = CausalEntmaxAttention(8)
    weights = layer(4 * torch.randn(4, 30, 8)).weights
    assert (weights.triu(1) == 0).all()
    past = torch.ones(30, 30).tril().bool()
    assert (weights[..., past] == 0).float().mean() > 0.3


def test_vanilla_is_dense_softmax_over_everything():
    torch.manual_seed(0)
    layer = CausalEntmaxAttention(4, alpha=1, causal=False)
    x = torch.randn(1, 5, 4)
    weights = layer(x).weights[0, 0]
    expected = torch.softmax(layer.query(x)[0] @ layer.key(x)[0].T / 2, -1)
    torch.testing.assert_close(weights, expected)


def test_an_absent_step_may_ask_its_past():
    torch.manual_seed(0)
    layer = CausalEntmaxAttention(4)
    x, mask = torch.randn(1, 3, 4), torch.tensor([[True, True, False]])
    silent = layer(x, mask)
    asking = layer(x, mask, queries=torch.ones(1, 3, dtype=torch.bool))
    assert (silent.y[0, 2] == 0).all()
    assert (asking.y[0, 2] != 0).any()
    assert asking.weights[0, 0, 2, 2] == 0
    torch.testing.assert_close(asking.y[:, :2], silent.y[:, :2])


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="dim: expected a multiple of heads = 2, got 3"):
        CausalEntmaxAttention(3, heads=2)
    with pytest.raises(ValueError, match=r"alpha: expected 1 or 1\.5, got 3"):
        CausalEntmaxAttention(4, alpha=3)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 4"):
        CausalEntmaxAttention(4)(torch.zeros(1, 2, 3))
