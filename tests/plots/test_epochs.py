import math

import numpy as np
import pytest

from mmaffect.ops import InputError
from mmaffect.plots import epoch_curves


def test_one_run_is_a_line_from_epoch_one():
    (axes,) = epoch_curves({"r": [[0.0, 0.5, 1.0]]}, quantity="weight").axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 0.0], [2, 0.5], [3, 1.0]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "weight")


def test_of_several_runs_the_mean_goes_as_far_as_all_of_them():
    figure = epoch_curves({"voice": [[0.5, 0.4, 0.2], [0.3, 0.6]], "words": [[0.5], [0.7]]}, quantity="weight")
    lines = figure.axes[0].lines
    assert len(lines) == 6
    np.testing.assert_allclose(lines[2].get_xydata(), [[1, 0.4], [2, 0.5]])
    np.testing.assert_allclose(lines[5].get_xydata(), [[1, 0.6]])
    assert lines[2].get_linewidth() > lines[0].get_linewidth()
    assert lines[2].get_color() != lines[5].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["voice", "words"]


def test_none_leaves_a_gap():
    (line,) = epoch_curves({"r": [[0.0, None, 1.0]]}, quantity="weight").axes[0].lines
    assert [math.isnan(v) for v in line.get_ydata()] == [False, True, False]


def test_refusals():
    with pytest.raises(InputError, match="curves: expected at least one, got none"):
        epoch_curves({}, quantity="weight")
    for runs in ([], [[0.5], []]):
        with pytest.raises(InputError, match=r"curves\['r'\]: expected at least one run, of at least one epoch each"):
            epoch_curves({"r": runs}, quantity="weight")
