import pytest

from mmaffect.data import DataSpec


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
