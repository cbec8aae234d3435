import numpy as np
import pytest
from matplotlib.patches import Rectangle

from mmaffect.ops import InputError
from mmaffect.plots import training_curves


def row(stage, value, **loss):
    valid = {"audio": {"accuracy": value}, "text": {"accuracy": value + 0.2}}
    return {"stage": stage, "loss": loss, "monitor": 10 * value, "valid": valid}


def history(seed, epochs):
    rows = [row("first", seed + 0.0, task=1.0 + seed), row("first", seed + 0.1, task=0.5 + seed)]
    return rows + [row("second", seed + 0.1 * k, task=0.1 * k + seed, cue=5.0 + seed) for k in range(epochs)]


def lines(axes):
    """Curves, without the lines where stages change."""
    return [line for line in axes.lines if line.get_transform() == axes.transData]


def test_one_seed():
    figure = training_curves([history(0, 3)])
    task, cue, monitor = figure.axes
    assert [a.get_title() for a in figure.axes] == ["loss: task", "loss: cue", "validation: monitor"]
    (line,) = lines(task)
    np.testing.assert_allclose(line.get_xydata(), [[1, 1.0], [2, 0.5], [3, 0.0], [4, 0.1], [5, 0.2]])
    np.testing.assert_array_equal(lines(cue)[0].get_ydata(), [np.nan, np.nan, 5, 5, 5])  # not there: no zero
    np.testing.assert_allclose(lines(monitor)[0].get_ydata(), [0, 1, 0, 1, 2])


def test_several_seeds_and_their_mean_as_far_as_all_got():
    figure = training_curves([history(0, 3), history(1, 1), history(2, 2)])
    *thin, mean = lines(figure.axes[0])
    assert [len(line.get_xdata()) for line in thin] == [5, 3, 4]
    np.testing.assert_allclose(mean.get_ydata(), [2.0, 1.5, 1.0])
    assert mean.get_linewidth() > thin[0].get_linewidth()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["one seed", "mean of 3 seeds", "stage: first", "stage: second"]


def test_metric_is_the_mean_over_conditions_and_null_is_a_gap():
    rows = history(0, 1)
    rows[1]["valid"]["text"]["accuracy"] = None
    figure = training_curves([rows], metric="accuracy")
    np.testing.assert_allclose(lines(figure.axes[-1])[0].get_ydata(), [0.1, np.nan, 0.1])
    assert figure.axes[-1].get_title() == "validation: accuracy"


def test_stages_are_shaded_from_their_first_epoch_to_their_last():
    axes = training_curves([history(0, 3)]).axes[1]
    bands = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [(band.get_x(), band.get_width()) for band in bands] == [(0.5, 2.0), (2.5, 3.0)]
    (change,) = [line for line in axes.lines if line not in lines(axes)]
    assert list(change.get_xdata()) == [2.5, 2.5]


def test_a_single_stage_needs_no_band():
    figure = training_curves([[row("main", 0.5, task=1.0)]])
    assert not figure.axes[0].patches
    assert not figure.legends


def test_refusals():
    for none in ([], [[]]):
        with pytest.raises(InputError, match="histories: expected at least one, of at least one row each"):
            training_curves(none)
    with pytest.raises(InputError, match="wrap a single history in a list"):
        training_curves(history(0, 1))
    with pytest.raises(InputError, match=r"expected rows with the field 'loss', got one with \['stage'\]"):
        training_curves([[{"stage": "main"}]])
    with pytest.raises(InputError, match="metric: 'acuracy' is unknown; did you mean 'accuracy'"):
        training_curves([history(0, 1)], metric="acuracy")
    with pytest.raises(InputError, match=r"histories\[1\]: expected the stages of the longest, epoch by epoch, got"):
        training_curves([history(0, 2), history(0, 2)[1:]])
