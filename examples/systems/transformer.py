"""A floor: a transformer encoder over the concatenated modalities, zero where one is absent."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from mmaffect.attention import TransformerEncoder
from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.encoders import StreamInput
from mmaffect.heads import PredictionHead
from mmaffect.losses import task_loss
from mmaffect.ops import read_out
from mmaffect.training import Progress, Stage, TrainConfig


@dataclass(frozen=True)
class Config:
    """Sizes and options.

    Args:
        hidden: width, a multiple of ``heads``.
        heads: attention heads.
        layers: stacked blocks.
        positions: ``"distance"``, ``"sinusoidal"`` or ``"none"``.
        dropout: inside the blocks and before the head.
        input_dropout: of the modalities' values.
        balanced: weigh classes by inverse frequency in training, since UA gives them equal weight.
        epochs: passes over the training set.
    """

    hidden: int = 96
    heads: int = 4
    layers: int = 2
    positions: Literal["none", "sinusoidal", "distance"] = "distance"
    dropout: float = 0.3
    input_dropout: float = 0.3
    balanced: bool = True
    epochs: int = 40


TRAINING = TrainConfig(batch_size=8, learning_rate=1e-3, optimizer="adam", clip_norm=1.0)


class Transformer(nn.Module):
    """Transformer over concatenated modalities.

    Where each modality has a time axis of its own, the modalities' means stand for the sample.
    """

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.stages = (Stage("train", config.epochs),)
        streams = {
            n: StreamInput(d, speakers=spec.speakers, dropout=config.input_dropout) for n, d in spec.modalities.items()
        }
        self.inputs = nn.ModuleDict(streams)
        self.project = nn.Linear(sum(stream.width for stream in streams.values()), config.hidden)
        self.encoder = TransformerEncoder(
            config.hidden,
            config.layers,
            config.heads,
            hidden=2 * config.hidden,
            dropout=config.dropout,
            positions=config.positions,
        )
        self.head = PredictionHead(config.hidden, spec.outputs, score=spec.target == "score", dropout=config.dropout)

    def represent(self, batch: MultimodalBatch) -> Tensor:
        """Joint representation ``(B, T, H)`` of a dialogue, else ``(B, H)``."""
        batch = batch.pooled()
        steps = cast(Tensor, batch.steps)
        streams = {n: self.inputs[n](x, batch.masks[n], batch.speaker) for n, x in batch.inputs.items()}
        hidden = self.encoder(self.project(torch.cat(list(streams.values()), dim=-1)), steps)
        return read_out(hidden, steps, self.spec.sequence)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Logits or scores."""
        return self.head(self.represent(batch))

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """The task's loss."""
        spec = self.spec
        weights = spec.class_weights if self.config.balanced else None
        valid = observed.observed(spec.sequence)
        return {"task": task_loss(self(observed), observed.targets, spec.target, valid=valid, class_weights=weights)}


System = Transformer
