"""Linear NOTEARS: least squares under the constraint that there be no cycle, by an augmented Lagrangian."""

import numpy as np
from scipy.linalg import expm
from scipy.optimize import Bounds, minimize

from mmaffect.causal.orthant_wise import Array

GOAL = 1e-8  # of h
LARGEST_PENALTY = 1e16


def notears(covariance: Array, *, lambda1: float, tolerance: float, max_iterations: int) -> Array:
    r"""Weights by NOTEARS (Zheng, Aragam, Ravikumar & Xing, 2018, algorithm 1).

    .. math::
        \min_W \tfrac12 \operatorname{tr} (I - W)^\top \Sigma (I - W) + \lambda_1 \|W\|_1
        \quad\text{subject to}\quad h(W) = \operatorname{tr} e^{W \circ W} - d = 0

    As in the published code: :math:`W = W_+ - W_-` with both at least 0, so that the penalty is linear and L-BFGS-B of
    SciPy minimises :math:`f + \tfrac\rho2 h^2 + \alpha h`; ρ grows tenfold until h falls to a quarter; then α grows by
    ρh; until h is at most 1e-8. It stops each minimisation at a looser tolerance than that code's 2e-9, which
    costs several times the steps and, on the graphs of the benchmark, buys nothing.

    Args:
        covariance: Σ of centred columns, divided by n.
        lambda1: weight of the L1 penalty.
        tolerance: of each minimum, relative to the objective.
        max_iterations: steps to each minimum at most.

    Shape:
        ``(d, d)`` → ``(d, d)``, the edge from i to j at ``[i, j]``.
    """
    one = np.eye(len(covariance))
    bounds = Bounds(0, np.tile(np.where(one == 0, np.inf, 0.0).ravel(), 2))
    halves: Array = np.zeros(2 * one.size)
    penalty, multiplier, h = 1.0, 0.0, np.inf

    def joined(halves: Array) -> Array:
        plus, minus = halves.reshape(2, *one.shape)
        return plus - minus

    def lagrangian(halves: Array) -> tuple[float, Array]:
        w = joined(halves)
        h, slope = _trace_of_exponential(w)
        pull = covariance @ (one - w)
        value = 0.5 * float(np.vdot(one - w, pull)) + (0.5 * penalty * h + multiplier) * h
        gradient = (penalty * h + multiplier) * slope - pull
        return value + lambda1 * float(halves.sum()), np.stack([gradient + lambda1, lambda1 - gradient]).ravel()

    options = {"ftol": tolerance, "maxiter": max_iterations}
    while h > GOAL and penalty < LARGEST_PENALTY:
        found, reached = halves, h
        while penalty < LARGEST_PENALTY:
            found = minimize(lagrangian, halves, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
            reached, _ = _trace_of_exponential(joined(found))
            if reached <= 0.25 * h:
                break
            penalty *= 10
        halves, h = found, reached
        multiplier += penalty * h
    return joined(halves)


def _trace_of_exponential(w: Array) -> tuple[float, Array]:
    exponential = expm(w * w)
    return float(np.trace(exponential)) - len(w), exponential.T * 2 * w
