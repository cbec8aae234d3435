import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaffect.ops import central_interval


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.01, 0.99))
def test_against_numpy(seed, count, level):
    draws = torch.randn(count, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends = central_interval(draws, level)
    for end, share in zip(ends, ((1 - level) / 2, (1 + level) / 2), strict=True):
        np.testing.assert_allclose(end, np.quantile(draws, share, axis=0, method="weibull"), atol=1e-12)


@pytest.mark.parametrize(("count", "level"), [(9, 0.8), (19, 0.9), (19, 0.5), (4, 0.6)])
def test_a_further_draw_falls_into_it_with_that_probability(count, level):
    """Whatever the law, if it is continuous; an interval by NumPy's default quantiles does not hold this."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(count + 1, 200_000, generator=generator, dtype=torch.float64).exp()
    lower, upper = central_interval(values[:-1], level)
    inside = ((values[-1] >= lower) & (values[-1] <= upper)).double().mean().item()
    assert abs(inside - level) < 4.5 * np.sqrt(level * (1 - level) / 200_000)


def test_order_of_draws_and_half_precision():
    draws = torch.tensor([3.0, 1.0, 2.0])
    assert [end.item() for end in central_interval(draws, 0.5)] == [1.0, 3.0]
    assert [end.item() for end in central_interval(draws.flip(0), 0.25)] == [1.5, 2.5]
    lower, upper = central_interval(draws.bfloat16(), 0.25)
    assert lower.dtype == upper.dtype == torch.bfloat16
    assert [lower.item(), upper.item()] == [1.5, 2.5]
    assert [end.item() for end in central_interval(draws[:1], 0.9)] == [3.0, 3.0]


def test_refusals():
    for draws in (torch.zeros(()), torch.zeros(0, 2)):
        with pytest.raises(ValueError, match="draws: expected at least one along the first axis, got shape"):
            central_interval(draws, 0.9)
    for level in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"level: expected a probability between 0 and 1, got"):
            central_interval(torch.zeros(3), level)
