"""The layers in which one sequence looks at another, and the pool, put through the library's contract."""

import pytest
import torch

from mmaffect.attention import AttentionPool, CrossModalEncoder, GuidedCrossModalEncoder, WordAligner
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


@pytest.mark.parametrize("options", [{}, {"causal": True, "offset": 1, "positions": "none", "dropout": 0.2}])
def test_guided_cross_modal_encoder(options):
    guide_mask = torch.tensor([[True] * 3, [True, False, False], [False, True, True]])
    check_all(
        Case(
            build=lambda: GuidedCrossModalEncoder(4, 1, 2, **options),
            inputs={
                "target": sequence(5),
                "source": sequence(4, 1),
                "guide": sequence(3, 2),
                "target_mask": TARGET_MASK,
                "source_mask": SOURCE_MASK,
                "guide_mask": guide_mask,
            },
            masks={"target": "target_mask", "source": "source_mask", "guide": "guide_mask"},
            aligned={"output": "target_mask"},
        )
    )


@pytest.mark.parametrize("heads", [1, 2])
def test_word_aligner(heads):
    inputs = {
        "words": sequence(5),
        "frames": sequence(4, 1),
        "word_mask": TARGET_MASK,
        "frame_mask": SOURCE_MASK,
        "queries": torch.tensor([[False, True, True, True, False]] * 3),
    }
    masks = {"words": "word_mask", "frames": "frame_mask"}
    check_all(
        Case(
            build=lambda: WordAligner(4, heads),
            inputs=inputs,
            masks=masks,
            along={"queries": ("word_mask", (1,))},
            aligned={"y": "word_mask", "weights": ("word_mask", 2)},
            exempt={"padding": "weights have a frame axis that grows; see below"},
        )
    )
    check_all(
        Case(
            build=lambda: WordAligner(4, heads),
            inputs=inputs,
            masks=masks,
            along={"queries": ("word_mask", (1,))},
            aligned={"output": "word_mask"},
            call=lambda layer, **given: layer(**given).y,
        ),
        only=["padding"],
    )


@pytest.mark.parametrize("bias", [True, False])
def test_attention_pool(bias):
    inputs = {"x": sequence(5), "mask": TARGET_MASK}
    check_all(
        Case(
            build=lambda: AttentionPool(4, bias=bias),
            inputs=inputs,
            masks={"x": "mask"},
            aligned={"weights": "mask"},
        )
    )
