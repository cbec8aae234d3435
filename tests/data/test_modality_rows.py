import numpy as np
import pytest
import torch

from mmaffect.data.arrays import ArrayFile
from mmaffect.data.modality_rows import absent_modality, read_modality
from mmaffect.data.recipe import ModalityRecipe
from mmaffect.ops import InputError

nan = float("nan")


@pytest.fixture
def read(tmp_path):
    def go(arrays, recipe=None, *, order=None, shared=False, nonfinite="raise", rows=3):
        np.savez(tmp_path / "d.npz", **arrays)
        recipe = recipe or ModalityRecipe("x")
        order = np.arange(rows) if order is None else np.array(order)
        return read_modality(
            ArrayFile(tmp_path / "d.npz"), "m", recipe, order=order, shared=shared, nonfinite=nonfinite
        )

    return go


def test_one_row_a_sample_in_the_order_asked_for(read):
    x = np.arange(6, dtype=np.int16).reshape(3, 2)
    found = read(
        {"x": x, "has": np.array([1, 0, 1])}, ModalityRecipe("x", available="has"), order=[2, 0, 1], shared=True
    )
    assert found.values.tolist() == [[4.0, 5.0], [0.0, 1.0], [0.0, 0.0]]
    assert found.values.dtype == torch.float32
    assert found.observed.tolist() == found.there.tolist() == [True, True, False]
    assert found.spans.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert read({"x": np.array([1.0, 2.0, 3.0])}).values.shape == (3, 1)


def test_rows_by_offsets(read):
    arrays = {"x": np.arange(7.0), "o": np.array([1, 3, 3, 6])}
    found = read(arrays, ModalityRecipe("x", offsets="o"))
    assert found.values.flatten().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert found.spans.tolist() == [[0, 2], [2, 2], [2, 5]]
    assert found.owner.tolist() == [0, 0, 2, 2, 2]
    assert found.there.tolist() == [True, False, True]
    whole = read(
        {"x": np.arange(12.0).reshape(6, 2), "o": np.array([0, 2, 2, 6]), "has": np.array([True, True, False])},
        ModalityRecipe("x", offsets="o", available="has"),
    )
    assert whole.observed.tolist() == [True, True, False, False, False, False]


def test_padding_is_left_behind(read):
    x = np.arange(12.0).reshape(3, 2, 2)
    x[0, 1] = nan
    found = read({"x": x, "n": np.array([1, 0, 2])}, ModalityRecipe("x", lengths="n"))
    assert found.values.tolist() == [[0.0, 1.0], [8.0, 9.0], [10.0, 11.0]]
    assert found.spans.tolist() == [[0, 1], [1, 1], [1, 3]]
    assert read({"x": np.ones((3, 2, 2))}).spans.tolist() == [[0, 2], [2, 4], [4, 6]]


def test_the_policy_for_what_is_not_finite(read):
    arrays = {"x": np.array([[1.0, nan], [2.0, 3.0], [-np.inf, nan]]), "has": np.array([1, 1, 0])}
    said = (
        r"d\.npz: modalities\.m\.array = 'x': 3 values in 2 observed rows are NaN or infinite, first in row 0; expected"
    )
    with pytest.raises(InputError, match=said):
        read(arrays)
    zero = read(arrays, nonfinite="zero")
    assert zero.values.tolist() == [[1.0, 0.0], [2.0, 3.0], [0.0, 0.0]]
    assert zero.valid.tolist() == [[True, False], [True, True], [False, False]]
    assert zero.observed.tolist() == [True, True, True]
    assert zero.repaired == 3
    absent = read(arrays, nonfinite="absent")
    assert absent.observed.tolist() == [False, True, False]
    assert absent.values.tolist() == [[0.0, 0.0], [2.0, 3.0], [0.0, 0.0]]
    # What is not available does not count, whatever it is; what float32 cannot hold does.
    assert read(arrays, ModalityRecipe("x", available="has"), nonfinite="zero").repaired == 1
    with pytest.raises(InputError, match="1 values in 1 observed rows"):
        read({"x": np.array([1.0, 1e300, 2.0])})


def test_the_logarithm_of_the_columns_named(read):
    x = np.array([[0.0, -2.0], [3.0, -2.0], [nan, 5.0]])
    has = np.array([1, 1, 0])
    found = read({"x": x, "has": has}, ModalityRecipe("x", available="has", log=(0, 1)))
    np.testing.assert_allclose(found.values, [[0.0, -2.0], [np.log1p(3.0), -2.0], [0.0, 0.0]], rtol=1e-6)
    small = read({"x": np.array([1e-9, 1e-3, 10.0])}, ModalityRecipe("x", log=True, log_offset=1e-10))
    np.testing.assert_allclose(small.values[:, 0], np.log(np.array([1e-9, 1e-3, 10.0]) + 1e-10), rtol=1e-6)
    with pytest.raises(InputError, match=r"d\.npz: modalities\.m\.array = 'x': 2 values are at or below -1\.0, where"):
        read({"x": x, "has": has}, ModalityRecipe("x", available="has", log=True))
    with pytest.raises(InputError, match=r"log = \[1, 3\]: expected columns of 0 … 2"):
        read({"x": np.ones((3, 2))}, ModalityRecipe("x", log=(1, 3)))


@pytest.mark.parametrize(
    ("arrays", "fields", "message"),
    [
        ({"x": np.array(["a", "b", "c"])}, {}, r"d\.npz: modalities\.m\.array = 'x': expected numbers, got <U1"),
        ({"x": np.ones((3, 1, 1, 1))}, {}, r"expected shape \(N,\), \(N, D\) or \(N, T, D\), none of them zero, got"),
        ({"x": np.ones((3, 0))}, {}, r"none of them zero, got \(3, 0\)"),
        (
            {"x": np.ones((3, 2)), "n": np.ones(3, int)},
            {"lengths": "n"},
            r"expected shape \(N, T, D\), none of them zero",
        ),
        (
            {"x": np.ones((3, 2, 1)), "n": np.array([1, 3, 1])},
            {"lengths": "n"},
            r"modalities\.m\.lengths = 'n': expected whole numbers of 0 … 2 \(steps",
        ),
        (
            {"x": np.ones((3, 2, 1)), "n": np.array([1, 1])},
            {"lengths": "n"},
            r"modalities\.m\.lengths = 'n': expected 3 rows",
        ),
        ({"x": np.ones((3, 2, 1)), "o": np.array([0, 1])}, {"offsets": "o"}, r"expected shape \(R,\) or \(R, D\)"),
        (
            {"x": np.ones(5), "o": np.array([0, 2, 7, 5])},
            {"offsets": "o"},
            r"modalities\.m\.offsets = 'o': expected whole numbers of 0 … 5 \(rows",
        ),
        (
            {"x": np.ones(5), "o": np.array([-1, 2, 3, 5])},
            {"offsets": "o"},
            r"expected whole numbers of 0 … 5 .* of -1 … 5",
        ),
        (
            {"x": np.ones(5), "o": np.array([0.0, 1.0])},
            {"offsets": "o"},
            r"expected whole numbers of 0 … 5 .* got float64",
        ),
        (
            {"x": np.ones(5), "o": np.array([0, 4, 2, 5])},
            {"offsets": "o"},
            r"modalities\.m\.offsets = 'o': expected ascending numbers",
        ),
        ({"x": np.ones(5), "o": np.array([0, 4, 2, 5], np.uint8)}, {"offsets": "o"}, "expected ascending numbers"),
        (
            {"x": np.ones(3), "has": np.array([0.5, 1, 1])},
            {"available": "has"},
            r"modalities\.m\.available = 'has': expected booleans",
        ),
        ({"x": np.ones(3)}, {"available": "hass"}, r"modalities\.m\.available = 'hass': no such array"),
    ],
)
def test_what_cannot_be_read_is_said(read, arrays, fields, message):
    with pytest.raises(InputError, match=message):
        read(arrays, ModalityRecipe("x", **fields))


@pytest.mark.parametrize("fields", [{"offsets": "o"}, {"lengths": "n"}, {}])
def test_several_rows_a_sample_cannot_share_time(read, fields):
    x = np.ones(4) if "offsets" in fields else np.ones((3, 2, 1))
    arrays = {"x": x, "o": np.array([0, 1, 2, 4]), "n": np.ones(3, int)}
    with pytest.raises(InputError, match="several rows a sample cannot share the time axis of a dialogue or window"):
        read(arrays, ModalityRecipe("x", **fields), shared=True)


def test_a_modality_nobody_has():
    absent = absent_modality(3, 2)
    assert absent.values.shape == absent.valid.shape == (3, 2)
    assert not absent.there.any()
    assert absent.spans.tolist() == [[0, 1], [1, 2], [2, 3]]
