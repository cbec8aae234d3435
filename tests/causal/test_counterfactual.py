"""The counterfactual difference by hand, and the choice of its strength against a search by hand."""

import math

import numpy as np
import pytest
import torch

from mmaffect.causal import choose_tau, counterfactual_difference


def accuracy(scores, targets):
    return (scores.argmax(-1) == targets).double().mean()


def test_difference_divides_probabilities_by_a_power_of_the_counterfactual_ones():
    p, biased = (torch.rand(2, 5, 3, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    torch.testing.assert_close(
        counterfactual_difference(p, biased, 0.7).exp(), p.exp() / biased.exp().pow(0.7), rtol=1e-10, atol=0
    )
    torch.testing.assert_close(counterfactual_difference(p, biased, 0.0), p)


def test_a_bias_shared_by_all_samples_is_found_and_taken_away():
    # The model says softmax(truth + 2 bias); the counterfactual input shows the bias alone.
    generator = torch.Generator().manual_seed(0)
    truth, bias = torch.randn(400, 3, generator=generator), torch.tensor([1.5, 0.0, -1.5])
    targets = truth.argmax(-1)
    p, biased = (truth + 2 * bias).log_softmax(-1), bias.expand(400, 3).log_softmax(-1)
    assert accuracy(p, targets) < 0.6
    tau = choose_tau(p, biased, targets, accuracy)
    assert tau == 2.0
    assert accuracy(counterfactual_difference(p, biased, tau), targets) == 1


def test_of_equally_good_values_the_smallest_is_chosen_in_any_order_of_the_grid():
    p = torch.tensor([[0.9, 0.1]]).log()
    assert choose_tau(p, p, torch.tensor([0]), accuracy, grid=[0.5, 0.2, 0.9]) == 0.2
    assert choose_tau(p, p, torch.tensor([0]), lambda s, t: -math.inf, grid=[0.5, 0.2]) == 0.2


@pytest.mark.parametrize("grid", [np.array([0.5, 0.2]), torch.tensor([0.5, 0.2], dtype=torch.float64), (0.5, 0.2)])
def test_the_grid_may_be_an_array_or_a_tensor(grid):
    p = torch.tensor([[0.9, 0.1]]).log()
    assert choose_tau(p, p, torch.tensor([0]), accuracy, grid=grid) == 0.2
    with pytest.raises(ValueError, match="grid: expected at least one value"):
        choose_tau(p, p, torch.tensor([0]), accuracy, grid=grid[:0])


def test_a_metric_that_is_undefined_never_wins():
    p = torch.tensor([[0.9, 0.1]]).log()
    values = iter([math.nan, 0.3, math.nan, 0.1])
    assert choose_tau(p, p, torch.tensor([0]), lambda s, t: next(values), grid=[0, 1, 2, 3]) == 1
    with pytest.raises(ValueError, match="metric: expected a number at some tau, got NaN at every one"):
        choose_tau(p, p, torch.tensor([0]), lambda s, t: math.nan)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"counterfactual_log_prob: expected shape \(2, 3\), got \(3,\)"):
        counterfactual_difference(torch.zeros(2, 3), torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match="grid: expected at least one value of tau, got none"):
        choose_tau(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2), accuracy, grid=[])
