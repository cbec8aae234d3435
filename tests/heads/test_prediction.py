"""The prediction head's shapes."""

import torch

from mmaffect.heads import PredictionHead


def test_shapes_by_kind():
    hidden = torch.randn(3, 5, 4)
    assert PredictionHead(4, 6)(hidden).shape == (3, 5, 6)
    assert PredictionHead(4, 1)(hidden).shape == (3, 5, 1)
    assert PredictionHead(4, 1, score=True)(hidden).shape == (3, 5)
    assert PredictionHead(4, 3, score=True)(hidden).shape == (3, 5, 3)
