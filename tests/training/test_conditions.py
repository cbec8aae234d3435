import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.ops import InputError
from mmaffect.training import (
    Complete,
    Deletion,
    FeatureRate,
    FrameMasking,
    GaussianNoise,
    ModalityLoss,
    ModalityRates,
    Patterns,
    RandomRate,
    TimeBlock,
    TimeRate,
)
from tests.training.tiny import make_dataset

NAMES = ("text", "audio")
ALL = [
    Complete(),
    Patterns("drawn", NAMES, ("text", "audio", "text+audio")),
    RandomRate("drawn", NAMES, (0.0, 0.25, 0.5)),
    Deletion("drawn", NAMES, "text", (0.1, 0.5)),
    FeatureRate("drawn", None),
    FeatureRate("0.5", 0.5),
    ModalityRates("drawn", NAMES, None),
    ModalityLoss("drawn", None),
    ModalityLoss("0.5", 0.5, keep_one=True),
    TimeRate("drawn", None),
    TimeBlock("0.5", 0.5),
    GaussianNoise("noise", 0.5),
    FrameMasking("frames", 0.5),
]
SHARED_TIME = (TimeRate, TimeBlock)


def batch_of(dataset, rows):
    return dataset.collate([dataset[i] for i in rows])


@pytest.mark.parametrize("condition", ALL, ids=lambda c: type(c).__name__ + c.name)
@pytest.mark.parametrize("sequence", ["single", "window", "dialogue"])
@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(10)), size=st.integers(1, 10), seed=st.integers(0, 5))
def test_a_sample_looks_the_same_in_every_batch(condition, sequence, order, size, seed):
    if sequence == "single" and isinstance(condition, SHARED_TIME):
        return
    dataset = make_dataset(10, sequence=sequence)
    change = condition.bind(dataset, seed)
    torch.manual_seed(len(order) + size)  # the global state must not matter
    alone = [condition.bind(dataset, seed)(batch_of(dataset, [i])) for i in range(10)]
    for rows in torch.tensor(order).split(size):
        changed = change(batch_of(dataset, rows.tolist()))
        for place, row in enumerate(rows.tolist()):
            for name in NAMES:
                steps = alone[row].masks[name].shape[1]
                assert torch.equal(changed.masks[name][place, :steps], alone[row].masks[name][0])
                assert torch.equal(changed.inputs[name][place, :steps], alone[row].inputs[name][0])
                assert not changed.masks[name][place, steps:].any()
                assert not changed.inputs[name][place, steps:].any()


@pytest.mark.parametrize("condition", ALL[1:], ids=lambda c: type(c).__name__ + c.name)
def test_another_seed_is_another_draw(condition):
    dataset = make_dataset(40, sequence="dialogue")
    batch = batch_of(dataset, range(40))
    one, same, other = (condition.bind(dataset, seed)(batch) for seed in (0, 0, 1))
    assert all(torch.equal(one.inputs[n], same.inputs[n]) for n in NAMES)
    assert any(not torch.equal(one.inputs[n], other.inputs[n]) for n in NAMES)


def test_complete_changes_nothing():
    dataset = make_dataset(4)
    batch = batch_of(dataset, range(4))
    assert Complete().bind(dataset, 0)(batch) is batch


@pytest.mark.parametrize("sequence", ["single", "dialogue"])
def test_one_pattern_is_no_draw(sequence):
    dataset = make_dataset(6, sequence=sequence)
    batch = batch_of(dataset, range(6))
    hidden = Patterns("audio", NAMES, ("audio",)).bind(dataset, 3)(batch)
    assert not hidden.masks["text"].any()
    assert not hidden.inputs["text"].any()
    assert torch.equal(hidden.masks["audio"], batch.masks["audio"])


def test_patterns_are_drawn_alike_and_shared_by_the_turns_of_a_dialogue():
    dataset = make_dataset(3000, sequence="dialogue", absent=False)
    batch = batch_of(dataset, range(3000))
    hidden = Patterns("drawn", NAMES, ("text", "audio", "text+audio")).bind(dataset, 0)(batch)
    for name in NAMES:
        kept, there = hidden.masks[name], batch.masks[name]
        assert torch.equal(kept, there & kept.any(1, keepdim=True))
    counts = (hidden.present.long() @ torch.tensor([1, 2])).bincount(minlength=4)
    assert counts[0] == 0
    assert (counts[1:] - 1000).abs().max() < 4 * (3000 * 2 / 9) ** 0.5


@pytest.mark.parametrize("sequence", ["single", "dialogue"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_rates_are_met_by_turn_in_dialogues_and_by_sample_elsewhere(sequence, rate):
    dataset = make_dataset(2000, sequence=sequence, absent=False)
    batch = batch_of(dataset, range(2000))
    hidden = RandomRate("x", NAMES, (rate,)).bind(dataset, 0)(batch)
    kept = torch.stack(list(hidden.masks.values()), -1)
    if sequence == "dialogue":
        cells = kept[batch.steps]
        assert (kept.any(1) & ~kept.all(1)).any() or rate == 0.0
    else:
        cells = hidden.present
    assert cells.any(-1).all()
    share = 1 - cells.double().mean().item()
    assert share == pytest.approx(rate, abs=4 * (rate / len(cells)) ** 0.5)


def test_each_sample_draws_its_own_rate():
    dataset = make_dataset(400, sequence="dialogue", absent=False)
    batch = batch_of(dataset, range(400))
    hidden = RandomRate("drawn", NAMES, (0.0, 0.5)).bind(dataset, 0)(batch)
    kept = torch.stack(list(hidden.masks.values()), -1).sum((1, 2)).double() / (2 * batch.steps.sum(1))
    assert set(kept.tolist()) == {0.5, 1.0}  # with two modalities, rate 0.5 keeps exactly one at each turn
    assert 0.4 < (kept == 1.0).double().mean() < 0.6


@pytest.mark.parametrize("sequence", ["single", "window", "dialogue"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_deletion_meets_its_rate_in_one_modality_and_leaves_nothing_empty(sequence, rate):
    dataset = make_dataset(2000, sequence=sequence)
    batch = batch_of(dataset, range(2000))
    hidden = Deletion("x", NAMES, "text", (rate,)).bind(dataset, 0)(batch)
    assert torch.equal(hidden.masks["audio"], batch.masks["audio"])
    if sequence == "dialogue":
        had, kept, other = batch.masks["text"], hidden.masks["text"], batch.masks["audio"]
    else:
        had, kept, other = batch.present[:, 0], hidden.present[:, 0], batch.present[:, 1]
        assert torch.equal(hidden.masks["text"], batch.masks["text"] & kept[:, None])
    assert kept[had & ~other].all()
    both = had & other
    assert 1 - kept[both].double().mean().item() == pytest.approx(rate, abs=4 * (rate / int(both.sum())) ** 0.5)
    assert torch.equal(hidden.observed(dataset.spec.sequence), batch.observed(dataset.spec.sequence))
    assert not hidden.inputs["text"][~hidden.masks["text"]].any()


def test_a_higher_rate_deletes_more_of_the_same():
    dataset = make_dataset(200, sequence="dialogue")
    batch = batch_of(dataset, range(200))
    less, more = (Deletion("x", NAMES, "text", (r,)).bind(dataset, 3)(batch).masks["text"] for r in (0.3, 0.6))
    assert (less | ~more).all()
    assert (less & ~more).any()


def test_deletion_draws_a_rate_a_sample():
    dataset = make_dataset(400, sequence="dialogue", absent=False)
    batch = batch_of(dataset, range(400))
    kept = Deletion("drawn", NAMES, "text", (0.0, 1.0)).bind(dataset, 0)(batch).masks["text"].sum(1)
    assert set((kept / batch.steps.sum(1)).tolist()) == {0.0, 1.0}


def test_feature_rate_hits_steps_independently():
    dataset = make_dataset(3000, sequence="single", absent=False)
    batch = batch_of(dataset, range(3000))
    hidden = FeatureRate("0.3", 0.3).bind(dataset, 0)(batch)
    text, audio = (hidden.masks[n][batch.masks[n]].double() for n in NAMES)
    assert text.mean().item() == pytest.approx(0.7, abs=0.025)
    assert audio.mean().item() == pytest.approx(0.7, abs=0.025)
    assert (text * audio).mean().item() == pytest.approx(0.49, abs=0.025)
    drawn = FeatureRate("drawn", None).bind(dataset, 0)(batch)
    by_sample = [drawn.masks[n].sum(1).double() / batch.masks[n].sum(1) for n in NAMES]
    assert by_sample[0].mean().item() == pytest.approx(0.5, abs=0.04)
    assert torch.corrcoef(torch.stack(by_sample))[0, 1] > 0.2  # both modalities of a sample share its rate


def test_what_does_not_fit_is_refused():
    dataset = make_dataset(3)
    with pytest.raises(ValueError, match="patterns: expected at least one, got none"):
        Patterns("x", NAMES, ())
    with pytest.raises(InputError, match="available: 'vision' is unknown"):
        Patterns("x", NAMES, ("vision",))
    with pytest.raises(ValueError, match="rates: expected at least one, got none"):
        RandomRate("x", NAMES, ())
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 0\.5"):
        RandomRate("x", NAMES, (0.6,))
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 1, got 1\.5"):
        FeatureRate("x", 1.5)
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 1, got 1\.5"):
        Deletion("x", NAMES, "text", (0.5, 1.5))
    with pytest.raises(ValueError, match="rates: expected at least one, got none"):
        Deletion("x", NAMES, "text", ())
    with pytest.raises(InputError, match="modality: 'txt' is unknown; did you mean 'text'"):
        Deletion("x", NAMES, "txt", (0.5,))
    other = ("audio", "text")
    for condition in (
        Patterns("x", other, ("text",)),
        RandomRate("x", other, (0.1,)),
        Deletion("x", other, "text", (0.1,)),
    ):
        with pytest.raises(InputError, match="names: the condition is for modalities"):
            condition.bind(dataset, 0)
