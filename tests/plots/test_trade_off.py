import numpy as np
import pytest

from mmaffect.ops import InputError
from mmaffect.plots import trade_off
from mmaffect.training import summary


def row(*values):
    return summary([{"complete": {"accuracy": a, "recall": r}} for a, r in values])[0]


def test_points_and_their_spread():
    figure = trade_off({"gru": row((0.5, 0.2), (0.7, 0.4)), "linear": row((0.4, 0.4))}, x="accuracy", y="recall")
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() in "os"]
    np.testing.assert_allclose([p.get_xydata()[0] for p in points], [[0.6, 0.3], [0.4, 0.4]])
    across, up = (bars.get_segments()[0] for bars in axes.collections[:2])
    sd = np.sqrt(0.02)
    np.testing.assert_allclose(across, [[0.6 - sd, 0.3], [0.6 + sd, 0.3]])
    np.testing.assert_allclose(up, [[0.6, 0.3 - sd], [0.6, 0.3 + sd]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("accuracy", "recall")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gru", "linear"]


def test_more_than_seven_systems_differ():
    figure = trade_off({str(n): row((n / 10, 0.5)) for n in range(9)}, x="accuracy", y="recall")
    looks = {(p.get_color(), p.get_markerfacecolor()) for p in figure.axes[0].lines if len(p.get_xdata()) == 1}
    assert len(looks) == 9


def test_refusals():
    with pytest.raises(InputError, match="results: expected at least one system, got none"):
        trade_off({}, x="accuracy", y="recall")
    with pytest.raises(InputError, match=r"metric: .*'f1'"):
        trade_off({"gru": row((0.5, 0.2))}, x="accuracy", y="f1")
