import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mmaffect.missing import stmfm, tmfm


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def lengths_mask(lengths, size):
    return torch.arange(size) < torch.tensor(lengths)[:, None]


def both_ends(mask):
    last = mask.sum(1, keepdim=True) - 1
    steps = torch.arange(mask.shape[1])
    return mask & ((steps == 0) | (steps == last))


def test_tmfm_drops_the_same_steps_from_all():
    steps = lengths_mask([50] * 400 + [20] * 400, 50)
    gap = torch.rand(steps.shape, generator=seeded(1)) < 0.8
    masks = {"text": steps, "audio": steps & gap, "video": steps}
    kept = tmfm(masks, 0.3, seeded(2))
    assert torch.equal(kept["text"], kept["video"])
    assert torch.equal(kept["audio"], kept["text"] & gap)
    n = int(steps.sum())
    assert abs(int(kept["text"].sum()) / n - 0.7) < 4.5 * math.sqrt(0.21 / n)
    again = tmfm(masks, 0.3, seeded(2))
    assert all(torch.equal(kept[name], again[name]) for name in masks)


def test_tmfm_spares_the_protected_and_takes_a_rate_for_each_sample():
    steps = lengths_mask([5, 4, 5], 5)
    protect = both_ends(steps)
    kept = tmfm({"a": steps, "b": steps}, torch.tensor([1.0, 1.0, 0.0]), protect=protect)["a"]
    assert torch.equal(kept[:2], protect[:2])
    assert kept[2].all()


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.floats(0, 1), st.booleans(), st.integers(0, 2**31))
def test_stmfm_is_one_block_of_the_published_size(lengths, rate, with_ends, seed):
    steps = lengths_mask(lengths, 13)
    protect = both_ends(steps) if with_ends else None
    kept = stmfm({"a": steps, "b": steps}, rate, seeded(seed), protect=protect)
    assert torch.equal(kept["a"], kept["b"])
    lost = steps & ~kept["a"]
    for row, length in zip(lost, lengths, strict=True):
        size = round(max(length - 2 * with_ends, 0) * rate)
        places = row.nonzero().flatten().tolist()
        assert len(places) == size
        if size:
            assert places == list(range(places[0], places[0] + size))
            assert places[0] >= with_ends
            assert places[-1] < length - with_ends
    assert torch.equal(kept["a"], stmfm({"a": steps, "b": steps}, rate, seeded(seed), protect=protect)["a"])


@pytest.mark.parametrize("with_ends", [False, True])
def test_stmfm_starts_anywhere_it_fits_with_the_same_chance(with_ends):
    n, free = 20_000, 10
    steps = lengths_mask([free + 2 * with_ends] * n, 15)
    lost = steps & ~stmfm({"a": steps}, 0.4, seeded(3), protect=both_ends(steps) if with_ends else None)["a"]
    starts = torch.bincount(lost.long().argmax(1) - int(with_ends), minlength=7)
    assert len(starts) == free - 4 + 1
    assert chisquare(starts.numpy()).pvalue > 1e-4


def test_stmfm_rounds_half_to_even_and_takes_a_rate_for_each_sample():
    steps = lengths_mask([10] * 4, 10)
    rates = torch.tensor([0.25, 0.35, 0.0, 1.0], dtype=torch.float64)
    lost = (steps & ~stmfm({"a": steps}, rates)["a"]).sum(1).tolist()
    assert lost == [2, round(10 * 0.35), 0, 10]


def test_stmfm_steps_over_gaps_and_counts_steps_real_in_some_modality():
    first = torch.tensor([[True, False, True, False, True, False]])
    second = torch.tensor([[True, True, False, False, True, False]])
    kept = stmfm({"a": first, "b": second}, 1.0)
    assert not kept["a"].any()
    assert not kept["b"].any()
    half = stmfm({"a": first, "b": second}, 0.5, seeded(4))  # steps 0, 1, 2, 4 are real: two neighbours go
    lost = ((first & ~half["a"]) | (second & ~half["b"]))[0].nonzero().flatten().tolist()
    assert lost in ([0, 1], [1, 2], [2, 4])


@pytest.mark.parametrize("call", [tmfm, stmfm])
def test_refuses_modalities_that_are_not_aligned(call):
    short, long = lengths_mask([2], 2), lengths_mask([3], 3)
    with pytest.raises(ValueError, match=r"masks: expected aligned modalities of one shape \(B, T\), got .*\(1, 3\)"):
        call({"a": short, "b": long}, 0.5)
    with pytest.raises(ValueError, match=r"protect: expected the shape of its mask, \(1, 2\), got \(1, 3\)"):
        call({"a": short}, 0.5, protect=long)
    with pytest.raises(ValueError, match="rate: expected 0 <= rate <= 1, got 2"):
        call({"a": short}, 2.0)
    with pytest.raises(ValueError, match=r"masks: expected one or more modalities of one batch size, got sizes \[\]"):
        call({}, 0.5)
