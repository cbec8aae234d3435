import numpy as np
import pytest
import torch

from mmaffect.metrics import CoverageCurve, interval_calibration_error, interval_coverage
from mmaffect.ops import InputError
from mmaffect.plots import coverage_diagram


def test_points_widths_and_errors():
    generator = torch.Generator().manual_seed(0)
    truth, draws = torch.randn(200, generator=generator), torch.randn(19, 200, generator=generator)
    systems = {"sure": draws / 3, "calibrated": draws}
    curves = {name: interval_coverage(x, truth) for name, x in systems.items()}
    figure = coverage_diagram(curves)
    upper, lower = figure.axes
    assert upper.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    for line, width, curve in zip(upper.lines[1:], lower.lines, curves.values(), strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.transpose([curve.level, curve.coverage]))
        np.testing.assert_array_equal(width.get_xydata(), np.transpose([curve.level, curve.width]))
    errors = [interval_calibration_error(x, truth) for x in systems.values()]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["calibrated", *(f"{n} (error {e:.3f})" for n, e in zip(systems, errors, strict=True))]
    assert [upper.get_ylabel(), lower.get_xlabel(), lower.get_ylabel()] == [
        "coverage",
        "level of the interval",
        "mean width",
    ]


def test_refusals():
    with pytest.raises(InputError, match="curves: expected at least one system, got none"):
        coverage_diagram({})
    for curve in (CoverageCurve([], [], [], 0), CoverageCurve([0.5], [0.5, 0.6], [1.0], 3)):
        with pytest.raises(InputError, match=r"curves\['imder'\]: expected at least one level and lists of one length"):
            coverage_diagram({"imder": curve})
