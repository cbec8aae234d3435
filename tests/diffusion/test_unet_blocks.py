"""The parts of the U-Net against PyTorch's convolution and against loops."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.diffusion.unet_blocks import (
    ContextAttention,
    Level,
    StepConv,
    StepConvTranspose,
    UNetBlock,
    double,
    halve,
    halve_mask,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2])
@given(steps=st.integers(1, 9))
@settings(deadline=None, max_examples=9)
def test_convolution_is_pytorchs(stride, steps):
    ours = StepConv(3, 5, stride=stride).double()
    theirs = torch.nn.Conv1d(3, 5, 3, stride=stride, padding=1).double()
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.mT)
        theirs.bias.copy_(ours.bias)
    x = draw(2, steps, 3)
    y = ours(x)
    assert y.shape == (2, -(-steps // stride), 5)
    torch.testing.assert_close(y, theirs(x.mT).mT)


@given(steps=st.integers(1, 9))
@settings(deadline=None, max_examples=9)
def test_transposed_convolution_is_pytorchs(steps):
    ours = StepConvTranspose(3, 5).double()
    theirs = torch.nn.ConvTranspose1d(3, 5, 3, stride=2, padding=1, output_padding=1 - steps % 2, bias=False).double()
    bound = theirs.weight.abs().max()
    assert 0.7 * bound < ours.weight.abs().max() <= 15**-0.5
    with torch.no_grad():
        theirs.weight.copy_(ours.weight.permute(2, 1, 0))
    x = draw(2, -(-steps // 2), 3)
    y = ours(x, steps)
    assert y.shape == (2, steps, 5)
    torch.testing.assert_close(y, theirs(x.mT).mT)


def test_convolution_starts_as_pytorchs_or_at_zero():
    conv, bound = StepConv(32, 64), (3 * 32) ** -0.5
    for parameter in conv.parameters():
        assert 0.9 * bound < parameter.abs().max() <= bound
    assert not any(p.any() for p in StepConv(2, 3, zero=True).parameters())


@given(data=st.data(), steps=st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_halving_by_a_loop(data, steps):
    mask = torch.tensor([data.draw(st.lists(st.booleans(), min_size=steps, max_size=steps))])
    x = draw(1, steps, 2)
    spoilt = x.masked_fill(~mask.unsqueeze(-1), torch.nan)
    for pair in range(-(-steps // 2)):
        real = [x[0, k] for k in (2 * pair, 2 * pair + 1) if k < steps and mask[0, k]]
        assert bool(halve_mask(mask)[0, pair]) == bool(real)
        expected = sum(real) / len(real) if real else torch.zeros(2, dtype=x.dtype)
        torch.testing.assert_close(halve(spoilt, mask)[0, pair], expected)
    coarse = draw(1, -(-steps // 2), 2)
    for step in range(steps):
        assert torch.equal(double(coarse, steps)[0, step], coarse[0, step // 2])


def test_block_by_its_equation():
    block = UNetBlock(4, 6, 3, context=None, heads=1).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x, told = draw(2, 5, 4), draw(2, 1, 3, seed=1)

    def normalised(h, norm):
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias

    def convolved(h, conv):
        return F.conv1d(h.mT, conv.weight.mT, conv.bias, padding=1).mT

    hidden = (
        convolved(F.silu(normalised(x, block.first_norm)), block.first) + told @ block.tell.weight.T + block.tell.bias
    )
    expected = x @ block.shortcut.weight.T + block.shortcut.bias
    expected = expected + convolved(F.silu(normalised(hidden, block.second_norm)), block.second)
    torch.testing.assert_close(block(x, Level(told, None, None)), expected)


def test_a_step_without_context_is_left_as_it_is():
    gather = ContextAttention(4, 3, 2)
    torch.nn.init.normal_(gather.out.weight)
    x, context = torch.randn(2, 5, 4), torch.randn(2, 3, 3)
    attended = torch.tensor([[[True, False, True]], [[False, False, False]]])
    y = gather(x, gather.prepare(context), attended)
    assert torch.equal(y[1], x[1])
    assert not torch.isclose(y[0], x[0]).all()


def test_attention_starts_as_its_shortcut():
    x = torch.randn(2, 5, 4)
    gather = ContextAttention(4, 3, 2)
    prepared = gather.prepare(torch.randn(2, 3, 3))
    assert torch.equal(gather(x, prepared, torch.ones(2, 1, 3, dtype=torch.bool)), x)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"width: expected a multiple of heads = 3 at every resolution, got 4"):
        ContextAttention(4, 3, 3)
