"""Group normalisation of each sample's own steps, as PyTorch's on those steps alone."""

import pytest
import torch
import torch.nn.functional as F

from mmaffect.ops import masked_group_norm

MASK = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])


def data(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 6, dtype=torch.float64, generator=generator).to(dtype)
    weight, bias = (torch.randn(6, dtype=torch.float64, generator=generator).to(dtype) for _ in range(2))
    return x, weight, bias


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_equals_torch_on_the_real_steps_alone(groups):
    x, weight, bias = data()
    out = masked_group_norm(x, groups, weight, bias, MASK)
    for row in (0, 1):
        alone = x[row, MASK[row]].mT.unsqueeze(0)
        expected = F.group_norm(alone, groups, weight, bias)[0].mT
        torch.testing.assert_close(out[row, MASK[row]], expected)
    assert (out[~MASK] == 0).all()
    torch.testing.assert_close(masked_group_norm(x, groups, weight, bias), F.group_norm(x.mT, groups, weight, bias).mT)


def test_padding_never_matters_not_even_to_gradients():
    x, weight, bias = data()
    spoilt = x.masked_fill(~MASK.unsqueeze(-1), torch.nan).requires_grad_()
    out = masked_group_norm(spoilt, 2, weight, bias, MASK)
    torch.testing.assert_close(out, masked_group_norm(x, 2, weight, bias, MASK))
    out.square().sum().backward()
    assert spoilt.grad.isfinite().all()
    assert (spoilt.grad[~MASK] == 0).all()


def test_gradients():
    x, weight, bias = (t.requires_grad_() for t in data())
    assert torch.autograd.gradcheck(lambda *a: masked_group_norm(a[0], 2, a[1], a[2], MASK), (x, weight, bias))


def test_half_precision_is_computed_in_float32():
    x, weight, bias = data(torch.float16)
    x = x * 300  # squares overflow float16
    out = masked_group_norm(x, 2, weight, bias, MASK)
    assert out.dtype == torch.float16
    wide = masked_group_norm(x.float(), 2, weight.float(), bias.float(), MASK)
    torch.testing.assert_close(out, wide.half())


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="groups: expected a divisor of the width 6, got 4"):
        masked_group_norm(data()[0], 4)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\), got \(2, 3\)"):
        masked_group_norm(torch.zeros(2, 3), 1)
