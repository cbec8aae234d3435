"""Samplers on Gaussian data, where the law of what they return is known to the last digit."""

from itertools import pairwise

import pytest
import torch

from mmaffect.diffusion import (
    VESDE,
    VPSDE,
    CosineVP,
    DiscreteVP,
    ddim,
    dpmpp_2m,
    euler_maruyama,
    heun,
    karras_times,
    predictor_corrector,
    uniform_times,
)
from tests.diffusion.laws import DOUBLE, Gaussian, affine, law, slope, spectrum
from tests.diffusion.processes import CONTINUOUS, PROCESSES
from tests.diffusion.samplers import DETERMINISTIC, SAMPLERS

ORDER = {"ddim": 1, "heun": 2, "dpmpp_2m": 2}
AXES = Gaussian(spectrum(6), torch.linspace(-1, 1, 6, dtype=DOUBLE))
CORRELATED = Gaussian(spectrum(32), seed=0)


def w2(sampler, process, steps, data=CORRELATED, **options):
    return data.distance(*law(sampler, data, process, steps, **options))


@pytest.mark.parametrize("process", CONTINUOUS)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_global_order_by_halving_steps(process, name):
    """At ``t_min``, before the last denoising, against the exact flow of the process between its ends."""
    process = PROCESSES[process]
    (mean, covariance), (end_mean, end_covariance) = AXES.at(process, process.t_max), AXES.at(process, process.t_min)
    exact = (end_covariance.diagonal() / covariance.diagonal()).sqrt()
    errors = []
    for steps in (40, 80, 160, 320):
        b, a = affine(DETERMINISTIC[name], AXES, process, steps + 1, before_last=True)
        assert (a - torch.diag(a.diagonal())).abs().max() == 0
        torch.testing.assert_close(b + a @ mean, end_mean)  # the mean is carried exactly, by every solver
        errors.append((a.diagonal() / exact - 1).abs().max().item())
    for order in slope(errors):
        assert order == pytest.approx(ORDER[name], abs=0.05 * ORDER[name])


@pytest.mark.parametrize("process", CONTINUOUS)
@pytest.mark.parametrize(("name", "order"), [("euler_maruyama", 1), ("ancestral", 1), ("dpmpp_2m sde", 2)])
def test_weak_order_by_halving_steps(process, name, order):
    """Of mean and variance at ``t_min``, which the noise's own law makes without any being drawn."""
    process = PROCESSES[process]
    mean, covariance = AXES.at(process, process.t_min)
    errors = []
    for steps in (50, 100, 200):
        found_mean, found = law(SAMPLERS[name], AXES, process, steps + 1, before_last=True)
        assert (found_mean - mean).abs().max() < 0.02
        errors.append((found.diagonal() / covariance.diagonal() - 1).abs().max().item())
    for rate in slope(errors):
        assert rate == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("process", PROCESSES)
def test_every_pair_converges_to_the_data(process, name):
    """What is left at the end is the last denoising, which shrinks a mode of variance L by std² / L."""
    steps = 60 if name in DETERMINISTIC else 120
    errors = [w2(SAMPLERS[name], PROCESSES[process], n, AXES) for n in (steps // 2, steps)]
    assert errors[1] < (0.085 if name == "ddim half" or "cosine table" in process else 0.06)
    assert errors[1] < 0.75 * errors[0] or errors[1] < 0.006


@pytest.mark.parametrize("process", [VESDE(), VPSDE(), CosineVP()], ids=["ve", "vp", "cosine"])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_error_falls_with_every_evaluation_from_a_matched_start(process, name):
    errors = [w2(DETERMINISTIC[name], process, steps) for steps in (8, 10, 14, 20, 40, 80)]
    floor = w2(dpmpp_2m, process, 400)  # of the last denoising
    assert floor < 0.0045
    for now, then in pairwise(errors):
        assert then < now or then < 1.1 * floor
    assert w2(DETERMINISTIC[name], VESDE(), 80, matched=False) > 0.04  # N(0, std²) is where no steps help


def test_goals_of_few_evaluations():
    assert w2(dpmpp_2m, VESDE(25.0), 14) <= 0.0086
    assert round(w2(dpmpp_2m, VESDE(25.0), 8), 4) <= 0.0201
    for process in (VPSDE(), CosineVP()):
        assert w2(dpmpp_2m, process, 20) <= 0.0078
        assert w2(dpmpp_2m, process, 20, times=karras_times(process, 20)) > 0.0078  # the default grid is the better


def test_euler_maruyama_as_score_based_code_runs_it():
    """Equal times, N(0, std²): what many evaluations buy. IMDer's own last step, which overshoots, is at .0086."""
    data = Gaussian(spectrum(8), AXES.mean.new_tensor([0.6, -0.9, 0.3, 1.2, -0.4, 0.8, -1.1, 0.2]))
    errors = {
        steps: w2(euler_maruyama, VESDE(), steps, data, matched=False, times=uniform_times(VESDE(), steps))
        for steps in (100, 300)
    }
    assert errors[300] < 0.012 < errors[100] < 0.05


@pytest.mark.parametrize("process", [CosineVP(), DiscreteVP.cosine()], ids=["continuous", "table"])
@pytest.mark.parametrize("grid", [None, uniform_times, karras_times])
@pytest.mark.parametrize("steps", [5, 12])
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "euler_maruyama"])
def test_nothing_explodes_on_a_cosine(name, process, grid, steps):
    """Heun's method in sigma is off by 10^4 here. (Euler-Maruyama has a limit of its own, tested below.)"""
    times = None if grid is None else grid(process, steps)
    assert w2(SAMPLERS[name], process, steps, AXES, times=times) < 1


def test_where_euler_maruyama_is_stable():
    for process in (VESDE(), VPSDE(), CosineVP()):
        assert w2(euler_maruyama, process, 8, AXES) < 1
        assert w2(euler_maruyama, process, 4, AXES) > 1
    assert w2(euler_maruyama, DiscreteVP.cosine(), 15, AXES) < 1 < w2(euler_maruyama, DiscreteVP.cosine(), 14, AXES)
    assert w2(euler_maruyama, CosineVP(), 8, AXES, times=uniform_times(CosineVP(), 8)) < 1


def test_heun_in_sigma_would_explode():
    """The textbook variant on the table's own steps, so that the test above is known to be able to fail."""
    process, data = DiscreteVP.cosine(), Gaussian(torch.full((1,), 0.5, dtype=DOUBLE))
    t = uniform_times(process, 10)
    sigma = process.sigma(t)
    factor = torch.ones((), dtype=DOUBLE)
    for now, then in pairwise(sigma):
        first = factor * now / (0.5 + now**2)
        ahead = factor + (then - now) * first
        factor = factor + (then - now) * (first + ahead * then / (0.5 + then**2)) / 2
    exact = ((0.5 + sigma[-1] ** 2) / (0.5 + sigma[0] ** 2)).sqrt()
    assert (factor / exact).abs() > 5
    _, a = affine(heun, data, process, 10, times=t, before_last=True)
    assert 0.5 < (a * process.alpha(t[0]) / process.alpha(t[-1]) / exact).item() < 2


def test_dpmpp_2m_by_hand():
    """Three levels of one number, from the formula of the paper."""
    process, t = VPSDE(), [0.8, 0.4, 0.1]
    alpha, std = (getattr(process, f)(torch.tensor(t, dtype=DOUBLE)).tolist() for f in ("alpha", "std"))
    answers = iter([0.5, -0.25, 7.0])
    states = []
    out = dpmpp_2m(
        lambda x, t: torch.full_like(x, next(answers)), process, torch.tensor([2.0], dtype=DOUBLE), 3, times=t,
        callback=lambda now: states.append(now.x.item()),
    )  # fmt: skip
    lam = [torch.log(torch.tensor(a / s, dtype=DOUBLE)).item() for a, s in zip(alpha, std, strict=True)]
    h = [lam[1] - lam[0], lam[2] - lam[1]]
    decay = [1 - torch.exp(torch.tensor(-step, dtype=DOUBLE)).item() for step in h]
    first = std[1] / std[0] * 2.0 + alpha[1] * decay[0] * 0.5
    r = h[0] / h[1]
    estimate = (1 + 1 / (2 * r)) * -0.25 - 1 / (2 * r) * 0.5
    second = std[2] / std[1] * first + alpha[2] * decay[1] * estimate
    assert states == pytest.approx([2.0, first, second], rel=1e-12)
    assert out.item() == 7.0


def test_ddim_by_hand():
    """Eq. 12 and 16 of the paper, written with its ᾱ."""
    process, t = VPSDE(), [0.8, 0.5]
    bar = (process.alpha(torch.tensor(t, dtype=DOUBLE)) ** 2).tolist()
    noise = torch.Generator().manual_seed(0)
    states = []
    ddim(
        lambda x, t: 0.3 * x, process, torch.full((20,), 1.5, dtype=DOUBLE), 2, times=t, eta=0.7,
        generator=noise, callback=lambda now: states.append(now.x),
    )  # fmt: skip
    x0, nu = 0.3 * 1.5, 0.7 * ((1 - bar[1]) / (1 - bar[0]) * (1 - bar[0] / bar[1])) ** 0.5
    epsilon = (1.5 - bar[0] ** 0.5 * x0) / (1 - bar[0]) ** 0.5
    z = torch.randn(20, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    expected = bar[1] ** 0.5 * x0 + (1 - bar[1] - nu**2) ** 0.5 * epsilon + nu * z
    torch.testing.assert_close(states[1], expected, rtol=1e-12, atol=1e-12)


def test_predictor_corrector_by_hand():
    """The posterior of the forward process, then two Langevin steps written with the score."""
    process, t, r, mean = CosineVP(), [0.8, 0.5], 0.3, 0.7
    (alpha, std), (alpha_s, std_s) = (
        (process.alpha(time).item(), process.std(time).item()) for time in torch.tensor(t, dtype=DOUBLE)
    )
    states = []
    predictor_corrector(
        lambda x, t: torch.full_like(x, mean), process, torch.full((20,), 1.5, dtype=DOUBLE), 2, times=t,
        corrections=2, snr=r, generator=torch.Generator().manual_seed(0),
        callback=lambda now: states.append(now.x.clone()),
    )  # fmt: skip
    noise = torch.Generator().manual_seed(0)
    first, *others = (torch.randn(20, dtype=DOUBLE, generator=noise) for _ in range(3))
    # x_s given x_t and x0: precisions add, of x0's noise and of the noise from s to t
    between = alpha / alpha_s, std**2 - (alpha / alpha_s * std_s) ** 2
    precision = 1 / std_s**2 + between[0] ** 2 / between[1]
    x = (alpha_s * mean / std_s**2 + between[0] * 1.5 / between[1]) / precision + first / precision**0.5
    for z in others:
        score, delta = (alpha_s * mean - x) / std_s**2, 2 * (r * std_s) ** 2
        x = x + delta * score + (2 * delta) ** 0.5 * z
    torch.testing.assert_close(states[1], x, rtol=1e-12, atol=1e-12)


def test_what_corrections_widen():
    """Data at one point: the variance of the noise settles at 1 / (1 - r²) of its own."""
    process, r, point = VESDE(), 0.4, Gaussian(torch.zeros(1, dtype=DOUBLE))
    _, covariance = law(predictor_corrector, point, process, 2, corrections=40, snr=r, before_last=True)
    noise = process.std(torch.tensor(process.t_min, dtype=DOUBLE)) ** 2
    assert (covariance / noise).item() == pytest.approx(1 / (1 - r**2), rel=1e-5)
