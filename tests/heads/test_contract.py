"""The heads, put through the library's contract."""

import pytest
import torch

from mmaffect.heads import PredictionHead, ResidualHead
from mmaffect.testing import Case, check_all


@pytest.mark.parametrize("score", [False, True])
def test_prediction_head(score):
    hidden = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    check_all(Case(build=lambda: PredictionHead(5, 1, score=score), inputs={"hidden": hidden}))


def test_residual_head():
    hidden = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    check_all(Case(build=lambda: ResidualHead(5, 2), inputs={"hidden": hidden}))
