"""Embedded times: by the formula, finely told apart, and the same in half precision."""

import math

import pytest
import torch

from mmaffect.diffusion import TimeEmbedding, sinusoidal_time


def test_sinusoids_by_the_formula():
    t = [0.0, 0.25, 1.0]
    embedded = sinusoidal_time(torch.tensor(t, dtype=torch.float64), 6)
    for row, time in enumerate(t):
        for i in range(3):
            angle = 1000 * time * 10000 ** (-i / 3)
            assert embedded[row, i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert embedded[row, 3 + i].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_half_precision_is_computed_in_float32():
    t = torch.tensor([0.7]).bfloat16()
    assert torch.equal(sinusoidal_time(t, 8), sinusoidal_time(t.float(), 8))


@pytest.mark.parametrize("kind", ["sinusoidal", "fourier"])
def test_neighbouring_times_are_told_apart(kind):
    torch.manual_seed(0)
    first, second = TimeEmbedding(32, 8, kind=kind).eval()(torch.tensor([0.5, 0.501]))
    assert (first - second).abs().max() > 1e-3


def test_random_features_are_drawn_once_and_kept():
    torch.manual_seed(0)
    embedding = TimeEmbedding(2000, 4, kind="fourier")
    assert "frequencies" in embedding.state_dict()
    assert "frequencies" not in dict(embedding.named_parameters())
    assert embedding.frequencies.std().item() == pytest.approx(16, rel=0.1)
    t = torch.rand(3)
    assert torch.equal(embedding(t), embedding(t))


def test_random_features_by_the_formula():
    embedding = TimeEmbedding(4, 4, kind="fourier").double()
    embedding.first.weight.data, embedding.first.bias.data = torch.eye(4).double(), torch.zeros(4).double()
    embedding.second.weight.data, embedding.second.bias.data = torch.eye(4).double(), torch.zeros(4).double()
    t, (low, high) = 0.3, embedding.frequencies.tolist()
    expected = [f(2 * math.pi * w * t) for f in (math.sin, math.cos) for w in (low, high)]
    expected = [value / (1 + math.exp(-value)) for value in expected]
    assert embedding(torch.tensor([t], dtype=torch.float64))[0].tolist() == pytest.approx(expected)


def test_refusals():
    with pytest.raises(ValueError, match="dim: expected an even number > 0, got 3"):
        TimeEmbedding(3, 4)
    with pytest.raises(ValueError, match="dim: expected an even number > 0, got 5"):
        sinusoidal_time(torch.zeros(2), 5)
    with pytest.raises(ValueError, match=r"t: expected shape \(B\), got \(2, 1\)"):
        TimeEmbedding(4, 4)(torch.zeros(2, 1))
    with pytest.raises(ValueError, match=r"kind: 'cosine' is unknown"):
        TimeEmbedding(4, 4, kind="cosine")
