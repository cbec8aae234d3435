"""What all figures share: an empty figure, colours that colour-blind readers tell apart, a legend that fits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008) without yellow, which is too faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
_LINES = ("-", "--", ":", "-.")
_HATCHES = ("", "///", "...", "xxx")
GREY = "#595959"
ABSENT = "#C8C8C8"


class Mark(NamedTuple):
    """How one of several things is told from the others; also without colour."""

    color: str
    marker: str
    line: str
    hatch: str


def mark(number: int) -> Mark:
    """The look of thing ``number``; 28 differ.

    Example:
        >>> mark(0)
        Mark(color='#0072B2', marker='o', line='-', hatch='')
        >>> mark(7).color == mark(0).color, mark(7).line
        (True, '--')
    """
    turn, place = divmod(number, len(COLORS))
    return Mark(COLORS[place], _MARKERS[place], _LINES[turn % len(_LINES)], _HATCHES[turn % len(_HATCHES)])


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, inches; its layout keeps labels apart and inside.

    Raises:
        ImportError: if matplotlib is not installed, saying how to get it.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "mmaffect[plots]"') from error
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))


def tidy(axes: "Axes", *, grid: str | None = "y") -> None:
    """Take away the upper and right spine; put a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid is not None:
        axes.grid(axis=grid, color="#DDDDDD", linewidth=0.6)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def add_legend(figure: "Figure", handles: Sequence["Artist"], labels: Sequence[str]) -> None:
    """A legend above the axes, in as many columns as the width of the figure holds."""
    # A letter of the small font is about 0.075 inches wide, a handle with its gaps about 0.6.
    widest = 0.6 + 0.075 * max(len(label) for label in labels)
    columns = max(1, min(len(labels), int(figure.get_figwidth() / widest)))
    columns = -(-len(labels) // -(-len(labels) // columns))  # as many rows, evenly filled
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize="small")
