"""The half of MACI that reads text: which words stay in the counterfactual."""

import torch
from torch import Tensor, nn

from mmaffect.causal import token_class_counts
from mmaffect.data import MultimodalBatch, Vocabulary
from mmaffect.ops import check_choice, keep


class TellingWords(nn.Module):
    """Takes from token ids all words but the telling ones, which are unknown at first.

    Args:
        vocabulary: of the modality; special ids are never taken.
        words: what becomes of those taken: ``"missing"``, or ``"mask"``, the token that stands for a word taken away.

    Shape:
        ``ids (B, T)`` int64, ``mask (B, T)`` → ids and mask as given, and in which samples some were taken ``(B,)``.
    """

    kept: Tensor

    def __init__(self, vocabulary: Vocabulary, words: str) -> None:
        super().__init__()
        check_choice("words", words, ("missing", "mask"))
        self.mask_id = vocabulary.mask if words == "mask" else None
        kept = torch.zeros(vocabulary.size, dtype=torch.bool)
        kept[list(vocabulary.special)] = True
        self.register_buffer("kept", kept)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take the words."""
        ids = keep(ids, mask)
        taken = mask & ~self.kept[ids]
        if self.mask_id is None:
            return keep(ids, ~taken), mask & ~taken, taken.any(1)
        return torch.where(taken, self.mask_id, ids), mask, taken.any(1)


def count_words(batch: MultimodalBatch, name: str, vocabulary: Vocabulary, classes: int) -> Tensor:
    """How often each token of a modality occurs in samples of each class ``(V, C)``."""
    return token_class_counts(
        batch.inputs[name],
        batch.targets,
        batch.masks[name],
        vocabulary=vocabulary.size,
        classes=classes,
        special=vocabulary.special,
    )
