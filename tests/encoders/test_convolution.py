"""The masked convolution against PyTorch's layers on the real steps alone."""

import pytest
import torch
import torch.nn.functional as F

from mmaffect.encoders import TemporalConvolution


def test_equals_torch_on_each_sequence_alone():
    torch.manual_seed(0)
    front = TemporalConvolution(3, 8, kernel=5, groups=4).double()
    torch.nn.init.normal_(front.norm.weight)
    x, lengths = torch.randn(2, 6, 3, dtype=torch.float64), (6, 2)
    mask = torch.arange(6) < torch.tensor(lengths)[:, None]
    out = front(x, mask)
    for row, length in enumerate(lengths):
        expected = F.gelu(front.norm(front.convolution(x[row : row + 1, :length].mT))).mT[0]
        torch.testing.assert_close(out[row, :length], expected)
        assert (out[row, length:] == 0).all()


def test_a_gap_is_read_as_zero():
    torch.manual_seed(0)
    front = TemporalConvolution(3, 4, kernel=3, groups=2)
    x, mask = torch.randn(1, 5, 3), torch.tensor([[True, True, False, True, True]])
    zeroed = x.clone()
    zeroed[0, 2] = 0
    assert not torch.allclose(front(x, mask)[0, 1], front(x[:, :2], mask[:, :2])[0, 1])
    torch.testing.assert_close(front(x, mask), front(zeroed, mask))


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="kernel: expected an odd number of steps, got 4"):
        TemporalConvolution(3, 8, kernel=4)
    with pytest.raises(ValueError, match="width: expected a multiple of groups = 8, got 6"):
        TemporalConvolution(3, 6)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 3, got \(1, 2, 4\)"):
        TemporalConvolution(3, 8)(torch.zeros(1, 2, 4))
