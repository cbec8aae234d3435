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
