"""Masked softmax against PyTorch's on the allowed entries alone."""

import pytest
import torch

from mmaffect.ops import masked_softmax


def test_masked_entries_never_matter_and_empty_rows_are_zero():
    mask = torch.tensor([[True, False, True, True], [False] * 4])
    clean = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    poisoned = clean.clone()
    poisoned[~mask] = torch.nan
    poisoned.requires_grad_()
    weights = masked_softmax(poisoned, mask)
    torch.testing.assert_close(weights[0, [0, 2, 3]], torch.softmax(clean[0, [0, 2, 3]], -1))
    assert (weights[~mask] == 0).all()
    weights.square().sum().backward()
    assert (poisoned.grad[~mask] == 0).all()
    assert poisoned.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    scores = torch.randn(8, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    weights = masked_softmax(scores, torch.ones(64, dtype=torch.bool))
    assert weights.dtype == dtype
    torch.testing.assert_close(weights, torch.softmax(scores.float(), -1).to(dtype))
