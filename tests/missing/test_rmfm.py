import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp

from mmaffect.missing import feature_rate, random_rate, rmfm, rmfm_per_position, rmfm_same, rmm
from mmaffect.ops import InputError

SIZES = {"text": 20, "audio": 50, "video": 30}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def full(n=4, sizes=SIZES):
    return {name: torch.ones(n, t, dtype=torch.bool) for name, t in sizes.items()}


def padded(n=6):
    return {name: torch.arange(t) < torch.arange(1, n + 1)[:, None] * t // n for name, t in SIZES.items()}


def ends(masks):
    """[CLS] and [SEP]: the first and the last real step."""
    steps = {name: m.cumsum(1) * m for name, m in masks.items()}
    return {name: (s == 1) | ((s == s.amax(1, keepdim=True)) & (s > 0)) for name, s in steps.items()}


CALLS = {
    "rmfm": lambda m, g=None, p=None: rmfm(m, 0.5, g, protect=p),
    "rmfm_per_position": lambda m, g=None, p=None: rmfm_per_position(m, g, protect=p),
    "rmfm_same": lambda m, g=None, p=None: rmfm_same(m, dict.fromkeys(m, 0.5), g, protect=p),
    "rmm": lambda m, g=None, p=None: rmm(m, 0.5, g, protect=p),
    "rmm_keep_one": lambda m, g=None, p=None: rmm(m, 0.5, g, keep_one=True, protect=p),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_seeded_subset_in_order_that_spares_the_protected(call):
    masks = padded()
    protect = ends(masks)
    kept = call(masks, seeded(1), protect)
    assert list(kept) == list(masks)
    again, other, bare = call(masks, seeded(1), protect), call(masks, seeded(2), protect), call(masks, seeded(1))
    for name, mask in masks.items():
        assert kept[name].dtype == torch.bool
        assert not (kept[name] & ~mask).any()
        assert kept[name][mask & protect[name]].all()
        assert torch.equal(kept[name], again[name])
        assert torch.equal(kept[name] & ~protect[name], bare[name] & ~protect[name])
    assert any(not torch.equal(kept[n], other[n]) for n in masks)
    one_protected = call(masks, seeded(1), {"audio": protect["audio"]})
    assert torch.equal(one_protected["audio"], kept["audio"])
    assert torch.equal(one_protected["text"], bare["text"])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_refuses_masks_that_are_none(call):
    with pytest.raises(ValueError, match=r"masks: expected one or more modalities of one batch size, got sizes \[\]"):
        call({})
    with pytest.raises(ValueError, match=r"masks: expected one or more .* got sizes \[2, 3\]"):
        call({"a": torch.ones(2, 3, dtype=torch.bool), "b": torch.ones(3, 3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"masks\['a'\]: expected bool of shape \(B, T\), got torch.float32"):
        call({"a": torch.ones(2, 3)})
    with pytest.raises(ValueError, match=r"masks\['a'\]: expected shape \(B, T\), got \(2,\)"):
        call({"a": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(InputError, match="protect: 'txt' is unknown; did you mean 'text'"):
        call(full(), None, {"txt": full()["text"]})
    with pytest.raises(
        ValueError, match=r"protect\['text'\]: expected the shape of its mask, \(4, 20\), got \(4, 50\)"
    ):
        call(full(), None, {"text": full()["audio"]})


def test_rmfm_is_one_mask_over_all_positions_in_law():
    n, rate = 3000, 0.3
    kept = torch.cat(list(rmfm(full(n), rate, seeded(3)).values()), dim=1)
    assert abs(kept.double().mean().item() - 0.7) < 4.5 * math.sqrt(0.21 / kept.numel())
    number = kept.sum(1).double()  # binomial over the concatenation: no rate of its own in any modality
    assert abs(number.var().item() / (kept.shape[1] * 0.21) - 1) < 5 * math.sqrt(2 / n)


def test_rmfm_with_a_rate_for_each_sample():
    kept = rmfm(full(3), torch.tensor([0.0, 1.0, 0.5]), seeded(4))
    for mask in kept.values():
        assert mask[0].all()
        assert not mask[1].any()
        assert 0 < mask[2].sum() < mask.shape[1]


def test_rmfm_per_position_against_the_published_recipe():
    # Kept iff u > r, r and u drawn for every position: a share of 0.5 ± 0.05 of 100 positions in each sample.
    n, positions = 4000, sum(SIZES.values())
    ours = torch.cat(list(rmfm_per_position(full(n), seeded(5)).values()), dim=1).double().mean(1).numpy()
    random = np.random.default_rng(0)
    published = (random.random((n, positions)) > random.random((n, positions))).mean(1)
    whole = (random.random((n, positions)) > random.random((n, 1))).mean(1)  # what a rate a sample would give
    jitter = random.uniform(-0.5, 0.5, (3, n)) / positions  # shares are multiples of 1/100: break the ties
    assert ks_2samp(ours + jitter[0], published + jitter[1]).pvalue > 1e-4
    assert ks_2samp(ours + jitter[0], whole + jitter[2]).pvalue < 1e-10
    assert ours.std() == pytest.approx(0.05, rel=0.05)
    assert whole.std() == pytest.approx(0.29, rel=0.05)


def test_rmfm_same_has_one_rate_a_modality():
    n = 2000
    rates = {"video": torch.full((n,), 0.25), "text": 0.0, "audio": 1.0}
    kept = rmfm_same(full(n), rates, seeded(6))
    assert list(kept) == ["text", "audio", "video"]
    assert kept["text"].all()
    assert not kept["audio"].any()
    assert abs(kept["video"].double().mean().item() - 0.75) < 4.5 * math.sqrt(0.1875 / (30 * n))


def test_rmfm_same_wants_all_modalities():
    with pytest.raises(ValueError, match="rates: expected one for every modality, got none for text, video"):
        rmfm_same(full(), {"audio": 0.5})
    with pytest.raises(InputError, match="rates: 'adio' is unknown; did you mean 'audio'"):
        rmfm_same(full(), {"text": 0.5, "adio": 0.5, "video": 0.5})


def whole(masks, kept):
    """Which modalities were kept, after checking that each was kept whole or dropped whole."""
    for name, mask in masks.items():
        assert torch.equal(kept[name].any(1)[:, None] & mask, kept[name]), name
    return torch.stack([m.any(1) for m in kept.values()], dim=1)


def test_rmm_drops_whole_modalities_independently_and_perhaps_all():
    n, rate = 40_000, 0.4
    masks = full(n, {"a": 2, "b": 1, "c": 3})
    there = whole(masks, rmm(masks, rate, seeded(7)))
    code = (there.long() * torch.tensor([4, 2, 1])).sum(1)
    law = [0.6 ** c.bit_count() * 0.4 ** (3 - c.bit_count()) for c in range(8)]
    assert chisquare(torch.bincount(code, minlength=8).numpy(), n * np.array(law)).pvalue > 1e-4


def test_rmm_with_keep_one_has_the_law_of_random_rate():
    masks = full(500, {"a": 2, "b": 1, "c": 3})
    assert torch.equal(whole(masks, rmm(masks, 0.4, seeded(8), keep_one=True)), random_rate(500, 3, 0.4, seeded(8)))


def test_rmm_with_keep_one_counts_only_what_is_there():
    n = 20_000
    masks = full(4 * n, {"a": 1, "b": 1, "c": 1})
    kinds = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    masks = {name: m & kinds.repeat(n, 1)[:, j : j + 1] for j, (name, m) in enumerate(masks.items())}
    there = whole(masks, rmm(masks, 0.6, seeded(9), keep_one=True)).reshape(n, 4, 3)
    assert there[:, :3].any(-1).all()
    assert abs(there[:, 0].double().mean().item() - 0.4) < 4.5 * math.sqrt(0.24 / n)
    assert (there[:, 1].sum(-1) == 1).all()  # two admit 0.5 at most: exactly one is kept, either alike
    assert chisquare(there[:, 1, ::2].sum(0).numpy()).pvalue > 1e-4
    assert there[:, 2, 1].all()
    assert not there[:, 3].any()


def test_rmm_at_the_ends_and_with_a_rate_for_each_sample():
    masks = full(3)
    rates = torch.tensor([0.0, 1.0, 1.0])
    assert whole(masks, rmm(masks, rates)).tolist() == [[True] * 3, [False] * 3, [False] * 3]
    assert whole(masks, rmm(masks, rates, keep_one=True)).sum(1).tolist() == [3, 1, 1]
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 1, got 1\.5"):
        rmm(masks, 1.5)


def test_one_modality_alone_is_as_feature_rate():
    masks = {"a": torch.ones(5, 7, dtype=torch.bool)}
    assert torch.equal(rmfm(masks, 0.5, seeded(10))["a"], feature_rate(masks["a"], 0.5, seeded(10)))
