import numpy as np
import pytest
import torch

from mmaffect.metrics import ReliabilityCurve, expected_calibration_error, reliability_curve
from mmaffect.ops import InputError
from mmaffect.plots import reliability_diagram


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
def test_points_shares_and_errors(binning):
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(200, 4, generator=generator), torch.randint(0, 4, (200,), generator=generator)
    systems = {"cold": logits * 3, "warm": logits}
    curves = {n: reliability_curve(x, target, bins=10, binning=binning) for n, x in systems.items()}
    figure = reliability_diagram(curves)
    upper, lower = figure.axes
    assert upper.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    for line, bar, curve in zip(upper.lines[1:], lower.lines, curves.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.transpose(curve[:2]))
        np.testing.assert_allclose(bar.get_ydata(), np.array(curve.samples) / 200)
    errors = [expected_calibration_error(x, target, bins=10, binning=binning) for x in systems.values()]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["calibrated", *(f"{n} (ECE {e:.3f})" for n, e in zip(systems, errors, strict=True))]
    assert [upper.get_ylabel(), lower.get_xlabel(), lower.get_ylabel()] == [
        "accuracy",
        "confidence",
        "share of\nsamples",
    ]


def test_refusals():
    with pytest.raises(InputError, match="curves: expected at least one system, got none"):
        reliability_diagram({})
    for curve in (ReliabilityCurve([], [], []), ReliabilityCurve([0.5], [0.5, 0.6], [1])):
        with pytest.raises(InputError, match=r"curves\['gru'\]: expected at least one bin and lists of one length"):
            reliability_diagram({"gru": curve})
