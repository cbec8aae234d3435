"""The stream's input: values, absence and speaker, joined."""

import pytest
import torch

from mmaffect.encoders import StreamInput


def test_joins_values_absence_and_speaker():
    stream = StreamInput(2, speakers=2)
    x = torch.tensor([[[1.0, 2.0], [torch.nan, 9.0], [3.0, 4.0]]])
    out = stream(x, torch.tensor([[True, False, True]]), torch.tensor([[0, 1, 5]]))
    assert stream.width == 5
    assert out.tolist() == [[[1, 2, 0, 1, 0], [0, 0, 1, 0, 1], [3, 4, 0, 0, 1]]]


def test_projects_to_a_width():
    assert StreamInput(2, 7)(torch.zeros(1, 3, 2), torch.ones(1, 3).bool()).shape == (1, 3, 7)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"speaker: expected the speaker of each step \(speakers = 2\), got None"):
        StreamInput(2, speakers=2)(torch.zeros(1, 1, 2), torch.ones(1, 1).bool())
    with pytest.raises(ValueError, match="dim: expected a value > 0"):
        StreamInput(0)
