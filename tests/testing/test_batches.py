import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.data import DataSpec, Vocabulary, collate
from mmaffect.testing import random_batch, random_dataset
from mmaffect.testing.batches import missing_pair

SPECS = st.builds(
    DataSpec,
    st.dictionaries(st.sampled_from(["text", "audio", "video", "bio"]), st.integers(1, 4), min_size=1),
    st.sampled_from(["class", "multilabel", "score"]),
    st.sampled_from([("a", "b"), ("a", "b", "c")]),
    st.sampled_from(["dialogue", "window", "single"]),
    speakers=st.integers(0, 3),
    confounders=st.integers(0, 3),
)
LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@given(SPECS, LENGTHS)
def test_shapes_follow_the_specification(spec, lengths):
    batch = random_batch(spec, lengths, generator=rng())
    size, steps = len(lengths), max(lengths)
    leading = (size, steps) if spec.sequence == "dialogue" else (size,)
    assert batch.names == spec.names
    for name, width in spec.modalities.items():
        assert batch.inputs[name].shape == (size, steps, width)
        assert batch.masks[name].shape == (size, steps)
        assert sorted(batch.masks[name].sum(1).tolist()) == sorted(lengths)
    if spec.sequence == "single":
        assert batch.steps is None
    else:
        assert batch.steps.sum(1).tolist() == list(lengths)
        assert all(torch.equal(mask, batch.steps) for mask in batch.masks.values())
    assert batch.targets.shape == (leading if spec.target == "class" else (*leading, spec.outputs))
    assert (batch.speaker is None) == (spec.speakers == 0 or spec.sequence == "single")
    assert (batch.confounder is None) == (spec.confounders == 0)
    if spec.confounders:
        assert batch.confounder.shape == leading
        assert 0 <= batch.confounder.min() <= batch.confounder.max() < spec.confounders


def test_each_modality_of_a_single_sample_has_its_own_time():
    batch = random_batch(DataSpec({"text": 2, "audio": 1}, "class", ("a", "b"), "single"), (2, 5, 3))
    assert batch.masks["text"].sum(1).tolist() == [2, 5, 3]
    assert batch.masks["audio"].sum(1).tolist() == [5, 3, 2]


def test_a_single_score_has_no_axis():
    for sequence, shape in (("dialogue", (2, 3)), ("window", (2,))):
        batch = random_batch(DataSpec({"text": 2}, "score", ("arousal",), sequence), (3, 1))
        assert batch.targets.shape == shape


def test_labels_cover_their_range():
    batch = random_batch(DataSpec({"text": 1}, "class", ("a", "b", "c"), "window"), [1] * 300, generator=rng())
    assert batch.targets.unique().tolist() == [0, 1, 2]
    batch = random_batch(DataSpec({"text": 1}, "multilabel", ("a",), "window"), [1] * 300, generator=rng())
    assert batch.targets.unique().tolist() == [0, 1]


@pytest.mark.parametrize("sequence", ["dialogue", "window", "single"])
def test_the_asked_share_is_absent_and_something_is_left(sequence):
    spec = DataSpec({"text": 1, "audio": 1, "video": 1}, "class", ("a", "b"), sequence)
    batch = random_batch(spec, [3] * 400, absent=0.5, generator=rng())
    there = torch.stack(list(batch.masks.values())).float()
    # Of 1200 independent draws (400 where a pattern holds for a sample): five standard deviations.
    assert there.mean().item() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(1200))
    assert torch.stack(list(batch.masks.values())).any(0).all()
    assert all((x[~batch.masks[n]] == 0).all() for n, x in batch.inputs.items())
    by_step = not all((m == m[:, :1]).all() for m in batch.masks.values())
    assert by_step == (sequence == "dialogue")


@pytest.mark.parametrize(("target", "blank"), [("class", -100), ("multilabel", math.nan), ("score", math.nan)])
def test_the_asked_share_is_unlabelled(target, blank):
    spec = DataSpec({"text": 1}, target, ("a", "b"), "window")
    batch = random_batch(spec, [1] * 1000, unlabelled=0.3, generator=rng())
    lost = batch.targets.isnan() if blank != blank else batch.targets == blank
    assert lost.float().mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 1000))
    assert (random_batch(spec, [1], unlabelled=1.0).targets.nan_to_num(-100) == -100).all()


def test_one_generator_gives_one_batch():
    spec = DataSpec({"text": 2, "audio": 1}, "score", ("a",), "dialogue", speakers=3)
    first, second, third = (random_batch(spec, absent=0.3, unlabelled=0.3, generator=rng(s)) for s in (0, 0, 1))
    assert torch.equal(first.inputs["text"], second.inputs["text"])
    assert torch.equal(first.targets.nan_to_num(9), second.targets.nan_to_num(9))
    assert not torch.equal(first.inputs["text"], third.inputs["text"])


def test_what_cannot_be_is_refused():
    spec = DataSpec({"text": 2}, "class", ("a", "b"), "window")
    for lengths in ((), (2, 0)):
        with pytest.raises(ValueError, match=r"lengths: expected a value > 0, got 0"):
            random_batch(spec, lengths)
    with pytest.raises(ValueError, match=r"unlabelled: expected a share in \[0, 1\], got 2"):
        random_batch(spec, unlabelled=2)
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 0 "):
        random_batch(spec, absent=0.1)


@given(SPECS, st.integers(0, 3))
def test_of_a_pair_every_modality_is_there_and_absent_and_nothing_is_lost_altogether(spec, seed):
    complete, observed = missing_pair(spec, (5, 3, 1, 4, 2), seed)
    for batch in (complete, observed):
        real = torch.stack(list(random_batch(spec, (5, 3, 1, 4, 2), generator=rng(seed)).masks.values())).any(0)
        for mask in batch.masks.values():
            assert mask.any()
            assert not mask.all()
        left = torch.stack(list(batch.masks.values())).any(0)
        assert torch.equal(left, real) if spec.sequence == "dialogue" else left.any(1).all()
    for name, mask in observed.masks.items():
        assert not (mask & ~complete.masks[name]).any()


@given(SPECS, LENGTHS)
def test_a_dataset_is_the_samples_of_the_batch(spec, lengths):
    wanted, found = random_batch(spec, lengths, generator=rng()), random_dataset(spec, lengths, generator=rng()).batch()
    assert found.id == wanted.id
    for field in ("inputs", "masks", "targets", "steps", "index", "speaker", "confounder"):
        mine, theirs = getattr(found, field), getattr(wanted, field)
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(mine, theirs, equal_nan=True)


@given(LENGTHS, st.integers(0, 99))
def test_tokens_are_words_between_start_and_end(lengths, seed):
    words = Vocabulary(12, unknown=1, mask=2, special=(0, 1, 2, 3, 4))
    spec = DataSpec({"text": 12, "audio": 2}, "class", ("a", "b"), "single", tokens={"text": words})
    data = random_dataset(spec, lengths, generator=rng(seed))
    for i, length in enumerate(lengths):
        ids = data[i].inputs["text"].tolist()
        inner = ids[1:-1] if length > 2 else ids
        assert len(ids) == length
        assert set(inner) <= set(range(5, 12))
        if length > 2:
            assert (ids[0], ids[-1]) == (3, 4)
    assert int(data.protected("text").sum()) == 2 * sum(length > 2 for length in lengths)
    complete, observed = missing_pair(spec, lengths, seed) if len(lengths) > 3 else (collate([data[0]]),) * 2
    assert observed.inputs["text"].dtype == complete.inputs["text"].dtype == torch.int64


def test_a_vocabulary_without_start_and_end_gives_words_alone():
    bare = Vocabulary(4, unknown=1, mask=1, special=(0, 1))
    spec = DataSpec({"text": 4}, "class", ("a", "b"), "single", tokens={"text": bare})
    data = random_dataset(spec, (40,), generator=rng())
    assert set(data[0].inputs["text"].tolist()) == {2, 3}
    assert not data.protected("text").any()
