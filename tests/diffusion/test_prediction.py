"""Directions in the plane of data and noise, where numbers are extreme."""

import pytest
import torch

from mmaffect.diffusion import VESDE, VPSDE, CosineVP
from mmaffect.diffusion.prediction import direction, error_weight, karras_direction


@pytest.mark.parametrize("process", [VESDE(), VPSDE(), CosineVP()])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score", "karras"])
def test_float32_finds_the_data_again(process, prediction):
    """At both ends of every process: what is lost is what float32 loses in the sample itself."""
    x0, noise = torch.randn(100, 1), torch.randn(100, 1)
    for t in (process.t_min, 0.5, process.t_max):
        time = torch.full((100, 1), t)
        alpha, std = process.alpha(time), process.std(time)
        toward = karras_direction(alpha, std, 0.5) if prediction == "karras" else direction(prediction, alpha, std)
        x = alpha * x0 + std * noise
        found = toward.data(toward.target(x0, noise), x, alpha, std)
        tolerance = 1e-6 * max(1, (std / alpha).max().item())
        torch.testing.assert_close(found, x0, rtol=10 * tolerance, atol=10 * tolerance)


def test_what_a_preconditioned_network_predicts_is_finite_without_signal_and_without_noise():
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    toward = karras_direction(ends, ends.flip(0), 0.5)
    assert toward.p.tolist() == [2.0, 0.0]
    assert toward.q.tolist() == [0.0, -1.0]
    assert toward.gain(ends, ends.flip(0)).tolist() == [0.5, 0.0]


def test_every_weight_by_hand():
    alpha, std, gain = torch.tensor(0.8), torch.tensor(0.1), torch.tensor(0.125)
    assert error_weight("uniform", alpha, std, gain).item() == 1
    assert error_weight("std2", alpha, std, gain).item() == pytest.approx(1)
    assert error_weight("min_snr", alpha, std, gain, gamma=7.0).item() == pytest.approx(7 / 64)
    assert error_weight("karras", alpha, std, gain, sigma_data=2.0).item() == pytest.approx((0.125**2 + 4) / 4)
