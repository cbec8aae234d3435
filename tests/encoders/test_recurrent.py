"""The unpacked GRU against PyTorch's packed one."""

import pytest
import torch
from torch import nn

from mmaffect.encoders import RecurrentEncoder
from mmaffect.ops import lengths_to_mask


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_packed_gru(layers, bidirectional):
    torch.manual_seed(0)
    ours = RecurrentEncoder(3, 4, layers=layers, bidirectional=bidirectional).double()
    theirs = nn.GRU(3, 4, layers, batch_first=True, bidirectional=bidirectional).double()
    state = {}
    for level in range(layers):
        for side, suffix in (("forwards", ""), ("backwards", "_reverse")) if bidirectional else (("forwards", ""),):
            for name, value in getattr(ours, side)[level].state_dict().items():
                state[name.replace("l0", f"l{level}") + suffix] = value
    theirs.load_state_dict(state)
    lengths = torch.tensor([5, 2, 4])
    x, mask = torch.randn(3, 5, 3, dtype=torch.float64), lengths_to_mask(lengths)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(ours(x, mask), expected)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="hidden: expected a value > 0, got 0"):
        RecurrentEncoder(3, 0)
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\) with D = 3, got \(1, 2, 4\)"):
        RecurrentEncoder(3, 2)(torch.zeros(1, 2, 4))
