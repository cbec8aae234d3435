"""The bottleneck against PyTorch's distributions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from mmaffect.latent import GaussianBottleneck, free_bits_kl


def posterior(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean, log_var = (torch.randn(*shape, generator=generator, dtype=dtype) for _ in range(2))
    mask = torch.rand(shape[:-1], generator=generator) > 0.4
    mask.view(-1)[0] = True
    return mean, log_var, mask


def by_hand(mean, log_var, free_bits, mask):
    """Dimension by dimension, step by step, with PyTorch's own divergence."""
    total = 0.0
    for k in range(mean.shape[-1]):
        steps = [
            kl_divergence(Normal(m, (v / 2).exp()), Normal(0.0, 1.0)).item()
            for m, v in zip(mean[mask][:, k], log_var[mask][:, k], strict=True)
        ]
        total += max(sum(steps) / len(steps) - free_bits, 0.0)
    return total


@given(
    shape=st.sampled_from([(3, 2), (1, 1), (2, 4, 3), (3, 1, 5)]),
    free_bits=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 30),
)
def test_kl_is_that_of_the_distributions(shape, free_bits, seed):
    mean, log_var, mask = posterior(*shape, seed=seed)
    expected = by_hand(mean, log_var, free_bits, mask)
    assert free_bits_kl(mean, log_var, free_bits, mask).item() == pytest.approx(expected, rel=1e-12, abs=1e-14)
    everywhere = by_hand(mean, log_var, free_bits, torch.ones_like(mask))
    assert free_bits_kl(mean, log_var, free_bits).item() == pytest.approx(everywhere, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("free_bits", [0.0, 0.5])
def test_kl_is_exactly_zero_at_the_prior(free_bits):
    mean, log_var = torch.zeros(2, 3, 4, requires_grad=True), torch.zeros(2, 3, 4, requires_grad=True)
    kl = free_bits_kl(mean, log_var, free_bits)
    kl.backward()
    assert kl.item() == 0.0
    assert not mean.grad.any()
    assert not log_var.grad.any()


def test_nothing_cancels_near_the_prior():
    """In float32, where exp(v) - 1 - v would leave noise: against float64."""
    log_var = torch.full((1, 1), 1e-3)
    exact = (math.expm1(float(log_var)) - float(log_var)) / 2
    assert free_bits_kl(torch.zeros(1, 1), log_var, 0.0).item() == pytest.approx(exact, rel=1e-3)


def test_a_dimension_below_its_free_bits_has_no_gradient():
    mean, log_var, mask = posterior(3, 4, 3)
    mean = mean * torch.tensor([0.1, 3.0, 1.0]).double()
    each = [free_bits_kl(mean[..., [k]], 0 * log_var[..., [k]], 0.0, mask).item() for k in range(3)]
    free_bits = sorted(each)[1]  # one below, one at, one above
    mean.requires_grad_()
    kl = free_bits_kl(mean, 0 * log_var, free_bits, mask)
    kl.backward()
    assert kl.item() == pytest.approx(max(each) - free_bits)
    above = each.index(max(each))
    for k in range(3):
        assert mean.grad[..., k].any() == (k == above)
    # Above it is the gradient of the mean divergence.
    torch.testing.assert_close(mean.grad[..., above], mean[..., above].detach() * mask / mask.sum())


def test_whether_a_dimension_is_free_is_decided_by_the_whole_batch():
    far, near = torch.full((1, 1), 2.0), torch.zeros(1, 1)  # 2 nats, and none
    both = torch.cat([far, near])
    assert free_bits_kl(both, torch.zeros(2, 1), 1.0).item() == 0.0
    assert free_bits_kl(far, torch.zeros(1, 1), 1.0).item() == 1.0


def test_masked_steps_never_matter():
    mean, log_var, mask = posterior(3, 4, 2)
    clean = free_bits_kl(mean, log_var, 0.1, mask)
    mean[~mask], log_var[~mask] = torch.nan, torch.inf
    mean.requires_grad_()
    log_var.requires_grad_()
    poisoned = free_bits_kl(mean, log_var, 0.1, mask)
    poisoned.backward()
    assert torch.equal(clean, poisoned)
    assert not mean.grad[~mask].any()
    assert not log_var.grad[~mask].any()
    nothing = free_bits_kl(mean, log_var, 0.0, torch.zeros_like(mask))
    nothing.backward()
    assert nothing.item() == 0.0


def test_kl_in_half_precision_is_summed_in_single():
    mean = torch.full((300, 300, 1), 3.0, dtype=torch.float16)
    kl = free_bits_kl(mean, torch.zeros_like(mean), 0.0)
    assert kl.dtype == torch.float32
    assert kl.item() == pytest.approx(4.5)


def test_gradients():
    mean, log_var, mask = posterior(2, 3, 2)
    assert torch.autograd.gradcheck(
        lambda m, v: free_bits_kl(m, v, 0.2, mask), (mean.requires_grad_(), log_var.requires_grad_())
    )


def test_the_latent_is_a_draw_in_training_and_the_mean_after():
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(6, 3).double()
    h, noise = torch.randn(2, 4, 6).double(), torch.randn(2, 4, 3).double()
    out = bottleneck(h, noise=noise)
    mean, log_var = bottleneck.mean(h), bottleneck.log_var(h)
    torch.testing.assert_close(out.mean, mean)
    torch.testing.assert_close(out.log_var, log_var)
    torch.testing.assert_close(out.z, mean + (log_var.exp() ** 0.5) * noise)
    torch.testing.assert_close(out.kl, free_bits_kl(mean, log_var, 0.0))
    bottleneck.eval()
    assert torch.equal(bottleneck(h).z, out.mean)
    assert torch.equal(bottleneck(h, noise=noise).z, out.z)


def test_draws_have_the_posterior_s_moments_and_come_from_the_generator():
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(2, 1)
    h = torch.randn(1, 2).expand(40_000, 2)
    out = bottleneck(h, generator=torch.Generator().manual_seed(1))
    assert out.z.mean().item() == pytest.approx(out.mean[0].item(), abs=0.02)
    assert out.z.var().item() == pytest.approx(out.log_var[0].exp().item(), rel=0.03)
    assert torch.equal(bottleneck(h, generator=torch.Generator().manual_seed(1)).z, out.z)
    assert not torch.equal(bottleneck(h, generator=torch.Generator().manual_seed(2)).z, out.z)


def test_log_var_is_kept_within_its_bounds():
    bottleneck = GaussianBottleneck(1, 1, max_log_var=2.0)
    with torch.no_grad():
        bottleneck.log_var.weight.fill_(1.0)
        bottleneck.log_var.bias.zero_()
    out = bottleneck(torch.tensor([[-50.0], [0.5], [50.0]]))
    assert out.log_var.flatten().tolist() == [-2.0, 0.5, 2.0]
    assert out.z.isfinite().all()


def test_masked_steps_come_out_as_zero():
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(3, 2)
    mask = torch.tensor([[True, False, True], [False] * 3])
    h = torch.randn(2, 3, 3)
    h[~mask] = torch.nan
    out = bottleneck(h, mask)
    for tensor in (out.z, out.mean, out.log_var):
        assert not tensor[~mask].any()
        assert tensor[mask].all()
    out.kl.backward()
    assert all(p.grad.isfinite().all() for p in bottleneck.parameters())


def test_autocast_draws_in_single_precision():
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck(4, 2)
    h, noise = torch.randn(5, 4), torch.randn(5, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = bottleneck(h, noise=noise)
    assert out.kl.dtype == torch.float32
    torch.testing.assert_close(out.z.float(), bottleneck(h, noise=noise).z, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim: expected a value > 0, got 0"),
        ({"latent": 0}, "latent: expected a value > 0, got 0"),
        ({"free_bits": -0.1}, "free_bits: expected a value >= 0, got -0.1"),
        ({"free_bits": math.nan}, "free_bits: expected a value >= 0, got nan"),
        ({"max_log_var": 0.0}, "max_log_var: expected a value > 0, got 0.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        GaussianBottleneck(**{"dim": 4, **options})


def test_errors_name_the_argument():
    bottleneck, x = GaussianBottleneck(4, 2), torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"h: expected shape \(B, T, D\) with D = 4, got \(2, 3, 5\)"):
        bottleneck(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"h: expected shape \(B, D\) with D = 4, got \(2, 3, 3, 4\)"):
        bottleneck(torch.zeros(2, 3, 3, 4))
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) with B = 2, T = 3, got \(2, 4\)"):
        bottleneck(x, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask: expected bool"):
        bottleneck(x, torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"noise: expected shape \(B, T, K\)"):
        bottleneck(x, noise=torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"log_var: expected the shape of mean, \(2, 3\), got \(2, 1\)"):
        free_bits_kl(torch.zeros(2, 3), torch.zeros(2, 1), 0.0)
    with pytest.raises(ValueError, match=r"mask: expected bool of shape \(2,\), got torch.float32 of shape \(2,\)"):
        free_bits_kl(torch.zeros(2, 3), torch.zeros(2, 3), 0.0, torch.ones(2))
    with pytest.raises(ValueError, match=r"mask: expected bool of shape \(2,\), got torch.bool of shape \(3,\)"):
        free_bits_kl(torch.zeros(2, 3), torch.zeros(2, 3), 0.0, torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="free_bits: expected a value >= 0, got -1"):
        free_bits_kl(torch.zeros(2, 3), torch.zeros(2, 3), -1)
