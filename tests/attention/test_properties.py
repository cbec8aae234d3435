"""For any masks and lengths: padding, batch mates, their order, and what stands under a mask change nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.attention import (
    AttentionPool,
    CausalEntmaxAttention,
    CompositeEncoder,
    CrossModalEncoder,
    GuidedCrossModalEncoder,
    TransformerEncoder,
    WordAligner,
)

torch.manual_seed(0)
LAYERS = {
    "causal entmax": (1, CausalEntmaxAttention(8, 2)),
    "sparsemax, strict past": (1, CausalEntmaxAttention(8, 2, 2, False)),
    "learned alpha": (1, CausalEntmaxAttention(8, 2, "learned", causal=False)),
    "transformer": (1, TransformerEncoder(8, 1, 2, hidden=8)),
    "transformer by distance": (1, TransformerEncoder(8, 1, 2, hidden=8, positions="distance", causal=True)),
    "pool": (1, AttentionPool(8)),
    "cross-modal": (2, CrossModalEncoder(8, 1, 2, hidden=8)),
    "cross-modal, causal": (2, CrossModalEncoder(8, 1, 2, hidden=8, causal=True, offset=1)),
    "aligner": (2, WordAligner(8, 2)),
    "guided": (3, GuidedCrossModalEncoder(8, 1, 2, hidden=8)),
    "composite": (3, CompositeEncoder(8, 1, 2, ("a", "b", "c"), hidden=8)),
}


def outputs(name, xs, masks):
    """The first sequence's output alone, as all of these give it."""
    layer = LAYERS[name][1].double().eval()
    with torch.no_grad():
        if name == "composite":
            return layer(dict(zip("abc", xs, strict=True)), dict(zip("abc", masks, strict=True))).y["a"]
        found = layer(*xs, *masks)
    return found if isinstance(found, torch.Tensor) else found[0]


@st.composite
def cases(draw):
    seed = draw(st.integers(0, 10_000))
    lengths = draw(st.lists(st.integers(1, 6), min_size=3, max_size=3))
    return draw(st.integers(1, 4)), lengths, draw(st.floats(0, 1)), draw(st.integers(1, 5)), seed


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25, deadline=None)
@given(cases())
def test_nothing_but_the_sample_itself_matters(name, case):
    batch, lengths, share, more, seed = case
    generator = torch.Generator().manual_seed(seed)
    count = LAYERS[name][0]
    xs = [torch.randn(batch, t, 8, dtype=torch.float64, generator=generator) for t in lengths[:count]]
    masks = [torch.rand(batch, t, generator=generator) < share for t in lengths[:count]]
    expected = outputs(name, xs, masks)
    assert expected.isfinite().all()
    steps = lengths[0]

    order = torch.randperm(batch, generator=generator)
    shuffled = outputs(name, [x[order] for x in xs], [m[order] for m in masks])
    torch.testing.assert_close(shuffled, expected[order])

    alone = outputs(name, [x[:1] for x in xs], [m[:1] for m in masks])
    torch.testing.assert_close(alone, expected[:1])

    poisoned = [x.masked_fill(~m.unsqueeze(-1), torch.nan) for x, m in zip(xs, masks, strict=True)]
    torch.testing.assert_close(outputs(name, poisoned, masks), expected)

    longer = [torch.cat([x, x.new_full((batch, more, 8), 1e6)], 1) for x in xs]
    covered = [torch.cat([m, m.new_zeros(batch, more)], 1) for m in masks]
    found = outputs(name, longer, covered)
    torch.testing.assert_close(found if found.dim() == 2 else found[:, :steps], expected)
