import pickle
from dataclasses import replace

import pytest
import torch

from mmaffect.data import DataSpec, MultimodalDataset, Vocabulary

WIDTHS = {"text": 2, "audio": 3}


def dialogues(**changes):
    """Three dialogues of 2, 3 and 1 turns."""
    rows = 6
    generator = torch.Generator().manual_seed(0)
    fields = {
        "values": {n: torch.randn(rows, d, generator=generator) for n, d in WIDTHS.items()},
        "observed": {
            "text": torch.tensor([1, 0, 1, 1, 1, 1], dtype=torch.bool),
            "audio": torch.ones(rows, dtype=torch.bool),
        },
        "spans": torch.tensor([[0, 2], [2, 5], [5, 6]]),
        "targets": torch.arange(rows) % 2,
        "ids": ("a", "b", "c"),
        "row_ids": tuple("uvwxyz"),
        "speaker": torch.tensor([0, 1, 0, 0, 1, 0]),
        "confounder": torch.tensor([0, 0, 1, 1, 1, 0]),
        "groups": {"part": ("p", "q", "p")},
    }
    return MultimodalDataset(DataSpec(WIDTHS, "class", ("sad", "happy"), "dialogue", 2, 2), **fields | changes)


def clips(**changes):
    """Two clips whose modalities have time axes of their own; the second has no text."""
    fields = {
        "values": {"text": torch.arange(6.0).reshape(3, 2), "audio": torch.arange(15.0).reshape(5, 3)},
        "observed": {"text": torch.ones(3, dtype=torch.bool), "audio": torch.ones(5, dtype=torch.bool)},
        "spans": {"text": torch.tensor([[0, 3], [3, 3]]), "audio": torch.tensor([[0, 1], [1, 5]])},
        "targets": torch.tensor([0, 1]),
        "ids": ("a", "b"),
    }
    return MultimodalDataset(DataSpec(WIDTHS, "class", ("sad", "happy"), "single"), **fields | changes)


def test_a_dialogue_is_its_rows():
    data = dialogues()
    sample = data[1]
    assert (len(data), sample.id, sample.index) == (3, "b", 1)
    assert sample.target.tolist() == [0, 1, 0]
    assert sample.steps.tolist() == [True] * 3
    assert sample.speaker.tolist() == [0, 0, 1]
    assert sample.confounder.tolist() == [1, 1, 1]
    torch.testing.assert_close(sample.inputs["audio"], data.values["audio"][2:5])
    assert data.step_ids(1) == ("w", "x", "y")
    assert data[-1].id == "c"
    assert data[-1].index == 2


def test_samples_are_views():
    data = dialogues()
    assert data[1].inputs["text"].data_ptr() == data.values["text"][2:].data_ptr()


def test_a_clip_has_an_axis_for_each_modality():
    data = clips()
    assert [len(v) for v in data[0].inputs.values()] == [3, 1]
    assert [len(v) for v in data[1].inputs.values()] == [0, 4]
    assert data[0].steps is None
    assert data[1].target.item() == 1
    assert data.step_ids(1) == ("b",)
    assert {n: v.tolist() for n, v in data.lengths.items()} == {"text": [3, 0], "audio": [1, 4]}
    assert data.max_steps == 4
    assert data.batch().present.tolist() == [[True, True], [False, True]]


def test_a_subset_is_numbered_anew_and_holds_the_same():
    data = dialogues()
    part = data.subset([2, 0])
    assert part.ids == ("c", "a")
    assert part.groups == {"part": ("p", "p")}
    assert [part[i].index for i in range(2)] == [0, 1]
    for mine, theirs in ((part[0], data[2]), (part[1], data[0])):
        torch.testing.assert_close(mine.inputs, theirs.inputs)
        assert mine.target.tolist() == theirs.target.tolist()
        assert mine.speaker.tolist() == theirs.speaker.tolist()
    assert part.step_ids(1) == ("u", "v")
    assert clips().subset(torch.tensor([1]))[0].target.item() == 1
    assert len(data.subset([])) == 0
    assert data.subset([]).max_steps == 0
    with pytest.raises(ValueError, match="indices: expected rows of 0 … 2, got 3"):
        data.subset([0, 3])
    with pytest.raises(IndexError, match="index 3 is out of range for 3 samples"):
        data[3]


def test_the_fingerprint_depends_on_the_samples_alone():
    data = dialogues()
    assert data.fingerprint == dialogues().fingerprint
    assert len(data.fingerprint) == 64
    assert data.subset([0, 1, 2]).fingerprint == data.fingerprint
    assert data.subset([0, 2, 1]).fingerprint != data.fingerprint
    assert data.subset([0, 1]).subset([1]).fingerprint == data.subset([1]).fingerprint
    # What lies in the arrays but in none of the samples does not matter, nor what a mask hides.
    elsewhere = {n: v.clone() for n, v in data.values.items()}
    for value in elsewhere.values():
        value[0] = 9.0
    assert dialogues(values=elsewhere).subset([1]).fingerprint == data.subset([1]).fingerprint
    hidden = {n: v.clone() for n, v in data.values.items()}
    hidden["text"][1] = float("nan")
    assert dialogues(values=hidden).fingerprint == data.fingerprint


@pytest.mark.parametrize("field", ["values", "observed", "targets", "speaker", "confounder", "ids", "groups", "spans"])
def test_the_fingerprint_sees_every_field(field):
    data = dialogues()
    changed = {
        "values": {n: v + 1 for n, v in data.values.items()},
        "observed": {n: torch.ones(6, dtype=torch.bool) for n in WIDTHS},
        "targets": 1 - data.targets,
        "speaker": 1 - data.speaker,
        "confounder": None,
        "ids": ("a", "b", "d"),
        "groups": {"part": ("p", "p", "p")},
        "spans": torch.tensor([[0, 1], [1, 5], [5, 6]]),
    }
    assert dialogues(**{field: changed[field]}).fingerprint != data.fingerprint


def test_a_dataset_survives_being_sent_to_a_worker():
    data = dialogues()
    assert pickle.loads(pickle.dumps(data)).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": {"text": torch.zeros(6, 2)}}, r"values, observed: expected \('text', 'audio'\), got \('text',\)"),
        ({"values": {"text": torch.zeros(6, 3), "audio": torch.zeros(6, 3)}}, r"values\['text'\]: expected \(R, 2\)"),
        (
            {"observed": {n: torch.ones(5, dtype=torch.bool) for n in WIDTHS}},
            r"values\['text'\]: expected \(R, 2\) with",
        ),
        ({"spans": {n: torch.zeros(3, 2) for n in WIDTHS}}, "spans: expected one tensor"),
        ({"spans": torch.tensor([[0, 2]])}, r"spans\['text'\]: expected \(3, 2\), got \(1, 2\)"),
        ({"spans": torch.tensor([[0, 2], [2, 5], [5, 7]])}, r"spans\['text'\]: expected 0 <= start <= stop <= 6"),
        ({"spans": torch.tensor([[0, 2], [5, 2], [5, 6]])}, r"spans\['text'\]: expected 0 <= start <= stop <= 6"),
        ({"targets": torch.zeros(3)}, "targets: expected 6 entries, got 3"),
        ({"speaker": torch.zeros(3)}, "speaker: expected 6 entries, got 3"),
        ({"confounder": torch.zeros(3)}, "confounder: expected 6 entries, got 3"),
        ({"row_ids": ("u",)}, "row_ids: expected 6 names, got 1"),
        ({"groups": {"part": ("p",)}}, r"groups\['part'\]: expected 3 entries, got 1"),
    ],
)
def test_what_does_not_fit_together_is_said(changes, message):
    with pytest.raises(ValueError, match=message):
        dialogues(**changes)


def test_shared_time_needs_equally_many_rows_and_own_time_no_speaker():
    ones = torch.ones(6, dtype=torch.bool)
    values = {"text": torch.zeros(6, 2), "audio": torch.zeros(7, 3)}
    with pytest.raises(ValueError, match="values: expected equally many rows where time is shared, got"):
        dialogues(values=values, observed={"text": ones, "audio": torch.ones(7, dtype=torch.bool)})
    with pytest.raises(ValueError, match="speaker: expected None in 'single'"):
        clips(speaker=torch.zeros(3))
    with pytest.raises(ValueError, match="spans: expected a tensor a modality"):
        clips(spans=torch.zeros(2, 2))


WORDS = Vocabulary(9, unknown=1, mask=2, special=(0, 1, 2, 3, 4))


def sentences(**changes):
    """Three sentences, the second of them missing, and a sound each."""
    fields = {
        "values": {"text": torch.tensor([3, 7, 1, 4, 3, 8, 4]), "audio": torch.ones(3, 3)},
        "observed": {"text": torch.tensor([1, 1, 1, 1, 1, 1, 0]).bool(), "audio": torch.ones(3, dtype=torch.bool)},
        "spans": {"text": torch.tensor([[0, 4], [4, 4], [4, 7]]), "audio": torch.tensor([[0, 1], [1, 2], [2, 3]])},
        "targets": torch.tensor([0, 1, 1]),
        "ids": ("a", "b", "c"),
    }
    spec = DataSpec({"text": 9, "audio": 3}, "class", ("sad", "happy"), "single", tokens={"text": WORDS})
    return MultimodalDataset(changes.pop("spec", spec), **fields | changes)


def test_sentences_are_their_ids():
    data = sentences()
    assert data[0].inputs["text"].tolist() == [3, 7, 1, 4]
    assert data.subset([2, 0]).batch().inputs["text"].tolist() == [[3, 8, 0, 0], [3, 7, 1, 4]]
    assert data.batch().present.tolist() == [[True, True], [False, True], [True, True]]


def test_start_and_end_are_protected_where_they_are_real():
    data = sentences()
    rows = [[True, False, False, True], [False] * 4, [True, False, False, False]]  # the last end is not observed
    assert data.protected("text").tolist() == rows
    assert data.subset([2, 0]).protected("text").tolist() == [rows[2], rows[0]]
    assert data.subset([1]).protected("text").shape == (1, 0)
    assert data.protected("audio").tolist() == [[False]] * 3
    assert not clips().protected("text").any()
    with pytest.raises(ValueError, match="name: 'txt' is unknown; did you mean 'text'"):
        data.protected("txt")


def test_the_fingerprint_sees_tokens_and_their_vocabulary():
    data = sentences()
    assert sentences().fingerprint == data.fingerprint == data.subset([0, 1, 2]).fingerprint
    hidden = data.values["text"].clone()
    hidden[6] = 5  # not observed
    assert sentences(values=data.values | {"text": hidden}).fingerprint == data.fingerprint
    hidden[1] = 5
    assert sentences(values=data.values | {"text": hidden}).fingerprint != data.fingerprint
    other = replace(data.spec, tokens={"text": WORDS._replace(mask=3)})
    assert sentences(spec=other).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (torch.ones(7), r"values\['text'\]: expected token ids int64 \(R,\) with a mask \(R,\), got torch.float32"),
        (torch.ones(7, 1).long(), r"expected token ids int64 \(R,\) with a mask \(R,\), got torch.int64 \(7, 1\)"),
        (torch.ones(6).long(), r"expected token ids int64 \(R,\) with a mask \(R,\), got torch.int64 \(6,\), \(7,\)"),
        (torch.tensor([3, 9, 1, 4, 3, 8, 4]), r"values\['text'\]: expected token ids of 0 … 8, got 9"),
        (torch.tensor([3, -1, 1, 4, 3, 8, 4]), "expected token ids of 0 … 8, got -1"),
    ],
)
def test_what_are_no_tokens_of_the_vocabulary_is_said(text, message):
    with pytest.raises(ValueError, match=message):
        sentences(values={"text": text, "audio": torch.ones(3, 3)})
