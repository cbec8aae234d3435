import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.data.target_recipe import TargetRecipe
from mmaffect.data.targets import blank_targets, encode_targets, encode_values
from mmaffect.ops import InputError

CLASSES = ("sad", "happy")
nan = float("nan")


def classes(array, **fields):
    return encode_targets(np.array(array), TargetRecipe("class", "y", CLASSES, **fields), "f: y")


def scores(array, names=("v",), **fields):
    return encode_targets(np.array(array), TargetRecipe("score", "y", names, **fields), "f: y")


def labels(array, **fields):
    return encode_targets(np.array(array), TargetRecipe("multilabel", "y", CLASSES, **fields), "f: y")


@pytest.mark.parametrize(
    ("array", "fields"),
    [
        ([0, 1, -1, 1], {"unlabelled": (-1,)}),
        ([0.0, 1.0, nan, 1.0], {}),
        (["sad", "happy", "xxx", "happy"], {"unlabelled": ("xxx",)}),
        (["s", "h", "x", "e"], {"values": (("s",), ("h", "e")), "unlabelled": ("x",)}),
        ([7, 8, 0, 9], {"values": ((7,), (8, 9)), "unlabelled": (0,)}),
    ],
)
def test_classes_by_index_name_or_value(array, fields):
    found = classes(array, **fields)
    assert found.values.tolist() == [0, 1, -100, 1]
    assert found.values.dtype == torch.int64
    assert found.labelled.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([0, 1, 2, 5, 5], r"f: y: 5 is not expected \(3 rows hold such values\); known: 0, 1"),
        ([0, -1], r"f: y: -1 is not expected \(1 rows"),
        (["sad", "hapy"], r"f: y: 'hapy' is not expected \(1 rows hold such values\); did you mean 'happy'\?"),
        ([0.5, 1.0], r"f: y: 0\.5 is not expected"),
        ([[0, 1]], r"f: y: expected one class a row, got shape \(1, 2\)"),
        ([nan, nan], "f: y: expected some labelled rows, got none of 2"),
    ],
)
def test_classes_outside_the_recipe_are_refused(array, message):
    with pytest.raises(InputError, match=message):
        classes(array)


def test_scores_keep_their_values_and_lose_what_is_unlabelled():
    found = scores([1.5, 99.0, nan], unlabelled=(99,))
    torch.testing.assert_close(found.values, torch.tensor([1.5, nan, nan]), equal_nan=True)
    assert found.labelled.tolist() == [True, False, False]
    found = scores([[1.0, 2.0], [nan, 3.0], [nan, nan]], names=("v", "a"))
    assert found.values.shape == (3, 2)
    assert found.labelled.tolist() == [True, True, False]
    assert scores([[1], [2]]).values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("array", "fields", "message"),
    [
        (
            [1.0, 3.5, -4.0],
            {"range": (-3.0, 3.0)},
            r"f: y: expected finite scores within -3\.0 … 3\.0, got 3\.5 \(2 rows",
        ),
        ([1.0, np.inf], {}, r"f: y: expected finite scores within -inf … inf, got inf \(1 rows"),
        ([[1.0, 2.0]], {}, r"f: y: expected 1 a row as in target\.classes \(v\), got shape \(1, 2\)"),
        (["a"], {}, r"f: y: expected numbers, got <U1"),
        ([nan], {}, "f: y: expected some labelled rows, got none of 1"),
    ],
)
def test_scores_outside_the_recipe_are_refused(array, fields, message):
    with pytest.raises(InputError, match=message):
        scores(array, **fields)


def test_labels_are_zeros_and_ones():
    found = labels([[0, 1], [1, 1], [-1, -1], [-1, 1]], unlabelled=(-1,))
    torch.testing.assert_close(
        found.values, torch.tensor([[0, 1], [1, 1], [nan, nan], [nan, 1.0]]), equal_nan=True, check_dtype=False
    )
    assert found.labelled.tolist() == [True, True, False, True]
    assert labels([[True, False]]).values.tolist() == [[1.0, 0.0]]


def test_labels_other_than_zeros_and_ones_are_refused():
    with pytest.raises(InputError, match=r"f: y: expected 0 or 1, got 0\.5 \(1 rows hold such values\)"):
        labels([[0.0, 0.5], [1.0, 0.0]])
    with pytest.raises(InputError, match=r"expected 0 or 1, got 2\.0"):
        labels([[0, 2]])


def test_blank_targets_have_the_shape_of_true_ones():
    for recipe, shape in [
        (TargetRecipe("class", "y", CLASSES), (4,)),
        (TargetRecipe("score", "y", ("v",)), (4,)),
        (TargetRecipe("score", "y", CLASSES), (4, 2)),
        (TargetRecipe("multilabel", "y", CLASSES), (4, 2)),
        (TargetRecipe("multilabel", "y", ("one",)), (4, 1)),
    ]:
        blank = blank_targets(recipe, 4)
        assert blank.values.shape == shape
        assert (blank.values == -100).all() if recipe.kind == "class" else blank.values.isnan().all()
        assert blank.labelled.all()


def test_codes_of_a_column():
    assert encode_values(np.array([True, False]), {False: 0, True: 1}, "f").tolist() == [1, 0]
    assert encode_values(np.array([nan, 1.0]), {1: 0}, "f", nan=-100).tolist() == [-100, 0]
    with pytest.raises(InputError, match=r"f: nan is not expected \(1 rows"):
        encode_values(np.array([nan, 1.0]), {1: 0}, "f")
    with pytest.raises(InputError, match=r"f: 3 is not expected \(2 rows hold such values\)"):
        encode_values(np.array([3, 1, 3]), {1: 0}, "f")


def binned(array, bins, names, **fields):
    return encode_targets(np.array(array), TargetRecipe("class", "y", names, bins=bins, **fields), "f: y")


THREE, SEVEN = ("negative", "neutral", "positive"), ("-3", "-2", "-1", "0", "1", "2", "3")


def test_an_edge_given_twice_is_a_class_of_its_own():
    found = binned(np.array([-3, -1e-6, 0, -0.0, 1e-6, 3, nan, 9], np.float32), (0.0, 0.0), THREE, unlabelled=(9,))
    assert found.values.tolist() == [0, 0, 1, 1, 2, 2, -100, -100]
    assert found.values.dtype == torch.int64
    assert found.labelled.tolist() == [True] * 6 + [False] * 2


def test_a_score_on_an_edge_is_above_it():
    assert binned([0, 0.9, 1.0, 1.5, 2.0, 7], (1.0, 2.0), THREE).values.tolist() == [0, 0, 1, 1, 2, 2]
    tenth = np.array([0.6, 0.7, 0.8], np.float32)  # 0.7 is less there than in float64
    assert binned(tenth, (0.7,), ("low", "high")).values.tolist() == [0, 1, 1]


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=20))
def test_rounded_classes_are_those_of_acc7(scores):
    found = binned(np.array(scores, np.float32), "round", SEVEN, range=(-3.0, 3.0)).values
    assert (found - 3).tolist() == np.round(np.array(scores, np.float32)).astype(int).tolist()


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=20), st.lists(st.integers(-4, 4), min_size=1, max_size=5)
)
def test_bins_agree_with_digitize_where_no_edge_is_given_twice(scores, edges):
    edges = sorted(set(map(float, edges)))
    names = tuple(map(str, range(len(edges) + 1)))
    found = binned(np.array(scores, np.float32), tuple(edges), names).values
    assert found.tolist() == np.digitize(scores, edges).tolist()


@pytest.mark.parametrize(
    ("array", "bins", "fields", "message"),
    [
        ([0.0, 4.0], (0.0, 0.0), {"range": (-3.0, 3.0)}, r"f: y: expected finite scores within -3\.0 … 3\.0, got 4\.0"),
        ([0.0, np.inf], (0.0, 0.0), {}, "f: y: expected finite scores"),
        (["a"], (0.0, 0.0), {}, "f: y: expected numbers, got <U1"),
        ([[0.0]], (0.0, 0.0), {}, r"f: y: expected one class a row, got shape \(1, 1\)"),
        ([nan], (0.0, 0.0), {}, "f: y: expected some labelled rows, got none of 1"),
    ],
)
def test_scores_that_cannot_be_cut_are_said(array, bins, fields, message):
    with pytest.raises(InputError, match=message):
        binned(array, bins, THREE, **fields)
