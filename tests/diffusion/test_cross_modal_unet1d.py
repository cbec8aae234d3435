"""IMDer's score network: the published size, the layout by PyTorch's own layers, any length, and nothing of padding."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from mmaffect.diffusion import VESDE, CrossModalUNet1d, Denoiser, dpmpp_2m

TIME = torch.tensor([0.3, 0.8], dtype=torch.float64)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small(**options):
    """A small network in float64, with biases and norms away from where they start."""
    torch.manual_seed(0)
    options = {"widths": (4, 8, 6), "layers": 1, "heads": 2, "groups": (2, 4, 3), "time_features": 6, **options}
    network = CrossModalUNet1d(4, **options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def test_the_published_number_of_parameters_and_operations():
    network = CrossModalUNet1d(32)
    assert sum(p.numel() for p in network.parameters()) == 3_457_536
    # Layers 12 D^2 + 13 D and a last norm 2 D: 2.65 million, 77 %.
    attention = sum(p.numel() for n, p in network.named_parameters() if "gather" in n)
    assert attention == sum(24 * d * d + 28 * d for d in (32, 64, 128, 256, 128, 64, 32, 32)) == 2_650_240
    # What was counted of the published network on 48 steps, with its condition.
    x = torch.randn(1, 48, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, torch.rand(1), context=x)
    assert counter.get_total_flops() / 1e6 == pytest.approx(67.8, abs=0.05)


@pytest.mark.parametrize(("steps", "sources"), [(8, 8), (7, 5), (1, 2)])
def test_the_network_by_pytorchs_layers(steps, sources):
    """Features first, as published, from the network's parameters; the cross-modal encoders as they are."""
    network = small()
    x, context = draw(2, steps, 4), draw(2, sources, 4, seed=1)
    e = 2 * math.pi * TIME[:, None] * network.frequencies
    e = F.silu(network.embed_time(torch.cat([e.sin(), e.cos()], 1)))

    def conv(layer, h, stride):
        return F.conv1d(h, layer.weight.mT, layer.bias, stride, padding=1)

    def transposed(layer, h, size):
        kernel = layer.weight.permute(2, 1, 0)  # (3, out, in) to (in, out, 3)
        return F.conv_transpose1d(h, kernel, None, 2, padding=1, output_padding=1 - size % 2)

    def block(part, h, c):
        h = h + part.gather(h.mT, c.mT).mT + part.tell(e)[:, :, None]
        return F.silu(F.group_norm(h, part.norm.num_groups, part.norm.weight, part.norm.bias))

    down, up = network.down_blocks, network.up_blocks
    c1 = context.mT
    c2 = conv(network.down_context[0], c1, 2)
    c3 = conv(network.down_context[1], c2, 2)
    c4 = transposed(network.up_context[0], c3, c2.shape[2])
    c5 = transposed(network.up_context[1], c4, sources)
    c6 = conv(network.leave_context, c5, 1)
    h1 = block(down[0], conv(network.enter, x.mT, 1), c1)
    h2 = block(down[1], conv(network.down[0], h1, 2), c2)
    h3 = block(down[2], conv(network.down[1], h2, 2), c3)
    h = block(up[0], transposed(network.up[0], h3, h2.shape[2]), c4)
    h = block(up[1], transposed(network.up[1], torch.cat([h, h2], 1), steps), c5)
    h = conv(network.leave, torch.cat([h, h1], 1), 1)
    h = h + network.gather(h.mT, c6.mT).mT
    torch.testing.assert_close(network(x, TIME, context=context), h.mT, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
@given(data=st.data(), steps=st.integers(1, 20), sources=st.integers(1, 12), extra=st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_neither_padding_nor_company_nor_garbage_changes_a_real_step(causal, data, steps, sources, extra):
    network = small(causal=causal)
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=steps, max_size=steps))])
    there = torch.tensor([data.draw(st.lists(st.booleans(), min_size=sources, max_size=sources))])
    x, context = draw(1, steps, 4), draw(1, sources, 4, seed=1)
    alone = network(x, TIME[:1], context=context, context_mask=there, mask=mask)
    assert alone.shape == x.shape
    assert alone.isfinite().all()
    assert not alone[~mask].any()

    longer = torch.full((2, steps + extra, 4), torch.nan, dtype=torch.float64)
    longer[0, :steps], longer[1] = x[0].masked_fill(~mask[0, :, None], torch.inf), 7.0
    around = torch.full((2, sources + extra, 4), torch.nan, dtype=torch.float64)
    around[0, :sources], around[1] = context[0].masked_fill(~there[0, :, None], torch.nan), -5.0
    long_mask, long_there = torch.zeros(2, steps + extra).bool(), torch.zeros(2, sources + extra).bool()
    long_mask[0, :steps], long_mask[1], long_there[0, :sources], long_there[1] = mask[0], True, there[0], True
    prepared = network.prepare(around, long_there)
    for given_as in ({"context": around, "context_mask": long_there}, {"prepared": prepared}):
        together = network(longer, TIME, mask=long_mask, **given_as)
        torch.testing.assert_close(together[:1, :steps], alone, rtol=1e-7, atol=1e-9)
        assert not together[0, steps:].any()
        assert together[1].isfinite().all()


@pytest.mark.parametrize("steps", range(1, 51))
def test_any_length_and_without_a_mask_all_steps_are_real(steps):
    network = small()
    x, context = draw(2, steps, 4), draw(2, 51 - steps, 4, seed=1)
    out = network(x, TIME, context=context)
    masks = {"mask": torch.ones(2, steps).bool(), "context_mask": torch.ones(2, 51 - steps).bool()}
    torch.testing.assert_close(out, network(x, TIME, context=context, **masks))


@pytest.mark.parametrize("causal", [False, True])
def test_a_prepared_condition_serves_every_evaluation(causal):
    network = small(causal=causal, context=3, layers=2)
    context, there = draw(2, 6, 3, seed=1), torch.tensor([[True] * 4 + [False] * 2, [False] * 6])
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    prepared = network.prepare(context, there)
    for seed in range(3):
        x, t = draw(2, 5, 4, seed=seed), TIME - 0.1 * seed
        direct = network(x, t, context=context, context_mask=there, mask=mask)
        torch.testing.assert_close(network(x, t, prepared=prepared, mask=mask), direct)


def test_a_sampler_prepares_once():
    network = small()
    denoiser, process = Denoiser(network, VESDE(), preconditioning="karras"), VESDE()
    context, start = draw(2, 6, 4, seed=1), process.prior((2, 5, 4)).double()
    calls = []
    network.enter_context.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        prepared = network.prepare(context)
        y = dpmpp_2m(lambda x, t: denoiser.x0(x, t, prepared=prepared), process, start, 5)
        assert len(calls) == 1
        expected = dpmpp_2m(lambda x, t: denoiser.x0(x, t, context=context), process, start, 5)
    assert len(calls) == 6
    torch.testing.assert_close(y, expected)


def test_time_and_condition_matter_where_they_are_there():
    network = small()
    x, context, there = draw(2, 5, 4), draw(2, 6, 4, seed=1), torch.tensor([[True] * 6, [False] * 6])
    out = network(x, TIME, context=context, context_mask=there)
    assert ((network(x, TIME + 0.1, context=context, context_mask=there) - out).abs().amax((1, 2)) > 1e-3).all()
    other = network(x, TIME, context=-context, context_mask=there)
    assert (other - out)[0].abs().max() > 1e-3
    assert torch.equal(other[1], out[1])


def test_causal_attention_looks_at_no_later_step_of_the_condition():
    for causal in (False, True):
        network = small(causal=causal, layers=2)
        context = draw(1, 6, 4, seed=1).requires_grad_()
        gather = network.down_blocks[0].gather  # at the finest resolution the condition is met as it is
        out = gather(draw(1, 6, 4), prepared=network.prepare(context)[0])
        for step in range(6):
            (gradient,) = torch.autograd.grad(out[0, step].square().sum(), context, retain_graph=True)
            seen = gradient[0].abs().amax(-1) > 0
            assert seen.tolist() == [source <= step or not causal for source in range(6)]


def test_frequencies_have_the_published_scale_and_are_kept():
    network = CrossModalUNet1d(8, widths=(8, 8), groups=(1, 1), heads=2, time_features=2000)
    assert network.frequencies.std().item() == pytest.approx(30, rel=0.1)
    assert "frequencies" in network.state_dict()
    assert not network.frequencies.requires_grad


def test_it_exports_for_any_batch():
    network = small(widths=(4, 4), groups=(2, 2)).float().eval()
    batch = torch.export.Dim("batch", min=2)
    inputs = (torch.randn(3, 7, 4), torch.rand(3))
    named = {"context": torch.randn(3, 6, 4), "mask": torch.rand(3, 7) < 0.5}
    shapes = {"x": {0: batch}, "t": {0: batch}, "context": {0: batch}, "mask": {0: batch}}
    program = torch.export.export(network, inputs, named, dynamic_shapes=shapes).module()
    other, more = (
        (torch.randn(5, 7, 4), torch.rand(5)),
        {"context": torch.randn(5, 6, 4), "mask": torch.rand(5, 7) < 0.5},
    )
    torch.testing.assert_close(program(*other, **more), network(*other, **more))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context: expected a value > 0, got 0"),
        ({"time_scale": 0.0}, "time_scale: expected a value > 0, got 0.0"),
        ({"widths": (4,)}, r"widths: expected whole numbers > 0, at least two, got \(4,\)"),
        ({"widths": (4, 0, 4)}, r"widths: expected whole numbers > 0, at least two, got \(4, 0, 4\)"),
        ({"groups": (1, 1)}, r"groups: expected one number a width, 3, got \(1, 1\)"),
        ({"groups": (3, 1, 1)}, "groups: expected a divisor of the width 4, got 3"),
        ({"groups": (1, 0, 1)}, "groups: expected a value > 0, got 0"),
        ({"heads": 3}, "dim: expected a multiple of heads = 3, got 4"),
        ({"time_features": 5}, "time_features: expected an even number > 0, got 5"),
    ],
)
def test_refusals_when_built(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_refusals_when_called():
    network, x = small().float(), torch.zeros(2, 5, 4)
    t, context = torch.zeros(2), torch.zeros(2, 3, 4)
    prepared = network.prepare(context)
    for named, message in (
        ({"x": x[..., :3], "context": context}, r"x: expected shape \(B, T, D\) with D = 4, got \(2, 5, 3\)"),
        ({"t": t[:1], "context": context}, r"t: expected shape \(B\) with B = 2, got \(1,\)"),
        ({"context": context[..., :2]}, r"context: expected shape \(B, S, C\) with B = 2, C = 4, got \(2, 3, 2\)"),
        ({"context": context[:1]}, r"context: expected shape \(B, S, C\) with B = 2, C = 4, got \(1, 3, 4\)"),
        ({"context": context, "context_mask": torch.ones(2, 4).bool()}, r"context_mask: expected shape \(B, S\)"),
        ({"context": context, "mask": torch.ones(2, 4).bool()}, r"mask: expected shape \(B, T\) with B = 2, T = 5"),
        ({}, "context, prepared: expected one of the two, got neither"),
        ({"context": context, "prepared": prepared}, "context, prepared: expected one of the two, got both"),
        ({"prepared": prepared, "context_mask": torch.ones(2, 3).bool()}, "context_mask: expected None beside"),
        ({"x": x[:1], "t": t[:1], "prepared": prepared}, r"prepared.mask: expected shape \(B, S\) with B = 1"),
    ):
        with pytest.raises(ValueError, match=message):
            network(**{"x": x, "t": t, **named})


def test_the_published_loss_is_that_of_the_noise():
    """Published, the score is the output over std, and the loss the mean of (std * score + noise)²."""
    network, process = small().float(), VESDE()
    x0, noise, t = torch.randn(5, 7, 4), torch.randn(5, 7, 4), torch.linspace(0.01, 1.0, 5)
    context, std = torch.randn(5, 6, 4), process.std(t)[:, None, None]
    output = network(x0 + std * noise, t, context=context)
    published = (std * (output / std) + noise).square().mean()
    denoiser = Denoiser(lambda *args, **told: -network(*args, **told), process, "eps")
    torch.testing.assert_close(denoiser.loss(x0, noise=noise, t=t, context=context), published)
