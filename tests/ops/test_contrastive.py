"""InfoNCE against cross-entropy over the valid rows alone."""

import pytest
import torch
import torch.nn.functional as F

from mmaffect.ops import info_nce_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_cross_entropy_over_valid_rows(dtype):
    generator = torch.Generator().manual_seed(0)
    p, g = (torch.randn(9, 4, generator=generator, dtype=dtype) for _ in range(2))
    valid = torch.rand(9, generator=generator) > 0.4
    rows = info_nce_rows(p, g, valid, temperature=0.3)
    expected = F.cross_entropy(p[valid] @ g[valid].mT / 0.3, torch.arange(int(valid.sum())), reduction="none")
    torch.testing.assert_close(rows[valid], expected)
    assert (rows[~valid] == 0).all()


def test_invalid_rows_never_matter():
    p = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([True, True, False, True])
    poisoned = p.clone()
    poisoned[2] = torch.nan
    poisoned.requires_grad_()
    rows = info_nce_rows(poisoned, poisoned.detach(), valid)
    torch.testing.assert_close(rows, info_nce_rows(p, p, valid))
    rows.sum().backward()
    assert poisoned.grad.isfinite().all()
    assert (poisoned.grad[2] == 0).all()


def test_nothing_valid_is_zero_with_zero_gradient():
    p = torch.randn(3, 2, requires_grad=True)
    loss = info_nce_rows(p, p.detach(), torch.zeros(3, dtype=torch.bool)).sum()
    loss.backward()
    assert loss.item() == 0
    assert (p.grad == 0).all()


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"target: expected shape \(N, D\) with N = 2, D = 3"):
        info_nce_rows(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="temperature: expected a value > 0"):
        info_nce_rows(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0.0)
