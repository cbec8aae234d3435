"""CARN: causal-aware reconstruction for emotion recognition with missing modalities.

Read beside the paper; equation numbers are its own. What it leaves open, the fields of :class:`Config` settle.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mmaffect.attention import TransformerEncoder
from mmaffect.causal import GrangerLoss
from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.encoders import CausalCueGate, CausalCues, StreamInput
from mmaffect.fusion import ConcatFusion
from mmaffect.heads import PredictionHead
from mmaffect.losses import masked_reconstruction, task_loss
from mmaffect.ops import masked_mean, read_out
from mmaffect.training import Progress, Stage, TrainConfig


@dataclass(frozen=True)
class Config:
    """Sizes and ablations.

    Widths, heads, layers, temperature and batch size are not in the paper. Width, dropouts (the paper: 0.5) and the
    weighting of classes were chosen here on the validation split of ``iemocap6``; the rest are plain choices for a
    set of that size, also the learning rate (the paper: 0.0001) and the epochs (200). The projection of each modality
    to one width before the cues, and the speaker and the flag of absence that go with it, are ours too.

    Args:
        hidden: width of each modality's stream.
        heads: heads of the transformer encoders.
        layers: blocks of each modality's transformer encoder (eq. 9) and of the reconstruction's (eq. 13).
        dropout: in the transformer encoders, the fusion and the heads.
        input_dropout: of the modalities' values.
        positions: of the transformer encoders: ``"distance"``, ``"sinusoidal"`` or ``"none"``.
        cues: the causal-cue gate (eq. 1-8); False is the ablation *w/o CCE*, which has no attention to supervise.
        attention: ``"causal"`` (entmax over the past) or ``"vanilla"`` (softmax over everything), an ablation.
        include_self: a step's cue may come from itself, as eq. 2 has it.
        self_parent: a step may be its own parent in the self-supervised loss, as printed; ours: the strict past.
        supervision: ``"info_nce"`` (eq. 17), or the ablations ``"mse"`` and ``"none"`` (*w/o CSS*).
        temperature: τ of eq. 17, on cosine scores.
        supervision_weight: weight of the self-supervised loss in stage 1 (eq. 18: 1).
        reconstruction_weight: weight of the reconstruction in stage 2 (eq. 21: 1).
        balanced: weigh classes by inverse frequency in training, since UA gives them equal weight.
        epochs_complete: epochs of stage 1, all modalities there.
        epochs_missing: epochs of stage 2, modalities missing.
    """

    hidden: int = 96
    heads: int = 4
    layers: int = 1
    dropout: float = 0.3
    input_dropout: float = 0.5
    positions: Literal["none", "sinusoidal", "distance"] = "distance"
    cues: bool = True
    attention: Literal["causal", "vanilla"] = "causal"
    include_self: bool = True
    self_parent: bool = False
    supervision: Literal["info_nce", "mse", "none"] = "info_nce"
    temperature: float = 0.1
    supervision_weight: float = 1.0
    reconstruction_weight: float = 1.0
    balanced: bool = True
    epochs_complete: int = 10
    epochs_missing: int = 30


TRAINING = TrainConfig(batch_size=8, learning_rate=1e-3, optimizer="adam", clip_norm=None)


ABLATIONS: dict[str, dict[str, Any]] = {
    "w/o CCE": {"cues": False},
    "w/o CSS": {"supervision": "none"},
    "w/ MSE": {"supervision": "mse"},
    "w/ vanilla attention": {"attention": "vanilla"},
}


class CARN(nn.Module):
    """CARN for any modalities and every kind of target and sequence.

    A dialogue is labelled at each step, a window at its last; where each modality has a time axis of its own, its
    hidden steps are averaged before the fusion and the modalities' means are what is reconstructed.
    """

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.stages = (
            Stage("complete", config.epochs_complete, missing=False),
            Stage("missing", config.epochs_missing),
        )
        width, names, dropout = config.hidden, spec.names, config.dropout
        causal = config.attention == "causal"

        def encoder(dim: int) -> TransformerEncoder:
            return TransformerEncoder(
                dim, config.layers, config.heads, hidden=2 * dim, dropout=dropout, positions=config.positions
            )

        self.inputs = nn.ModuleDict(
            {
                name: StreamInput(dim, width, speakers=spec.speakers, dropout=config.input_dropout)
                for name, dim in spec.modalities.items()
            }
        )
        self.cues = nn.ModuleDict(
            {
                name: CausalCueGate(
                    width,
                    alpha=1.5 if causal else 1,
                    causal=causal,
                    include_self=config.include_self,
                    self_parent=config.self_parent,
                )
                for name in (names if config.cues else ())
            }
        )
        self.encoders = nn.ModuleDict({name: encoder(width) for name in names})
        self.unimodal_heads = nn.ModuleDict({name: self._head(width) for name in names})
        supervision = config.supervision if config.cues else "none"
        self.supervision = nn.ModuleDict(
            {
                name: GrangerLoss(dim, hidden=width, kind=supervision, temperature=config.temperature)
                for name, dim in spec.modalities.items()
                if supervision != "none"
            }
        )
        self.fusion = ConcatFusion({name: width for name in names}, dropout=dropout)
        self.head = self._head(self.fusion.width)
        self.decoder = encoder(self.fusion.width)
        self.to_features = nn.Sequential(
            nn.Linear(self.fusion.width, self.fusion.width),
            nn.ReLU(),
            nn.Linear(self.fusion.width, sum(spec.modalities.values())),
        )

    def _head(self, width: int) -> PredictionHead:
        spec = self.spec
        return PredictionHead(width, spec.outputs, score=spec.target == "score", dropout=self.config.dropout)

    def streams(self, batch: MultimodalBatch) -> tuple[dict[str, Tensor], dict[str, CausalCues]]:
        """Each modality's hidden steps (eq. 9), and its causal cues (eq. 1-8).

        A turn at which a modality is absent still asks that modality's past; it is never asked.
        """
        hidden, cues = {}, {}
        for name, x in batch.inputs.items():
            mask = batch.masks[name]
            stream = self.inputs[name](x, mask, batch.speaker)
            if self.config.cues:
                cues[name] = self.cues[name](stream, mask, queries=batch.steps)
                stream = cues[name].gated
            hidden[name] = self.encoders[name](stream, mask, queries=batch.steps)
        return hidden, cues

    def fuse(self, hidden: dict[str, Tensor], batch: MultimodalBatch) -> tuple[Tensor, Tensor]:
        """Fused steps (eq. 10-11) and which of them are real; one step a sample where time is not shared."""
        if batch.steps is not None:
            return self.fusion(hidden), batch.steps
        means = {name: masked_mean(h, batch.masks[name]).unsqueeze(1) for name, h in hidden.items()}
        return self.fusion(means), batch.present.any(1, keepdim=True)

    def represent(self, batch: MultimodalBatch) -> Tensor:
        """Joint representation ``(B, T, M H)`` of a dialogue, else ``(B, M H)``."""
        fused, steps = self.fuse(self.streams(batch)[0], batch)
        return read_out(fused, steps, self.spec.sequence)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Logits or scores (eq. 12)."""
        return self.head(self.represent(batch))

    def attention(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """Attention of each modality's cues, query by source ``(B, 1, T, T)``: the paper's Figure 4."""
        return {name: cues.weights for name, cues in self.streams(batch)[1].items()}

    def reconstruct(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """Every modality's features from what is observed (eq. 13-14), for each step of ``batch.pooled()``."""
        return self._decode(*self.fuse(self.streams(batch)[0], batch))

    def _decode(self, fused: Tensor, steps: Tensor) -> dict[str, Tensor]:
        features = self.to_features(self.decoder(fused, steps))
        return dict(zip(self.spec.names, features.split(list(self.spec.modalities.values()), dim=-1), strict=True))

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """Stage 1: eq. 18-20. Stage 2: eq. 21-23; in the truly missing regime only what is observed is rebuilt."""
        spec, config = self.spec, self.config
        weights = spec.class_weights if config.balanced else None
        hidden, cues = self.streams(observed)
        if progress.stage == "complete":
            terms = {}
            for name, h in hidden.items():
                mask = observed.masks[name]
                out = self.unimodal_heads[name](
                    read_out(h, mask if observed.steps is None else observed.steps, spec.sequence)
                )
                there = mask if spec.sequence == "dialogue" else mask.any(1)
                terms[f"task/{name}"] = task_loss(
                    out, observed.targets, spec.target, valid=there, class_weights=weights
                )
                if name in self.supervision:
                    supervision = self.supervision[name](observed.inputs[name], cues[name].parents, mask)
                    terms[f"supervision/{name}"] = config.supervision_weight * supervision
            return terms
        fused, steps = self.fuse(hidden, observed)
        out = self.head(read_out(fused, steps, spec.sequence))
        truth = (observed if complete is None else complete).pooled()
        # Where an encoder made the features, they must not learn to be easily rebuilt.
        features = {name: x.detach() for name, x in truth.inputs.items()}
        valid = observed.observed(spec.sequence)
        rebuilt = masked_reconstruction(self._decode(fused, steps), features, truth.masks)
        return {
            "task": task_loss(out, observed.targets, spec.target, valid=valid, class_weights=weights),
            "reconstruction": config.reconstruction_weight * rebuilt,
        }


System = CARN
