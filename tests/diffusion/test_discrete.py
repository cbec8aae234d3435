"""The tables of DDPM: exact at their steps."""

import math
from fractions import Fraction

import pytest
import torch

from mmaffect.diffusion import VPSDE, DiscreteVP, uniform_times
from mmaffect.diffusion.ancestral import ancestral


def cumulative(betas):
    """ᾱ by the definition, in exact arithmetic."""
    product, found = Fraction(1), []
    for beta in betas:
        product *= 1 - Fraction(beta)
        product = product.limit_denominator(10**40)
        found.append(float(product))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_alpha_is_the_cumulative_product_at_every_step(name):
    process = getattr(DiscreteVP, name)(200)
    t = torch.arange(1, 201, dtype=torch.float64) / 200
    bar = cumulative(process.betas)
    torch.testing.assert_close(process.alpha(t) ** 2, bar, rtol=1e-11, atol=1e-30)
    torch.testing.assert_close(process.std(t) ** 2, 1 - bar, rtol=1e-11, atol=0)


def test_the_published_tables():
    linear, cosine = DiscreteVP.linear(), DiscreteVP.cosine()
    assert linear.betas[0] == 1e-4
    assert linear.betas[-1] == pytest.approx(0.02)
    assert linear.betas[499] == pytest.approx(1e-4 + 499 / 999 * (0.02 - 1e-4))
    end = torch.ones(1, dtype=torch.float64)
    assert linear.alpha(end).item() ** 2 == pytest.approx(4.0358e-5, rel=1e-4)  # Ho et al.: KL(q(x_T) | N(0, I)) ~ 1e-5
    assert cosine.betas[-1] == 0.999
    assert max(cosine.betas[:-1]) < 0.999
    assert cosine.betas[0] == pytest.approx(4.1284e-5, rel=1e-4)
    assert cosine.alpha(end).item() ** 2 == pytest.approx(2.4288e-9, rel=1e-3)
    assert cosine.sigma(end).item() == pytest.approx(2.03e4, rel=1e-2)
    # all but the last step is the unclipped cosine
    t = torch.tensor([0.25, 0.999], dtype=torch.float64)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(cosine.alpha(t) ** 2, f, rtol=1e-9, atol=0)


def test_the_continuous_linear_process_is_its_limit_and_not_the_same():
    t = torch.tensor([0.5, 1.0], dtype=torch.float64)
    coarse, fine = (DiscreteVP.linear(n, first=0.1 / n, last=20 / n).alpha(t) for n in (1000, 10000))
    limit = VPSDE().alpha(t)
    errors = (coarse / limit - 1).abs(), (fine / limit - 1).abs()
    assert (errors[0] > 1e-3).all()
    torch.testing.assert_close(errors[0] / errors[1], torch.full_like(t, 10.0), rtol=0.1, atol=0)


def test_between_steps_log_alpha_runs_straight():
    process = DiscreteVP((0.1, 0.5, 0.9))
    t = torch.tensor([1 / 3, 0.5, 2 / 3], dtype=torch.float64)
    logs = process.alpha(t).log()
    torch.testing.assert_close(logs[1], (logs[0] + logs[2]) / 2)
    # dx = f x dt + g dw over the step that ends at 2/3 has the table's own β
    torch.testing.assert_close(process.drift(t[2:]), torch.tensor([3 * 0.5 * math.log(0.5)], dtype=torch.float64))
    assert process.alpha(torch.zeros(1)).item() == 1.0
    assert process.std(torch.zeros(1)).item() == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [10, 49, 200, 1000])
def test_the_slope_at_a_step_is_that_of_its_own_beta(count, dtype):
    """However n / N was rounded: written out or as a grid."""
    process = DiscreteVP.cosine(count)
    slopes = 0.5 * count * torch.log1p(-torch.tensor(process.betas, dtype=torch.float64))
    quotients = torch.arange(1, count + 1, dtype=torch.float64) / count
    for t in (quotients, uniform_times(process, count).flip(0)):
        torch.testing.assert_close(process.drift(t.to(dtype)).double(), slopes, rtol=1e-4, atol=0)


def test_a_table_first_read_in_inference_mode_serves_training_after():
    process = DiscreteVP.linear(10)
    with torch.inference_mode():
        process.alpha(torch.tensor([0.5]))
    x0 = torch.ones(1, 2, requires_grad=True)
    process.perturb(x0, torch.tensor([0.5]), torch.zeros(1, 2)).sum().backward()
    torch.testing.assert_close(x0.grad, process.alpha(torch.tensor([0.5])).expand(1, 2))


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_ancestral_with_every_step_is_ddpm(name):
    """Ho et al., algorithm 2 with eq. 7 written out, on the table alone."""
    process, n = getattr(DiscreteVP, name)(1000), 1000
    x = start = process.prior((8, 4), dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def estimate(x):  # any function of x serves: the formulas must agree whatever the network says
        return torch.tanh(x)

    found = ancestral(
        lambda x, t: estimate(x), process, start, n,
        times=uniform_times(process, n), generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    bar = [1.0, *cumulative(process.betas).tolist()]
    generator = torch.Generator().manual_seed(2)
    for step in range(n, 1, -1):
        beta, now, then = process.betas[step - 1], bar[step], bar[step - 1]
        x0 = estimate(x)
        mean = math.sqrt(then) * beta / (1 - now) * x0 + math.sqrt(1 - beta) * (1 - then) / (1 - now) * x
        variance = (1 - then) / (1 - now) * beta
        x = mean + math.sqrt(variance) * torch.randn(8, 4, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(found, estimate(x), rtol=1e-6, atol=1e-9)


def test_a_table_prints_in_one_short_line():
    assert repr(DiscreteVP.linear()) == "DiscreteVP(1000 steps, 0.0001 to 0.02)"
