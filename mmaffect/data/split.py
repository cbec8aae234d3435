"""Splits by group: nobody is in two splits, and each split looks like the whole."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaffect.ops import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def stratified_group_split(
    labels: npt.ArrayLike, groups: npt.ArrayLike, shares: Sequence[float], seed: int = 0, *, restarts: int = 16
) -> Ints:
    """Deal groups out to splits so that the share of every class in every split is close to what is asked for.

    Minimised is the sum over splits s and columns c of ``(n[s, c] / n[c] - share[s])²``, where the columns are the
    classes and one more for all rows. From several random orders the groups, large ones first, go where they
    help most; then single moves and swaps of two groups go on while they help. The best of all orders is kept.

    Args:
        labels: class of each row, negative = unlabelled; or 0/1 of several labels. Unlabelled rows count as rows.
        groups: name of each row's group.
        shares: of each split; positive, sum 1.
        seed: of the random orders; the same seed gives the same split.
        restarts: number of random orders.

    Shape:
        ``labels (N,)`` or ``(N, C)``; ``groups (N,)``.

    Returns:
        The split of each row, ``0 … len(shares) - 1``, ``(N,)``; no split is empty.

    Raises:
        InputError: if there are fewer groups than splits.
        ValueError: if shapes or shares do not fit.

    Example:
        >>> stratified_group_split([0, 1, 0, 1], ["a", "a", "b", "b"], (0.5, 0.5)).tolist()
        [0, 0, 1, 1]
    """
    share = np.asarray(shares, dtype=np.float64)
    if share.ndim != 1 or len(share) < 2 or (share <= 0).any() or abs(share.sum() - 1) > 1e-6:
        raise ValueError(f"shares: expected at least two positive shares that sum to 1, got {tuple(shares)}")
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    label = np.asarray(labels)
    if label.ndim not in (1, 2) or len(label) != len(group) or len(label) == 0:
        raise ValueError(f"labels: expected (N,) or (N, C) with the N = {group.size} of groups, got {label.shape}")
    if len(names) < len(share):
        raise InputError(f"groups: expected at least {len(share)}, one for each split, got {len(names)}")
    weights = _weights(label, group.reshape(-1), len(names))
    rng = np.random.default_rng(seed)
    tried = [_improve(weights, share, _greedy(weights, share, rng)) for _ in range(restarts)]
    return min(tried, key=lambda assignment: _cost(weights, share, assignment))[group.reshape(-1)]


def _weights(label: npt.NDArray[Any], group: npt.NDArray[np.intp], groups: int) -> Floats:
    """Share of each class, and of all rows, that each group holds: ``(G, C + 1)``, columns sum to 1."""
    if label.ndim == 1:
        known = label >= 0
        classes, code = np.unique(label[known], return_inverse=True)
        member = np.zeros((len(label), len(classes)))
        member[known, code.reshape(-1)] = 1
    else:
        member = (label > 0).astype(np.float64)
    columns = np.concatenate([member, np.ones((len(label), 1))], axis=1)
    count = np.zeros((groups, columns.shape[1]))
    np.add.at(count, group, columns)
    return count / np.maximum(count.sum(0), 1)


def _deviation(weights: Floats, share: Floats, assignment: Ints) -> Floats:
    """How far the load of each split is from its share, by column: ``(S, C + 1)``."""
    load = np.zeros((len(share), weights.shape[1]))
    np.add.at(load, assignment, weights)
    return load - share[:, None]


def _cost(weights: Floats, share: Floats, assignment: Ints) -> float:
    return float((_deviation(weights, share, assignment) ** 2).sum())


def _greedy(weights: Floats, share: Floats, rng: np.random.Generator) -> Ints:
    """Large groups first, each to the split that it brings closest; no split is left empty."""
    assignment = np.full(len(weights), -1)
    deviation = np.repeat(-share[:, None], weights.shape[1], axis=1)
    order = np.argsort(-weights[:, -1] * rng.uniform(0.5, 1.5, len(weights)))
    for done, group in enumerate(order):
        change = deviation @ weights[group]
        empty = np.bincount(assignment[assignment >= 0], minlength=len(share)) == 0
        if empty.sum() >= len(order) - done:
            change = np.where(empty, change, np.inf)
        chosen = int(change.argmin())
        assignment[group] = chosen
        deviation[chosen] += weights[group]
    return assignment


def _improve(weights: Floats, share: Floats, assignment: Ints) -> Ints:
    """Take the best move of a group, or swap of two, while it lowers the cost.

    Swaps, whose number is quadratic, are left out above 512 groups, where moves alone come close.
    """
    assignment, rows = assignment.copy(), np.arange(len(weights))
    gram = weights @ weights.T if len(weights) <= 512 else None
    square = (weights**2).sum(1)
    while True:
        deviation = _deviation(weights, share, assignment)
        along = weights @ deviation.T  # (G, S)
        own = along[rows, assignment]
        # Moving g from a to s changes the cost by 2 w·(d_s - d_a) + 2 |w|².
        move = along - own[:, None] + square[:, None]
        alone = np.bincount(assignment, minlength=len(share))[assignment] == 1
        move[alone] = np.inf
        move[rows, assignment] = 0
        group, target = np.unravel_index(move.argmin(), move.shape)
        best = move[group, target]
        if gram is not None:
            # Swapping g (in a) and h (in b): u = w_h - w_g changes the cost by 2 u·(d_a - d_b) + 2 |u|².
            cross = along[:, assignment]  # (G, G): w_g · d_{split of h}
            swap = cross.T - own[:, None] - own[None, :] + cross + square[:, None] + square[None, :] - 2 * gram
            swap[assignment[:, None] == assignment[None, :]] = 0
            one, other = np.unravel_index(swap.argmin(), swap.shape)
            if swap[one, other] < min(best, -1e-12):
                assignment[[one, other]] = assignment[[other, one]]
                continue
        if best >= -1e-12:
            return assignment
        assignment[group] = target
