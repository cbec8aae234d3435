"""Counterfactual difference: take away what the model would say without the part that is in question."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

GRID = tuple(step / 10 for step in range(31))


def counterfactual_difference(log_prob: Tensor, counterfactual_log_prob: Tensor, tau: float | Tensor) -> Tensor:
    r"""Scores without the share that the counterfactual input explains (CIDer).

    .. math:: s_y = \log p(y \mid x) - \tau \log p(y \mid x_{cf})

    The paper prints probabilities; its published code subtracts log-probabilities, and so do we.

    Args:
        log_prob: log p(y | x), finite.
        counterfactual_log_prob: log p(y | x_cf), finite, from the same model; see :func:`mask_tokens` for one such
            input.
        tau: how much is taken away; see :func:`choose_tau`.

    Shape:
        ``(..., C)``, ``(..., C)`` → ``(..., C)``.

    Returns:
        Scores to compare classes by; no log-probabilities, unless a ``log_softmax`` follows.

    Raises:
        ValueError: on shapes that differ.

    Example:
        >>> import torch
        >>> p, biased = torch.tensor([0.6, 0.4]).log(), torch.tensor([0.8, 0.2]).log()
        >>> counterfactual_difference(p, biased, 1.0).softmax(-1)
        tensor([0.2727, 0.7273])
    """
    if log_prob.shape != counterfactual_log_prob.shape:
        raise ValueError(
            f"counterfactual_log_prob: expected shape {tuple(log_prob.shape)}, "
            f"got {tuple(counterfactual_log_prob.shape)}"
        )
    return log_prob - tau * counterfactual_log_prob


def choose_tau(
    log_prob: Tensor,
    counterfactual_log_prob: Tensor,
    targets: Tensor,
    metric: Callable[[Tensor, Tensor], float | Tensor],
    *,
    grid: Sequence[float] | Tensor = GRID,
) -> float:
    """The τ whose scores do best on validation data; of several, the smallest.

    Hand over the validation split. The published code maximises on the test set, anew for each metric and missing
    rate: figures so chosen are no estimate of anything.

    Args:
        log_prob: log p(y | x), finite.
        counterfactual_log_prob: log p(y | x_cf), finite.
        targets: handed to the metric as they are.
        metric: ``metric(scores, targets)``, larger is better; a NaN never wins.
        grid: values to try; 0, 0.1, ..., 3 by default.

    Shape:
        ``(N, C)``, ``(N, C)``.

    Raises:
        ValueError: on shapes that differ, an empty grid, or a metric that is NaN at every τ.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.7, 0.3], [0.6, 0.4]]).log()
        >>> biased = torch.tensor([[0.7, 0.3], [0.8, 0.2]]).log()
        >>> accuracy = lambda scores, targets: (scores.argmax(-1) == targets).float().mean()
        >>> choose_tau(p, biased, torch.tensor([0, 1]), accuracy)
        0.3
    """
    if len(grid) == 0:  # the truth value of an array or a tensor is another
        raise ValueError("grid: expected at least one value of tau, got none")
    best, chosen = -math.inf, math.nan
    for tau in sorted(float(value) for value in grid):
        value = float(metric(counterfactual_difference(log_prob, counterfactual_log_prob, tau), targets))
        if value > best or (math.isnan(chosen) and value == best):
            best, chosen = value, tau
    if math.isnan(chosen):
        raise ValueError("metric: expected a number at some tau, got NaN at every one")
    return chosen
