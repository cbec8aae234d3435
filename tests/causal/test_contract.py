"""The Granger loss, put through the library's contract."""

import pytest
import torch

from mmaffect.causal import GrangerLoss, granger_context
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])


@pytest.mark.parametrize("kind", ["info_nce", "mse"])
def test_granger_loss(kind):
    generator = torch.Generator().manual_seed(0)
    parents = torch.rand(3, 2, 5, 5, generator=generator).tril(-1)
    check_all(
        Case(
            build=lambda: GrangerLoss(4, kind=kind),
            inputs={"x": torch.randn(3, 5, 4, generator=generator), "parents": parents, "mask": MASK},
            masks={"x": "mask"},
            along={"parents": ("mask", (2, 3))},
            exempt={
                "batch_mates": "a contrast over the batch depends on the batch, as eq. 17 has it",
                "gradients": "the target is detached on purpose; its gradient is tested by hand",
            },
        )
    )


def test_granger_context():
    generator = torch.Generator().manual_seed(0)
    check_all(
        Case(
            build=lambda: granger_context,
            inputs={
                "x": torch.randn(3, 5, 4, generator=generator),
                "parents": torch.rand(3, 2, 5, 5, generator=generator).tril(-1),
                "mask": MASK,
            },
            masks={"x": "mask"},
            along={"parents": ("mask", (2, 3))},
        )
    )
