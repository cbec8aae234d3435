"""Augmentation against its laws: what it changes, how often, and what it must leave."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.missing import augment, rmm
from mmaffect.ops import InputError

WIDTHS = {"face": 3, "voice": 2, "words": 1}


def batch(samples=6, steps=5, *, seed=0, shared=False):
    """Values that are never zero where they are real and NaN elsewhere; every sample has something."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {n: steps if shared else steps + i for i, n in enumerate(WIDTHS)}
    masks = {n: torch.rand(samples, t, generator=generator) > 0.4 for n, t in sizes.items()}
    masks["face"][:, 0] |= ~torch.stack([m.any(1) for m in masks.values()]).any(0)
    values = {n: 1.0 + torch.rand(samples, t, WIDTHS[n], generator=generator) for n, t in sizes.items()}
    return {n: torch.where(masks[n][..., None], x, torch.nan) for n, x in values.items()}, masks


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_without_any_rate_nothing_changes_and_nothing_is_drawn():
    inputs, masks = batch()
    generator = seeded(3)
    before = generator.get_state()
    out = augment(inputs, masks, generator=generator)
    assert torch.equal(generator.get_state(), before)
    for name, mask in masks.items():
        assert torch.equal(out.masks[name], mask)
        assert torch.equal(out.inputs[name][mask], inputs[name][mask])
        assert not out.inputs[name][~mask].any()


@given(
    seed=st.integers(0, 1000),
    samples=st.integers(1, 6),
    modalities=st.sampled_from([0.1, 0.7, 1.0]),
    frames=st.sampled_from([0.0, 0.5, 1.0]),
    by_step=st.booleans(),
)
def test_something_is_always_left(seed, samples, modalities, frames, by_step):
    """Of what there was; and nothing comes up that was not there."""
    inputs, masks = batch(samples, seed=seed, shared=by_step)
    out = augment(inputs, masks, modalities=modalities, frames=frames, by_step=by_step, generator=seeded(seed))
    axis = 2 if by_step else 1
    had = torch.stack([m if by_step else m.any(1) for m in masks.values()], dim=-1)
    left = torch.stack([m if by_step else m.any(1) for m in out.masks.values()], dim=-1)
    assert torch.equal(had.any(axis), left.any(axis))
    if modalities == 1.0:
        assert (left.sum(axis) <= 1).all()
    for name, mask in masks.items():
        kept = out.masks[name]
        assert not (kept & ~mask).any()
        if not by_step:  # a modality goes as a whole
            assert torch.equal(kept, mask & kept.any(1, keepdim=True))
        assert out.inputs[name].isfinite().all()
        assert not out.inputs[name][~kept].any()


@pytest.mark.parametrize("by_step", [False, True])
def test_modalities_are_dropped_as_often_as_asked(by_step):
    everywhere = {n: torch.ones(4000, 3, dtype=torch.bool) for n in WIDTHS}
    inputs = {n: torch.ones(4000, 3, w) for n, w in WIDTHS.items()}
    out = augment(inputs, everywhere, modalities=0.3, by_step=by_step, generator=seeded(0))
    for mask in out.masks.values():
        assert 1 - mask.double().mean().item() == pytest.approx(0.3, abs=0.03)
        assert mask.all(1).eq(mask.any(1)).all() != by_step
    if not by_step:
        drawn = rmm(everywhere, 0.3, seeded(0), keep_one=True)
        assert all(torch.equal(out.masks[n], drawn[n]) for n in drawn)


def test_noise_is_added_where_it_is_asked_for():
    inputs, masks = batch(3000)
    out = augment(inputs, masks, noise={"voice": 0.5}, generator=seeded(0))
    added = (out.inputs["voice"] - inputs["voice"])[masks["voice"]]
    assert added.mean().item() == pytest.approx(0.0, abs=0.02)
    assert added.std().item() == pytest.approx(0.5, rel=0.02)
    for name in ("face", "words"):
        assert torch.equal(out.inputs[name][masks[name]], inputs[name][masks[name]])
    assert all(torch.equal(out.masks[n], m) for n, m in masks.items())


def test_frames_are_zeroed_independently_and_the_model_is_not_told():
    inputs, masks = batch(3000)
    out = augment(inputs, masks, frames=0.2, noise=dict.fromkeys(WIDTHS, 0.1), generator=seeded(0))
    for name, mask in masks.items():
        assert torch.equal(out.masks[name], mask)
        blank = (out.inputs[name] == 0).all(-1) & mask
        assert (out.inputs[name][blank] == 0).all()  # the noise does not show there
        share = blank[mask].double().mean().item()
        assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / mask.sum().item()))
        both = (blank[:, 0] & blank[:, 1])[mask[:, 0] & mask[:, 1]].double().mean().item()
        assert both == pytest.approx(0.04, abs=0.03)


def test_draws_come_from_the_generator_or_from_torch_s_own():
    inputs, masks = batch()
    options = {"noise": {"voice": 1.0}, "frames": 0.3, "modalities": 0.3}

    def drawn(seed, *, own):
        if own:
            torch.manual_seed(seed)
        return augment(inputs, masks, **options, generator=None if own else seeded(seed)).inputs["voice"]

    for own in (False, True):
        assert torch.equal(drawn(0, own=own), drawn(0, own=own))
        assert not torch.equal(drawn(0, own=own), drawn(1, own=own))


def test_token_ids_may_be_blanked_and_dropped():
    mask = torch.ones(2, 4, dtype=torch.bool)
    tokens = {"words": torch.arange(1, 9).view(2, 4), "face": torch.ones(2, 4, 1)}
    out = augment(tokens, {"words": mask, "face": mask}, noise={"face": 0.1}, frames=1.0)
    assert out.inputs["words"].dtype == torch.int64
    assert not out.inputs["words"].any()


def test_errors_name_the_argument():
    inputs, masks = batch()
    with pytest.raises(ValueError, match=r"frames: expected a share from 0 to 1, got 1\.5"):
        augment(inputs, masks, frames=1.5)
    with pytest.raises(ValueError, match=r"modalities: expected a share from 0 to 1, got -0\.1"):
        augment(inputs, masks, modalities=-0.1)
    with pytest.raises(InputError, match="noise: 'voise' is unknown; did you mean 'voice'"):
        augment(inputs, masks, noise={"voise": 0.1})
    with pytest.raises(ValueError, match=r"noise\['voice'\]: expected a finite value >= 0, got -1"):
        augment(inputs, masks, noise={"voice": -1.0})
    with pytest.raises(ValueError, match=r"masks: expected those of \('face', 'voice', 'words'\), got \('face',\)"):
        augment(inputs, {"face": masks["face"]})
    with pytest.raises(ValueError, match=r"masks\['face'\]: expected bool of shape \(B, T\), got torch.float32"):
        augment(inputs, {**masks, "face": masks["face"].float()})
    with pytest.raises(ValueError, match=r"masks\['face'\]: expected shape \(B, T\), got"):
        augment(inputs, {**masks, "face": masks["face"][0]}, by_step=True)
    with pytest.raises(ValueError, match="masks: expected one or more modalities of one batch size"):
        augment({**inputs, "face": inputs["face"][:1]}, {**masks, "face": masks["face"][:1]})
    with pytest.raises(ValueError, match=r"inputs\['face'\]: expected shape \(B, T, D\) with B = "):
        augment({**inputs, "face": inputs["face"][:, 1:]}, masks)
    with pytest.raises(ValueError, match="by_step: expected a time axis that all share, got lengths"):
        augment(inputs, masks, modalities=0.5, by_step=True)
