"""The Granger loss against loops, and what it may and may not read."""

import pytest
import torch

from mmaffect.causal import GrangerLoss, granger_context, granger_info_nce


def parents_of(batch, steps, seed=0):
    weights = torch.rand(batch, 2, steps, steps, generator=torch.Generator().manual_seed(seed)).tril(-1)
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)


def test_context_sums_over_sources_not_over_the_future():
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    parents = parents_of(2, 4)
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    context, valid = granger_context(x, parents, mask)
    for b in range(2):
        for i in range(4):
            expected = sum(
                (parents[b, :, i, j].mean() * x[b, j] for j in range(i) if mask[b, i] and mask[b, j]),
                start=torch.zeros(3),
            )
            torch.testing.assert_close(context[b, i], expected)
    # The first step has no past and the padded one is not there.
    assert valid.tolist() == [[False, True, True, True], [False, True, True, False]]
    later = x.clone()
    later[:, 2:] += 1
    torch.testing.assert_close(granger_context(later, parents, mask)[0][:, :3], context[:, :3])


def test_info_nce_equals_a_double_loop():
    generator = torch.Generator().manual_seed(0)
    p, g = (torch.randn(2, 3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    valid = torch.tensor([[True, True, False], [False, True, True]])
    ps, gs = p[valid], g[valid]
    rows = [
        -(ps[i] @ gs[i] / 0.2) + torch.logsumexp(torch.stack([ps[i] @ gs[j] / 0.2 for j in range(4)]), 0)
        for i in range(4)
    ]
    expected = torch.stack(rows)
    torch.testing.assert_close(granger_info_nce(p, g, valid, temperature=0.2), expected.mean())
    torch.testing.assert_close(granger_info_nce(p, g, valid, temperature=0.2, reduction="sum"), expected.sum())
    none = granger_info_nce(p, g, valid, temperature=0.2, reduction="none")
    torch.testing.assert_close(none[valid], expected)


def test_targets_carry_no_gradient():
    p, g = torch.randn(1, 3, 2, requires_grad=True), torch.randn(1, 3, 2, requires_grad=True)
    granger_info_nce(p, g, torch.ones(1, 3, dtype=torch.bool)).backward()
    assert p.grad is not None
    assert g.grad is None


@pytest.mark.parametrize("kind", ["info_nce", "mse"])
def test_gradient_reaches_the_attention_and_never_what_is_absent(kind):
    torch.manual_seed(0)
    loss = GrangerLoss(3, kind=kind)
    parents = parents_of(2, 4).requires_grad_()
    x = torch.randn(2, 4, 3)
    mask = torch.tensor([[True] * 4, [True, False, True, True]])
    poisoned = x.clone()
    poisoned[~mask] = torch.nan
    allowed = (parents.detach() * mask[:, None, None, :]).requires_grad_()
    value = loss(poisoned, allowed, mask)
    torch.testing.assert_close(value, loss(x, allowed, mask))
    value.backward()
    assert allowed.grad.isfinite().all()
    assert (allowed.grad != 0).any()


def test_mse_by_hand():
    loss = GrangerLoss(1, kind="mse")
    for parameter in loss.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.tensor([[[7.0], [2.0], [4.0]]])
    parents = torch.ones(1, 1, 3, 3).tril(-1)
    assert loss(x, parents, torch.ones(1, 3, dtype=torch.bool)).item() == (4 + 16) / 2


def test_a_foretold_sequence_costs_less_than_a_random_one():
    # Each step equals the one before it: attention to the last step foretells it, attention to another does not.
    torch.manual_seed(0)
    x = torch.randn(8, 1, 6).expand(8, 5, 6) + 0.01 * torch.randn(8, 5, 6)
    mask = torch.ones(8, 5, dtype=torch.bool)
    last = torch.diag(torch.ones(4), -1).expand(8, 1, 5, 5)
    other = x.roll(1, 0)
    foretold = granger_info_nce(granger_context(x, last, mask)[0], x, mask)
    stranger = granger_info_nce(granger_context(other, last, mask)[0], x, mask)
    assert foretold < stranger - 1


@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_the_module_contrasts_cosines_at_its_temperature(temperature):
    torch.manual_seed(0)
    loss = GrangerLoss(3, temperature=temperature)
    x, parents, mask = torch.randn(2, 4, 3), parents_of(2, 4), torch.ones(2, 4, dtype=torch.bool)
    context, valid = granger_context(x, parents, mask)
    p, g = (v / v.norm(dim=-1, keepdim=True) for v in (loss.predict(context)[valid], x[valid]))
    expected = torch.nn.functional.cross_entropy(p @ g.T / temperature, torch.arange(6))
    torch.testing.assert_close(loss(x, parents, mask), expected)


def test_float16_survives_a_row_of_zeros():
    torch.manual_seed(0)
    loss = GrangerLoss(3).half()
    x = torch.randn(1, 4, 3).half()
    x[0, 2] = 0
    value = loss(x, parents_of(1, 4).half(), torch.ones(1, 4, dtype=torch.bool))
    value.backward()
    assert value.isfinite()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_sharp_contrast_in_half_precision_is_that_of_float32(dtype):
    # Scores of up to 300: their exponentials overflow, and float16's own steps there are a quarter wide.
    generator = torch.Generator().manual_seed(0)
    p, g = (3 * torch.randn(2, 4, 8, generator=generator).to(dtype) for _ in range(2))
    valid = torch.ones(2, 4, dtype=torch.bool)
    found = granger_info_nce(p, g, valid)
    torch.testing.assert_close(found, granger_info_nce(p.float(), g.float(), valid))


def test_nothing_valid_is_zero():
    loss = GrangerLoss(2)(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="kind: 'infonce' is unknown; did you mean 'info_nce'"):
        GrangerLoss(2, kind="infonce")
    with pytest.raises(ValueError, match="temperature: expected a value > 0, got 0"):
        GrangerLoss(2, temperature=0)
    with pytest.raises(ValueError, match=r"valid: expected shape \(B, T\)"):
        granger_info_nce(torch.zeros(2, 3, 1), torch.zeros(2, 3, 1), torch.ones(3, 2).bool())
    with pytest.raises(ValueError, match=r"target: expected shape \(B, T, D\)"):
        granger_info_nce(torch.zeros(2, 3, 1), torch.zeros(3, 2, 1), torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match="reduction: 'avg' is unknown"):
        granger_info_nce(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1).bool(), reduction="avg")
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 2, got \(1, 2, 1\)"):
        GrangerLoss(2)(torch.zeros(1, 2, 1), torch.zeros(1, 1, 2, 2), torch.ones(1, 2).bool())
    with pytest.raises(ValueError, match=r"parents: expected shape \(B, H, T, T\)"):
        granger_context(torch.zeros(1, 2, 1), torch.zeros(1, 1, 3, 3), torch.ones(1, 2).bool())
