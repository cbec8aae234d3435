import math

import pytest
import torch
from scipy import stats

from mmaffect.training import FrameMasking, GaussianNoise
from tests.training.test_missing_features import WORDS, sentences
from tests.training.tiny import make_dataset

NAMES = ("text", "audio")


def whole(dataset):
    return dataset.collate([dataset[i] for i in range(len(dataset))])


def test_noise_is_normal_of_the_level_and_only_where_something_is():
    dataset = make_dataset(800)
    batch = whole(dataset)
    noisy = GaussianNoise("x", 0.5).bind(dataset, 0)(batch)
    for name in NAMES:
        assert torch.equal(noisy.masks[name], batch.masks[name])
        added = (noisy.inputs[name] - batch.inputs[name])[batch.masks[name]].flatten().numpy()
        assert stats.kstest(added, stats.norm(0, 0.5).cdf).pvalue > 1e-3
        assert not noisy.inputs[name][~batch.masks[name]].any()
    same = [noisy.inputs[n] - batch.inputs[n] for n in NAMES]
    assert not torch.equal(same[0][1:, :, :2], same[1][1:, :, :2])


def test_level_zero_changes_no_value():
    dataset = make_dataset(5)
    batch = whole(dataset)
    assert all(torch.equal(GaussianNoise("x", 0.0).bind(dataset, 0)(batch).inputs[n], batch.inputs[n]) for n in NAMES)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_masked_frames_are_zero_and_unannounced(share):
    dataset = make_dataset(800)
    batch = whole(dataset)
    masked = FrameMasking("x", share).bind(dataset, 0)(batch)
    for name in NAMES:
        assert torch.equal(masked.masks[name], batch.masks[name])
        real = batch.masks[name]
        blank = (masked.inputs[name] == 0).all(-1)[real]
        assert blank.double().mean().item() == pytest.approx(share, abs=0.03)
        kept = masked.inputs[name][real][~blank]
        assert torch.equal(kept, batch.inputs[name][real][~blank])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_masked_words_are_the_mask_token_and_ends_stay(share):
    dataset = sentences()
    batch = whole(dataset)
    masked = FrameMasking("x", share).bind(dataset, 0)(batch)
    ids, before, real = masked.inputs["text"], batch.inputs["text"], batch.masks["text"]
    assert torch.equal(masked.masks["text"], real)
    ends = real & torch.isin(before, torch.tensor(WORDS.protected))
    assert torch.equal(ids[ends], before[ends])
    assert not ids[~real].any()
    changed = (ids == WORDS.mask)[real & ~ends]
    assert changed.double().mean().item() == pytest.approx(share, abs=0.03)
    assert torch.equal(ids[real & ~ends][~changed], before[real & ~ends][~changed])
    assert (masked.inputs["audio"] == 0).all(-1)[batch.masks["audio"]].double().mean() == pytest.approx(share, abs=0.03)


def test_tokens_have_no_noise_while_the_values_beside_them_do():
    dataset = sentences()
    batch = whole(dataset)
    noisy = GaussianNoise("x", 0.5).bind(dataset, 0)(batch)
    assert torch.equal(noisy.inputs["text"], batch.inputs["text"])
    assert not torch.equal(noisy.inputs["audio"], batch.inputs["audio"])


@pytest.mark.parametrize("level", [-1.0, math.nan, math.inf])
def test_noise_refuses(level):
    with pytest.raises(ValueError, match="level: expected a finite value >= 0"):
        GaussianNoise("x", level)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_frames_refuse(share):
    with pytest.raises(ValueError, match="share: expected 0 <= share <= 1"):
        FrameMasking("x", share)
