"""The public name is the function of the ground floor."""

import torch

import mmaffect.causal
import mmaffect.ops


def test_is_one_function_under_two_names():
    assert mmaffect.causal.acyclicity is mmaffect.ops.acyclicity
    assert mmaffect.causal.acyclicity(torch.ones(2, 3, 3).triu(1), method="poly").tolist() == [0.0, 0.0]
