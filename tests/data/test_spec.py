import json
from dataclasses import replace

import pytest

from mmaffect.data import DataSpec, Vocabulary
from mmaffect.training.run_directory import plain

WORDS = Vocabulary(9, unknown=1, mask=2, special=(0, 1, 2, 3, 4))


def test_a_spec_counts():
    spec = DataSpec({"text": 3, "audio": 1}, "score", ("valence",), "single")
    assert (spec.names, spec.outputs, spec.speakers) == (("text", "audio"), 1, 0)


@pytest.mark.parametrize(
    ("modalities", "target", "classes", "message"),
    [
        ({}, "score", ("v",), "modalities: expected at least one, got none"),
        ({"text": 0}, "score", ("v",), "modalities: expected a width of at least 1 for 'text', got 0"),
        ({"text": 1}, "class", ("one",), r"classes: expected at least 2 for 'class', got \('one',\)"),
        ({"text": 1}, "multilabel", (), "classes: expected at least 1 for 'multilabel', got"),
    ],
)
def test_what_is_no_spec_is_said(modalities, target, classes, message):
    with pytest.raises(ValueError, match=message):
        DataSpec(modalities, target, classes, "single")


def test_class_weights_average_to_one_over_the_labels():
    shares = (0.5, 0.3, 0.2, 0.0)
    spec = DataSpec({"text": 1}, "class", ("a", "b", "c", "d"), "single", class_shares=shares)
    weights = spec.class_weights
    assert weights is not None
    assert sum(w * s for w, s in zip(weights, shares, strict=True)) == pytest.approx(1)
    assert weights[3] == 0
    assert weights[1] / weights[0] == pytest.approx(0.5 / 0.3)
    assert DataSpec({"text": 1}, "score", ("v",), "single").class_weights is None


def test_a_share_for_each_class_is_asked_for():
    with pytest.raises(ValueError, match=r"class_shares: expected one for each of \('a', 'b'\), got \(1\.0,\)"):
        DataSpec({"text": 1}, "class", ("a", "b"), "single", class_shares=(1.0,))


def test_a_spec_with_tokens_comes_back_from_json():
    spec = DataSpec({"text": 9, "audio": 2}, "class", ("a", "b"), "single", tokens={"text": WORDS})
    told = json.loads(json.dumps(plain(spec)))
    told["classes"], told["class_shares"] = tuple(told["classes"]), tuple(told["class_shares"])
    back = DataSpec(**told)
    assert back == spec
    assert isinstance(back.tokens["text"], Vocabulary)
    assert replace(spec, modalities={"text": 4, "audio": 2}, tokens={}).tokens == {}


def test_a_spec_without_tokens_reads_as_it_always_did():
    """What a spec reads like is part of the fingerprint of every run that there is."""
    assert repr(DataSpec({"text": 1}, "score", ("v",), "single")) == (
        "DataSpec(modalities={'text': 1}, target='score', classes=('v',), sequence='single', speakers=0, "
        "confounders=0, class_shares=())"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tokens": {"txt": WORDS}},
            r"tokens: expected a modality 'txt' as wide as its vocabulary, 9, got \{'text': 9\}",
        ),
        ({"modalities": {"text": 8}}, r"tokens: expected a modality 'text' as wide as its vocabulary, 9, got"),
        ({"sequence": "dialogue"}, r"tokens: text: a turn of a dialogue has no time axis of its own"),
        ({"sequence": "window"}, r"a turn of a window has no time axis .*; expected sequence = 'single'"),
    ],
)
def test_tokens_that_do_not_fit_are_said(changes, message):
    fields = {"modalities": {"text": 9}, "sequence": "single", "tokens": {"text": WORDS}} | changes
    with pytest.raises(ValueError, match=message):
        DataSpec(target="score", classes=("v",), **fields)
