"""The text encoders, put through the library's contract."""

import torch

from mmaffect.encoders import PretrainedText, TokenEmbedding
from mmaffect.testing import Case, check_all
from tests.text_models import tiny_model

MASK = torch.tensor([[True] * 5, [True, True, True, False, False], [True, False, True, True, False]])
IDS = torch.tensor([[2, 5, 6, 9, 3], [2, 7, 3, 0, 0], [2, 4, 8, 3, 0]])


def test_token_embedding():
    check_all(
        Case(
            build=lambda: TokenEmbedding(10, 4, dropout=0.2),
            inputs={"ids": IDS, "mask": MASK},
            masks={"ids": "mask"},
            aligned={"output": "mask"},
            hideable=("mask",),
        )
    )


def test_pretrained_text(tmp_path):
    folder = tiny_model(tmp_path, dropout=0.1)
    check_all(
        Case(
            build=lambda: PretrainedText(folder),
            inputs={"ids": IDS, "mask": MASK},
            masks={"ids": "mask"},
            aligned={"output": "mask"},
            hideable=("mask",),
            exempt={"reset": "its weights are read, not drawn"},
        )
    )
