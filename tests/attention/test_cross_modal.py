"""The directed stack against PyTorch's multi-head attention, the published sizes, and what it must not see."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmaffect.attention import CrossModalEncoder, sinusoidal_positions

TARGET_MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
SOURCE_MASK = torch.tensor([[True, True, False, False, True, False, True], [True] * 7, [True] * 6 + [False]])


def count(module):
    return sum(p.numel() for p in module.parameters())


def pair(seed=0, steps=5, sources=7, dim=8):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(3, n, dim, generator=generator, dtype=torch.float64) for n in (steps, sources))


def jittered(encoder):
    """Biases and norms that start at zero or one are moved, so that each counts."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.double()


def slow(encoder, target, source, target_mask=None, source_mask=None):
    """The stack with PyTorch's attention; padding by its own convention (True = hidden)."""

    def embed(x):
        return x * math.sqrt(encoder.dim) + sinusoidal_positions(x.shape[1], encoder.dim)

    steps, sources = target.shape[1], target.shape[1] if source is None else source.shape[1]
    future = None
    if encoder.causal:
        future = torch.tensor([[j > i + encoder.offset for j in range(sources)] for i in range(steps)])
    x, embedded = embed(target), None if source is None else embed(source)
    hidden = target_mask if source is None else source_mask
    for layer in encoder.layers:
        attention = nn.MultiheadAttention(encoder.dim, layer.heads, batch_first=True).double()
        attention.in_proj_weight.data = torch.cat([layer.query.weight, layer.key_value.weight])
        attention.in_proj_bias.data = torch.cat([layer.query.bias, layer.key_value.bias])
        attention.out_proj.load_state_dict(layer.out.state_dict())
        asked = layer.attention_norm(x)
        looked_at = asked if source is None else layer.attention_norm(embedded)
        padding = None if hidden is None else ~hidden
        mixed, _ = attention(asked, looked_at, looked_at, key_padding_mask=padding, attn_mask=future)
        x = x + mixed
        x = x + layer.contract(F.relu(layer.expand(layer.feed_forward_norm(x))))
    out = encoder.norm(x)
    return out if target_mask is None else out * target_mask.unsqueeze(-1)


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "offset": 2}, {"hidden": 6}])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("self_attention", [False, True])
def test_equals_pytorchs_attention_with_the_same_weights(options, masked, self_attention):
    encoder = jittered(CrossModalEncoder(8, 2, 2, **options))
    target, source = pair()
    source = None if self_attention else source
    masks = {"target_mask": TARGET_MASK, "source_mask": None if self_attention else SOURCE_MASK} if masked else {}
    expected = slow(encoder, target, source, **masks)
    torch.testing.assert_close(encoder(target, source, **masks), expected, atol=1e-10, rtol=0)


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6))
def test_equals_pytorchs_attention_at_any_length(seed, steps, sources):
    encoder = jittered(CrossModalEncoder(4, 1, 2))
    target, source = pair(seed, steps, sources, 4)
    torch.testing.assert_close(encoder(target, source), slow(encoder, target, source), atol=1e-10, rtol=0)


def test_the_offset_of_the_published_mask_is_the_difference_of_the_lengths():
    # torch.triu(-inf, 1 + |S - T|), as published: what it leaves is what we allow.
    steps, sources = 3, 7
    encoder = jittered(CrossModalEncoder(8, 1, 2, causal=True, offset=sources - steps, positions="none"))
    target, source = pair(steps=steps, sources=sources)
    source.requires_grad_()
    published = torch.ones(steps, sources).triu(1 + abs(sources - steps)) == 0
    for i in range(steps):
        source.grad = None
        encoder(target, source)[:, i].square().sum().backward()
        assert torch.equal((source.grad != 0).any(-1), published[i].expand(3, -1))


@pytest.mark.parametrize(
    ("widths", "dim", "layers", "memory_layers", "kernel", "targets", "total"),
    [
        # The official code on CMU-MOSEI: 5 layers everywhere, kernel 1. Reported as 1.07 M.
        ((300, 74, 35), 30, 5, 5, 1, 1, 1_073_731),
        # MMSA's on MOSI: 4 layers, kernel 5. Reported as 2.57 M.
        ((768, 5, 20), 50, 4, 4, 5, 1, 2_571_551),
    ],
)
def test_sizes_are_the_published_ones(widths, dim, layers, memory_layers, kernel, targets, total):
    # By hand: a layer has 12 D^2 + 13 D parameters, the last norm 2 D.
    crossed, memory = CrossModalEncoder(dim, layers, 2), CrossModalEncoder(2 * dim, memory_layers, 2)
    assert count(crossed) == layers * (12 * dim**2 + 13 * dim) + 2 * dim
    joint = 6 * dim
    rest = sum(w * dim * kernel for w in widths) + 2 * (joint**2 + joint) + joint * targets + targets
    assert 6 * count(crossed) + 3 * count(memory) + rest == total


@pytest.mark.parametrize("options", [{}, {"causal": True, "offset": 2}, {"positions": "none", "hidden": 6}])
def test_a_prepared_source_serves_any_target(options):
    encoder = jittered(CrossModalEncoder(8, 2, 2, **options))
    _, source = pair()
    source[~SOURCE_MASK] = torch.nan
    prepared = encoder.prepare(source, SOURCE_MASK)
    assert [k.shape for k in prepared.keys] == [v.shape for v in prepared.values] == [(3, 2, 7, 4)] * 2
    for seed, steps in ((1, 5), (2, 1), (3, 9)):
        target, _ = pair(seed, steps)
        mask = TARGET_MASK if steps == 5 else None
        expected = encoder(target, source, mask, SOURCE_MASK)
        torch.testing.assert_close(encoder(target, target_mask=mask, prepared=prepared), expected)
    assert prepared.keys[0].isfinite().all()


def test_names_of_the_parameters_are_kept():
    names = {name.rsplit(".", 1)[0] for name in CrossModalEncoder(4, 2, 2).state_dict()}
    parts = ("attention_norm", "query", "key_value", "out", "feed_forward_norm", "expand", "contract")
    assert names == {"norm"} | {f"layers.{layer}.{part}" for layer in (0, 1) for part in parts}


def test_every_layer_looks_at_the_embedded_source():
    # Were the source updated by the layers, the second would look at something else.
    encoder = jittered(CrossModalEncoder(8, 2, 2))
    seen = []
    for layer in encoder.layers:
        layer.register_forward_hook(lambda _, given, __: seen.append(given[1]))
    target, source = pair()
    encoder(target, source)
    assert torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[0], math.sqrt(8) * source + sinusoidal_positions(7, 8))


def test_a_step_that_holds_zeros_keeps_its_position():
    # The published code reads a step whose first feature is 0 as padding.
    encoder = jittered(CrossModalEncoder(8, 1, 2))
    target, source = pair()
    target[:, :] = target[:, :1]
    target[..., 0] = 0
    out = encoder(target, source)
    assert (out[:, 1] - out[:, 2]).abs().max() > 1e-3


def test_self_attention_with_steps_that_ask_but_are_no_source():
    encoder = jittered(CrossModalEncoder(8, 2, 2))
    target, _ = pair()
    sources = TARGET_MASK.clone()
    sources[:, 0] = False
    changed = target.clone()
    changed[:, 0] *= -1  # a shift would be lost in LayerNorm
    out, other = (encoder(x, None, TARGET_MASK, sources) for x in (target, changed))
    torch.testing.assert_close(out[:, 1:], other[:, 1:])
    assert (out[:, 0] - other[:, 0]).abs().min() > 1e-6


@pytest.mark.parametrize("self_attention", [False, True])
def test_with_nothing_to_look_at_all_stays_finite_and_the_source_is_not_read(self_attention):
    encoder = jittered(CrossModalEncoder(8, 2, 2))
    target, _ = pair()
    target.requires_grad_()
    source = None if self_attention else torch.full((3, 7, 8), torch.nan, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(3, 5 if self_attention else 7, dtype=torch.bool)
    out = encoder(target, source, source_mask=none)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert target.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert source is None or (source.grad == 0).all()


def test_each_dropout_acts_in_training_only():
    target, source = pair()
    for name in ("dropout", "attention_dropout", "embedding_dropout"):
        encoder = jittered(CrossModalEncoder(8, 1, 2, **{name: 0.5}))
        torch.manual_seed(0)
        assert not torch.equal(encoder(target, source), encoder(target, source))
        encoder.eval()
        plain = CrossModalEncoder(8, 1, 2).double()
        plain.load_state_dict(encoder.state_dict())
        assert torch.equal(encoder(target, source), plain(target, source))


def test_starts_as_published():
    torch.manual_seed(0)
    layer = CrossModalEncoder(64, 1, 2).layers[0]
    # Xavier's bound for the joint map of query, key and value, (3 D, D), which the published code has.
    joint = math.sqrt(6 / (64 + 3 * 64))
    for weight, bound in [
        (layer.query.weight, joint),
        (layer.key_value.weight, joint),
        (layer.out.weight, math.sqrt(6 / 128)),
        (layer.expand.weight, math.sqrt(6 / (64 + 256))),
        (layer.contract.weight, math.sqrt(6 / (64 + 256))),
    ]:
        assert 0.99 * bound < weight.abs().max() <= bound
    assert all((p == 0).all() for n, p in layer.named_parameters() if "bias" in n)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="dim: expected a multiple of heads = 3, got 8"):
        CrossModalEncoder(8, 1, 3)
    with pytest.raises(ValueError, match="layers: expected a value > 0"):
        CrossModalEncoder(8, 0, 2)
    with pytest.raises(ValueError, match="positions: 'distance' is unknown"):
        CrossModalEncoder(8, 1, 2, positions="distance")
    encoder, x, mask = CrossModalEncoder(8, 1, 2), torch.zeros(2, 3, 8), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"target: expected shape \(B, T, D\) with D = 8"):
        encoder(x[..., :4], x)
    with pytest.raises(ValueError, match=r"source: expected shape \(B, S, D\) with B = 2, D = 8"):
        encoder(x, x[:1])
    with pytest.raises(ValueError, match=r"target_mask: expected shape \(B, T\) with B = 2, T = 3"):
        encoder(x, x, mask)
    with pytest.raises(ValueError, match=r"source_mask: expected shape \(B, S\) with B = 2, S = 3"):
        encoder(x, x, None, mask)
    with pytest.raises(ValueError, match=r"source_mask: expected shape \(B, T\) with B = 2, T = 3"):
        encoder(x, None, None, mask)
    prepared = encoder.prepare(x)
    for named in ({"source": x}, {"source_mask": mask[:, :3]}):
        with pytest.raises(ValueError, match="prepared: expected neither source nor source_mask beside it"):
            encoder(x, prepared=prepared, **named)
    with pytest.raises(ValueError, match=r"prepared.mask: expected shape \(B, S\) with B = 1, got \(2, 3\)"):
        encoder(x[:1], prepared=prepared)
    with pytest.raises(ValueError, match=r"source: expected shape \(B, S, D\) with D = 8"):
        encoder.prepare(x[..., :4])
