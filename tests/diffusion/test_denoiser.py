"""The denoiser against closed forms: Gaussian posteriors, published weights, and published preconditioning."""

import math

import pytest
import torch

from mmaffect.diffusion import VESDE, VPSDE, CosineVP, Denoiser, DiscreteVP
from tests.diffusion.gaussian_data import COVARIANCE, MEAN, exact_samples, levels, posterior_covariance, posterior_mean

PROCESSES = [VESDE(), VPSDE(), CosineVP(), DiscreteVP.linear(100)]
PREDICTIONS = ["eps", "x0", "v", "score"]
WEIGHTINGS = ["uniform", "std2", "min_snr", "karras"]
SIGMA_DATA = 0.7


def name(process):
    return type(process).__name__


def times_of(process):
    return [process.t_min, 0.3 * process.t_min + 0.7 * process.t_max, process.t_max]


def batch(t, size):
    return torch.full((size,), t, dtype=torch.float64)


class Recorder(torch.nn.Module):
    """Returns what it is told to, and keeps what it was given."""

    def __init__(self, answer=torch.zeros_like):
        super().__init__()
        self.answer, self.calls = answer, []

    def forward(self, x, t, **cond):
        self.calls.append((x, t, cond))
        return self.answer(x)


class Affine(torch.nn.Module):
    """A linear network; at one time the best one is the exact denoiser of Gaussian data."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.3, -0.1], [0.2, 0.4]], dtype=torch.float64))
        self.bias = torch.nn.Parameter(torch.tensor([0.1, -0.2], dtype=torch.float64))

    def forward(self, x, t):
        return x @ self.weight.T + self.bias


# The posterior mean, said in four ways.


@pytest.mark.parametrize("process", PROCESSES, ids=name)
@pytest.mark.parametrize("prediction", [*PREDICTIONS, "karras"])
def test_each_exact_prediction_gives_the_exact_posterior_mean(process, prediction):
    for t in times_of(process):
        alpha, std = levels(process, t)
        x = alpha * MEAN + 3 * torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        data = posterior_mean(process, x, t)
        noise = (x - alpha * data) / std
        marginal = torch.distributions.MultivariateNormal(
            alpha * MEAN, alpha**2 * COVARIANCE + std**2 * torch.eye(2).double()
        )
        point = x.clone().requires_grad_()
        (score,) = torch.autograd.grad(marginal.log_prob(point).sum(), point)
        sigma = std / alpha
        skip = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2)
        out = sigma * SIGMA_DATA / math.sqrt(sigma**2 + SIGMA_DATA**2)
        exact = {
            "eps": noise,
            "x0": data,
            "v": alpha * noise - std * data,
            "score": score,
            "karras": (data - skip * x / alpha) / out,
        }[prediction]
        options = {"preconditioning": "karras", "sigma_data": SIGMA_DATA} if prediction == "karras" else {}
        kind = "eps" if prediction == "karras" else prediction
        denoiser = Denoiser(Recorder(lambda _, exact=exact: exact), process, kind, **options)
        torch.testing.assert_close(denoiser.x0(x, batch(t, 5)), data, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(denoiser(x, batch(t, 5)), data, rtol=1e-7, atol=1e-7)


# What training finds.


@pytest.mark.parametrize("process", PROCESSES, ids=name)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("preconditioning", ["none", "karras"])
def test_training_finds_the_exact_denoiser(process, prediction, preconditioning):
    """The loss of a linear network is quadratic, so one Newton step is its minimum."""
    x0, noise = exact_samples()
    probe = 2 * torch.randn(7, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for t in times_of(process):
        net = Affine()
        denoiser = Denoiser(net, process, prediction, preconditioning=preconditioning, sigma_data=SIGMA_DATA)

        def loss(parameters, net=net, denoiser=denoiser, t=t):
            weight, bias = parameters[:4].view(2, 2), parameters[4:]
            state = {"net.weight": weight, "net.bias": bias}
            call = Loss(denoiser)
            named = {f"denoiser.{key}": value for key, value in state.items()}
            return torch.func.functional_call(call, named, (x0, noise, batch(t, len(x0))))

        start = torch.cat([net.weight.detach().flatten(), net.bias.detach()])
        gradient, curvature = torch.func.grad(loss)(start), torch.func.hessian(loss)(start)
        best = start - torch.linalg.solve(curvature, gradient)
        with torch.no_grad():
            net.weight.copy_(best[:4].view(2, 2))
            net.bias.copy_(best[4:])
        alpha, std = levels(process, t)
        x = alpha * MEAN + math.sqrt(alpha**2 + std**2) * probe
        torch.testing.assert_close(denoiser.x0(x, batch(t, 7)), posterior_mean(process, x, t), rtol=1e-6, atol=1e-6)


class Loss(torch.nn.Module):
    """The loss as a forward, so that parameters can be handed in."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0, noise, t):
        return self.denoiser.loss(x0, noise=noise, t=t)


@pytest.mark.parametrize("process", PROCESSES, ids=name)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_least_loss_is_the_weighted_posterior_variance(process, prediction, weighting):
    x0, noise = exact_samples()
    for t in times_of(process):
        alpha, std = levels(process, t)
        data = posterior_mean(process, alpha * x0 + std * noise, t)
        eps = (alpha * x0 + std * noise - alpha * data) / std
        answer = {"eps": eps, "x0": data, "v": alpha * eps - std * data, "score": -eps / std}[prediction]
        denoiser = Denoiser(
            Recorder(lambda _, answer=answer: answer), process, prediction, weighting=weighting, sigma_data=SIGMA_DATA
        )
        variance = posterior_covariance(process, t).trace().item() / 2
        expected = published_weight(weighting, prediction, alpha, std) * variance
        assert denoiser.loss(x0, noise=noise, t=batch(t, len(x0))).item() == pytest.approx(expected, rel=1e-6)


def published_weight(weighting, prediction, alpha, std):
    """Of the error of x0, as the papers have it for each prediction and then carried over to x0."""
    snr = alpha**2 / std**2
    # An error e of x0 is one of -alpha e / std of the noise, -e (alpha^2 + std^2) / std of v and alpha e / std^2 of the
    # score.
    own = {"eps": snr, "x0": 1.0, "v": (alpha**2 + std**2) ** 2 / std**2, "score": snr / std**2}
    sigma = std / alpha
    return {
        "uniform": own[prediction],
        "std2": std**2 * own["score"],
        "min_snr": min(snr, 5.0),
        "karras": (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2,
    }[weighting]


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_min_snr_is_hangs_weight_for_each_prediction(prediction):
    """Hang et al., section 3.4: min(SNR, 5) / SNR of the noise, / (SNR + 1) of v, for a variance-preserving process."""
    process, x0, noise = VPSDE(), torch.randn(64, 3).double(), torch.randn(64, 3).double()
    for t in (0.05, 0.2, 0.6):
        alpha, std = levels(process, t)
        snr = alpha**2 / std**2
        target = {"eps": noise, "x0": x0, "v": alpha * noise - std * x0}[prediction]
        weight = min(snr, 5.0) / {"eps": snr, "x0": 1.0, "v": snr + 1}[prediction]
        given = Denoiser(Recorder(), process, prediction, weighting="min_snr").loss(x0, noise=noise, t=batch(t, 64))
        assert given.item() == pytest.approx(weight * target.square().mean().item(), rel=1e-6)


def test_gamma_is_where_min_snr_stops():
    process, x0 = VPSDE(), torch.ones(1, 1).double()
    alpha, std = levels(process, 0.05)
    for gamma in (1.0, 7.0, 1e9):
        denoiser = Denoiser(Recorder(), process, "x0", weighting="min_snr", gamma=gamma)
        loss = denoiser.loss(x0, noise=torch.zeros_like(x0), t=batch(0.05, 1)).item()
        assert loss == pytest.approx(min(alpha**2 / std**2, gamma), rel=1e-6)


def test_two_predictions_equivalent_under_one_weighting_have_one_loss():
    """Given networks that say the same thing, only what is weighed matters, not what is predicted."""
    x0, noise = torch.randn(16, 3).double(), torch.randn(16, 3).double()
    guess = torch.randn(16, 3).double()
    for process in PROCESSES:
        t = torch.linspace(process.t_min, process.t_max, 16, dtype=torch.float64)
        alpha, std = process.alpha(t).unsqueeze(1), process.std(t).unsqueeze(1)
        eps = (alpha * x0 + std * noise - alpha * guess) / std
        answers = {"eps": eps, "x0": guess, "v": alpha * eps - std * guess, "score": -eps / std}
        for weighting in ("std2", "min_snr", "karras"):
            losses = [
                Denoiser(Recorder(lambda _, a=answer: a), process, p, weighting=weighting).loss(x0, noise=noise, t=t)
                for p, answer in answers.items()
            ]
            torch.testing.assert_close(torch.stack(losses), losses[0].expand(4))
        plain = Denoiser(Recorder(lambda _: eps), process, "eps").loss(x0, noise=noise, t=t)  # noqa: B023
        by_hand = ((alpha / std) ** 2 * (guess - x0) ** 2).mean()
        torch.testing.assert_close(plain, by_hand)


# Karras' preconditioning.


@pytest.mark.parametrize("process", PROCESSES, ids=name)
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_preconditioned_inputs_and_targets_have_unit_variance(process, t):
    t = process.t_min + t * (process.t_max - process.t_min)
    x0 = SIGMA_DATA * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0)).double()
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1)).double()
    net = Recorder()
    denoiser = Denoiser(net, process, preconditioning="karras", sigma_data=SIGMA_DATA)
    # The network says 0, so the loss, uniform in its output, is the mean square of the target.
    assert denoiser.loss(x0, noise=noise, t=batch(t, len(x0))).item() == pytest.approx(1, abs=0.02)
    x, level, _ = net.calls[0]
    assert x.var().item() == pytest.approx(1, abs=0.02)
    alpha, std = levels(process, t)
    torch.testing.assert_close(level, batch(math.log(std / alpha) / 4, len(x0)))


@pytest.mark.parametrize("process", [VESDE(), VPSDE(), CosineVP()], ids=name)
def test_the_skip_is_the_sample_where_noise_is_small_and_nothing_where_it_is_large(process):
    denoiser = Denoiser(Recorder(), process, preconditioning="karras")
    (low, _), (high, high_std) = levels(process, process.t_min), levels(process, process.t_max)
    x = torch.ones(1, 1, dtype=torch.float64)
    assert denoiser.x0(low * x, batch(process.t_min, 1)).item() == pytest.approx(1, abs=2e-3)
    expected = 1 / (1 + (high_std / high) ** 2)
    assert denoiser.x0(high * x, batch(process.t_max, 1)).item() == pytest.approx(expected, rel=1e-6)
    assert expected < 0.02


def test_karras_weighting_is_the_plain_error_of_the_preconditioned_network():
    x0, noise, t = torch.randn(8, 2), torch.randn(8, 2), torch.linspace(0.1, 0.9, 8)
    losses = [
        Denoiser(Recorder(torch.sin), VESDE(), preconditioning="karras", weighting=w, sigma_data=SIGMA_DATA).loss(
            x0, noise=noise, t=t
        )
        for w in ("uniform", "karras")
    ]
    torch.testing.assert_close(*losses)


def test_preconditioned_predictions_are_one():
    x, t = torch.randn(8, 2), torch.linspace(0.1, 0.9, 8)
    first, *rest = [
        Denoiser(Recorder(torch.sin), CosineVP(), p, preconditioning="karras").x0(x, t) for p in PREDICTIONS
    ]
    assert all(torch.equal(first, other) for other in rest)


def test_v_of_a_variance_preserving_process_is_karras_reversed():
    """With data of unit variance, -v is what the preconditioned network predicts, on the same input."""
    x, t = torch.randn(8, 2).double(), torch.linspace(0.1, 0.9, 8).double()
    ours = Denoiser(Recorder(torch.sin), CosineVP(), preconditioning="karras").x0(x, t)
    v = Denoiser(Recorder(lambda x: -torch.sin(x)), CosineVP(), "v").x0(x, t)
    torch.testing.assert_close(ours, v)


# Masks, noise and refusals.


def test_masked_steps_neither_count_nor_leak():
    x0, mask = torch.randn(3, 4, 2).double(), torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    t, noise = torch.tensor([0.1, 0.5, 0.9]).double(), torch.randn(3, 4, 2).double()
    net = Recorder(torch.cos)  # not zero where its input is
    denoiser = Denoiser(net, VPSDE())
    process = denoiser.process
    alpha, std = process.alpha(t)[:, None, None], process.std(t)[:, None, None]
    rows = (torch.cos(alpha * x0 + std * noise) - noise).square()[mask]
    spoilt = x0.masked_fill(~mask.unsqueeze(-1), torch.nan).requires_grad_()
    loss = denoiser.loss(spoilt, mask=mask, noise=noise.masked_fill(~mask.unsqueeze(-1), torch.inf), t=t)
    torch.testing.assert_close(loss, rows.mean())
    assert net.calls[0][2]["mask"] is mask
    loss.backward()
    assert spoilt.grad.isfinite().all()
    assert not spoilt.grad[~mask].any()
    estimate = denoiser.x0(spoilt.detach(), t, mask=mask)
    assert estimate.isfinite().all()
    assert not estimate[~mask].any()


def test_a_loss_of_nothing_is_zero():
    loss = Denoiser(Recorder(torch.sin), VPSDE()).loss(torch.randn(2, 3, 1), mask=torch.zeros(2, 3).bool())
    assert loss.item() == 0


def test_conditions_reach_the_network_and_a_mask_only_where_it_is_given():
    net = Recorder()
    Denoiser(net, VPSDE()).loss(torch.randn(2, 3), condition=torch.ones(2))
    assert set(net.calls[0][2]) == {"condition"}
    Denoiser(net, VPSDE()).x0(torch.randn(2, 3), torch.rand(2), condition=torch.ones(2))
    assert set(net.calls[1][2]) == {"condition"}


@pytest.mark.parametrize("times", ["uniform", "stratified", "lognormal"])
def test_noise_comes_from_the_generator_alone(times):
    denoiser, x0 = Denoiser(Recorder(torch.sin), VPSDE(), times=times), torch.randn(4, 3)
    before = torch.get_rng_state()
    first, second, other = (
        denoiser.loss(x0, generator=torch.Generator().manual_seed(seed)).item() for seed in (0, 0, 1)
    )
    assert first == second != other
    assert torch.equal(torch.get_rng_state(), before)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    denoiser.loss(x0, noise=torch.randn(4, 3), t=torch.rand(4), generator=generator)
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_plain_loss_is_finite_without_noise(prediction):
    """At t = 0 what is predicted is known; the network here says zero."""
    x0, noise = torch.randn(4, 3).double(), torch.randn(4, 3).double()
    found = Denoiser(Recorder(), CosineVP(), prediction).loss(x0, noise=noise, t=batch(0.0, 4))
    torch.testing.assert_close(found, (x0 if prediction == "x0" else noise).square().mean())


class Plain(torch.nn.Module):
    """A network that asks no times."""

    def forward(self, x, t):
        return torch.sin(x)


@pytest.mark.parametrize("make", [VPSDE, CosineVP, lambda: DiscreteVP.linear(10)], ids=["vp", "cosine", "table"])
def test_the_loss_compiles_whole_though_its_process_was_never_asked(make):
    """A process searches for its range when first asked, and keeps it: no work for a compiler."""
    torch.compiler.reset()
    call = torch.compile(Denoiser(Plain(), make()).loss, backend="aot_eager", fullgraph=True)
    assert call(torch.randn(3, 2)).isfinite()


@pytest.mark.parametrize("make", [VPSDE, CosineVP, lambda: DiscreteVP.linear(10)], ids=["vp", "cosine", "table"])
def test_it_can_be_built_without_memory(make):
    with torch.device("meta"):
        denoiser = Denoiser(torch.nn.Linear(2, 2), make())
    assert denoiser.net.weight.is_meta
    assert denoiser.process.t_min == pytest.approx(make().t_min)


def test_times_are_handed_to_the_network_unrounded():
    """In half precision the times of a late step and its neighbour would be one."""
    net = Recorder()
    t = torch.tensor([0.9876])
    Denoiser(net, VPSDE()).x0(torch.randn(1, 2).bfloat16(), t)
    assert torch.equal(net.calls[0][1], t)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction": "noise"}, "prediction: 'noise' is unknown"),
        ({"preconditioning": "edm"}, "preconditioning: 'edm' is unknown"),
        ({"weighting": "snr"}, "weighting: 'snr' is unknown"),
        ({"times": "normal"}, "times: 'normal' is unknown"),
        ({"sigma_data": 0.0}, "sigma_data: expected a value > 0, got 0.0"),
        ({"gamma": -1.0}, "gamma: expected a value > 0, got -1.0"),
    ],
)
def test_refusals_when_built(options, message):
    with pytest.raises(ValueError, match=message):
        Denoiser(Recorder(), VPSDE(), **options)


def test_refusals_when_called():
    denoiser, x = Denoiser(Recorder(), VPSDE()), torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"t: expected shape \(B\) with B = 2, got \(3,\)"):
        denoiser.x0(x, torch.zeros(3))
    with pytest.raises(ValueError, match=r"noise: expected the shape of x0, \(2, 3, 4\), got \(2, 3, 5\)"):
        denoiser.loss(x, noise=torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) with B = 2, T = 3, got \(2, 4\)"):
        denoiser.loss(x, mask=torch.ones(2, 4).bool())
    with pytest.raises(ValueError, match=r"net: expected outputs of the shape of x, \(2, 3, 4\), got \(2, 3, 1\)"):
        Denoiser(Recorder(lambda x: x[..., :1]), VPSDE()).loss(x)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\), got \(2, 3\)"):
        denoiser.x0(torch.zeros(2, 3), torch.zeros(2), mask=torch.ones(2, 3).bool())
