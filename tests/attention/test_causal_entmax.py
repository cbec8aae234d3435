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


def test_every_head_can_learn_its_own_alpha():
    torch.manual_seed(0)
    layer = CausalEntmaxAttention(8, heads=2, alpha="learned")
    fixed = CausalEntmaxAttention(8, heads=2)
    fixed.load_state_dict({n: p for n, p in layer.state_dict().items() if n != "raw_alpha"})
    x = 3 * torch.randn(2, 6, 8)
    torch.testing.assert_close(layer(x).y, fixed(x).y)
    layer(x).y.square().sum().backward()
    assert (layer.raw_alpha.grad != 0).all()
    with torch.no_grad():
        layer.raw_alpha.copy_(torch.tensor([-30.0, 30.0]))
    torch.testing.assert_close(layer.alpha.flatten(), torch.tensor([1.01, 2.0]))
    weights = layer(x).weights
    dense, sparse = layer.scores(x)[:, 0], layer.scores(x)[:, 1]
    for t in range(6):
        torch.testing.assert_close(
            weights[:, 0, t, : t + 1], torch.softmax(dense[:, t, : t + 1], -1), atol=0.05, rtol=0
        )
        torch.testing.assert_close(weights[:, 1, t, : t + 1], entmax.sparsemax(sparse[:, t, : t + 1], dim=-1))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("steps", [5, 80])
def test_without_weights_dense_attention_is_fused_and_the_same(causal, include_self, steps):
    torch.manual_seed(0)
    layer = CausalEntmaxAttention(8, 2, 1, include_self, causal=causal)
    x, mask = torch.randn(3, steps, 8), torch.rand(3, steps) > 0.3
    with_weights, without = layer(x, mask), layer(x, mask, return_weights=False)
    assert without.weights is None
    torch.testing.assert_close(without.y, with_weights.y)


@pytest.mark.parametrize("alpha", [1.5, 2.0, "learned"])
def test_weights_are_left_out_on_request(alpha):
    torch.manual_seed(0)
    layer, x = CausalEntmaxAttention(4, alpha=alpha), torch.randn(2, 5, 4)
    y, weights = layer(x, return_weights=False)
    assert weights is None
    torch.testing.assert_close(y, layer(x).y)


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
    with pytest.raises(ValueError, match=r"alpha: expected a number >= 1 or 'learned', got 0\.5"):
        CausalEntmaxAttention(4, alpha=0.5)
    with pytest.raises(ValueError, match="alpha: expected a number >= 1 or 'learned', got 'learnt'"):
        CausalEntmaxAttention(4, alpha="learnt")
    for mask in (torch.ones(1, 2, 1), torch.ones(2, 1)):
        with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) with B = 1, T = 2"):
            CausalEntmaxAttention(4)(torch.zeros(1, 2, 4), mask.bool())
    with pytest.raises(ValueError, match=r"mask: expected bool, True = is there, got torch.int64"):
        CausalEntmaxAttention(4)(torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"queries: expected bool"):
        CausalEntmaxAttention(4)(torch.zeros(1, 2, 4), queries=torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 4"):
        CausalEntmaxAttention(4)(torch.zeros(1, 2, 3))
