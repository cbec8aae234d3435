import subprocess
import sys
from itertools import combinations

import pytest
from matplotlib.colors import to_rgb

from mmaffect.plots.style import COLORS, add_legend, mark, new_figure, tidy

# Machado et al. (2009), severity 1, on linear RGB: what a deuteranope and a protanope see.
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))


def seen(color, matrix):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    mixed = [min(1.0, max(0.0, sum(m * c for m, c in zip(row, linear, strict=True)))) for row in matrix]
    return [12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in mixed]


@pytest.mark.parametrize("matrix", [DEUTERANOPIA, PROTANOPIA], ids=["deuteranopia", "protanopia"])
def test_colours_stay_apart_for_the_colour_blind(matrix):
    for a, b in combinations([*COLORS, "white"], 2):
        distance = sum((x - y) ** 2 for x, y in zip(seen(a, matrix), seen(b, matrix), strict=True)) ** 0.5
        assert distance > 0.14, (a, b)  # red and green of the same lightness come to about 0.1


def test_marks_differ():
    marks = [mark(k) for k in range(28)]
    assert len({(m.color, m.line) for m in marks}) == len({(m.color, m.hatch) for m in marks}) == 28
    assert len({m.marker for m in marks[:7]}) == 7


def test_legend_never_wider_than_the_figure():
    figure = new_figure(4.0, 3.0)
    axes = figure.subplots()
    lines = [axes.plot([0, 1], [0, k])[0] for k in range(6)]
    add_legend(figure, lines, [f"a system with a long name {k}" for k in range(6)])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y0 >= axes.get_window_extent().y1


def test_tidy():
    axes = new_figure(2.0, 2.0).subplots()
    tidy(axes)
    assert not axes.spines["top"].get_visible()
    assert axes.spines["left"].get_visible()


def test_no_global_state_and_matplotlib_only_when_drawing():
    code = (
        "import sys, torch, mmaffect.plots as p; assert 'matplotlib' not in sys.modules;"
        "p.confusion_matrix(torch.eye(2), ['a', 'b']); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'figures need matplotlib: pip install "mmaffect\[plots\]"'):
        new_figure(1.0, 1.0)
