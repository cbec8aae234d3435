"""What is recovered where the law is known: a linear-Gaussian world, with the exact networks in place."""

from functools import partial
from unittest.mock import patch

import pytest
import torch

from mmaffect.diffusion import (
    VESDE,
    VPSDE,
    CosineVP,
    ancestral,
    ddim,
    dpmpp_2m,
    euler_maruyama,
    heun,
    predictor_corrector,
    uniform_times,
)
from tests.recovery.linear_world import DIM, DOUBLE, NAMES, STEPS, World, distance, exact_recovery

WORLD = World()
LATENTS = WORLD.draw(1)
OBSERVED = {"a": [[1, 1, 0]], "b": [[1, 0, 0]], "c": [[0, 1, 1]]}
WANTED = {"a": [[0, 0, 1]], "b": [[0, 1, 1]], "c": [[1, 0, 0]]}
OBSERVED, WANTED = ({name: torch.tensor(rows).bool() for name, rows in part.items()} for part in (OBSERVED, WANTED))


def truth(name):
    """Mean and covariance of what is wanted of a modality, given all that is observed."""
    latents = torch.stack([LATENTS[n][0] for n in NAMES], dim=1)
    observed = torch.stack([OBSERVED[n][0] for n in NAMES], dim=1)
    return WORLD.conditional(latents, observed, name, WANTED[name][0])


def entries(recovered, name):
    return recovered[name][:, 0][:, WANTED[name][0]].flatten(1)


def law(recovery, name, sampler, evaluations):
    """Mean and covariance of what is recovered, without drawing: the run is affine in the noise that it is given."""
    size = STEPS * DIM
    probes = torch.cat([torch.zeros(1, size, dtype=DOUBLE), torch.eye(size, dtype=DOUBLE)]).view(-1, 1, STEPS, DIM)
    recovered = recovery.recover(
        LATENTS, OBSERVED, WANTED, draws=size + 1, noise=dict.fromkeys(NAMES, probes), sampler=sampler,
        evaluations=evaluations,
    )  # fmt: skip
    out = entries(recovered, name)
    slopes = (out[1:] - out[0]).T
    return out[0], slopes @ slopes.T


def stochastic_law(recovery, name, sampler, evaluations, draws=1):
    """The same of a sampler that draws so often a step: each noise, one entry at a time, in a row of its own."""
    wanted = {n: WANTED[n] if n == name else torch.zeros_like(WANTED[n]) for n in NAMES}
    places = WANTED[name][0].nonzero().flatten().tolist()
    size = len(places) * DIM
    levels = evaluations - 1
    noises = draws * (levels - 1)
    rows = 1 + size * (1 + noises)  # one without noise, the start, and each of the noises between levels
    start = torch.zeros(rows, 1, STEPS, DIM, dtype=DOUBLE)
    calls = 0

    def fill(x, number, std=1.0):
        at = 1 + number * size
        for i in range(size):
            x.view(rows, STEPS, DIM)[at + i, places[i // DIM], i % DIM] = std

    def one_by_one(self, mean=0.0, std=1.0, *, generator=None):
        nonlocal calls
        calls += 1
        self.zero_()
        fill(self, calls, std)
        return self

    fill(start, 0)
    with patch.object(torch.Tensor, "normal_", one_by_one):
        recovered = recovery.recover(
            LATENTS, OBSERVED, wanted, draws=rows, noise=dict.fromkeys(NAMES, start), sampler=sampler,
            evaluations=evaluations,
        )  # fmt: skip
    assert calls == noises
    out = entries(recovered, name)
    slopes = (out[1:] - out[0]).T
    return out[0], slopes @ slopes.T


@pytest.mark.parametrize("process", [VESDE(), VPSDE(), CosineVP()])
def test_the_law_at_10_and_20_evaluations(process):
    """Below .0086 with 20, which Euler-Maruyama needs 500 for on unconditional data with variances from .02 to 1."""
    recovery = exact_recovery(WORLD, process)
    for name in NAMES:
        mean, covariance = truth(name)
        for evaluations, limit in ((10, 0.024), (14, 0.017), (20, 0.0086), (40, 0.004)):
            found, spread = law(recovery, name, dpmpp_2m, evaluations)
            assert distance(mean, covariance, found, spread) < limit
        # Entry by entry at 20: means against standard deviations, and the covariance.
        found, spread = law(recovery, name, dpmpp_2m, 20)
        assert ((found - mean).abs() / covariance.diagonal().sqrt()).max() < 0.01
        assert ((spread - covariance).abs() / covariance.diagonal().max()).max() < 0.017


def test_against_euler_maruyama():
    """Better at 20 than 100 of its steps, the published code's. The paper's 500 come closer still, by what no sample of
    a few thousand could tell: the energy distance of the two laws."""
    recovery = exact_recovery(WORLD, VESDE())
    mean, covariance = truth("a")
    hundred, paper = (
        stochastic_law(recovery, "a", partial(euler_maruyama, times=uniform_times(recovery.process, n - 1)), n)
        for n in (100, 500)
    )
    calls = recovery.parts["a"].denoiser.net.calls
    calls.clear()
    ours = law(recovery, "a", dpmpp_2m, 20)
    assert calls == [STEPS * DIM + 1] * 20
    assert distance(mean, covariance, *ours) < 0.5 * distance(mean, covariance, *hundred)
    assert distance(mean, covariance, *paper) < 0.0086
    generator = torch.Generator().manual_seed(0)
    noise, other = (torch.randn(4000, len(mean), generator=generator, dtype=DOUBLE) for _ in range(2))
    root = covariance.trace().sqrt()
    sample, slow, exact = (
        (m + z @ torch.linalg.cholesky(c).T) / root
        for (m, c), z in ((ours, noise), (paper, noise), ((mean, covariance), other))
    )
    floor = energy_distance(exact, (mean + noise @ torch.linalg.cholesky(covariance).T) / root)
    assert abs(energy_distance(exact, sample) - energy_distance(exact, slow)) < 1e-3
    assert abs(energy_distance(exact, sample) - floor) < 1e-3


def energy_distance(one, other):
    """Székely and Rizzo's, unbiased."""
    within = sum(torch.pdist(x).mean() for x in (one, other))
    return (2 * torch.cdist(one, other).mean() - within).item()


@pytest.mark.parametrize(
    ("sampler", "evaluations", "limit"), [(heun, 30, 0.015), (ddim, 100, 0.02), (partial(dpmpp_2m, eta=0.0), 40, 0.004)]
)
def test_deterministic_samplers_converge(sampler, evaluations, limit):
    recovery = exact_recovery(WORLD, VESDE())
    for name in NAMES:
        assert distance(*truth(name), *law(recovery, name, sampler, evaluations)) < limit


@pytest.mark.parametrize(
    ("sampler", "evaluations", "limit"),
    [(partial(dpmpp_2m, eta=1.0), 20, 0.03), (ancestral, 60, 0.09), (predictor_corrector, 60, 0.09)],
)
def test_stochastic_samplers_converge(sampler, evaluations, limit):
    recovery = exact_recovery(WORLD, VESDE())
    draws = 2 if sampler is predictor_corrector else 1
    assert distance(*truth("c"), *stochastic_law(recovery, "c", sampler, evaluations, draws)) < limit


def test_without_the_condition_the_law_is_the_marginal_one():
    recovery = exact_recovery(WORLD, VESDE(), conditional=False)
    for part in recovery.parts.values():
        part.fuse = None

    class Blind(torch.nn.Module):
        """The exact network, told nothing: what it is given in the place of a context must say so."""

        def __init__(self, exact):
            super().__init__()
            self.exact = exact

        def forward(self, x, t, *, mask, context, context_mask):
            assert context.shape == x.shape
            assert (context == 0).all()
            assert not context_mask.any()
            return self.exact(
                x, t, mask=mask, context=torch.zeros(len(x), STEPS, len(NAMES) * (DIM + 1)).double(), context_mask=None
            )

    for part in recovery.parts.values():
        part.denoiser.net = Blind(part.denoiser.net)
    for place, name in enumerate(NAMES):
        sought = torch.zeros(STEPS, len(NAMES), DIM, dtype=torch.bool)
        sought[:, place] = WANTED[name][0].unsqueeze(-1)
        sought = sought.flatten()
        marginal = WORLD.mean[sought], WORLD.covariance[sought][:, sought]
        assert distance(*marginal, *law(recovery, name, dpmpp_2m, 20)) < 0.014


def test_many_samples_with_patterns_of_their_own():
    """Means over draws of a batch of random patterns, against the formula sample by sample."""
    generator = torch.Generator().manual_seed(3)
    count, draws = 5, 200
    latents = WORLD.draw(count, seed=5)
    state = torch.randint(0, 3, (count, STEPS, len(NAMES)), generator=generator)
    observed = {name: state[:, :, i] == 0 for i, name in enumerate(NAMES)}
    wanted = {name: state[:, :, i] == 1 for i, name in enumerate(NAMES)}
    hidden = {n: torch.where(observed[n].unsqueeze(-1), latents[n], torch.nan) for n in NAMES}
    recovery = exact_recovery(WORLD, VESDE())
    recovered = recovery.recover(hidden, observed, wanted, draws=draws, keys=torch.arange(count), evaluations=12)
    joint = torch.stack([latents[n] for n in NAMES], dim=2)
    there = torch.stack([observed[n] for n in NAMES], dim=2)
    checked = 0
    for row in range(count):
        for name in NAMES:
            mask = wanted[name][row]
            if not mask.any():
                continue
            mean, covariance = WORLD.conditional(joint[row], there[row], name, mask)
            values = recovered[name][:, row][:, mask].flatten(1)
            std = covariance.diagonal().sqrt()
            assert ((values.mean(0) - mean).abs() < 4.5 * std / draws**0.5 + 0.02 * std).all()
            assert ((values.std(0) / std - 1).abs() < 4.5 / (2 * draws) ** 0.5 + 0.03).all()
            checked += len(mean)
    assert checked > 20
