"""A small system that keeps the contract for every kind of data, and ones that break it in one way each."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mmaffect.data import DataSpec
from mmaffect.losses import task_loss
from mmaffect.ops import keep, masked_mean, read_out


class Part(NamedTuple):
    name: str
    epochs: int


class Means(nn.Module):
    """Sums the modalities; imagines all of them from the sum."""

    stages = (Part("first", 4), Part("second", 2))

    def __init__(self, spec: DataSpec):
        super().__init__()
        self.spec = spec
        self.parts = nn.ModuleDict({n: nn.Linear(d, 8) for n, d in spec.modalities.items()})
        self.back = nn.ModuleDict({n: nn.Linear(8, d) for n, d in spec.modalities.items()})
        self.head = nn.Linear(8, spec.outputs)

    def hidden(self, batch):
        streams = [keep(self.parts[n](keep(x, batch.masks[n])), batch.masks[n]) for n, x in batch.inputs.items()]
        if batch.steps is None:
            streams = [masked_mean(s, batch.masks[n]).unsqueeze(1) for n, s in zip(batch.inputs, streams, strict=True)]
        return torch.tanh(sum(streams))

    def represent(self, batch):
        hidden = self.hidden(batch)
        steps = batch.present.any(1, keepdim=True) if batch.steps is None else batch.steps
        return read_out(hidden, steps, self.spec.sequence)

    def forward(self, batch):
        logits = self.head(self.represent(batch))
        return logits.squeeze(-1) if self.spec.target == "score" and self.spec.outputs == 1 else logits

    def task(self, observed):
        valid = observed.observed(self.spec.sequence)
        return task_loss(self(observed), observed.targets, self.spec.target, valid=valid)

    def imagine(self, observed, complete):
        terms = []
        for name, x in complete.inputs.items():
            mask = complete.masks[name]
            truth = keep(x, mask) if complete.steps is not None else masked_mean(x, mask).unsqueeze(1)
            there = mask if complete.steps is not None else mask.any(1, keepdim=True)
            terms.append(
                keep(self.back[name](self.hidden(observed)) - truth, there).square().sum() / there.sum().clamp(min=1)
            )
        return sum(terms)

    def loss(self, observed, complete, progress):
        terms = {"task": self.task(observed)}
        if progress.stage == "second":
            terms["imagine"] = self.imagine(observed, observed if complete is None else complete)
        return terms


class ReadsAbsent(Means):
    """Masks by a product."""

    def hidden(self, batch):
        return super().hidden(batch) + 0 * sum(x.sum((1, 2)) for x in batch.inputs.values())[:, None, None]


class LearnsFromAbsent(Means):
    """The forward is right; the loss imagines what is not there."""

    def imagine(self, observed, complete):
        spied = sum(x.square().mean() for x in observed.inputs.values())
        return super().imagine(observed, complete) + spied


class LearnsInStageOne(Means):
    """Only the first stage's loss reads what is not there, and only without a complete batch."""

    def loss(self, observed, complete, progress):
        terms = super().loss(observed, complete, progress)
        if progress.stage == "first" and complete is None:
            terms["task"] = terms["task"] + sum(x.square().mean() for x in observed.inputs.values())
        return terms


class LearnsFromNothing(Means):
    """Learns the label of what is not observed at all."""

    def task(self, observed):
        return task_loss(self(observed), observed.targets, self.spec.target)


class LearnsUnlabelled(Means):
    """Takes the mean over no label."""

    def task(self, observed):
        return F.cross_entropy(self(observed).flatten(0, -2), observed.targets.flatten(), ignore_index=-100)


class NeedsAll(Means):
    """Cannot do without any modality: the mean of none."""

    def hidden(self, batch):
        scale = sum(1 / m.sum() for m in batch.masks.values())
        return super().hidden(batch) * torch.tanh(scale - scale.detach() + 1)


class Couples(Means):
    """Centres over the batch."""

    def represent(self, batch):
        represented = super().represent(batch)
        return represented - represented.mean(0)


class OutOfShape(Means):
    """Forgets an axis."""

    def forward(self, batch):
        return super().forward(batch).sum(-1)


class VectorTerm(Means):
    """Gives a term for each sample."""

    def task(self, observed):
        return super().task(observed).expand(2)


class NoTerms(Means):
    """Gives a sum in place of named terms."""

    def loss(self, observed, complete, progress):
        return self.task(observed)


class NoRepresentation(Means):
    """Lacks a part of the interface."""

    represent = None
