"""CIDer: what a network makes of all there is teaches it what to make of a part.

Read beside the paper's figures; the text itself was at hand as a summary, so names are those of the published code.
Where that differs from ours, the page on this system in the documentation says so. The paper's other half, MACI, is
no part of a system: it takes the place of any system's head (``examples/maci.py``).
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.attention import AttentionPool, CompositeEncoder, WordAligner
from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.encoders import RecurrentEncoder
from mmaffect.heads import PredictionHead
from mmaffect.losses import cosine_distillation, masked_reconstruction, score_map_distillation, task_loss
from mmaffect.missing import rmfm
from mmaffect.ops import check_choice, check_positive, dropout, keep
from mmaffect.training import Progress, Stage, TrainConfig

ByName = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """Sizes, weights and ablations; the shipped example of the published code, but for what is said to be ours.

    Args:
        hidden: width of everything, a multiple of ``heads``.
        layers: of the composite transformer.
        heads: of its attention.
        attention_dropout: of its weights over all modalities together.
        dropout: of its branches.
        embedding_dropout: of the steps that enter it.
        output_dropout: in the joint state.
        anchor: the modality whose steps the others are aligned to, where each has a time axis of its own; the first
            if empty. The paper: language.
        lengths: steps that the decoders of the modalities span, in their order, or one number for all; used where
            modalities are aligned. What is beyond is not reconstructed.
        align: bring the other modalities to the anchor's steps; False lets the transformer see all their own steps,
            one modality after the other, at the price of their number squared.
        recurrence: a GRU for each modality before the transformer.
        attention: ``"composite"``, within each subset of the modalities, or ``"full"``, once over all of them.
        holes: steps that a sample has and a modality lacks. ``"masked"`` (ours): they ask, and are never asked nor
            aligned. ``"unknown"``: zeros that are taken for values, as published. Where modalities have time axes of
            their own, steps behind the last one observed are unknown to all.
        twins: learn from the complete and the incomplete batch at once; False learns from the incomplete one
            (*without MSSD*).
        alpha: weight of the distance between the joint states.
        beta: weight of the divergence between the attention maps. It is a mean over their rows; the published one is
            a sum over the rows of a sample, 150 of them at 50 aligned steps of three modalities: what is 0.1 there is
            15 here.
        gamma: weight of the reconstruction of what is missing.
        balanced: weigh classes by inverse frequency in training, since UA gives them equal weight (ours).
        epochs: passes over the training set, at most (published: 200 at most, and like here none after ten that did
            not improve).
    """

    hidden: int = 32
    layers: int = 3
    heads: int = 8
    attention_dropout: float = 0.0
    dropout: float = 0.1
    embedding_dropout: float = 0.2
    output_dropout: float = 0.3
    anchor: str = ""
    lengths: tuple[int, ...] = (50,)
    align: bool = True
    recurrence: bool = True
    attention: Literal["composite", "full"] = "composite"
    holes: Literal["masked", "unknown"] = "masked"
    twins: bool = True
    alpha: float = 0.5
    beta: float = 0.1
    gamma: float = 0.6
    balanced: bool = True
    epochs: int = 40


TRAINING = TrainConfig(batch_size=32, learning_rate=1e-3, optimizer="adam", clip_norm=1.0, patience=10)


ABLATIONS: dict[str, dict[str, Any]] = {
    "w/o MSSD": {"twins": False},
    "w/o distillation": {"alpha": 0.0, "beta": 0.0, "gamma": 0.0},
    "w/o joint states": {"alpha": 0.0},
    "w/o attention maps": {"beta": 0.0},
    "w/o features": {"gamma": 0.0},
    "w/o WSAM": {"align": False},
    "w/o composite attention": {"attention": "full"},
    "w/o GRU": {"recurrence": False},
    "holes unknown": {"holes": "unknown"},
}


class Encoded(NamedTuple):
    """What the transformer yields of a batch.

    ``hidden (B, T_m, d)`` by modality; ``asks (B, T_m)``: the steps that have a hidden state; ``sources (B, T_m)``:
    those of them that others can look at; ``scores (B, H, N, N)``: of its last layer, N all steps, or None.
    """

    hidden: ByName
    asks: ByName
    sources: ByName
    scores: Tensor | None


class CIDer(nn.Module):
    """CIDer for any modalities and every kind of target and sequence.

    A dialogue is labelled at each step, so there nothing is pooled: the joint state of a step is made of that step's
    hidden states. A window and a sample are pooled over their steps. Where time is shared there is nothing to align,
    and each modality is rebuilt step by step.
    """

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        check_choice("attention", config.attention, ("composite", "full"))
        check_choice("holes", config.holes, ("masked", "unknown"))
        for field in ("alpha", "beta", "gamma"):
            if not 0 <= getattr(config, field) < math.inf:
                raise ValueError(f"{field}: expected a value >= 0, got {getattr(config, field)}")
        self.config, self.spec = config, spec
        self.anchor = config.anchor or spec.names[0]
        check_choice("anchor", self.anchor, spec.names)
        self.stages = (Stage("train", config.epochs),)
        width, names = config.hidden, spec.names
        others = [name for name in names if name != self.anchor and spec.sequence == "single" and config.align]
        self.lengths = self._lengths()
        self.project = nn.ModuleDict({n: nn.Linear(dim, width, bias=False) for n, dim in spec.modalities.items()})
        self.speaker = nn.Embedding(spec.speakers, width) if spec.speakers else None
        self.aligners = nn.ModuleDict({name: WordAligner(width) for name in others})
        recurrent = names if config.recurrence else ()
        self.encoders = nn.ModuleDict({name: RecurrentEncoder(width, width) for name in recurrent})
        self.transformer = CompositeEncoder(
            width,
            config.layers,
            config.heads,
            names,
            attention_dropout=config.attention_dropout,
            dropout=config.dropout,
            embedding_dropout=config.embedding_dropout,
            subsets=config.attention == "composite",
        )
        pooled = names if spec.sequence != "dialogue" else ()
        self.pools = nn.ModuleDict({name: AttentionPool(width) for name in pooled})
        joint = width * len(names)
        self.expand, self.contract = nn.Linear(joint, joint), nn.Linear(joint, joint)
        self.head = PredictionHead(joint, spec.outputs, score=spec.target == "score")
        rebuilt = names if config.twins and config.gamma else ()
        self.stretch = nn.ModuleDict(
            {n: nn.Linear(self.lengths[self.anchor], self.lengths[n]) for n in rebuilt if n in others}
        )
        self.decoders = nn.ModuleDict({name: nn.Linear(width, spec.modalities[name]) for name in rebuilt})

    def _lengths(self) -> dict[str, int]:
        given, count = self.config.lengths, len(self.spec.names)
        if len(given) not in (1, count):
            raise ValueError(f"lengths: expected one number, or one for each of {self.spec.names}, got {given}")
        check_positive(lengths=min(given))
        return dict(zip(self.spec.names, given if len(given) == count else given * count, strict=True))

    def encode(self, batch: MultimodalBatch, *, return_scores: bool = False) -> Encoded:
        """Projection, alignment, recurrence and composite attention."""
        there, asks = self._steps(batch)
        steps = {name: self.project[name](keep(x, batch.masks[name])) for name, x in batch.inputs.items()}
        if self.aligners:
            words, known = steps[self.anchor], there[self.anchor]
            # Where no word is known one of which nothing is known asks, so that the others are not lost.
            known = known | (asks[self.anchor] & ~known.any(1, keepdim=True))
            for name, aligner in self.aligners.items():
                steps[name] = aligner(words, steps[name], known, there[name]).y
                there[name] = known & there[name].any(1, keepdim=True)
            asks = dict.fromkeys(asks, asks[self.anchor])
        if self.speaker is not None and batch.speaker is not None:
            said = self.speaker(batch.speaker.clamp(0, self.spec.speakers - 1))
            steps = {name: x + said for name, x in steps.items()}
        if self.config.recurrence:
            steps = {name: self.encoders[name](x, asks[name]) for name, x in steps.items()}
        hidden, scores = self.transformer(steps, there, queries=asks, return_scores=return_scores)
        return Encoded(hidden, asks, there, scores)

    def _steps(self, batch: MultimodalBatch) -> tuple[ByName, ByName]:
        """Steps that are taken for values, and steps that the sample is known to have: both of each modality."""
        if batch.steps is not None:
            real = dict.fromkeys(batch.masks, batch.steps)
        else:
            real = {name: _span(mask) for name, mask in batch.masks.items()}
        there = dict(real if self.config.holes == "unknown" else batch.masks)
        if self.aligners:
            words = real[self.anchor]
            first = torch.arange(words.shape[1], device=words.device) == 0
            real[self.anchor] = words | (first & batch.present.any(1, keepdim=True))
        return there, real

    def join(self, encoded: Encoded) -> Tensor:
        """Joint state ``(B, T, M d)`` of a dialogue, else ``(B, M d)``."""
        states = encoded.hidden
        if self.pools:
            states = {name: self.pools[name](h, encoded.asks[name]).pooled for name, h in states.items()}
        joined = torch.cat(list(states.values()), dim=-1)
        inner = dropout(F.relu(self.expand(joined)), self.config.output_dropout, training=self.training)
        out: Tensor = joined + self.contract(inner)
        return out

    def represent(self, batch: MultimodalBatch) -> Tensor:
        """Joint representation ``(B, T, M d)`` of a dialogue, else ``(B, M d)``."""
        return self.join(self.encode(batch))

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Logits or scores."""
        return self.head(self.represent(batch))

    def reconstruct(self, batch: MultimodalBatch) -> ByName:
        """Every modality's features, for the batch's steps as far as the decoders reach."""
        return self.decode(self.encode(batch).hidden, batch)

    def decode(self, hidden: ByName, batch: MultimodalBatch) -> ByName:
        """Features from hidden steps: where modalities were aligned, stretched from the anchor's to their own."""
        rebuilt = {}
        for name, decoder in self.decoders.items():
            h = hidden[name]
            if name in self.stretch:
                h = F.relu(self.stretch[name](_fit(h, self.lengths[self.anchor]).mT).mT)
            rebuilt[name] = decoder(h[:, : batch.masks[name].shape[1]])
        return rebuilt

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """The task on what is observed and, with twins, on the complete batch, which also teaches the former.

        In the truly missing regime what is observed is the teacher, and the student sees what the system leaves of it:
        a share of the steps drawn uniformly for each sample.
        """
        config = self.config
        if not config.twins:
            return {"task": self._task(self.represent(observed), observed)}
        if complete is None:
            complete, observed = observed, self._hide(observed)
        both = self.encode(_stack(complete, observed), return_scores=config.beta > 0)
        taught, learned = self.join(both).chunk(2)
        terms = {"task/complete": self._task(taught, complete), "task/observed": self._task(learned, observed)}
        if config.alpha:
            seen = complete.observed(self.spec.sequence) & observed.observed(self.spec.sequence)
            terms["joint"] = config.alpha * cosine_distillation(learned, taught, seen)
        if both.scores is not None:
            full, part = both.scores.chunk(2)
            sources, queries = (
                torch.cat([torch.stack(masks[n].chunk(2)).all(0) for n in self.spec.names], 1)
                for masks in (both.sources, both.asks)
            )
            terms["attention"] = config.beta * score_map_distillation(part, full, sources, queries)
        if config.gamma:
            rebuilt = self.decode({name: h.chunk(2)[1] for name, h in both.hidden.items()}, observed)
            truth = {n: complete.inputs[n][:, : x.shape[1]].detach() for n, x in rebuilt.items()}
            missing = {n: (complete.masks[n] & ~observed.masks[n])[:, : x.shape[1]] for n, x in rebuilt.items()}
            terms["features"] = config.gamma * masked_reconstruction(rebuilt, truth, missing, kind="smooth_l1")
        return terms

    def _hide(self, batch: MultimodalBatch) -> MultimodalBatch:
        """Hide steps at random, of all modalities alike, at a rate drawn for each sample."""
        return batch.drop(rmfm(batch.masks, torch.rand(batch.size, device=batch.index.device)))

    def _task(self, represented: Tensor, batch: MultimodalBatch) -> Tensor:
        spec = self.spec
        weights = spec.class_weights if self.config.balanced else None
        valid = batch.observed(spec.sequence)
        return task_loss(self.head(represented), batch.targets, spec.target, valid=valid, class_weights=weights)


def _stack(first: MultimodalBatch, second: MultimodalBatch) -> MultimodalBatch:
    """Two batches of the same samples as one: one pass over both is faster than two."""

    def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.cat([a, b])

    return replace(
        first,
        inputs={name: torch.cat([x, second.inputs[name]]) for name, x in first.inputs.items()},
        masks={name: torch.cat([mask, second.masks[name]]) for name, mask in first.masks.items()},
        steps=both(first.steps, second.steps),
        speaker=both(first.speaker, second.speaker),
        index=torch.cat([first.index, second.index]),
    )


def _span(mask: Tensor) -> Tensor:
    """Every step up to the last one that is there."""
    return mask.flip(1).cumsum(1).flip(1) > 0


def _fit(x: Tensor, steps: int) -> Tensor:
    """Cut the steps ``(B, T, D)``, or fill them up with zeros, to a fixed number."""
    x = x[:, :steps]
    return F.pad(x, (0, 0, 0, steps - x.shape[1]))


System = CIDer
