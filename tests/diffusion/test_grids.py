"""Times go from ``t_max`` to ``t_min``, equal in what they say they are equal in."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.diffusion import VESDE, karras_times, log_snr_times, uniform_times
from tests.diffusion.processes import PROCESSES

every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


@every
@pytest.mark.parametrize("grid", [uniform_times, log_snr_times, karras_times])
@given(steps=st.integers(1, 200))
def test_from_one_end_to_the_other(process, grid, steps):
    t = grid(process, steps)
    assert t.shape == (steps,)
    assert t.dtype == torch.float64
    assert t[0] == process.t_max
    assert steps == 1 or t[-1] == process.t_min
    assert (t.diff() < 0).all()


@every
def test_equal_steps(process):
    def spread(values):
        steps = values.diff()
        return ((steps.max() - steps.min()) / steps.mean()).abs()

    assert spread(uniform_times(process, 20)) < 1e-12
    assert spread(process.log_snr(log_snr_times(process, 20))) < 1e-9
    assert spread(process.sigma(karras_times(process, 20)) ** (1 / 7)) < 1e-9
    assert spread(process.sigma(karras_times(process, 20, rho=1.0))) < 1e-9


def test_karras_by_hand():
    process, rho = VESDE(), 7.0
    high, low = process.sigma(torch.tensor([process.t_max, process.t_min], dtype=torch.float64)).tolist()
    expected = [(high ** (1 / rho) + i / 4 * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(5)]
    found = process.sigma(karras_times(process, 5))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_what_makes_no_grid_is_refused():
    for grid in (uniform_times, log_snr_times, karras_times):
        with pytest.raises(ValueError, match="steps: expected a value > 0, got 0"):
            grid(VESDE(), 0)
    with pytest.raises(ValueError, match="rho: expected a value > 0"):
        karras_times(VESDE(), 5, rho=0.0)
