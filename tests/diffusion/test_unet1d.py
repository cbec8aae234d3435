"""The U-Net: any length, any number of resolutions, and nothing of what is masked."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.diffusion import UNet1d


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stirred(network, seed=0):
    """The network in float64 with parameters away from zero, where its last layers start."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


@given(
    data=st.data(),
    steps=st.integers(1, 40),
    multipliers=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    extra=st.integers(1, 9),
    by_step=st.booleans(),
    attention=st.sampled_from(["all", "bottom", "none"]),
)
@settings(deadline=None, max_examples=40)
def test_neither_padding_nor_company_nor_garbage_changes_a_real_step(
    data, steps, multipliers, extra, by_step, attention
):
    way = {"attention": attention, "aligned": attention != "all" or by_step, "heads": 2}
    network = stirred(UNet1d(2, width=4, multipliers=multipliers, condition=3, context=2, **way))
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=steps, max_size=steps)))[None]
    x, t, condition, context = (
        draw(1, steps, 2),
        draw(1, seed=1).sigmoid(),
        draw(1, steps, 3, seed=2),
        draw(1, 4, 2, seed=3),
    )
    condition = condition if by_step else condition[:, 0]
    alone = network(x, t, condition, context=context, mask=mask)
    assert alone.shape == x.shape
    assert not alone[~mask].any()

    # Garbage at masked steps, and behind the end; a second sample full of other values; more context, masked.
    total = steps + extra
    longer = torch.full((2, total, 2), torch.nan, dtype=torch.float64)
    longer[0, :steps] = x[0].masked_fill(~mask[0, :, None], torch.inf)
    longer[1] = 1e3
    long_mask = torch.zeros(2, total, dtype=torch.bool)
    long_mask[0, :steps], long_mask[1] = mask[0], True
    if by_step:
        told = torch.full((2, total, 3), torch.nan, dtype=torch.float64)
        told[0, :steps], told[1] = condition[0].masked_fill(~mask[0, :, None], torch.nan), -5.0
    else:
        told = torch.cat([condition, -5 * torch.ones_like(condition)])
    sources = torch.full((2, 6, 2), torch.nan, dtype=torch.float64)
    sources[0, :4] = context[0]
    there = torch.zeros(2, 6, dtype=torch.bool)
    there[0, :4] = True
    together = network(longer, torch.cat([t, 1 - t]), told, context=sources, context_mask=there, mask=long_mask)
    torch.testing.assert_close(together[:1, :steps], alone, rtol=1e-9, atol=1e-9)
    assert not together[0, steps:].any()
    assert together[1].isfinite().all()
    prepared = network.prepare(sources, there)
    again = network(longer, torch.cat([t, 1 - t]), told, prepared=prepared, mask=long_mask)
    torch.testing.assert_close(again, together)


@given(steps=st.integers(1, 20), multipliers=st.sampled_from([(1,), (1, 2), (2, 1, 3), (1, 1, 1, 1)]))
@settings(deadline=None, max_examples=15)
def test_without_a_mask_all_steps_are_real(steps, multipliers):
    network = stirred(UNet1d(2, width=4, multipliers=multipliers, condition=3))
    x, t, condition = draw(2, steps, 2), torch.tensor([0.1, 0.8]).double(), draw(2, steps, 3, seed=2)
    mask = torch.ones(2, steps, dtype=torch.bool)
    torch.testing.assert_close(network(x, t, condition), network(x, t, condition, mask=mask))


def test_a_condition_for_all_steps_is_that_condition_at_each():
    network = stirred(UNet1d(2, width=4, multipliers=(1, 2, 2), condition=3))
    x, t, condition, mask = draw(2, 7, 2), torch.tensor([0.1, 0.8]).double(), draw(2, 3), draw(2, 7) > -0.5
    at_each = condition.unsqueeze(1).expand(2, 7, 3)
    torch.testing.assert_close(network(x, t, condition, mask=mask)[mask], network(x, t, at_each, mask=mask)[mask])


def test_coarse_steps_see_far():
    """Three resolutions see 33 steps; one alone only its convolutions' neighbours."""
    network = stirred(UNet1d(1, width=4, multipliers=(1, 1, 1)))
    x = draw(1, 33, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, torch.tensor([0.5]).double())[0, 16].sum(), x)
    assert (gradient != 0).all()
    shallow = stirred(UNet1d(1, width=4, multipliers=(1,)))
    (gradient,) = torch.autograd.grad(shallow(x, torch.tensor([0.5]).double())[0, 16].sum(), x)
    # enter, three blocks of two, leave: eight convolutions, eight steps to each side.
    assert gradient[0, :, 0].abs().gt(0).nonzero().flatten().tolist() == list(range(8, 25))


def test_the_network_by_hand():
    """One sample, features first, from the network's parameters: which block is met when, and what is passed across."""
    network = stirred(UNet1d(2, width=4, multipliers=(1, 2, 3), condition=3))
    x, t, condition = draw(1, 7, 2), torch.tensor([0.4]).double(), draw(1, 3, seed=1)

    def conv(layer, h, stride=1):
        return F.conv1d(h, layer.weight.mT, layer.bias, stride, 1)

    def norm(layer, h):
        return F.silu(F.layer_norm(h.mT, layer.weight.shape, layer.weight, layer.bias).mT)

    def block(part, h):
        inner = conv(part.first, norm(part.first_norm, h)) + part.tell(F.silu(told))[:, :, None]
        beside = h if isinstance(part.shortcut, torch.nn.Identity) else part.shortcut(h.mT).mT
        return beside + conv(part.second, norm(part.second_norm, inner))

    told = network.embed_time(t) + network.embed_condition(condition)
    fine = block(network.down[0], conv(network.enter, x.mT))
    middle = block(network.down[1], conv(network.halve[0], fine, 2))
    coarse = block(network.down[2], conv(network.halve[1], middle, 2))
    assert [h.shape[1:] for h in (fine, middle, coarse)] == [(4, 7), (8, 4), (12, 2)]
    h = block(network.up[2], torch.cat([block(network.bottom, coarse), coarse], 1))
    h = block(network.up[1], torch.cat([h[:, :, [0, 0, 1, 1]], middle], 1))
    h = block(network.up[0], torch.cat([h[:, :, [0, 0, 1, 1, 2, 2, 3]], fine], 1))
    torch.testing.assert_close(network(x, t, condition), conv(network.leave, norm(network.leave_norm, h)).mT)


@pytest.mark.parametrize("sources", [3, 7, 9])
def test_an_aligned_context_is_added_where_the_steps_enter(sources):
    """From the parameters: its step k, and whether it is there, beside step k of x; nothing behind its end."""
    network = stirred(UNet1d(2, width=4, multipliers=(1, 2), context=3, aligned=True, attention="none"))
    x, t, context = draw(2, 7, 2), torch.tensor([0.1, 0.8]).double(), draw(2, sources, 3, seed=1)
    there = torch.arange(sources) != 1
    slots = torch.zeros(2, 20, 6, dtype=torch.float64)
    slots[:, :7, :2], slots[:, :sources, 2:5] = x, context * there[:, None]
    slots[:, :sources, 5] = there.double()
    kernel = torch.cat([network.enter.weight, network.enter_context.weight], 2)
    entered = F.conv1d(slots.mT, kernel.mT, network.enter.bias, padding=1).mT[:, :7]
    # The same network without a context, entered so.
    plain = UNet1d(2, width=4, multipliers=(1, 2)).double()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if "context" not in k})
    plain.enter.register_forward_hook(lambda *_: entered)
    mask = there.expand(2, -1)
    out = network(x, t, context=context, context_mask=mask)
    torch.testing.assert_close(out, plain(x, t))
    longer = torch.cat([context, torch.full((2, 2, 3), torch.nan, dtype=torch.float64)], 1)
    hidden = torch.cat([mask, torch.zeros(2, 2).bool()], 1)
    torch.testing.assert_close(network(x, t, context=longer, context_mask=hidden), out)


@pytest.mark.parametrize(("options", "met"), [({}, [1, 1, 1, 1, 1]), ({"attention": "bottom"}, [0, 0, 1, 0, 0])])
def test_which_blocks_attend(options, met):
    network = UNet1d(2, width=4, multipliers=(1, 2), context=3, **options)
    blocks = [*network.down, network.bottom, *network.up]
    assert [int(block.gather is not None) for block in blocks] == met
    assert [int(pair is not None) for pair in network.prepare(torch.zeros(1, 2, 3)).attended] == met


def test_names_of_the_parameters_are_kept():
    network = UNet1d(2, width=4, multipliers=(1,), condition=3, context=3)
    names = {name.rsplit(".", 1)[0] for name in network.state_dict()}
    parts = ["first_norm", "first", "tell", "second_norm", "second"]
    gather = [f"gather.{part}" for part in ("norm", "query", "key_value", "out")]
    blocks = {f"{block}.{part}" for block in ("down.0", "bottom", "up.0") for part in parts + gather}
    ends = {"embed_time.first", "embed_time.second", "embed_condition", "context_norm", "enter"}
    assert names == blocks | ends | {"up.0.shortcut", "leave_norm", "leave"}


def test_time_and_condition_matter():
    network = stirred(UNet1d(2, width=4, multipliers=(1, 2), condition=3))
    x, t, condition = draw(1, 6, 2), torch.tensor([0.5]).double(), draw(1, 3)
    y = network(x, t, condition)
    assert not torch.allclose(y, network(x, t + 0.1, condition))
    assert not torch.allclose(y, network(x, t, condition + 1))


def test_it_starts_by_predicting_zero():
    network = UNet1d(3, width=8, multipliers=(1, 2), context=4)
    assert not network(torch.randn(2, 5, 3), torch.rand(2), context=torch.randn(2, 2, 4)).any()


def test_affect_diffs_number_of_parameters():
    """The tables leave 3.72 million: 8.92 with the average less 5.19 trainable, 5.19 less 1.47 without the prior."""
    count = sum(p.numel() for p in UNet1d(128, condition=128).parameters())
    assert count == pytest.approx(3.72e6, rel=0.03)

    # By hand: a block from i to o has two convolutions, two norms, what it is told (256), and a shortcut if i != o.
    def block(i, o):
        return 3 * i * o + 3 * o * o + 2 * o + 2 * i + 2 * o + 257 * o + ((i + 1) * o if i != o else 0)

    blocks = [(128, 128), (128, 256), (256, 256), (256, 256), (512, 256), (512, 256), (384, 128)]
    ends = 2 * (3 * 128 * 128 + 128) + 256 + (3 * 128 * 128 + 128) + (3 * 256 * 256 + 256)
    told = 129 * 256 + 257 * 256 + 129 * 256
    assert count == sum(block(*pair) for pair in blocks) + ends + told


def test_it_exports_for_any_batch():
    network = UNet1d(2, width=4, multipliers=(1, 2), condition=3).eval()
    batch = torch.export.Dim("batch", min=2)
    inputs = (torch.randn(3, 7, 2), torch.rand(3), torch.randn(3, 3))
    program = torch.export.export(network, inputs, dynamic_shapes=({0: batch}, {0: batch}, {0: batch})).module()
    other = torch.randn(5, 7, 2), torch.rand(5), torch.randn(5, 3)
    torch.testing.assert_close(program(*other), network(*other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim: expected a value > 0, got 0"),
        ({"width": 5}, "width: expected an even number > 0, got 5"),
        ({"condition": 0}, "condition: expected a value > 0, got 0"),
        ({"context": -1}, "context: expected a value > 0, got -1"),
        ({"multipliers": ()}, r"multipliers: expected whole numbers > 0, at least one, got \(\)"),
        ({"multipliers": (1, 0)}, r"multipliers: expected whole numbers > 0, at least one, got \(1, 0\)"),
        ({"context": 4, "heads": 3}, "width: expected a multiple of heads = 3 at every resolution, got 4"),
        ({"time": "learned"}, "time: 'learned' is unknown"),
        ({"attention": "some"}, "attention: 'some' is unknown"),
        ({"aligned": True}, "context, attention, aligned: .* got None, 'all' and True"),
        ({"attention": "bottom"}, "context, attention, aligned: .* got None, 'bottom' and False"),
        ({"context": 4, "attention": "none"}, "context, attention, aligned: .* got 4, 'none' and False"),
    ],
)
def test_refusals_when_built(options, message):
    with pytest.raises(ValueError, match=message):
        UNet1d(**{"dim": 2, "width": 4, "multipliers": (1, 2), **options})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": torch.zeros(2, 5, 3)}, r"x: expected shape \(B, T, D\) with D = 2, got \(2, 5, 3\)"),
        ({"t": torch.zeros(3)}, r"t: expected shape \(B\) with B = 2, got \(3,\)"),
        ({"condition": None}, r"condition: expected a tensor \(condition = 3\), got None"),
        ({"condition": torch.zeros(2, 4)}, r"condition: expected shape \(B, K\) with B = 2, K = 3, got \(2, 4\)"),
        ({"condition": torch.zeros(2, 4, 3)}, r"condition: expected shape \(B, T, K\) with B = 2, T = 5, K = 3"),
        ({"context": None}, r"context: expected a tensor \(context = 4\), got None"),
        ({"context": torch.zeros(2, 1, 5)}, r"context: expected shape \(B, S, C\) with B = 2, C = 4, got \(2, 1, 5\)"),
        ({"context_mask": torch.ones(2, 2).bool()}, r"context_mask: expected shape \(B, S\) with B = 2, S = 1"),
        ({"mask": torch.ones(2, 4).bool()}, r"mask: expected shape \(B, T\) with B = 2, T = 5, got \(2, 4\)"),
    ],
)
def test_refusals_when_called(given, message):
    network = UNet1d(2, width=4, multipliers=(1, 2), condition=3, context=4, heads=2)
    inputs = {
        "x": torch.zeros(2, 5, 2),
        "t": torch.zeros(2),
        "condition": torch.zeros(2, 3),
        "context": torch.zeros(2, 1, 4),
    }
    with pytest.raises(ValueError, match=message):
        network(**{**inputs, **given})


def test_what_was_not_announced_is_refused():
    with pytest.raises(
        ValueError, match=r"condition: expected None \(condition = None\), got a tensor of shape \(2, 3\)"
    ):
        UNet1d(2, width=4)(torch.zeros(2, 5, 2), torch.zeros(2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="context_mask: expected None without a context, got a mask"):
        UNet1d(2, width=4)(torch.zeros(2, 5, 2), torch.zeros(2), context_mask=torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match=r"context: expected None \(context = None\), there is nothing to prepare"):
        UNet1d(2, width=4).prepare(torch.zeros(2, 5, 2))
    network = UNet1d(2, width=4, context=4)
    prepared, x, t = network.prepare(torch.zeros(2, 3, 4)), torch.zeros(2, 5, 2), torch.zeros(2)
    for named in ({"context": torch.zeros(2, 3, 4)}, {"context_mask": torch.ones(2, 3).bool()}):
        with pytest.raises(ValueError, match="prepared: expected a network with context, and neither"):
            network(x, t, prepared=prepared, **named)
    with pytest.raises(ValueError, match="prepared: expected a network with context"):
        UNet1d(2, width=4)(x, t, prepared=prepared)
    with pytest.raises(ValueError, match=r"prepared.mask: expected shape \(B, S\) with B = 1, got \(2, 3\)"):
        network(x[:1], t[:1], prepared=prepared)
