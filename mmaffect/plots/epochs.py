"""Anything that has one value an epoch: weights of modalities, ramps of a curriculum, several seeds in one figure."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmaffect.ops import InputError
from mmaffect.plots.style import add_legend, mark, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def epoch_curves(curves: Mapping[str, Sequence[Sequence[float | None]]], *, quantity: str) -> "Figure":
    """Draw quantities over the epochs of a training, a colour each: as Affect-Diff's figures 6 and 8.

    One run is a line; of several, each is a thin line and their mean a thick one, as far as all of them got.

    Args:
        curves: by name, one list a run (a seed, a fold), one value an epoch; None or NaN leaves a gap.
        quantity: what the axis is called.

    Returns:
        The figure, with one axes.

    Raises:
        InputError: (a ValueError) if there is no curve, or one without a run or an epoch.

    Example:
        >>> weights = {"voice": [[0.5, 0.4], [0.5, 0.6]], "words": [[0.5, 0.6], [0.5, 0.4]]}
        >>> figure = epoch_curves(weights, quantity="weight")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['voice', 'words']
    """
    if not curves:
        raise InputError("curves: expected at least one, got none")
    for name, runs in curves.items():
        if not runs or not all(len(run) for run in runs):
            raise InputError(f"curves[{name!r}]: expected at least one run, of at least one epoch each")
    figure = new_figure(6.0, 3.8)
    axes = figure.subplots()
    handles = []
    for number, runs in enumerate(curves.values()):
        look = mark(number)
        values = [[math.nan if value is None else float(value) for value in run] for run in runs]
        if len(values) > 1:
            for run in values:
                axes.plot(range(1, len(run) + 1), run, color=look.color, linewidth=0.6, alpha=0.35)
            values = [[sum(at) / len(at) for at in zip(*values, strict=False)]]
        handles += axes.plot(
            range(1, len(values[0]) + 1), values[0], color=look.color, linestyle=look.line, linewidth=1.8
        )
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    axes.set(xlabel="epoch", ylabel=quantity)
    tidy(axes)
    add_legend(figure, handles, list(curves))
    return figure
