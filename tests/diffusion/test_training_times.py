"""Times to train at: their distributions, and how evenly a batch covers them."""

import math

import pytest
import torch
from scipy import stats

from mmaffect.diffusion import VESDE, VPSDE, CosineVP, draw_times


@pytest.mark.parametrize("times", ["uniform", "stratified"])
@pytest.mark.parametrize("row", [0, 3])
def test_each_time_is_uniform(times, row):
    process, generator = CosineVP(), torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_times(process, 4, times, generator=generator) for _ in range(2000)])[:, row]
    uniform = stats.uniform(process.t_min, process.t_max - process.t_min)
    assert stats.kstest(drawn.numpy(), uniform.cdf).pvalue > 1e-3


def test_stratified_times_make_means_of_a_batch_vary_less():
    generator = torch.Generator().manual_seed(0)
    spread = {}
    for times in ("uniform", "stratified"):
        drawn = torch.stack([draw_times(VPSDE(), 32, times, generator=generator) for _ in range(300)])
        assert drawn.min() >= VPSDE().t_min
        assert drawn.max() <= VPSDE().t_max
        spread[times] = VPSDE().std(drawn).mean(1).var()
    assert spread["stratified"] < 0.05 * spread["uniform"]


def test_stratified_times_are_equally_far_apart():
    process = VPSDE()
    share = (draw_times(process, 8, "stratified") - process.t_min) / (process.t_max - process.t_min)
    gaps = share.sort().values.diff()
    torch.testing.assert_close(gaps, torch.full((7,), 1 / 8))


@pytest.mark.parametrize("process", [VESDE(), CosineVP()], ids=repr)
def test_lognormal_noise_levels(process):
    drawn = draw_times(process, 20_000, "lognormal", sigma_data=0.5, generator=torch.Generator().manual_seed(0))
    assert drawn.min() >= process.t_min - 1e-6
    assert drawn.max() <= process.t_max + 1e-6
    # Karras et al., table 1, at their sigma_data; between the ends, where some are gathered.
    low, high = (process.sigma(torch.tensor(t)).log().item() for t in (process.t_min, process.t_max))
    log_sigma = process.sigma(drawn.double()).log()
    inside = log_sigma[(log_sigma > low + 0.05) & (log_sigma < high - 0.05)].numpy()
    normal = stats.norm(math.log(0.5) - 0.5, 1.2)
    floor, roof = normal.cdf(low + 0.05), normal.cdf(high - 0.05)
    assert stats.kstest(inside, lambda s: (normal.cdf(s) - floor) / (roof - floor)).pvalue > 1e-3
    assert math.log(0.5) - 0.5 == pytest.approx(-1.2, abs=0.01)


def test_unknown_times_are_refused():
    with pytest.raises(ValueError, match="times: 'even' is unknown"):
        draw_times(VPSDE(), 2, "even")
