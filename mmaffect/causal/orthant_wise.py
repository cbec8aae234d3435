"""Minimising a smooth function plus an L1 penalty: orthant-wise limited-memory quasi-Newton (Andrew & Gao, 2007)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MEMORY = 10  # steps of which the curvature is kept
WINDOW = 10  # steps over which progress is judged: a single short one says little


def minimise_with_l1(
    smooth: Callable[[Array], tuple[float, Array]],
    start: Array,
    *,
    lambda1: float,
    free: NDArray[np.bool_],
    tolerance: float,
    max_iterations: int,
) -> Array:
    r"""Descend :math:`f(w) + \lambda_1 \|w\|_1`, never leaving the region where f is finite.

    Each step is that of L-BFGS for the pseudo-gradient, kept inside one orthant, where the penalty is smooth; entries
    that would change sign become 0. It is halved until it descends enough (Armijo), which also brings back a step over
    the edge of a barrier, where f must be infinite.

    Args:
        smooth: f, giving its value and gradient; convexity is not needed. Infinite outside its domain.
        start: where f is finite.
        lambda1: weight of the penalty.
        free: True = may change; elsewhere ``start`` stays.
        tolerance: stop when ten steps together lower the objective by less than this, relative to its size.
        max_iterations: steps at most.

    Shape:
        ``start`` and ``free`` of one shape, which is returned.

    Returns:
        The last point; its objective is the lowest seen.

    Example:
        >>> centre = np.array([3.0, 0.5])
        >>> minimise_with_l1(lambda w: (0.5 * float(np.sum((w - centre) ** 2)), w - centre), np.zeros(2), lambda1=1.0,
        ...                  free=np.array([True, True]), tolerance=1e-9, max_iterations=100)
        array([2., 0.])
    """
    point = start
    value, gradient = smooth(point)
    objectives = [value + lambda1 * float(np.abs(point).sum())]
    steps: list[tuple[Array, Array, float]] = []
    for _ in range(max_iterations):
        slope = np.where(free, _pseudo_gradient(point, gradient, lambda1), 0.0)
        if not slope.any():
            break
        direction = -_times_inverse_hessian(slope, steps)
        direction = np.where(direction * slope < 0, direction, 0.0)
        orthant = np.where(point != 0, np.sign(point), -np.sign(slope))
        size = 1.0
        while True:
            moved = point + size * direction
            moved = np.where(moved * orthant > 0, moved, 0.0)
            moved = np.where(free, moved, start)
            value, new_gradient = smooth(moved)
            objective = value + lambda1 * float(np.abs(moved).sum())
            if objective <= objectives[-1] + 1e-4 * float(np.vdot(slope, moved - point)):
                break
            size /= 2
            if size < 1e-10:  # nothing left to gain at this precision
                return point
        change, bend = moved - point, new_gradient - gradient
        curvature = float(np.vdot(change, bend))
        if curvature > 1e-10 * float(np.vdot(bend, bend)):
            steps = [*steps[-MEMORY + 1 :], (change, bend, curvature)]
        point, gradient = moved, new_gradient
        objectives.append(objective)
        if len(objectives) > WINDOW and objectives[-WINDOW - 1] - objective <= tolerance * abs(objective):
            break
    return point


def _pseudo_gradient(point: Array, gradient: Array, lambda1: float) -> Array:
    """The subgradient of least size: its negative is the steepest descent."""
    at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - lambda1, 0)
    return np.where(point != 0, gradient + lambda1 * np.sign(point), at_zero)


def _times_inverse_hessian(slope: Array, steps: list[tuple[Array, Array, float]]) -> Array:
    """The two loops of L-BFGS (Nocedal & Wright, algorithm 7.4)."""
    if not steps:
        return slope / max(1.0, float(np.linalg.norm(slope)))
    result, factors = slope.copy(), []
    for change, bend, curvature in reversed(steps):
        factors.append(float(np.vdot(change, result)) / curvature)
        result -= factors[-1] * bend
    _, bend, curvature = steps[-1]
    result *= curvature / float(np.vdot(bend, bend))
    for (change, bend, curvature), factor in zip(steps, reversed(factors), strict=True):
        result += (factor - float(np.vdot(bend, result)) / curvature) * change
    return result
