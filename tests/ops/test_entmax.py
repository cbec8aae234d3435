"""α-entmax against the entmax package, SciPy's root finder, its closed forms and its defining equation."""

import importlib
import math

import entmax as package
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from mmaffect.ops import entmax
from mmaffect.ops.blocks import in_blocks

ALPHAS = [1.05, 1.3, 1.5, 1.75, 2.0, 2.5, 4.0]


def normal(*shape, seed=0, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def by_root_finding(row, alpha):
    """Weights from the definition, the threshold by SciPy."""
    z = (alpha - 1) * np.asarray(row)
    power = 1 / (alpha - 1)

    def surplus(tau):
        return (np.clip(z - tau, 0, None) ** power).sum() - 1

    tau = brentq(surplus, z.max() - 1.1, z.max(), xtol=1e-15, rtol=1e-14)
    return np.clip(z - tau, 0, None) ** power


def rows_of_many_shapes(size):
    """Flat, spread, heavy-tailed, stepped and geometric rows; some take Newton's method the most steps known."""
    j = torch.arange(size, dtype=torch.float64)
    rows = [normal(4, size, seed=size, scale=s) for s in (0.0, 1e-3, 0.3, 1.0, 3.0, 100.0)]
    rows += [-c * (j / size).pow(p).expand(1, -1) for c in (0.1, 1, 10, 1000) for p in (0.1, 0.5, 1, 2, 8)]
    rows += [-c * (1 - r**j).expand(1, -1) for c in (0.5, 2, 8) for r in (0.5, 0.9, 0.99)]
    rows += [-c * torch.log1p(j).expand(1, -1) for c in (0.01, 0.1, 0.3, 1)]
    depth, power = (torch.rand(300, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    rows += [-2 * depth * (j >= size**power), -5 * depth * (j / size) ** power, -20 * depth * (j / size) ** power]
    return torch.cat(rows)


def by_bisection(scores, alpha):
    """The definition solved row by row to the last digit, without any of the library's code."""
    return torch.cat([_by_bisection(rows, alpha) for rows in scores.split(32)])  # few enough to stay in the cache


def _by_bisection(scores, alpha):
    z = (alpha - 1) * (scores - scores.amax(-1, keepdim=True))
    low, high = torch.full_like(z[:, :1], -1.0), torch.zeros_like(z[:, :1])
    for _ in range(80):
        middle = (low + high) / 2
        if ((middle == low) | (middle == high)).all():
            break  # no number lies between
        enough = (z - middle).clamp_(min=0).pow_(1 / (alpha - 1)).sum(-1, keepdim=True) >= 1
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    weights = (z - low).clamp(min=0).pow(1 / (alpha - 1))
    return weights / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize("alpha", ALPHAS)
@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 30), scale=st.floats(0.01, 30.0), seed=st.integers(0, 10_000))
def test_is_the_root_that_scipy_finds(alpha, size, scale, seed):
    scores = normal(3, size, seed=seed, scale=scale)
    expected = np.stack([by_root_finding(row, alpha) for row in scores])
    # Powers below 1 magnify SciPy's own rounding of the threshold where a score stands just above it.
    atol = 1e-6 if alpha > 2 else 1e-10
    np.testing.assert_allclose(entmax(scores, alpha=alpha).numpy(), expected, atol=atol, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(0.01, 30.0), st.integers(0, 10_000), st.sampled_from([1.5, 2]))
def test_agrees_with_the_package_forwards_and_backwards(size, scale, seed, alpha):
    theirs_function = package.entmax15 if alpha == 1.5 else package.sparsemax
    scores, weight = normal(3, size, seed=seed, scale=scale), normal(3, size, seed=seed + 1)
    ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    a, b = entmax(ours, alpha=alpha), theirs_function(theirs, dim=-1)
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("size", [2, 5, 64, 256, 4096])
@pytest.mark.parametrize("alpha", [1.05, 1.25, 1.5, 2.0])
def test_enough_steps_for_rows_of_every_shape(size, alpha):
    scores = rows_of_many_shapes(size)
    torch.testing.assert_close(entmax(scores, alpha=alpha), by_bisection(scores, alpha), atol=1e-12, rtol=0)
    single, exact = entmax(scores.float(), alpha=alpha), by_bisection(scores.float().double(), alpha)
    torch.testing.assert_close(single.double(), exact, atol=3e-6 if size <= 256 else 3e-5, rtol=0)
    torch.testing.assert_close(
        single.double().sum(-1), torch.ones(len(scores)).double(), atol=2e-6 if size <= 256 else 3e-5, rtol=0
    )


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_of_any_size(alpha, dtype):
    scores = torch.tensor([[1e9, 0.0], [-1e9, -1e9], [1e30, -1e30]], dtype=dtype)
    expected = torch.tensor([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], dtype=dtype)
    torch.testing.assert_close(entmax(scores, alpha=alpha), expected)
    if alpha <= 2:
        torch.testing.assert_close(entmax(scores, alpha=torch.tensor(alpha)), expected)


def test_two_scores_by_hand():
    # For two scores with |Δ| < 2: sqrt(p1) - sqrt(p2) = Δ/2 and p1 + p2 = 1; Δ = 1 gives this p1.
    root = (0.5 + (2 - 0.25) ** 0.5) / 2
    weights = entmax(torch.tensor([1.0, 0.0], dtype=torch.float64))
    torch.testing.assert_close(weights[0].item(), root**2)
    assert entmax(torch.tensor([2.0, 0.0], dtype=torch.float64)).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alpha_near_one_is_near_softmax(dtype):
    scores = normal(5, 8, dtype=dtype)
    weights = entmax(scores, alpha=1.001)
    torch.testing.assert_close(weights, torch.softmax(scores, -1), atol=2e-3, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(5, dtype=dtype), atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_first_and_second_derivative(alpha):
    scores = normal(4, 7, seed=3).requires_grad_()
    mask = torch.rand(4, 7, generator=torch.Generator().manual_seed(4)) > 0.3
    assert torch.autograd.gradcheck(lambda s: entmax(s, mask, alpha=alpha), (scores,))
    assert torch.autograd.gradgradcheck(lambda s: entmax(s, mask, alpha=alpha), (scores,))


def test_derivatives_towards_a_learned_alpha():
    scores = normal(2, 3, 6, seed=3).requires_grad_()
    alpha = torch.tensor([[1.2], [1.5], [1.9]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, a: entmax(s, alpha=a), (scores, alpha))
    assert torch.autograd.gradgradcheck(lambda s, a: entmax(s, alpha=a), (scores, alpha))
    by_row = torch.stack([entmax(scores[:, i], alpha=a) for i, a in enumerate([1.2, 1.5, 1.9])], dim=1)
    torch.testing.assert_close(entmax(scores, alpha=alpha), by_row)


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0, 3.0])
def test_masked_entries_never_matter_and_empty_rows_are_zero(alpha):
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    clean = normal(2, 4, dtype=torch.float32)
    poisoned = clean.clone()
    poisoned[~mask] = torch.nan
    poisoned.requires_grad_()
    weights = entmax(poisoned, mask, alpha=alpha)
    torch.testing.assert_close(weights[0, [0, 2, 3]], entmax(clean[0, [0, 2, 3]], alpha=alpha))
    assert (weights[~mask] == 0).all()
    weights.square().sum().backward()
    assert (poisoned.grad[~mask] == 0).all()
    assert poisoned.grad.isfinite().all()
    assert (entmax(clean.masked_fill(~mask, -torch.inf), alpha=alpha) == weights).all()


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
def test_large_tensors_are_worked_on_in_blocks_with_the_same_result(alpha):
    scores = normal(6, 4000, 96, dtype=torch.float32).transpose(0, 1).requires_grad_()
    assert in_blocks(scores)
    mask = torch.rand(6, 96, generator=torch.Generator().manual_seed(1)) > 0.3
    weight = normal(1, 6, 96, seed=2, dtype=torch.float32).expand(4000, 6, 96)
    for learned in (False, True):
        chosen = torch.full((6, 1), alpha) if learned else alpha
        whole = entmax(scores, mask, alpha=chosen)
        parts = torch.stack([entmax(part, mask, alpha=chosen) for part in scores.unbind(0)[:5]])
        torch.testing.assert_close(whole[:5], parts)
        (gradient,) = torch.autograd.grad(whole, scores, weight)
        (expected,) = torch.autograd.grad(parts, scores, weight[:5])
        torch.testing.assert_close(gradient[:5], expected[:5])


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0, torch.tensor(1.6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stopping_early_leaves_each_row_to_itself(dtype, alpha):
    hard = rows_of_many_shapes(64).to(dtype)  # some need every step
    for easy in (normal(len(hard), 64, scale=3.0, dtype=dtype), -torch.arange(64, dtype=dtype).expand_as(hard)):
        among_easy = entmax(torch.cat([easy, easy]), alpha=alpha)
        assert torch.equal(among_easy[: len(easy)], entmax(torch.cat([easy, hard]), alpha=alpha)[: len(easy)])


@pytest.mark.parametrize("alpha", [1.3, 2.0, torch.tensor(1.6)])
def test_empty_rows_do_not_keep_others_from_stopping_early(alpha, monkeypatch):
    powers = []
    module = importlib.import_module("mmaffect.ops.entmax")
    monkeypatch.setattr(module, "_power", lambda x, q, power=module._power: powers.append(q) or power(x, q))
    counts = []
    for mask in (torch.ones(4, 1, dtype=torch.bool), torch.tensor([[True], [False], [True], [False]])):
        entmax(-torch.arange(64.0).expand(4, 64), mask, alpha=alpha)
        counts.append(len(powers))
        powers.clear()
    assert counts[0] == counts[1]


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("strides", [(0, 1, 2, 3), (0, 1, 3, 2), (0, 3, 1, 2)])
def test_weights_are_contiguous_whatever_the_scores_are(strides, masked, alpha):
    scores = normal(2, 3, 8, 8).permute(strides).requires_grad_()
    mask = torch.arange(scores.shape[-1]) > 0 if masked else None
    weights = entmax(scores, mask, alpha=alpha)
    assert weights.is_contiguous()
    torch.testing.assert_close(weights, entmax(scores.contiguous(), mask, alpha=alpha))


def test_a_row_longer_than_a_block():
    scores = normal(2, 2**20 + 1, dtype=torch.float32).requires_grad_()
    weights = entmax(scores)
    torch.testing.assert_close(weights.double(), entmax(scores.double()), atol=3e-5, rtol=0)
    weights.sum().backward()
    torch.testing.assert_close(scores.grad, torch.zeros_like(scores), atol=1e-5, rtol=0)


def test_is_traced_without_values():
    scores = normal(4, 8)
    for mode in ("real", "fake", "symbolic"):
        program = make_fx(lambda s: entmax(s), tracing_mode=mode)(scores)
        torch.testing.assert_close(program(2 * scores), entmax(2 * scores))
    with FakeTensorMode():
        assert entmax(torch.randn(4, 8)).shape == (4, 8)


@pytest.mark.parametrize("shape", [(70, 2, 130, 130), (30, 300, 250), (30, 250, 300), (1500, 1500)])
@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_causal_is_a_mask_that_is_cheaper(shape, alpha):
    assert math.prod(shape) > 2 * 2**20  # enough for bands
    scores = normal(*shape, dtype=torch.float32)
    scores[..., -1, -1] = scores[..., 0, -1] = torch.nan  # masked below, and after its row
    mask = torch.rand(shape[-2:], generator=torch.Generator().manual_seed(1)) > 0.3
    mask[-1, -1] = False
    mask[5] = False
    scores.requires_grad_()
    weight = normal(*shape, seed=2, dtype=torch.float32)
    weights = entmax(scores, mask, alpha=alpha, causal=True)
    masked = entmax(scores, mask.tril(), alpha=alpha)
    torch.testing.assert_close(weights, masked)
    assert torch.equal(weights, entmax(scores.detach(), mask, alpha=alpha, causal=True))
    (gradient,) = torch.autograd.grad(weights, scores, weight)
    (expected,) = torch.autograd.grad(masked, scores, weight)
    torch.testing.assert_close(gradient, expected)
    few = scores[..., :6, :6] if len(shape) == 2 else scores[:2, ..., :6, :6]  # too few for bands
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    torch.testing.assert_close(entmax(few, alpha=alpha, causal=True), entmax(few, mask, alpha=alpha))


def test_causal_needs_rows():
    with pytest.raises(ValueError, match=r"scores: expected shape \(..., S, T\) where causal, got \(3,\)"):
        entmax(torch.zeros(3), causal=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = normal(64, 256, dtype=torch.float32).to(dtype)
    weights = entmax(scores)
    assert weights.dtype == dtype
    torch.testing.assert_close(weights, entmax(scores.float()).to(dtype))


def test_nan_among_the_allowed_gives_nan_not_an_error():
    for alpha in (1.3, 1.5, 3.0):
        assert entmax(torch.tensor([0.0, torch.nan]), alpha=alpha).isnan().all()


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2, 3])
def test_compiles_whole_exports_and_batches_over(alpha):
    scores = normal(3, 5)
    mask = torch.rand(3, 5, generator=torch.Generator().manual_seed(1)) > 0.4

    class Layer(torch.nn.Module):
        def forward(self, scores, mask):
            return entmax(scores, mask, alpha=alpha)

    expected = entmax(scores, mask, alpha=alpha)
    compiled = torch.compile(Layer(), backend="aot_eager", fullgraph=True)
    a, b = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    compiled(a, mask).square().sum().backward()
    entmax(b, mask, alpha=alpha).square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(torch.export.export(Layer(), (scores, mask)).module()(scores, mask), expected)
    torch.testing.assert_close(torch.func.vmap(Layer())(scores, mask), expected)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda s: entmax(s, alpha=alpha)))(scores)
    torch.testing.assert_close(
        jacobian[0], torch.autograd.functional.jacobian(lambda s: entmax(s, alpha=alpha), scores[0])
    )


@pytest.mark.parametrize("alpha", [1.3, 1.5])
def test_exports_for_rows_of_any_length(alpha):
    class Layer(torch.nn.Module):
        def forward(self, scores):
            return entmax(scores, alpha=alpha)

    size = torch.export.Dim("size", min=2)
    exported = torch.export.export(Layer(), (normal(3, 5),), dynamic_shapes=({1: size},)).module()
    for length in (2, 5, 700):
        torch.testing.assert_close(exported(normal(3, length)), entmax(normal(3, length), alpha=alpha))


def test_batched_gradients_and_a_batched_alpha():
    scores = normal(4, 40000, seed=5).requires_grad_()
    one = entmax(scores)
    directions = normal(2, 4, 40000, seed=6)
    (both,) = torch.autograd.grad(one, scores, directions, is_grads_batched=True, retain_graph=True)
    (second,) = torch.autograd.grad(one, scores, directions[1])
    torch.testing.assert_close(both[1], second)
    alphas = torch.tensor([1.2, 1.5, 2.0], dtype=torch.float64)
    row = normal(6)
    together = torch.func.vmap(lambda a: entmax(row, alpha=a))(alphas)
    torch.testing.assert_close(together, torch.stack([entmax(row, alpha=float(a)) for a in alphas]))


def test_rows_and_batches_of_nothing():
    assert entmax(torch.zeros(3, 0)).shape == (3, 0)
    assert entmax(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("alpha", [1, 0.5, float("inf"), float("nan")])
def test_refuses_alphas_that_are_none(alpha):
    with pytest.raises(ValueError, match=f"alpha: expected a number above 1, got {alpha}"):
        entmax(torch.zeros(2), alpha=alpha)
