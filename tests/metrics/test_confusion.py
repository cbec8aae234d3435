import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mmaffect.metrics import confusion_matrix, weighted_f1
from mmaffect.metrics.confusion import f1_by_class, f1_weighted_by_support, recall_by_class

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


def split(rows):
    found, truth = zip(*rows, strict=True)
    return torch.tensor(found), torch.tensor(truth)


@settings(deadline=None, max_examples=25)
@given(pairs)
def test_against_scikit_learn(rows):
    found, truth = split(rows)
    table = confusion_matrix(found, truth, classes=5)
    np.testing.assert_array_equal(table, sk.confusion_matrix(truth, found, labels=range(5)))
    options = {"labels": range(5), "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(recall_by_class(table), sk.recall_score(truth, found, **options))
    np.testing.assert_allclose(f1_by_class(table), sk.f1_score(truth, found, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.f1_score(truth, found, average="weighted")
    assert f1_weighted_by_support(table) == pytest.approx(expected)
    assert weighted_f1(found, truth) == pytest.approx(expected)


def test_rows_are_the_truth():
    assert confusion_matrix(torch.tensor([2]), torch.tensor([1]), classes=3).nonzero().tolist() == [[1, 2]]


def test_swapping_the_arguments_of_weighted_f1_changes_the_figure():
    found, truth = torch.tensor([1, 1, 1, 1]), torch.tensor([1, 1, 0, 0])
    right, swapped = weighted_f1(found, truth), weighted_f1(truth, found)
    assert right == pytest.approx(sk.f1_score(truth, found, average="weighted")) == pytest.approx(1 / 3)
    assert swapped == pytest.approx(sk.f1_score(found, truth, average="weighted")) == pytest.approx(2 / 3)


def test_weighted_f1_takes_bools_and_is_nan_for_nothing():
    assert weighted_f1(torch.tensor([True, False]), torch.tensor([True, True])) == pytest.approx(2 / 3)
    assert np.isnan(weighted_f1(torch.tensor([]).bool(), torch.tensor([]).bool()))


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 1), (2, 1))])
def test_shapes_must_agree(shapes):
    found, truth = (torch.zeros(shape, dtype=torch.long) for shape in shapes)
    with pytest.raises(ValueError, match=r"predicted: expected shape \(N,\) like target"):
        confusion_matrix(found, truth, classes=2)


def test_classes_must_be_in_range():
    with pytest.raises(ValueError, match="predicted: expected classes from 0 to 1, got 2"):
        confusion_matrix(torch.tensor([2]), torch.tensor([0]), classes=2)
    with pytest.raises(ValueError, match="target: expected classes from 0 to 1, got -100"):
        confusion_matrix(torch.tensor([1]), torch.tensor([-100]), classes=2)
    with pytest.raises(ValueError, match="predicted: expected classes from 0 to 0, got -1"):
        weighted_f1(torch.tensor([-1]), torch.tensor([0]))
