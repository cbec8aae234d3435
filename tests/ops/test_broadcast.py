"""A number a sample stays with its sample."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.ops import per_sample


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_every_sample_meets_its_own_number(shape):
    t = torch.arange(1.0, shape[0] + 1)
    product = per_sample(t, torch.ones(shape)) * torch.ones(shape)
    assert product.shape == torch.Size(shape)
    for row, number in zip(product, t, strict=True):
        assert (row == number).all()


def test_rows_are_not_mixed_where_batch_and_width_agree():
    x = torch.ones(3, 3)
    t = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(per_sample(t, x) * x, t[:, None].expand(3, 3))
    assert not torch.equal(t * x, t[:, None].expand(3, 3))


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (4,)])
def test_one_number_a_sample(shape):
    with pytest.raises(ValueError, match=r"t: expected shape \(B\) with B = 2, got"):
        per_sample(torch.zeros(shape), torch.zeros(2, 3))
