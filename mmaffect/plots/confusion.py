"""The confusion matrix as a figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from mmaffect.ops import InputError, check_shape
from mmaffect.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_matrix(confusion: Tensor, classes: Sequence[str]) -> "Figure":
    r"""Draw a confusion matrix: coloured by the share of the true class, with the counts written in.

    So the diagonal is the recall of each class, and rare classes are as readable as frequent ones. The row of a class
    that does not occur in the targets stays empty.

    Args:
        confusion: counts, **rows are the truth**; from :func:`mmaffect.metrics.confusion_matrix`.
        classes: their names, in order.

    Shape:
        ``confusion (C, C)``.

    Returns:
        The figure; its axes are the matrix and the bar of the scale.

    Raises:
        ValueError: on another shape.
        InputError: (a ValueError) if there is no class, or a count is negative or not finite.

    Example:
        >>> import torch
        >>> figure = confusion_matrix(torch.tensor([[3, 1], [0, 4]]), ["sad", "happy"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['75%\n3', '25%\n1', '0%\n0', '100%\n4']
    """
    size = len(classes)
    if not size:
        raise InputError("classes: expected at least one, got none")
    check_shape("confusion", confusion, "C C", C=size)
    counts = confusion.detach().cpu().double()
    wrong = counts[~(counts.isfinite() & (counts >= 0))]
    if wrong.numel():
        raise InputError(f"confusion: expected finite counts of at least 0, got {wrong[0].item()}")
    shares = counts / counts.sum(1, keepdim=True)  # NaN for a class that does not occur

    figure = new_figure(2.2 + 0.75 * size, 1.5 + 0.75 * size)
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    for i, row in enumerate(shares.tolist()):
        for j, share in enumerate(row):
            text = "–" if share != share else f"{share:.0%}\n{counts[i, j].item():g}"  # noqa: RUF001
            color = "white" if share > 0.55 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize="small", color=color)
    long = max(len(name) for name in classes) > 9
    axes.set_xticks(range(size), classes, rotation=40 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(size), classes)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure
