"""Which column drives which: a directed acyclic graph learnt from data by least squares."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from mmaffect.causal.dagma import dagma
from mmaffect.causal.notears import notears
from mmaffect.causal.orthant_wise import Array
from mmaffect.ops import check_choice, check_positive


def learn_dag(
    x: ArrayLike | Tensor,
    method: Literal["notears", "dagma"] = "dagma",
    *,
    lambda1: float = 0.02,
    threshold: float = 0.3,
    standardise: bool = False,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> Array:
    r"""Learn a linear structural model x = Wᵀx + ε without cycle, by NOTEARS or DAGMA.

    .. math:: \min_W \frac{1}{2n} \|X - XW\|_F^2 + \lambda_1 \|W\|_1 \quad\text{with W acyclic}

    (Zheng et al., 2018, eq. 4; Bello et al., 2022, eq. 1). Columns are centred first. Only their covariance enters, so
    time does not grow with n. Both solve the same problem; ``"dagma"`` is the faster and comes closer.

    **What it reads.** Least squares is right where all noises have one variance; there causes vary less than their
    effects, and the order of the columns is read off their variances (Reisach, Seiler & Weichwald, 2021). On columns
    of one variance, by nature or by ``standardise=True``, almost nothing is recovered, and other units give another
    graph. Take it for a description and not for a causal claim, unless the units mean something and the noises are
    alike. λ₁ and the threshold suit columns whose noise has a variance of about 1.

    Args:
        x: a row a sample; array or tensor.
        method: ``"dagma"`` or ``"notears"``.
        lambda1: λ₁, weight of the L1 penalty.
        threshold: weights of smaller size are dropped; raised to the smallest value that leaves no cycle, if need be.
        standardise: scale columns to variance 1 first. Off, as in both papers: see above.
        tolerance: to which each minimum is found, relative to the objective.
        max_iterations: quasi-Newton steps to each minimum at most.

    Shape:
        ``(n, d)`` → ``(d, d)`` float64, the weight of the edge from i to j at ``[i, j]``; 0 = none.

    Returns:
        Weights of an acyclic graph. The same data give the same result, whatever the random state.

    Raises:
        ValueError: (``InputError`` for an unknown method) on another shape, values that are not finite, a constant
            column, n ≤ d (centred columns are then linearly dependent, and each is an exact combination of the
            others), a negative λ₁ or threshold, or other options that are not positive.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(1000, 3))
        >>> a = noise[:, 0]
        >>> b = 2 * a + noise[:, 1]
        >>> c = -b + noise[:, 2]
        >>> learn_dag(np.stack([a, b, c], 1)).round(1) + 0.0
        array([[ 0.,  2.,  0.],
               [ 0.,  0., -1.],
               [ 0.,  0.,  0.]])
    """
    data = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
    check_choice("method", method, ("notears", "dagma"))
    check_positive(tolerance=tolerance, max_iterations=max_iterations)
    for name, value in (("lambda1", lambda1), ("threshold", threshold)):
        if not value >= 0:
            raise ValueError(f"{name}: expected a value of at least 0, got {value}")
    _check(data)
    data = data - data.mean(0)
    if standardise:
        data = data / data.std(0)
    solve = dagma if method == "dagma" else notears
    weights = solve(data.T @ data / len(data), lambda1=lambda1, tolerance=tolerance, max_iterations=max_iterations)
    return _without_cycle(weights, threshold)


def _check(data: Array) -> None:
    if data.ndim != 2 or data.shape[1] < 2:
        raise ValueError(f"x: expected shape (n, d) with d of at least 2, got {data.shape}")
    n, d = data.shape
    if n <= d:
        raise ValueError(f"x: expected more rows than columns, as fewer leave them linearly dependent, got {n} and {d}")
    bad = np.flatnonzero(~np.isfinite(data).all(0))
    if bad.size:
        raise ValueError(f"x: expected finite values, got others in columns {bad.tolist()}")
    # A column of equal values may have a deviation of a few roundings.
    constant = np.flatnonzero(data.std(0) <= 1e-14 * np.abs(data).max(0))
    if constant.size:
        raise ValueError(f"x: expected columns that vary, got constant ones: {constant.tolist()}")


def _without_cycle(weights: Array, threshold: float) -> Array:
    """Drop weights below the threshold; then the smallest one by one, until no cycle is left."""
    kept = np.where(np.abs(weights) < threshold, 0.0, weights)
    np.fill_diagonal(kept, 0.0)
    for size in np.unique(np.abs(kept[kept != 0])):
        # Without cycle every node is a strong component of its own.
        if connected_components(kept, connection="strong", return_labels=False) == len(kept):
            break
        kept[np.abs(kept) <= size] = 0.0
    return kept
