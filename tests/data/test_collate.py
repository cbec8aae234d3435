from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.data import Sample, collate
from mmaffect.ops import InputError

nan = float("nan")


def clip(name, text, audio, *, target=0, index=0):
    """A sample whose modalities have time axes of their own."""
    return Sample(
        {"text": text, "audio": audio},
        {"text": torch.ones(len(text), dtype=torch.bool), "audio": torch.ones(len(audio), dtype=torch.bool)},
        torch.tensor(target),
        None,
        name,
        index,
    )


def talk(name, has_text, has_audio, *, score=False):
    """A dialogue of as many turns as there are entries."""
    steps = len(has_text)
    generator = torch.Generator().manual_seed(steps)
    return Sample(
        {"text": torch.randn(steps, 2, generator=generator), "audio": torch.randn(steps, 3, generator=generator)},
        {"text": torch.tensor(has_text, dtype=torch.bool), "audio": torch.tensor(has_audio, dtype=torch.bool)},
        torch.rand(steps, 2, generator=generator) if score else torch.arange(steps),
        torch.ones(steps, dtype=torch.bool),
        name,
        0,
        torch.arange(steps) % 2,
        torch.ones(steps, dtype=torch.long),
        by_step=True,
    )


def test_clips_are_padded_behind_with_zero_and_false():
    batch = collate(
        [
            clip("a", torch.ones(1, 2), torch.ones(2, 3), target=1, index=7),
            clip("b", torch.ones(3, 2), torch.ones(0, 3)),
        ]
    )
    assert batch.names == ("text", "audio")
    assert batch.masks["text"].tolist() == [[True, False, False], [True] * 3]
    assert batch.masks["audio"].tolist() == [[True, True], [False, False]]
    assert batch.inputs["text"].sum((1, 2)).tolist() == [2.0, 6.0]
    assert batch.present.tolist() == [[True, True], [True, False]]
    assert (batch.id, batch.index.tolist(), batch.targets.tolist()) == (("a", "b"), [7, 0], [1, 0])
    assert batch.steps is None
    assert batch.speaker is None
    assert batch.confounder is None


def test_dialogues_share_their_time_and_targets_are_padded_as_unlabelled():
    batch = collate([talk("a", [1, 0, 0], [1, 1, 0]), talk("b", [1], [0])])
    assert batch.steps.tolist() == [[True] * 3, [True, False, False]]
    assert batch.targets.tolist() == [[0, 1, 2], [0, -100, -100]]
    assert batch.speaker.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert batch.confounder.tolist() == [[1, 1, 1], [1, 0, 0]]
    # The last turn of "a" has nothing: it is a turn, but not an observed one.
    assert batch.observed("dialogue").tolist() == [[True, True, False], [True, False, False]]
    scores = collate([talk("a", [1, 0, 0], [1, 1, 0], score=True), talk("b", [1], [0], score=True)]).targets
    assert scores.shape == (2, 3, 2)
    assert scores[1, 1:].isnan().all()
    assert not scores[0].isnan().any()


def test_targets_of_windows_are_not_mistaken_for_one_a_step():
    window = replace(
        talk("a", [1, 1], [1, 1]), target=torch.tensor([1.0, 2.0]), confounder=torch.tensor(1), by_step=False
    )
    longer = replace(
        talk("b", [1, 1, 1], [1, 1, 1]), target=torch.tensor([3.0, nan]), confounder=torch.tensor(0), by_step=False
    )
    batch = collate([window, longer])
    assert batch.targets.shape == (2, 2)
    assert batch.confounder.tolist() == [1, 0]


def test_a_modality_nobody_has_still_has_a_step():
    batch = collate([clip("a", torch.ones(2, 2), torch.ones(0, 3)), clip("b", torch.ones(1, 2), torch.ones(0, 3))])
    assert batch.inputs["audio"].shape == (2, 1, 3)
    assert not batch.masks["audio"].any()
    empty = replace(
        talk("a", [1, 1], [0, 0]),
        inputs={"text": torch.ones(2, 2), "audio": torch.ones(0, 3)},
        masks={"text": torch.ones(2, dtype=torch.bool), "audio": torch.ones(0, dtype=torch.bool)},
    )
    assert collate([empty]).masks["audio"].tolist() == [[False, False]]


LENGTHS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=6)


@given(LENGTHS, st.randoms(use_true_random=False))
def test_a_sample_is_the_same_whoever_stands_beside_it(lengths, random):
    samples = [
        clip(str(i), torch.randn(t, 2), torch.randn(a, 3), target=i % 2, index=i) for i, (t, a) in enumerate(lengths)
    ]
    shuffled = samples.copy()
    random.shuffle(shuffled)
    batch = collate(shuffled)
    for row, sample in enumerate(shuffled):
        alone = collate([sample])
        for name, value in sample.inputs.items():
            torch.testing.assert_close(batch.inputs[name][row, : len(value)], value)
            assert (batch.inputs[name][row, len(value) :] == 0).all()
            assert batch.masks[name][row].sum() == len(value) == alone.masks[name].sum()
        assert batch.targets[row] == sample.target
        assert batch.index[row] == sample.index


@given(st.sampled_from([nan, float("inf"), 1e30, -1e6]))
def test_what_a_mask_hides_becomes_zero(value):
    sample = talk("a", [1, 0], [1, 1])
    sample.inputs["text"][1] = value
    assert collate([sample]).inputs["text"][0, 1].tolist() == [0.0, 0.0]


def test_values_that_are_observed_must_be_finite():
    samples = [talk("a", [1, 1], [1, 1]), talk("b", [1, 1], [1, 1])]
    samples[1].inputs["audio"][0, :2] = torch.tensor([nan, float("inf")])
    with pytest.raises(
        InputError, match="sample 'b': modality 'audio': expected finite values at observed steps, got 2"
    ):
        collate(samples)


def test_a_sample_with_nothing_is_refused():
    with pytest.raises(
        InputError, match="sample 'b': expected at least one modality at one step, got none of text, audio"
    ):
        collate([clip("a", torch.ones(1, 2), torch.ones(1, 3)), clip("b", torch.ones(0, 2), torch.ones(0, 3))])
    with pytest.raises(InputError, match="sample 'b': expected at least one modality"):
        collate([talk("a", [1, 0], [0, 0]), talk("b", [0, 0], [0, 0])])


def only(sample, **fields):
    return replace(sample, id="b", **fields)


ONE = talk("a", [1, 1], [1, 1])
MASK = torch.ones(2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            only(ONE, inputs={"text": torch.ones(2, 2)}),
            r"sample 'b': expected the modalities \('text', 'audio'\) of sample 'a'",
        ),
        (only(ONE, masks={"text": MASK, "adio": MASK}), "these differ: adio, audio"),
        (
            only(ONE, inputs={"text": torch.ones(2, 5), "audio": torch.ones(2, 3)}),
            r"modality 'text': expected values \(T, 2\)",
        ),
        (
            only(ONE, masks={"text": MASK[:1], "audio": MASK}),
            r"modality 'text': .* a bool mask \(T,\), got \(2, 2\) and",
        ),
        (only(ONE, masks={"text": MASK.float(), "audio": MASK}), "modality 'text': .* got .* torch.float32"),
        (
            only(ONE, steps=torch.ones(3, dtype=torch.bool)),
            "modality 'text': expected the 3 steps that all modalities share",
        ),
        (only(ONE, steps=None), "steps: expected in every sample of a batch or in none"),
        (only(ONE, speaker=None), "speaker: expected in every sample of a batch or in none"),
        (only(ONE, confounder=None), "confounder: expected in every sample of a batch or in none"),
        (
            only(ONE, target=torch.zeros(2)),
            r"target: expected one like that of sample 'a', torch\.int64 \(2,\), got torch\.float32",
        ),
        (only(ONE, by_step=False), "target: expected one like that of sample 'a'"),
        (only(ONE, target=torch.zeros(3, dtype=torch.long)), r"target: expected one entry a step, got \(3,\)"),
        (only(ONE, speaker=torch.zeros(3)), r"speaker: expected one entry a step, got \(3,\)"),
        (only(ONE, confounder=torch.zeros(3)), r"confounder: expected one entry a step, got \(3,\)"),
    ],
)
def test_samples_that_do_not_fit_together_are_refused(other, message):
    with pytest.raises(InputError, match=message):
        collate([ONE, other])


def test_no_sample_is_refused():
    with pytest.raises(InputError, match="samples: expected at least one, got none"):
        collate([])


def read(name, ids, audio=1):
    """A sample of token ids and vectors."""
    return clip(name, torch.tensor(ids, dtype=torch.int64), torch.ones(audio, 3))


def test_tokens_are_padded_with_id_0():
    batch = collate([read("a", [3, 7, 4]), read("b", [], 2), read("c", [3, 4])])
    assert batch.inputs["text"].tolist() == [[3, 7, 4], [0, 0, 0], [3, 4, 0]]
    assert batch.inputs["text"].dtype == torch.int64
    assert batch.masks["text"].sum(1).tolist() == [3, 0, 2]
    nobody = collate([read("a", [])])
    assert (nobody.inputs["text"].tolist(), nobody.masks["text"].tolist()) == ([[0]], [[False]])


def test_what_a_mask_hides_among_tokens_is_id_0():
    hidden = replace(
        read("a", [3, -7, 4]), masks={"text": torch.tensor([True, False, True]), "audio": torch.ones(1) > 0}
    )
    assert collate([hidden]).inputs["text"].tolist() == [[3, 0, 4]]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            [read("a", [1]), clip("b", torch.ones(1), torch.ones(1, 3))],
            r"sample 'b': modality 'text': expected token ids int64 \(T,\) and a bool mask \(T,\), got \(1,\)",
        ),
        (
            [read("a", [1]), clip("b", torch.ones(1, 2), torch.ones(1, 3))],
            r"sample 'b': modality 'text': expected token ids int64 \(T,\) and a bool mask \(T,\), got \(1, 2\)",
        ),
        (
            [clip("b", torch.ones(1, 2), torch.ones(1, 3)), read("a", [1])],
            r"sample 'a': modality 'text': expected values \(T, 2\) and a bool mask \(T,\), got \(1,\)",
        ),
        (
            [clip("b", torch.ones(1), torch.ones(1, 3))],
            r"sample 'b': modality 'text': expected values \(T, D\) and a bool mask \(T,\), got \(1,\)",
        ),
        (
            [read("a", [1]), read("b", [3, -2])],
            "sample 'b': modality 'text': expected token ids of at least 0, got -2",
        ),
    ],
)
def test_what_are_no_tokens_is_said(samples, message):
    with pytest.raises(InputError, match=message):
        collate(samples)
