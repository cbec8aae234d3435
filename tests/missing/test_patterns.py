import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from mmaffect.missing import all_patterns, draw_patterns, fixed_pattern, pattern_name
from mmaffect.ops import InputError

NAMES = ("text", "audio", "video")
letters = st.characters(exclude_characters="+")
modality_names = st.lists(st.text(letters, min_size=1, max_size=5), min_size=1, max_size=6, unique=True)


def test_seven_patterns_of_three_in_order():
    patterns = all_patterns(NAMES)
    assert [p.name for p in patterns] == [
        "text", "audio", "video", "text+audio", "text+video", "audio+video", "text+audio+video",
    ]  # fmt: skip
    assert patterns[4].available.tolist() == [True, False, True]
    assert patterns[0].available.dtype == torch.bool


@settings(derandomize=True, deadline=None, max_examples=30)
@given(modality_names)
def test_every_pattern_once_and_names_lead_back(names):
    patterns = all_patterns(names)
    rows = [tuple(p.available.tolist()) for p in patterns]
    assert set(rows) == {a for a in itertools.product([False, True], repeat=len(names)) if any(a)}
    assert len(rows) == 2 ** len(names) - 1
    sizes = [sum(row) for row in rows]
    assert sizes == sorted(sizes)
    for pattern in patterns:
        assert pattern_name(pattern.available, names) == pattern.name
        assert torch.equal(fixed_pattern(names, pattern.name), pattern.available)
        assert torch.equal(fixed_pattern(names, reversed(pattern.name.split("+"))), pattern.available)


def test_fixed_pattern_by_name_or_names():
    assert fixed_pattern(NAMES, ["video", "text"]).tolist() == [True, False, True]
    assert fixed_pattern(NAMES, {"audio"}).tolist() == [False, True, False]
    assert fixed_pattern(NAMES, "text+audio").tolist() == [True, True, False]
    assert fixed_pattern(NAMES, "audio").tolist() == [False, True, False]


def test_unknown_names_get_the_nearest():
    with pytest.raises(InputError, match="available: 'vidoe' is unknown; did you mean 'video'"):
        fixed_pattern(NAMES, ["text", "vidoe"])
    with pytest.raises(InputError, match="available: '' is unknown"):
        fixed_pattern(NAMES, "text+")


@pytest.mark.parametrize("none", [[], "", ()])
def test_at_least_one_is_available(none):
    with pytest.raises(InputError, match="available: expected at least one of text, audio, video, got none"):
        fixed_pattern(NAMES, none)


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a+b", "c"], ["", "b"], "text"])
def test_names_must_tell_modalities_apart(names):
    for call in (all_patterns, lambda n: fixed_pattern(n, ["a"]), lambda n: pattern_name(torch.ones(1).bool(), n)):
        with pytest.raises(InputError, match="names: expected distinct, non-empty modality names without"):
            call(names)


def test_pattern_name_refuses_what_is_no_pattern():
    with pytest.raises(ValueError, match=r"available: expected bool with at least one True, got torch\.bool"):
        pattern_name(torch.zeros(3, dtype=torch.bool), NAMES)
    with pytest.raises(ValueError, match=r"available: expected bool with at least one True, got torch.float32"):
        pattern_name(torch.ones(3), NAMES)
    with pytest.raises(ValueError, match=r"available: expected shape \(M\) with M = 3, got \(2,\)"):
        pattern_name(torch.ones(2, dtype=torch.bool), NAMES)


def test_patterns_are_drawn_uniformly_and_seeded():
    n, patterns = 70_000, all_patterns(NAMES)
    drawn = draw_patterns(n, patterns, torch.Generator().manual_seed(0))
    assert drawn.shape == (n, 3)
    seen = [int((drawn == p.available).all(1).sum()) for p in patterns]
    assert sum(seen) == n
    assert chisquare(seen).pvalue > 1e-4
    # Each modality is in four of the seven.
    assert (drawn.double().mean(0) - 4 / 7).abs().max() < 4.5 * math.sqrt(4 / 7 * 3 / 7 / n)
    assert torch.equal(drawn, draw_patterns(n, patterns, torch.Generator().manual_seed(0)))


def test_only_the_listed_patterns_are_drawn():
    some = [p for p in all_patterns(NAMES) if p.name in ("text", "text+video")]
    drawn = draw_patterns(500, some, torch.Generator().manual_seed(1))
    assert drawn[:, 0].all()
    assert not drawn[:, 1].any()
    assert 0 < drawn[:, 2].sum() < 500
    assert draw_patterns(0, some).shape == (0, 3)


def test_draw_refuses_nothing_to_draw():
    with pytest.raises(
        ValueError, match="n, patterns: expected n >= 0 and at least one pattern, got n = 2, 0 patterns"
    ):
        draw_patterns(2, [])
    with pytest.raises(ValueError, match="got n = -1"):
        draw_patterns(-1, all_patterns(NAMES))
