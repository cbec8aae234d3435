"""What a process derives from its two functions, against numerical derivatives, closed forms and the definition."""

import math

import pytest
import torch

from mmaffect.diffusion import VESDE, VPSDE, CosineVP, DiscreteVP
from tests.diffusion.processes import CONTINUOUS, PROCESSES

every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
smooth = pytest.mark.parametrize("process", CONTINUOUS.values(), ids=CONTINUOUS.keys())


def times(process, count=41, dtype=torch.float64):
    return torch.linspace(process.t_min, process.t_max, count, dtype=torch.float64).to(dtype)


@smooth
def test_drift_and_diffusion_are_those_of_alpha_and_std(process):
    t, h = times(process)[1:-1], 1e-6
    slope = (process.alpha(t + h).log() - process.alpha(t - h).log()) / (2 * h)
    torch.testing.assert_close(process.drift(t), slope, rtol=1e-6, atol=1e-7)
    growth = (process.std(t + h) ** 2 - process.std(t - h) ** 2) / (2 * h)
    torch.testing.assert_close(
        process.diffusion(t) ** 2, growth - 2 * slope * process.std(t) ** 2, rtol=1e-5, atol=1e-6
    )


def test_drift_and_diffusion_are_the_published_ones():
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    torch.testing.assert_close(VESDE(25.0).diffusion(t), 25.0**t)
    assert (VESDE().drift(t) == 0).all()
    beta = 0.1 + 19.9 * t
    torch.testing.assert_close(VPSDE().drift(t), -beta / 2)
    torch.testing.assert_close(VPSDE().diffusion(t), beta.sqrt())
    rate = math.pi / 2 / 1.008
    tangent = rate * torch.tan(rate * (t + 0.008))
    torch.testing.assert_close(CosineVP().drift(t), -tangent)
    torch.testing.assert_close(CosineVP().diffusion(t), (2 * tangent).sqrt())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@every
def test_derivatives_need_no_gradient_mode(process, mode):
    t = times(process)
    with mode():
        inside = process.drift(t), process.diffusion(t)
    assert torch.equal(inside[0], process.drift(t))
    assert torch.equal(inside[1], process.diffusion(t))


@every
def test_alpha_falls_and_noise_over_signal_grows(process):
    t = times(process)
    assert (process.alpha(t).diff() <= 0).all()
    assert (process.sigma(t).diff() > 0).all()
    torch.testing.assert_close(process.sigma(t), process.std(t) / process.alpha(t))
    torch.testing.assert_close(process.log_snr(t), -2 * process.sigma(t).log())


@every
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_time_is_the_inverse_of_log_snr(process, dtype, tolerance):
    t = times(process, dtype=dtype)
    back = process.time(process.log_snr(t))
    assert back.dtype == dtype
    torch.testing.assert_close(back, t, rtol=100 * tolerance, atol=tolerance)
    assert process.time(process.log_snr(t.reshape(1, -1, 1))).shape == (1, 41, 1)


@every
def test_finite_and_precise_in_float32_at_both_ends(process):
    for end in (process.t_min, process.t_max):
        exact = torch.tensor([end], dtype=torch.float64)
        for quantity in ("alpha", "std", "sigma", "log_snr", "drift", "diffusion"):
            given = getattr(process, quantity)(exact.float())
            assert given.dtype == torch.float32
            assert given.isfinite().all()
            # sigma at the noisy end of a cosine is as precise as 1 - t, and that of float32 itself is not better
            torch.testing.assert_close(given.double(), getattr(process, quantity)(exact), rtol=2e-3, atol=1e-6)
    assert process.std(torch.tensor([process.t_min])).item() > 0
    assert process.alpha(torch.tensor([process.t_max])).item() > 0


def test_small_times_keep_their_digits_in_float32():
    for process in (VPSDE(), CosineVP(), VESDE(), DiscreteVP.linear()):
        t = torch.tensor([process.t_min, 2 * process.t_min])
        torch.testing.assert_close(process.std(t).double(), process.std(t.double()), rtol=2e-6, atol=0)


@pytest.mark.parametrize("process", [VPSDE(), CosineVP()], ids=["vp", "cosine"])
def test_variance_is_preserved_and_the_ends_are_where_they_were_asked_for(process):
    t = times(process)
    torch.testing.assert_close(process.alpha(t) ** 2 + process.std(t) ** 2, torch.ones_like(t), rtol=1e-14, atol=0)
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    torch.testing.assert_close(process.sigma(ends), torch.tensor([0.03, 40.0], dtype=torch.float64))


def test_values_by_hand():
    one = torch.ones(1, dtype=torch.float64)
    assert VESDE().std(one).item() == pytest.approx(math.sqrt(624 / (2 * math.log(25))))
    assert VESDE().std(0.001 * one).item() == pytest.approx(0.0317, abs=5e-5)
    assert VPSDE().alpha(one).item() ** 2 == pytest.approx(math.exp(-10.05))
    # Nichol & Dhariwal, eq. 17: ᾱ_t = f(t) / f(0), f(t) = cos²((t + s) / (1 + s) · π / 2)
    f = [math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0.0, 0.3)]
    assert CosineVP().alpha(0.3 * one).item() ** 2 == pytest.approx(f[1] / f[0])


@every
def test_perturb_scales_each_sample_by_its_own_time(process):
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(3, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([process.t_min, 0.5, process.t_max], dtype=torch.float64)
    x = process.perturb(x0, t, noise)
    for b in range(3):
        expected = process.alpha(t[b]) * x0[b] + process.std(t[b]) * noise[b]
        torch.testing.assert_close(x[b], expected)
    half = process.perturb(x0.bfloat16(), t.bfloat16(), noise.bfloat16())
    assert half.dtype == torch.bfloat16
    assert process.perturb(x0.float(), t, noise.float()).dtype == torch.float32


def test_perturb_refuses_what_would_broadcast():
    x0 = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"noise: expected the shape of x0, \(2, 3\), got \(3,\)"):
        VESDE().perturb(x0, torch.ones(2), torch.zeros(3))
    with pytest.raises(ValueError, match=r"t: expected shape \(B\) with B = 2, got \(\)"):
        VESDE().perturb(x0, torch.tensor(0.5), x0)


@every
def test_the_prior_has_the_moments_of_the_noised_data(process):
    mean, var = torch.tensor([3.0, -30.0], dtype=torch.float64), torch.tensor([0.5, 100.0], dtype=torch.float64)
    x = process.prior((40000, 2), mean, var, torch.Generator().manual_seed(0))
    assert x.dtype == torch.float64
    end = torch.tensor(process.t_max, dtype=torch.float64)
    alpha, spread = process.alpha(end), (process.alpha(end) ** 2 * var + process.std(end) ** 2)
    assert ((x.mean(0) - alpha * mean) / spread.sqrt()).abs().max() < 0.015
    torch.testing.assert_close(x.var(0), spread, rtol=0.03, atol=0)
    again = process.prior((40000, 2), mean, var, torch.Generator().manual_seed(0))
    assert torch.equal(x, again)


def test_the_prior_of_a_number_takes_dtype_and_device():
    assert VESDE().prior((2, 3), dtype=torch.bfloat16, device="cpu").dtype == torch.bfloat16
    assert VESDE().prior((2, 3)).dtype == torch.get_default_dtype()
    assert VESDE().prior([1], generator=torch.Generator()).shape == (1,)


def test_the_prior_of_much_noise_in_half_precision():
    x = VESDE(1000.0).prior((5, 2), dtype=torch.float16, generator=torch.Generator().manual_seed(0))
    exact = VESDE(1000.0).prior((5, 2), generator=torch.Generator().manual_seed(0))  # variance 7e4, std 269
    assert x.dtype == torch.float16
    torch.testing.assert_close(x.float(), exact, rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", ["mean", "var"])
def test_moments_of_another_shape_are_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: expected what broadcasts to \(2,\), got shape \(5, 2\)"):
        VESDE().prior((2,), **{name: torch.ones(5, 2)})


def test_times_end_at_1_where_a_slow_rate_leaves_signal():
    assert VPSDE(0.1, 5.0).t_max == 1.0
    assert VPSDE(0.1, 15.0).t_max == pytest.approx(0.98849, abs=1e-5)
    assert VPSDE(0.1, 0.1, sigma_min=0.3).t_min < 1


def test_the_prior_on_whatever_device_is_the_default():
    mean = torch.zeros(2)
    with torch.device("meta"):
        assert VESDE().prior((3, 2), mean).device == mean.device


def test_equal_options_are_equal_processes():
    assert VESDE(25.0) == VESDE() != VESDE(10.0)
    assert hash(VPSDE()) == hash(VPSDE(0.1, 20.0))
    assert DiscreteVP.linear() == DiscreteVP.linear() != DiscreteVP.cosine()
    assert "growth=25.0" in repr(VESDE())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VESDE(1.0), "sigma: expected a finite value > 1, got 1.0"),
        (lambda: VESDE(t_min=0.0), "expected 0 < t_min < t_max, got 0.0 and 1.0"),
        (lambda: VPSDE(0.0), "beta_min: expected a value > 0"),
        (lambda: VPSDE(2.0, 1.0), "beta_max: expected a finite value >= beta_min = 2.0, got 1.0"),
        (lambda: VPSDE(sigma_min=3.0, sigma_max=2.0), "expected 0 < sigma_min < sigma_max, got 3.0 and 2.0"),
        (lambda: VPSDE(0.1, 0.1, sigma_min=0.4), "sigma_min: expected a noise .* reach before t = 1, got 0.4"),
        (lambda: CosineVP(-1.0), "s: expected a value > 0"),
        (lambda: CosineVP(sigma_max=math.inf), "expected 0 < sigma_min < sigma_max"),
        (lambda: DiscreteVP(()), "betas: expected"),
        (lambda: DiscreteVP((0.1, 1.0)), "betas: expected numbers between 0 and 1"),
        (lambda: DiscreteVP.linear(0), "steps: expected a value > 0"),
        (lambda: DiscreteVP.cosine(10, s=0), "s: expected a value > 0"),
    ],
)
def test_what_makes_no_process_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
