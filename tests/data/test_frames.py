import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmaffect.data.frames import from_first, nonzero_frames, stack_frames, up_to_last
from mmaffect.ops import InputError

flags = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 6)))


@settings(max_examples=60, deadline=None)
@given(flags)
def test_padding_ends_at_the_outermost_frames(filled: np.ndarray) -> None:
    behind, front = up_to_last(filled), from_first(filled)
    for row, last, first in zip(filled.tolist(), behind.tolist(), front.tolist(), strict=True):
        stop = max((i + 1 for i, flag in enumerate(row) if flag), default=0)
        start = min((i for i, flag in enumerate(row) if flag), default=len(row))
        assert last == [i < stop for i in range(len(row))]
        assert first == [i >= start for i in range(len(row))]


def test_nan_and_infinity_are_something() -> None:
    array = np.array([[[0.0, 0.0], [np.nan, 0.0], [0.0, -np.inf], [0.0, 1e-30]]])
    assert nonzero_frames(array).tolist() == [[False, True, True, True]]


def test_frames_are_stacked_sample_after_sample() -> None:
    rows = stack_frames([np.array([[1.0], [np.nan]]), np.array([[3.0]])], np.array([2, 0, 1]), "x", nonfinite="zero")
    assert rows.values.tolist() == [[1.0], [0.0], [3.0]]
    assert rows.spans.tolist() == [[0, 2], [2, 2], [2, 3]]
    assert rows.owner.tolist() == [0, 0, 2]
    assert rows.there.tolist() == [True, False, True]
    assert rows.valid.tolist() == [[True], [False], [True]]
    assert rows.observed.all()
    assert rows.repaired == 1


def test_frames_that_are_not_observed_are_neither_counted_nor_kept() -> None:
    rows = stack_frames(
        [np.array([[np.nan], [2.0]])], np.array([2]), "x", nonfinite="raise", observed=np.array([False, True])
    )
    assert rows.values.tolist() == [[0.0], [2.0]]
    assert rows.repaired == 0


def test_no_frames_and_frames_of_several_widths_are_refused() -> None:
    with pytest.raises(InputError, match="x: expected frames of one width, got no frame"):
        stack_frames([], np.array([0]), "x", nonfinite="zero")
    with pytest.raises(InputError, match="x: expected frames of one width, got 1, 2"):
        stack_frames([np.ones((1, 2)), np.ones((1, 1))], np.array([1, 1]), "x", nonfinite="zero")
    with pytest.raises(InputError, match="x: expected frames, got only padding or none"):
        stack_frames([np.ones((0, 2))], np.array([0]), "x", nonfinite="zero")
