import math

import numpy as np
import pytest

from mmaffect.ops import InputError
from mmaffect.plots import RateCurve, rate_curve, rate_curves
from mmaffect.training import protocol, summary

CURVE = RateCurve([0.0, 0.2, 0.7], [0.8, 0.6, 0.5], [0.01, 0.02, 0.04])


def test_lines_and_bands():
    figure = rate_curves({"gru": CURVE, "linear": CURVE._replace(sd=None)}, metric="accuracy")
    (axes,) = figure.axes
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_xydata(), np.transpose(CURVE[:2]))
    (band,) = axes.collections
    corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(r, round(m + k * s, 6)) for r, m, s in zip(*CURVE, strict=True) for k in (-1, 1)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("missing rate", "accuracy")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["gru", "linear"]


def test_areas():
    figure = rate_curves({"gru": CURVE}, metric="accuracy", areas=True)
    wanted = np.trapezoid(CURVE.mean, CURVE.rates) / 0.7
    assert figure.legends[0].get_texts()[0].get_text() == f"gru (area {wanted:.3f})"


def test_the_conditions_of_a_protocol_are_read_as_rates():
    made = protocol("random", ("a", "b", "c"), rates=(0.5, 0.1))
    names = [condition.name for condition in made.evaluation]
    rows = summary([{n: {"f1": float(n) + seed} for n in names} for seed in (0, 2)])
    curve = rate_curve(rows, "f1")
    assert list(curve.rates) == [0.1, 0.5]
    assert curve.mean == pytest.approx([1.1, 1.5])
    assert curve.sd == pytest.approx([math.sqrt(2)] * 2)


def test_a_single_seed_draws_no_band_and_a_nan_leaves_a_gap():
    curve = RateCurve([0.0, 0.5, 1.0], [0.5, math.nan, 0.3], [math.nan] * 3)
    (axes,) = rate_curves({"gru": curve}, metric="f1").axes
    assert math.isnan(axes.lines[0].get_ydata()[1])
    assert sum(len(path.vertices) for path in axes.collections[0].get_paths()) == 0


def test_refusals():
    with pytest.raises(InputError, match="curves: expected at least one system, got none"):
        rate_curves({}, metric="f1")
    for lengths, curve in (
        ([0, 0], RateCurve([], [])),
        ([2, 1], RateCurve([0, 1], [1])),
        ([1, 1, 0], RateCurve([0], [1], [])),
    ):
        with pytest.raises(InputError) as caught:
            rate_curves({"gru": curve}, metric="f1")
        assert str(caught.value).endswith(f"lists of one length, got lengths {lengths}")
    for rates in ([0.5, 0.5], [0.5, 0.1], [-0.1, 0.5], [0.5, 1.1], [math.nan, 0.5]):
        with pytest.raises(InputError, match=r"curves\['gru'\]: expected rates strictly increasing within \[0, 1\]"):
            rate_curves({"gru": RateCurve(rates, [1, 2])}, metric="f1")
    with pytest.raises(InputError, match=r"expected standard deviations of at least 0, got \[-1\]"):
        rate_curves({"gru": RateCurve([0], [1], [-1])}, metric="f1")
    other = RateCurve([0.0, 0.5], [1, 1])
    with pytest.raises(InputError, match="areas: expected curves over the same rates, at least two"):
        rate_curves({"gru": CURVE, "linear": other}, metric="f1", areas=True)
    with pytest.raises(InputError, match="areas: expected curves over the same rates, at least two"):
        rate_curves({"gru": RateCurve([0], [1])}, metric="f1", areas=True)
    with pytest.raises(InputError, match=r"rows: expected conditions named by their rate, such as '0.3', got 'audio'"):
        rate_curve(summary([{"audio": {"f1": 1.0}}]), "f1")
    with pytest.raises(InputError, match=r"rows: expected each rate once, got 0.5 twice"):
        rate_curve(summary([{"0.5": {"f1": 1.0}, "0.50": {"f1": 1.0}}]), "f1")
