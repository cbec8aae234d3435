"""Attention matrices side by side: which step looks at which, and which not at all."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmaffect.ops import InputError, check_shape
from mmaffect.plots.rows import check_same
from mmaffect.plots.style import ABSENT, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attention_matrices(
    columns: Mapping[str, Mapping[str, Tensor]], *, steps: Mapping[str, Tensor] | None = None
) -> "Figure":
    r"""Draw attention matrices, one row a modality, one column a kind of attention (CARN, figure 4).

    Each panel has the queries down and the sources across. All share one scale of colours. **White is exactly zero**:
    the smallest weight above zero already has a tint, so sparsity is seen and not guessed; its share of the panel
    stands above it.

    Args:
        columns: by kind, such as ``"vanilla"`` and ``"causal"``, and modality: the weights of one sample and one head
            (or a mean over heads), none below zero. The rows are in the order of the first kind.
        steps: by modality, True where the step is real; the others are drawn grey, whatever they hold, and do not
            count. All real by default.

    Shape:
        each matrix ``(T_m, T_m)``, query by source; ``steps[m] (T_m,)``.

    Returns:
        The figure; its panels row by row, then the bar of the scale.

    Raises:
        InputError: (a ValueError) if there is no kind or modality, the kinds or ``steps`` differ in modalities, or a
            weight between real steps is negative or not finite.
        ValueError: on a matrix or mask of another shape.

    Example:
        >>> weights = torch.tensor([[1.0, 0.0], [0.3, 0.7]])
        >>> figure = attention_matrices({"causal": {"text": weights, "audio": weights}})
        >>> [axes.get_ylabel() for axes in figure.axes[:2]]
        ['text\nquery step', 'audio\nquery step']
    """
    if not columns or not all(columns.values()):
        raise InputError("columns: expected at least one kind of attention with at least one modality each")
    kinds, modalities = list(columns), list(next(iter(columns.values())))
    for kind in kinds:
        check_same(f"columns[{kind!r}]", "modalities", modalities, list(columns[kind]))
    if steps is not None:
        check_same("steps", "modalities", modalities, list(steps))
    weights: dict[str, list[Tensor]] = {}
    real: dict[str, Tensor] = {}
    for modality in modalities:
        check_shape(f"columns[{kinds[0]!r}][{modality!r}]", columns[kinds[0]][modality], "T T")
        size = columns[kinds[0]][modality].shape[1]
        mask = torch.ones(size, dtype=torch.bool) if steps is None else steps[modality].detach().cpu().bool()
        check_shape(f"steps[{modality!r}]", mask, "T", T=size)
        real[modality] = mask[:, None] & mask
        weights[modality] = [_matrix(columns[kind][modality], kind, modality, real[modality]) for kind in kinds]

    from matplotlib.patches import Patch

    highest = max(float(w.max()) if w.numel() else 0.0 for row in weights.values() for w in row) or 1.0
    figure = new_figure(1.6 + 2.5 * len(kinds), 1.1 + 2.5 * len(modalities))
    panels = figure.subplots(len(modalities), len(kinds), squeeze=False)
    for i, modality in enumerate(modalities):
        for j, kind in enumerate(kinds):
            _draw(panels[i, j], weights[modality][j], real[modality], highest)
            if i == 0:
                panels[i, j].set_title(kind, pad=18, fontweight="bold")
            if i == len(modalities) - 1:
                panels[i, j].set_xlabel("source step")
        panels[i, 0].set_ylabel(f"{modality}\nquery step")
    figure.colorbar(panels[0, 0].images[0], ax=panels, label="attention weight", shrink=0.8)
    keys = [Patch(facecolor="white", edgecolor=GREY, label="exactly zero")]
    if not all(bool(pairs.all()) for pairs in real.values()):
        keys.append(Patch(facecolor=ABSENT, edgecolor=GREY, label="no such step"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False, fontsize="small")
    return figure


def _matrix(weights: Tensor, kind: str, modality: str, real: Tensor) -> Tensor:
    """Weights as float64, zero where a step is not real."""
    name = f"columns[{kind!r}][{modality!r}]"
    check_shape(name, weights, "T T", T=len(real))
    values = weights.detach().cpu().double().where(real, 0.0)
    wrong = values[~(values.isfinite() & (values >= 0))]
    if wrong.numel():
        raise InputError(f"{name}: expected finite weights of at least 0 between real steps, got {wrong[0].item()}")
    return values


def _draw(axes: "Axes", weights: Tensor, real: Tensor, highest: float) -> None:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.ticker import MaxNLocator

    # The faint end of the scale is cut off, so that nothing above zero looks white.
    tints = ListedColormap(colormaps["Blues"](np.linspace(0.18, 1.0, 256)))
    axes.set_facecolor("white")  # seen where a weight is masked
    shown = np.ma.masked_equal(weights.numpy(), 0.0)
    axes.imshow(shown, cmap=tints, vmin=0.0, vmax=highest, interpolation="nearest")
    if not real.all():
        absent = np.ma.masked_equal((~real).double().numpy(), 0.0)
        axes.imshow(absent, cmap=ListedColormap([ABSENT]), interpolation="nearest")
    share = f"{(weights[real] == 0).double().mean():.0%} zero" if real.any() else "nothing real"
    axes.text(0.5, 1.02, share, transform=axes.transAxes, ha="center", va="bottom", fontsize="small", color=GREY)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
