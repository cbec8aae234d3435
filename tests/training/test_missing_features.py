from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.data import DataSpec, MultimodalDataset, Vocabulary
from mmaffect.ops import InputError
from mmaffect.training import FeatureRate, ModalityLoss, ModalityRates, TimeBlock, TimeRate
from tests.training.tiny import make_dataset

NAMES = ("text", "audio")
SHARED = ("window", "dialogue")
NESTED = [
    FeatureRate,
    ModalityLoss,
    TimeRate,
    TimeBlock,
    lambda name, rate: ModalityRates(name, NAMES, (rate, rate)),
    lambda name, rate: ModalityRates(name, NAMES, (rate, 0.4)),
]
WORDS = Vocabulary(size=9, unknown=1, mask=2, special=(0, 1, 2, 3, 4))  # 3 starts a sentence, 4 ends it


def sentences(samples=400, seed=0):
    """Sentences of 1 to 6 words between start and end, beside an audio track of its own length."""
    generator = torch.Generator().manual_seed(seed)
    spans, values = {}, {}
    for name, least, more in (("text", 3, 6), ("audio", 1, 8)):
        lengths = torch.randint(least, least + more, (samples,), generator=generator)
        stops = lengths.cumsum(0)
        spans[name] = torch.stack([stops - lengths, stops], 1)
        rows = int(stops[-1])
        if name == "audio":
            values[name] = torch.randn(rows, 2, generator=generator)
            continue
        ids = torch.randint(5, 9, (rows,), generator=generator)
        ids[torch.rand(rows, generator=generator) < 0.1] = WORDS.unknown
        ids[spans[name][:, 0]], ids[stops - 1] = 3, 4
        values[name] = ids
    return MultimodalDataset(
        DataSpec({"text": 9, "audio": 2}, "class", ("c0", "c1"), "single", tokens={"text": WORDS}),
        values=values,
        observed={n: torch.ones(len(v), dtype=torch.bool) for n, v in values.items()},
        spans=spans,
        targets=torch.arange(samples) % 2,
        ids=[f"s{i}" for i in range(samples)],
    )


def tail(rate, trials):
    """Four standard deviations of a share of ``trials`` coins, and a little for rates of 0 and 1."""
    return 4 * (rate * (1 - rate) / trials) ** 0.5 + 1e-12


def share_missing(hidden, batch, names=NAMES):
    there = torch.cat([batch.masks[n].flatten() for n in names])
    kept = torch.cat([hidden.masks[n].flatten() for n in names])
    return 1 - kept[there].double().mean().item(), int(there.sum())


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("make", "sequences"), [(FeatureRate, ("single", *SHARED)), (TimeRate, SHARED)])
def test_rates_of_single_steps_are_met(make, sequences, rate):
    for sequence in sequences:
        dataset = make_dataset(2000, sequence=sequence, absent=False)
        batch = dataset.batch()
        hidden = make("x", rate).bind(dataset, 0)(batch)
        found, cells = share_missing(hidden, batch)
        draws = cells if make is FeatureRate else cells // 2  # one coin for both modalities
        assert found == pytest.approx(rate, abs=tail(rate, draws))


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_each_modality_meets_its_own_rate(rate):
    dataset = make_dataset(2000, sequence="window", absent=False)
    batch = dataset.batch()
    hidden = ModalityRates("x", NAMES, (rate, 0.8)).bind(dataset, 0)(batch)
    for name, wanted in zip(NAMES, (rate, 0.8), strict=True):
        found, cells = share_missing(hidden, batch, (name,))
        assert found == pytest.approx(wanted, abs=tail(wanted, cells))


@pytest.mark.parametrize("sequence", ["single", "window", "dialogue"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_whole_modalities_go_by_turn_in_dialogues_and_by_sample_elsewhere(sequence, rate):
    dataset = make_dataset(2000, sequence=sequence, absent=False)
    batch = dataset.batch()
    hidden = ModalityLoss("x", rate).bind(dataset, 0)(batch)
    kept = torch.stack([hidden.masks[n] for n in NAMES], -1)[batch.steps] if sequence == "dialogue" else hidden.present
    assert 1 - kept.double().mean().item() == pytest.approx(rate, abs=tail(rate, kept.numel()))
    nothing = (~kept.any(-1)).double().mean().item()
    assert nothing == pytest.approx(rate**2, abs=tail(rate**2, len(kept)))  # independent: all may go
    if sequence != "dialogue":
        assert all(torch.equal(hidden.masks[n], batch.masks[n] & hidden.present[:, [i]]) for i, n in enumerate(NAMES))


@pytest.mark.parametrize("sequence", ["single", "window", "dialogue"])
def test_keep_one_leaves_each_row_something_and_one_at_the_end(sequence):
    dataset = make_dataset(300, sequence=sequence)
    batch = dataset.batch()
    for rate in (0.3, 1.0):
        hidden = ModalityLoss("x", rate, keep_one=True).bind(dataset, 0)(batch)
        assert torch.equal(hidden.observed(sequence), batch.observed(sequence))
    kept = torch.stack([hidden.masks[n] for n in NAMES], -1)[batch.steps] if sequence == "dialogue" else hidden.present
    assert (kept.sum(-1) == 1).all()


@pytest.mark.parametrize("sequence", SHARED)
def test_time_goes_from_all_modalities_at_once(sequence):
    dataset = make_dataset(500, sequence=sequence, absent=False)
    batch = dataset.batch()
    for make in (TimeRate, TimeBlock):
        hidden = make("x", None).bind(dataset, 0)(batch)
        assert torch.equal(hidden.masks["text"], hidden.masks["audio"])
        assert not torch.equal(hidden.masks["text"], batch.masks["text"])


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
def test_a_block_is_one_and_as_long_as_its_share_of_what_is_observed(rate):
    dataset = make_dataset(300, sequence="dialogue")
    second = dataset.spans["text"][dataset.lengths["text"] > 2, 0] + 1
    for name in NAMES:  # turns with nothing, which the block does not count
        dataset.observed[name][second[::2]] = False
    batch = dataset.batch()
    hidden = TimeBlock("x", rate).bind(dataset, 0)(batch)
    for row in range(batch.size):
        seen = torch.stack([m[row] for m in batch.masks.values()]).any(0)
        kept = torch.stack([m[row] for m in hidden.masks.values()]).any(0)[seen].tolist()
        gone = [i for i, k in enumerate(kept) if not k]
        assert len(gone) == round(len(kept) * rate)
        assert not gone or gone == list(range(gone[0], gone[-1] + 1))


@pytest.mark.parametrize("make", NESTED)
@settings(max_examples=25, deadline=None)
@given(rates=st.tuples(st.floats(0, 1), st.floats(0, 1)), seed=st.integers(0, 9))
def test_what_is_missing_at_a_rate_is_missing_at_each_higher_one(make, rates, seed):
    for dataset in (make_dataset(30, sequence="dialogue"), make_dataset(30, sequence="window")):
        batch = dataset.batch()
        more, less = (make("x", rate).bind(dataset, seed)(batch) for rate in sorted(rates, reverse=True))
        assert all((less.masks[n] | ~more.masks[n]).all() for n in NAMES)


@pytest.mark.parametrize("make", [*NESTED, lambda name, rate: ModalityLoss(name, rate, keep_one=True)])
def test_at_zero_nothing_is_missing_and_at_one_nothing_but_what_must_stay(make):
    dataset = make_dataset(40, sequence="dialogue")
    batch = dataset.batch()
    nothing = make("0", 0.0).bind(dataset, 1)(batch)
    keeps_some = isinstance(make("1", 1.0), ModalityLoss) and make("1", 1.0).keep_one
    if make("0", 0.0) != ModalityRates("0", NAMES, (0.0, 0.4)):
        assert all(torch.equal(nothing.masks[n], batch.masks[n]) for n in NAMES)
        assert make("1", 1.0).bind(dataset, 1)(batch).present.any() == keeps_some


@pytest.mark.parametrize("make", NESTED[:2] + NESTED[4:5])
def test_each_sample_draws_a_true_rate_of_its_own(make):
    """The share missing in long samples is uniform in [0, 1]: standard deviation 0.29, a coin's would be 0.02."""
    lengths = torch.full((2000,), 256)
    stops = lengths.cumsum(0)
    dataset = MultimodalDataset(
        DataSpec({"text": 1, "audio": 1}, "class", ("c0", "c1"), "dialogue"),
        values={n: torch.zeros(int(stops[-1]), 1) for n in NAMES},
        observed={n: torch.ones(int(stops[-1]), dtype=torch.bool) for n in NAMES},
        spans=torch.stack([stops - lengths, stops], 1),
        targets=torch.zeros(int(stops[-1]), dtype=torch.int64),
        ids=[f"s{i}" for i in range(2000)],
    )
    condition = make("drawn", None)
    if isinstance(condition, ModalityRates):
        condition = ModalityRates("drawn", NAMES, None)
    hidden = condition.bind(dataset, 0)(dataset.batch())
    shares = torch.stack([1 - m.double().mean(1) for m in hidden.masks.values()], 1)
    assert shares[:, 0].std().item() == pytest.approx(12**-0.5, abs=0.02)
    together = torch.corrcoef(shares.T)[0, 1].item()
    # A sample's modalities share its rate; in rmfm_same each has its own.
    assert together == pytest.approx(0.0 if isinstance(condition, ModalityRates) else 1.0, abs=0.1)
    coin = FeatureRate("a coin a position", 0.5).bind(dataset, 0)(dataset.batch())
    assert coin.masks["text"].double().mean(1).std().item() == pytest.approx(0.5 / 256**0.5, abs=0.003)


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_start_and_end_stay_while_a_word_is_left_and_then_go_too(rate):
    dataset = sentences()
    batch = dataset.batch()
    hidden = FeatureRate("x", rate).bind(dataset, 0)(batch)
    ids, before, after = batch.inputs["text"], batch.masks["text"], hidden.masks["text"]
    ends = before & ((ids == 3) | (ids == 4))
    words = before & ~ends
    left = (after & words).any(1)
    assert left.any()
    assert (~left).any()
    assert (after & ends).sum(1)[left].eq(2).all()
    assert not after[~left].any()
    assert 1 - after[words].double().mean().item() == pytest.approx(rate, abs=tail(rate, int(words.sum())))
    unknown = before & (ids == WORDS.unknown)  # a word that the vocabulary lacks is a word
    assert 1 - after[unknown].double().mean().item() == pytest.approx(rate, abs=tail(rate, int(unknown.sum())))
    assert (hidden.inputs["text"][~after] == 0).all()
    for condition in (FeatureRate("1", 1.0), ModalityRates("1", NAMES, (1.0, 1.0)), ModalityLoss("1", 1.0)):
        assert not condition.bind(dataset, 0)(batch).present.any()
    for condition in (FeatureRate("0", 0.0), ModalityRates("0", NAMES, (0.0, 0.0)), ModalityLoss("0", 0.0)):
        whole = condition.bind(dataset, 0)(batch)
        assert all(torch.equal(whole.masks[n], batch.masks[n]) for n in NAMES)


def test_words_are_missing_nested_over_rates():
    dataset = sentences(60)
    batch = dataset.batch()
    masks = [FeatureRate("x", i / 10).bind(dataset, 2)(batch).masks["text"] for i in range(11)]
    assert all((less | ~more).all() for less, more in pairwise(masks))


def test_what_does_not_fit_is_refused():
    for make in (FeatureRate, ModalityLoss, TimeRate, TimeBlock):
        with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 1, got 1\.5"):
            make("x", 1.5)
    with pytest.raises(ValueError, match=r"rate: expected 0 <= rate <= 1, got -0\.5"):
        ModalityRates("x", NAMES, (0.5, -0.5))
    with pytest.raises(ValueError, match=r"rates: expected one for each of \('text', 'audio'\), got \(0\.5,\)"):
        ModalityRates("x", NAMES, (0.5,))
    with pytest.raises(InputError, match="names: the condition is for modalities"):
        ModalityRates("x", ("audio", "text"), None).bind(make_dataset(3), 0)
    for make, kind in ((TimeRate, "tmfm"), (TimeBlock, "stmfm")):
        with pytest.raises(InputError, match=rf"\({kind}\) needs modalities that share their time, in a 'dialogue' or"):
            make("x", 0.5).bind(make_dataset(3), 0)
