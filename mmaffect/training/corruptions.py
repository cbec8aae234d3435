"""Conditions under which values are there but wrong; for probing a system that was trained clean."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmaffect.data import MultimodalBatch, MultimodalDataset
from mmaffect.missing import add_noise, blank_frames, choose_frames
from mmaffect.ops import lengths_to_mask
from mmaffect.training.conditions import Change, rows_of
from mmaffect.training.order import derive


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise on every value of every modality but token ids, which stay as they are: they have no noise.

    Args:
        name: in tables.
        level: standard deviation of the noise; values are standardised, so in standard deviations of each feature.

    Raises:
        ValueError: on a level that is negative or not finite.
    """

    name: str
    level: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.level) and self.level >= 0):
            raise ValueError(f"level: expected a finite value >= 0, got {self.level}")

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Give every sample and modality a random stream of its own.

        Not a table: one of all the noise would be as large as the data.
        """

        def noise(name: str, x: Tensor, batch: MultimodalBatch) -> Tensor:
            drawn = torch.zeros(x.shape)
            lengths = dataset.lengths[name][batch.index].tolist()
            for row, (index, steps) in enumerate(zip(batch.index.tolist(), lengths, strict=True)):
                generator = torch.Generator().manual_seed(derive(seed, name, index))
                drawn[row, :steps] = torch.randn(steps, x.shape[2], generator=generator)
            return drawn

        def change(batch: MultimodalBatch) -> MultimodalBatch:
            inputs = {
                n: add_noise(x, batch.masks[n], noise(n, x, batch), self.level) if x.is_floating_point() else x
                for n, x in batch.inputs.items()
            }
            return replace(batch, inputs=inputs)

        return change


@dataclass(frozen=True)
class FrameMasking:
    """A share of the steps of each modality is blanked, and the system is not told.

    A vector becomes zero, which is the mean of standardised values. A token becomes the vocabulary's mask token, which
    says itself that a word was taken: id 0 would be padding that is attended to. Start and end tokens stay as they are.

    Args:
        name: in tables.
        share: of each sample's steps, in [0, 1]; of tokens, without start and end.

    Raises:
        ValueError: on a share outside [0, 1].
    """

    name: str
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share: expected 0 <= share <= 1, got {self.share}")

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Choose the frames of every modality of every sample."""
        generator = torch.Generator().manual_seed(seed)
        tables, tokens = {}, dataset.spec.tokens
        for name, length in dataset.lengths.items():
            steps = lengths_to_mask(length) & ~dataset.protected(name)
            tables[name] = choose_frames(steps, self.share, generator)

        def blank(name: str, x: Tensor, mask: Tensor, chosen: Tensor) -> Tensor:
            if name in tokens:
                return torch.where(mask & chosen, tokens[name].mask, x)
            return blank_frames(x, mask, chosen, mark="zero").x

        def change(batch: MultimodalBatch) -> MultimodalBatch:
            chosen = rows_of(tables, batch)
            inputs = {n: blank(n, x, batch.masks[n], chosen[n]) for n, x in batch.inputs.items()}
            return replace(batch, inputs=inputs)

        return change
