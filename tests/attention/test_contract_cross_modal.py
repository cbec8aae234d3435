"""The layers in which one sequence looks at another, and the pool, put through the library's contract."""

import pytest
import torch

from mmaffect.attention import CrossModalEncoder
from mmaffect.testing import Case, check_all

TARGET_MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
SOURCE_MASK = torch.tensor([[True] * 4, [True, False, True, False], [False, True, True, True]])


def sequence(steps, seed=0, width=4):
    return torch.randn(3, steps, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 2, "dropout": 0.2, "attention_dropout": 0.2, "embedding_dropout": 0.2},
        {"causal": True},
        {"causal": True, "offset": 2, "positions": "none", "hidden": 3},
    ],
)
def test_cross_modal_encoder(options):
    check_all(
        Case(
            build=lambda: CrossModalEncoder(4, **{"layers": 1, "heads": 2, **options}),
            inputs={
                "target": sequence(5),
                "source": sequence(4, 1),
                "target_mask": TARGET_MASK,
                "source_mask": SOURCE_MASK,
            },
            masks={"target": "target_mask", "source": "source_mask"},
            aligned={"output": "target_mask"},
        )
    )


def test_cross_modal_encoder_as_self_attention():
    check_all(
        Case(
            build=lambda: CrossModalEncoder(4, 1, 2),
            inputs={"target": sequence(5), "target_mask": TARGET_MASK},
            masks={"target": "target_mask"},
            aligned={"output": "target_mask"},
        )
    )
