"""1.5-entmax against the entmax package, its closed form and its defining equation."""

import entmax as package
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.ops import entmax, masked_softmax


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 30.0), st.integers(0, 10_000))
def test_agrees_with_the_package_in_float64(size, scale, seed):
    scores = scale * torch.randn(3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ours = scores.clone().requires_grad_()
    theirs = scores.clone().requires_grad_()
    weight = torch.randn(3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    a, b = entmax(ours), package.entmax15(theirs, dim=-1)
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("size", [2, 64, 256, 4096])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 30.0])
def test_sums_to_one_at_every_length_and_spread(size, spread):
    scores = spread * torch.randn(20, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(entmax(scores).sum(-1), torch.ones(20, dtype=torch.float64), atol=1e-9, rtol=0)


def test_two_scores_by_hand():
    # For two scores with |Δ| < 2: sqrt(p1) - sqrt(p2) = Δ/2 and p1 + p2 = 1; Δ = 1 gives this p1.
    root = (0.5 + (2 - 0.25) ** 0.5) / 2
    weights = entmax(torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(weights[0].item(), root**2)
    assert entmax(torch.tensor([2.0, 0.0], dtype=torch.float64)).tolist() == [1.0, 0.0]


def test_gradient_in_float64():
    scores = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    mask = torch.rand(4, 7, generator=torch.Generator().manual_seed(4)) > 0.3
    assert torch.autograd.gradcheck(lambda s: entmax(s, mask), (scores,))


def test_second_derivative_in_float64():
    scores = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradgradcheck(entmax, (scores,))


@pytest.mark.parametrize("normalise", [entmax, masked_softmax])
def test_masked_entries_never_matter_and_empty_rows_are_zero(normalise):
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    clean = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    poisoned = clean.clone()
    poisoned[~mask] = torch.nan
    poisoned.requires_grad_()
    weights = normalise(poisoned, mask)
    torch.testing.assert_close(weights[0, [0, 2, 3]], normalise(clean[0, [0, 2, 3]], torch.ones(3, dtype=torch.bool)))
    assert (weights[~mask] == 0).all()
    weights.square().sum().backward()
    assert (poisoned.grad[~mask] == 0).all()
    assert poisoned.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights = entmax(scores)
    assert weights.dtype == dtype
    torch.testing.assert_close(weights, entmax(scores.float()).to(dtype))


def test_nan_among_the_allowed_gives_nan_not_an_error():
    assert entmax(torch.tensor([0.0, torch.nan])).isnan().all()


def test_compiles_whole_exports_and_batches_over():
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) > 0.4
    compiled = torch.compile(entmax, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(scores, mask), entmax(scores, mask))
    torch.testing.assert_close(torch.func.vmap(entmax)(scores, mask), entmax(scores, mask))
