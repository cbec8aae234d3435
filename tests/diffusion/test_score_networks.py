"""The two score networks: their sizes, their common calls, and what the lean one costs beside the published one."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmaffect.diffusion import VESDE, CrossModalUNet1d, Denoiser, UNet1d, fast_score_network, reference_score_network

BOTH = [fast_score_network, reference_score_network]


def test_the_published_sizes():
    network = reference_score_network(32)
    assert isinstance(network, CrossModalUNet1d)
    assert sum(p.numel() for p in network.parameters()) == 3_457_536
    assert not network.causal


def test_the_lean_one():
    network = fast_score_network(32)
    assert isinstance(network, UNet1d)
    assert (network.width, network.multipliers, network.attention, network.aligned) == (64, (1, 2), "bottom", True)
    assert network.context == 32
    assert fast_score_network(32, context=5, width=16).context == 5


def test_the_lean_one_does_less_than_half_of_the_work():
    """Operations, not times; in time it gains more (benchmarks/score_network.py)."""
    x, counted = torch.randn(1, 48, 32), []
    for build in BOTH:
        network = build(32)
        prepared = network.prepare(x)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(x, torch.rand(1), prepared=prepared)
        counted.append(counter.get_total_flops())
    assert counted[0] < 0.56 * counted[1]


@pytest.mark.parametrize("build", BOTH)
def test_one_call_fits_both(build):
    torch.manual_seed(0)
    network = build(8, context=5)
    denoiser = Denoiser(network, VESDE(), preconditioning="karras")
    x, t, context = torch.randn(3, 6, 8), torch.rand(3), torch.randn(3, 6, 5)
    mask, there = torch.rand(3, 6) < 0.5, torch.rand(3, 6) < 0.5
    loss = denoiser.loss(x, mask=mask, context=context, context_mask=there)
    loss.backward()
    assert loss.isfinite()
    told = denoiser.x0(x, t, mask=mask, prepared=network.prepare(context, there))
    torch.testing.assert_close(told, denoiser.x0(x, t, mask=mask, context=context, context_mask=there))


@pytest.mark.parametrize("build", BOTH)
def test_a_condition_that_is_nowhere_there_is_not_read(build):
    torch.manual_seed(0)
    network = build(8).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x, t, nowhere = torch.randn(2, 5, 8).double(), torch.rand(2).double(), torch.zeros(2, 5).bool()
    one, other = torch.randn(2, 5, 8).double(), torch.full((2, 5, 8), torch.nan).double()
    without = network(x, t, context=one, context_mask=nowhere)
    assert torch.equal(without, network(x, t, context=other, context_mask=nowhere))
    assert (network(x, t, context=one) - without).abs().max() > 1e-3
