"""A floor: a penalised linear model for each set of modalities that is there; logistic for classes."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.encoders import StreamInput
from mmaffect.losses import task_loss
from mmaffect.ops import read_out
from mmaffect.training import Progress, Stage, TrainConfig


@dataclass(frozen=True)
class Config:
    """Options.

    Args:
        penalty: weight of the squared weights in the loss, per availability pattern.
        balanced: weigh classes by inverse frequency in training, since UA gives them equal weight.
        epochs: passes over the training set.
    """

    penalty: float = 0.03
    balanced: bool = True
    epochs: int = 60


TRAINING = TrainConfig(batch_size=8, learning_rate=3e-3, optimizer="adam", clip_norm=None)


class Linear(nn.Module):
    """A linear model of the concatenated features of one step, with weights of its own for each availability pattern.

    Multinomial logistic regression for classes, binary for labels; scores are fitted by absolute error.

    A regression trained on the pattern it is asked about is the strongest linear reading of what is left: the
    bar that a system for missing modalities must clear. No context is seen.

    Raises:
        ValueError: above eight modalities (256 patterns).
    """

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        if len(spec.modalities) > 8:
            raise ValueError(f"spec: expected at most 8 modalities, got {len(spec.modalities)}")
        self.config, self.spec = config, spec
        self.stages = (Stage("train", config.epochs),)
        streams = {n: StreamInput(d, speakers=spec.speakers) for n, d in spec.modalities.items()}
        self.inputs = nn.ModuleDict(streams)
        self.patterns = 2 ** len(spec.modalities)
        self.head = nn.Linear(sum(stream.width for stream in streams.values()), self.patterns * spec.outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def represent(self, batch: MultimodalBatch) -> tuple[Tensor, Tensor]:
        """Concatenated features, and the number of the pattern that is there."""
        batch = batch.pooled()
        steps = cast(Tensor, batch.steps)
        streams, present = [], []
        for number, (name, x) in enumerate(batch.inputs.items()):
            mask = batch.masks[name]
            stream = self.inputs[name](x, mask, batch.speaker)
            streams.append(read_out(stream, steps, self.spec.sequence))
            there = read_out(mask.unsqueeze(-1).float(), steps, self.spec.sequence).squeeze(-1) > 0
            present.append(there * 2**number)
        return torch.cat(streams, dim=-1), torch.stack(present).sum(0)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Logits or scores."""
        features, pattern = self.represent(batch)
        every = self.head(features).unflatten(-1, (self.patterns, self.spec.outputs))
        index = pattern[..., None, None].expand(*pattern.shape, 1, self.spec.outputs)
        chosen = every.gather(-2, index).squeeze(-2)
        return chosen.squeeze(-1) if self.spec.target == "score" and self.spec.outputs == 1 else chosen

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """The task's loss and the ridge penalty."""
        spec = self.spec
        weights = spec.class_weights if self.config.balanced else None
        valid = observed.observed(spec.sequence)
        return {
            "task": task_loss(self(observed), observed.targets, spec.target, valid=valid, class_weights=weights),
            "penalty": self.config.penalty * self.head.weight.square().sum() / self.patterns,
        }


System = Linear
