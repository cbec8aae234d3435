"""A directed acyclic graph over columns, learnt from data by least squares."""

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
    the search does not take longer with n. Both solve the same problem; in ``benchmarks/structure.py`` ``"dagma"``
    takes about a quarter of the time and is as close or closer on average, though not on every graph.

    **What it reads.** Least squares is right where all noises have one variance; there causes mostly vary less than
    their effects, and the order of the columns is read off their variances (Reisach, Seiler & Weichwald, 2021). On
    columns of one variance, by nature or by ``standardise=True``, about a third of the edges keep their direction and
    the distance to the truth is about that of an empty graph (20 true edges over 10 columns, five draws: 4 to 11
    directions, 7 on average; a distance of 12 to 25, 19 on average). Other units give another graph, even one
    other unit for all columns: λ₁, the threshold and DAGMA's path suit noises of a variance of about 1. Take it for a
    description and not for a causal claim, unless the units mean something and the noises are alike. With n little
    above d pure noise gives edges too (dozens at n = 21 and d = 20, none at n = 200).

    Args:
        x: a row a sample; array or tensor.
        method: ``"dagma"`` or ``"notears"``.
        lambda1: λ₁, weight of the L1 penalty.
        threshold: weights of smaller size are dropped; raised to the smallest value that leaves no cycle, if need be.
        standardise: scale columns to variance 1 first. Off, as in both papers: see above.
        tolerance: to which each minimum is found, relative to the objective.
        max_iterations: quasi-Newton steps to each minimum at most; a warning says where they were too few.

    Shape:
        ``(n, d)`` → ``(d, d)`` float64, the weight of the edge from i to j at ``[i, j]``; 0 = none.

    Returns:
        Weights of an acyclic graph. The same data give the same result, whatever the random state.

    Raises:
        ValueError: (``InputError`` for an unknown method) on another shape, values that are not finite, a constant
            column, columns that are linearly dependent (one is then an exact combination of others; with n ≤ d they
            always are), variances beyond float64, complex numbers, a negative λ₁ or threshold, or other options that
            are not positive.

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
    if x.is_complex() if isinstance(x, Tensor) else np.iscomplexobj(x):
        raise ValueError("x: expected real numbers, got complex ones")
    data = np.asarray(x.detach().cpu().double() if isinstance(x, Tensor) else x, dtype=np.float64)
    check_choice("method", method, ("notears", "dagma"))
    check_positive(tolerance=tolerance, max_iterations=max_iterations)
    for name, value in (("lambda1", lambda1), ("threshold", threshold)):
        if not value >= 0:
            raise ValueError(f"{name}: expected a value of at least 0, got {value}")
    _check(data)
    covariance = _covariance(data)
    if standardise:
        covariance = _correlation(covariance)
    solve = dagma if method == "dagma" else notears
    weights = solve(covariance, lambda1=lambda1, tolerance=tolerance, max_iterations=max_iterations)
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
    largest = np.abs(data).max(0)
    constant = np.flatnonzero((data / np.where(largest > 0, largest, 1)).std(0) <= 1e-14)
    if constant.size:
        raise ValueError(f"x: expected columns that vary, got constant ones: {constant.tolist()}")


def _covariance(data: Array) -> Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        data = data - data.mean(0)
        covariance: Array = data.T @ data / len(data)
    tiny = np.finfo(np.float64).tiny
    if not (np.isfinite(covariance).all() and (np.diagonal(covariance) >= tiny).all()):
        raise ValueError(f"x: expected variances that float64 can hold, got {np.diagonal(covariance).tolist()}")
    # Of two equal columns the smallest eigenvalue is a few roundings.
    if np.linalg.eigvalsh(_correlation(covariance))[0] <= 10 * len(covariance) * np.finfo(np.float64).eps:
        raise ValueError("x: expected linearly independent columns, got one that is a combination of others")
    return covariance


def _correlation(covariance: Array) -> Array:
    deviations = np.sqrt(np.diagonal(covariance))
    correlation: Array = covariance / deviations / deviations[:, None]
    return correlation


def _without_cycle(weights: Array, threshold: float) -> Array:
    """Drop weights below the threshold; then the smallest one by one, until no cycle is left."""
    kept = np.where(np.abs(weights) < threshold, 0.0, weights)
    for size in np.unique(np.abs(kept[kept != 0])):
        # Without cycle every node is a strong component of its own. SciPy takes weights below 1e-8 for no edge.
        if connected_components(kept != 0, connection="strong", return_labels=False) == len(kept):
            break
        kept[np.abs(kept) <= size] = 0.0
    return kept
