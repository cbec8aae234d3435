"""Samplers on a Gaussian mixture, whose exact denoiser is not linear."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from mmaffect.diffusion import ancestral, ddim, dpmpp_2m, heun
from tests.diffusion.laws import DOUBLE, level
from tests.diffusion.processes import CONTINUOUS, PROCESSES
from tests.diffusion.samplers import SAMPLERS

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
MEANS = torch.tensor([[-1.0, 0.2], [1.1, 0.9], [0.6, -1.2]], dtype=DOUBLE)
STDS = torch.tensor([0.25, 0.4, 0.3], dtype=DOUBLE)
MEAN = WEIGHTS @ MEANS
COVARIANCE = (WEIGHTS * STDS**2).sum() * torch.eye(2, dtype=DOUBLE) + (MEANS - MEAN).T * WEIGHTS @ (MEANS - MEAN)


def denoiser(process):
    """E[x0 | x]: each component's answer, weighted by its posterior probability."""

    def denoise(x, t):
        alpha, std = (f(t[:1, None].double()) for f in (process.alpha, process.std))
        spread = alpha**2 * STDS**2 + std**2  # (1, 3)
        offset = x[:, None] - alpha * MEANS  # (B, 3, 2)
        log_density = WEIGHTS.log() - offset.square().sum(-1) / (2 * spread) - spread.log()
        answers = MEANS + (alpha * STDS**2 / spread).unsqueeze(-1) * offset
        return (log_density.softmax(-1).unsqueeze(-1) * answers).sum(1)

    return denoise


def sample(sampler, process, steps, count=4096):
    x = process.prior((count, 2), MEAN, COVARIANCE.diagonal(), torch.Generator().manual_seed(0))
    with torch.no_grad():
        return sampler(denoiser(process), process, x.double(), steps, generator=torch.Generator().manual_seed(1))


def energy_distance(x):
    """The largest squared energy distance, 2 ∫ (F_n - F)², over four directions, F being exact in each of them."""
    worst = 0.0
    grid = torch.linspace(-4, 4, 2001, dtype=DOUBLE)
    for angle in (0.0, 0.25, 0.5, 0.75):
        direction = torch.tensor([math.cos(angle * math.pi), math.sin(angle * math.pi)], dtype=DOUBLE)
        exact = (WEIGHTS * torch.special.ndtr((grid[:, None] - MEANS @ direction) / STDS)).sum(-1)
        empirical = torch.searchsorted((x @ direction).sort().values, grid, right=True) / len(x)
        worst = max(worst, 2 * torch.trapezoid((empirical - exact) ** 2, grid).item())
    return worst


def errors(x):
    return (x.mean(0) - MEAN).abs().max().item(), (x.T.cov() - COVARIANCE).abs().max().item(), energy_distance(x)


def converged(x):
    """Beyond chance: 4096 exact samples are at .02, .03 and .0006 at most, in 20 draws."""
    mean, covariance, distance = errors(x)
    return mean < 0.05 and covariance < 0.07 and distance < 0.002


def test_exact_samples_pass_the_bound():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        which = torch.multinomial(WEIGHTS, 4096, replacement=True, generator=generator)
        x = MEANS[which] + STDS[which, None] * torch.randn(4096, 2, dtype=DOUBLE, generator=generator)
        assert converged(x)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("process", [name for name in PROCESSES if name not in ("vp", "straight")])  # as cosine, here
def test_every_pair_converges(process, name):
    steps = 40 if name in ("heun", "dpmpp_2m", "dpmpp_2m sde") else 150
    assert converged(sample(SAMPLERS[name], PROCESSES[process], steps))


@pytest.mark.parametrize("process", ["ve", "cosine"])
def test_the_bound_refuses_what_is_not_right(process):
    process = PROCESSES[process]
    assert not converged(sample(ddim, process, 4))  # too few steps
    assert not converged(sample(ddim, process, 1))  # a denoised start
    gaussian = torch.randn(4096, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(2))
    assert not converged(MEAN + gaussian @ torch.linalg.cholesky(COVARIANCE).T)  # the right moments alone

    def timid(denoise, process, x, steps, **options):  # answers a little too small
        return ancestral(lambda x, t: denoise(x, t) * 0.95, process, x, steps, **options)

    assert not converged(sample(timid, process, 150))


@pytest.mark.parametrize("process", CONTINUOUS)
def test_second_order_agrees_with_scipy_on_the_probability_flow(process):
    """dx/dt = f x - g² score / 2, integrated from ``t_max`` to ``t_min`` by an adaptive method of order 8."""
    process = PROCESSES[process]
    denoise = denoiser(process)
    x = process.prior((12, 2), MEAN, 1.0, torch.Generator().manual_seed(3)).double()

    def velocity(t, flat):
        state, time = torch.from_numpy(flat.reshape(12, 2)), torch.tensor([t], dtype=DOUBLE)
        alpha, std = level(process, t)
        score = (alpha * denoise(state, time.expand(12)) - state) / std**2
        return (process.drift(time) * state - 0.5 * process.diffusion(time) ** 2 * score).numpy().ravel()

    exact = solve_ivp(
        velocity, (process.t_max, process.t_min), x.numpy().ravel(), method="DOP853", rtol=1e-9, atol=1e-9
    ).y[:, -1]
    for sampler in (heun, dpmpp_2m):
        seen = []
        sampler(denoise, process, x, 500, callback=lambda now, seen=seen: seen.append(now.x.clone()))
        assert np.abs(seen[-1].numpy().ravel() - exact).max() < 1e-4
