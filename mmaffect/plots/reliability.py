"""The reliability diagram: accuracy against confidence."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmaffect.metrics import ReliabilityCurve
from mmaffect.ops import InputError
from mmaffect.plots.style import GREY, add_legend, mark, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_diagram(curves: Mapping[str, ReliabilityCurve]) -> "Figure":
    """Draw accuracy against confidence for each system, and below how the samples fall on the bins.

    Below the diagonal a system is surer than it is right, above it less. Points stand at the mean confidence of their
    bin, whatever the binning. The calibration error of the legend is that of these bins, ``Σ n/N |accuracy −
    confidence|``.

    Args:
        curves: by system, from :func:`mmaffect.metrics.reliability_curve`; all with the same bins.

    Returns:
        The figure; its axes are the diagram and the shares of the samples.

    Raises:
        InputError: (a ValueError) if there is no curve, or one is empty or has lists of different lengths.

    Example:
        >>> figure = reliability_diagram({"gru": ReliabilityCurve([0.4, 0.9], [0.5, 0.8], [10, 30])})
        >>> figure.axes[0].get_ylabel(), [text.get_text() for text in figure.legends[0].get_texts()]
        ('accuracy', ['calibrated', 'gru (ECE 0.100)'])
    """
    if not curves:
        raise InputError("curves: expected at least one system, got none")
    for name, curve in curves.items():
        sizes = [len(values) for values in curve]
        if not sizes[0] or len(set(sizes)) > 1:
            raise InputError(
                f"curves[{name!r}]: expected at least one bin and lists of one length, got lengths {sizes}"
            )

    figure = new_figure(5.0, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    handles = upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    labels = ["calibrated"]
    for number, (name, (confidence, accuracy, samples)) in enumerate(curves.items()):
        look, total = mark(number), sum(samples)
        style = {"color": look.color, "marker": look.marker, "linestyle": look.line, "markersize": 4, "clip_on": False}
        handles += upper.plot(confidence, accuracy, **style)
        lower.plot(confidence, [n / total for n in samples], **style)
        error = sum(n * abs(a - c) for c, a, n in zip(confidence, accuracy, samples, strict=True)) / total
        labels.append(f"{name} (ECE {error:.3f})")
    upper.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="accuracy")
    lower.set(xlabel="confidence", ylabel="share of\nsamples")
    lower.set_ylim(bottom=0)
    for axes in (upper, lower):
        tidy(axes, grid="both")
    add_legend(figure, handles, labels)
    return figure
