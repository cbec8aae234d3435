"""The guided encoder against the two stacks it is made of, and what a missing guide leaves."""

import pytest
import torch

from mmaffect.attention import CrossModalEncoder, GuidedCrossModalEncoder

SOURCE_MASK = torch.tensor([[True] * 4, [True, False, True, False]])
GUIDE_MASK = torch.tensor([[True, True, False], [False] * 3])


def sequences():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, n, 8, generator=generator, dtype=torch.float64) for n in (5, 4, 3))


@pytest.mark.parametrize("options", [{}, {"causal": True, "offset": 1, "positions": "none", "hidden": 6}])
def test_equals_one_stack_upon_the_other(options):
    torch.manual_seed(0)
    encoder = GuidedCrossModalEncoder(8, 2, 2, **options).double()
    lower, upper = CrossModalEncoder(8, 1, 2, **options).double(), CrossModalEncoder(8, 2, 2, **options).double()
    state = encoder.state_dict()
    for name, part in (("lower", lower), ("upper", upper)):
        part.load_state_dict({k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(name)})
    target, source, guide = sequences()
    expected = upper(target, lower(source, guide, SOURCE_MASK, GUIDE_MASK), None, SOURCE_MASK)
    assert torch.equal(encoder(target, source, guide, None, SOURCE_MASK, GUIDE_MASK), expected)


def test_each_sequence_matters_and_in_its_role():
    torch.manual_seed(0)
    encoder = GuidedCrossModalEncoder(8, 1, 2).double()
    given = sequences()
    out = encoder(*given)
    assert out.shape == given[0].shape
    for n in range(3):
        changed = [-x if i == n else x for i, x in enumerate(given)]
        assert (encoder(*changed) - out).abs().max() > 1e-6
    # The guide speaks through the source alone: with no source to look at, it is not heard.
    none = torch.zeros(2, 4, dtype=torch.bool)
    silent = encoder(*given, source_mask=none)
    assert torch.equal(encoder(given[0], given[1], -given[2], source_mask=none), silent)


def test_without_a_guide_the_source_is_still_seen():
    torch.manual_seed(0)
    encoder = GuidedCrossModalEncoder(8, 1, 2).double()
    target, source, guide = sequences()
    poisoned = torch.full_like(guide, torch.nan)
    none = torch.zeros(2, 3, dtype=torch.bool)
    first, second = (encoder(target, x, poisoned, guide_mask=none) for x in (source, -source))
    assert first.isfinite().all()
    assert (first - second).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "embedding_dropout"])
def test_each_dropout_reaches_both_stacks(name):
    encoder = GuidedCrossModalEncoder(8, 2, 2, **{name: 0.25})
    parts = [*encoder.modules()]
    assert {getattr(part, name) for part in parts if hasattr(part, name)} == {0.25}


def test_size():
    # TETFN on MOSI: width 50, two layers above one; a layer has 12 D^2 + 13 D, each stack a norm of 2 D.
    encoder = GuidedCrossModalEncoder(50, 2, 5)
    assert sum(p.numel() for p in encoder.parameters()) == 3 * (12 * 50**2 + 13 * 50) + 2 * 2 * 50


def test_errors_name_the_argument():
    encoder = GuidedCrossModalEncoder(8, 1, 2)
    x, mask = torch.zeros(2, 3, 8), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="target: expected shape"):
        encoder(x[..., :4], x, x)
    with pytest.raises(ValueError, match="source: expected shape"):
        encoder(x, x[:1], x)
    with pytest.raises(ValueError, match="guide: expected shape"):
        encoder(x, x, x[..., :4])
    for name in ("target_mask", "source_mask", "guide_mask"):
        with pytest.raises(ValueError, match=f"{name}: expected shape"):
            encoder(x, x, x, **{name: mask})
