import numpy as np
import pytest
import torch

from mmaffect.recovery import summarise_draws


def test_against_numpy():
    values = torch.randn(25, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    summary = summarise_draws(values, level=0.8)
    np.testing.assert_allclose(summary.mean, values.numpy().mean(0))
    np.testing.assert_allclose(summary.std, values.numpy().std(0, ddof=1))
    np.testing.assert_allclose(summary.lower, np.quantile(values, 0.1, axis=0, method="weibull"))
    np.testing.assert_allclose(summary.upper, np.quantile(values, 0.9, axis=0, method="weibull"))


def test_one_draw_has_no_spread():
    summary = summarise_draws(torch.tensor([[1.0, -2.0]]))
    assert summary.std.tolist() == [0.0, 0.0]
    assert summary.mean.tolist() == summary.lower.tolist() == summary.upper.tolist() == [1.0, -2.0]


def test_half_precision_is_summed_in_full():
    values = torch.full((3000, 2), 100.0, dtype=torch.float16)
    summary = summarise_draws(values)
    assert all(part.dtype == torch.float16 for part in summary)
    assert summary.mean.tolist() == [100.0, 100.0]


def test_refusals():
    with pytest.raises(ValueError, match="draws: expected at least one"):
        summarise_draws(torch.zeros(0, 2))
    with pytest.raises(ValueError, match="level: expected a probability between 0 and 1, got 90"):
        summarise_draws(torch.zeros(3), level=90)
