"""Parts of tensors that together are the whole, and nothing twice."""

import pytest
import torch

from mmaffect.ops import blocks
from mmaffect.ops.blocks import bands, in_blocks, row_blocks


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 64)


@pytest.mark.parametrize("shape", [(40, 8), (3, 7, 10), (5, 200)])
def test_row_blocks_are_the_same_rows_of_all_each_once(shape):
    values, counts = torch.randn(shape), torch.zeros(shape)
    assert in_blocks(values)
    seen = []
    for part, count in row_blocks(values, counts):
        assert part.shape == count.shape
        assert part.numel() <= max(64, shape[-1])
        count.add_(1)
        seen.append(part)
    assert (counts == 1).all()
    assert torch.equal(torch.cat(seen), values.reshape(-1, shape[-1]))


def test_row_blocks_of_a_small_tensor_are_the_tensor():
    values = torch.randn(2, 3, 4)
    ((part,),) = row_blocks(values)
    assert part is values


@pytest.mark.parametrize("shape", [(20, 20), (3, 2, 17, 17), (4, 5, 9), (2, 40, 40)])
def test_bands_hold_the_past_of_each_row_once(shape):
    values, counts = torch.randn(shape), torch.zeros(shape)
    for part, count in bands(values, counts):
        assert part.shape == count.shape
        count.add_(1)
    past = torch.ones(shape[-2:]).tril().bool()
    assert (counts[..., past] == 1).all()
    assert (counts <= 1).all()
    if shape[-2] >= 16:
        assert counts.mean() < 0.6  # most of the future is in none


def test_transformed_and_compiled_tensors_stay_whole():
    large = torch.zeros(4, 64)
    assert in_blocks(large)
    seen = []
    torch.func.vmap(lambda x: seen.append(in_blocks(x)) or x)(torch.zeros(2, 4, 64))
    assert seen == [False]
    assert not torch.compile(lambda x: x + in_blocks(x), backend="eager", fullgraph=True)(large).any()
    assert not in_blocks(large.to("meta"))
