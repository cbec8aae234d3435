"""Positions against their formulas."""

import math

import torch

from mmaffect.attention import distance_bias, sinusoidal_positions


def test_sinusoids():
    table = sinusoidal_positions(7, 5)
    for t in range(7):
        for i in range(5):
            angle = t / 10000 ** (2 * (i // 2) / 5)
            expected = math.sin(angle) if i % 2 == 0 else math.cos(angle)
            assert abs(table[t, i].item() - expected) < 1e-5


def test_distance_bias():
    bias = distance_bias(4, 8)
    assert bias.shape == (8, 4, 4)
    assert bias[0, 0, 3].item() == -3 * 0.5
    assert bias[7, 1, 0].item() == -(2.0**-8)
    torch.testing.assert_close(bias, bias.mT)
