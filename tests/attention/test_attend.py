"""The dense core against a loop over queries, on both of its paths; what is not allowed, and what has no source."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.attention import attend, merge_heads, split_heads

PATHS = [(5, 7), (3, 70)]  # written out, fused


def tensors(steps, sources, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, 2, steps, 4, generator=generator, dtype=dtype)
    key, value = torch.randn(2, 2, 2, sources, 4, generator=generator, dtype=dtype).unbind(0)
    allowed = torch.rand(2, steps, sources, generator=generator) > 0.5
    allowed[0, 0] = False
    bias = torch.randn(2, steps, sources, generator=generator, dtype=dtype)
    return query, key, value, allowed, bias


def by_loop(query, key, value, allowed, bias):
    out = torch.zeros_like(query)
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in query.shape[:3])).tolist():
        sources = [s for s in range(key.shape[2]) if allowed is None or allowed[b, t, s]]
        if sources:
            scores = key[b, h, sources] @ query[b, h, t] / 2  # the width of a head is 4
            scores = scores if bias is None else scores + bias[h, t, sources]
            shares = scores.exp() / scores.exp().sum()
            out[b, h, t] = shares @ value[b, h, sources]
    return out


@pytest.mark.parametrize(("steps", "sources"), PATHS)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
def test_equals_a_loop_over_queries(steps, sources, with_bias, with_mask):
    query, key, value, allowed, bias = tensors(steps, sources)
    allowed, bias = allowed if with_mask else None, bias if with_bias else None
    torch.testing.assert_close(attend(query, key, value, allowed, bias=bias), by_loop(query, key, value, allowed, bias))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6))
def test_equals_a_loop_for_any_mask(seed, steps, sources):
    query, key, value, allowed, bias = tensors(steps, sources, seed=seed)
    torch.testing.assert_close(attend(query, key, value, allowed, bias=bias), by_loop(query, key, value, allowed, bias))


@pytest.mark.parametrize(("steps", "sources"), PATHS)
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_query_without_source_gets_zero_and_gives_no_gradient(steps, sources, with_bias):
    query, key, value, allowed, bias = tensors(steps, sources)
    allowed[1] = False
    leaves = [t.requires_grad_() for t in (query, key, value)]
    out = attend(*leaves, allowed, bias=bias if with_bias else None)
    assert (out[1] == 0).all()
    assert (out[0, :, 0] == 0).all()
    assert (out[0, :, 1:] != 0).any()
    out.sum().backward()
    assert all((leaf.grad[1] == 0).all() for leaf in leaves)
    assert (query.grad[0, :, 0] == 0).all()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize(("steps", "sources"), PATHS)
def test_forbidden_sources_get_no_gradient(steps, sources):
    query, key, value, allowed, _ = tensors(steps, sources)
    allowed[:, :, 2] = False
    key.requires_grad_()
    value.requires_grad_()
    attend(query, key, value, allowed).square().sum().backward()
    assert (key.grad[:, :, 2] == 0).all()
    assert (value.grad[:, :, 2] == 0).all()


@pytest.mark.parametrize(("steps", "sources"), PATHS)
def test_gradients_agree_with_finite_differences(steps, sources):
    query, key, value, allowed, bias = tensors(steps, sources)
    leaves = [t.requires_grad_() for t in (query, key, value)]
    torch.autograd.gradcheck(lambda *parts: attend(*parts, allowed, bias=bias), leaves, fast_mode=True)


def test_short_sequences_have_a_second_derivative():
    query, key, value, allowed, bias = tensors(3, 4)
    leaves = [t.requires_grad_() for t in (query, key, value)]
    torch.autograd.gradgradcheck(lambda *parts: attend(*parts, allowed, bias=bias), leaves, fast_mode=True)


@pytest.mark.parametrize(("steps", "sources"), PATHS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_sums_in_single(steps, sources, dtype):
    query, key, value, allowed, bias = tensors(steps, sources)
    query, key, value, bias = (t.to(dtype) for t in (query, key, value, bias))
    out = attend(query, key, value, allowed, bias=bias)
    assert out.dtype == dtype
    wide = attend(query.double(), key.double(), value.double(), allowed, bias=bias.double())
    torch.testing.assert_close(out.double(), wide, atol=4 * torch.finfo(dtype).eps, rtol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("steps", "sources"), PATHS)
def test_dropout_keeps_the_mean_and_stops_in_evaluation(steps, sources):
    query, key, value, allowed, _ = tensors(steps, sources)
    clean = attend(query, key, value, allowed)
    assert torch.equal(attend(query, key, value, allowed, dropout=0.4, training=False), clean)
    torch.manual_seed(0)
    draws = torch.stack([attend(query, key, value, allowed, dropout=0.4) for _ in range(2000)])
    error = (draws.mean(0) - clean).abs() / (draws.std(0) / 2000**0.5 + 1e-9)
    assert draws.std(0)[clean != 0].min() > 0
    assert error.max() < 5


def test_the_exported_program_takes_any_length():
    query, key, value, allowed, bias = tensors(5, 7)

    class Attend(torch.nn.Module):
        def forward(self, query, key, value, allowed, bias):
            return attend(query, key, value, allowed, bias=bias)

    steps, sources = torch.export.Dim("steps"), torch.export.Dim("sources")
    source = {2: sources}
    dynamic = ({2: steps}, source, source, {1: steps, 2: sources}, {1: steps, 2: sources})
    program = torch.export.export(Attend(), (query, key, value, allowed, bias), dynamic_shapes=dynamic).module()
    for shape in [(5, 7), (80, 3), (3, 70)]:
        query, key, value, allowed, bias = tensors(*shape)
        torch.testing.assert_close(
            program(query, key, value, allowed, bias), attend(query, key, value, allowed, bias=bias)
        )


def test_heads_are_split_and_merged():
    x = torch.arange(12.0).reshape(1, 2, 6)
    parts = split_heads(x, 3)
    assert parts.shape == (1, 3, 2, 2)
    assert parts[0, 1].tolist() == [[2, 3], [8, 9]]
    assert torch.equal(merge_heads(parts), x)
