"""A tiny world and a tiny system, for every test of this room (and for the processes that tests start)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmaffect.data import DataSpec, MultimodalBatch, MultimodalDataset
from mmaffect.latent import KLController, RecallController
from mmaffect.training import Progress, Protocol, Stage, evaluate_all

WIDTHS = {"text": 3, "audio": 2}


def make_spec(sequence="single", target="class", outputs=3):
    return DataSpec(WIDTHS, target, tuple(f"c{i}" for i in range(outputs)), sequence)


def make_dataset(samples=24, *, sequence="single", target="class", outputs=3, seed=0, absent=True):
    """Samples of 1 to 4 steps whose label shows in both modalities; one has no audio of its own."""
    generator = torch.Generator().manual_seed(seed)
    spec = make_spec(sequence, target, outputs)
    lengths = torch.randint(1, 5, (samples,), generator=generator)
    stops = lengths.cumsum(0)
    spans = torch.stack([stops - lengths, stops], dim=1)
    rows = int(stops[-1])
    count = rows if sequence == "dialogue" else samples
    latent = torch.randn(count, outputs, generator=generator)
    if target == "class":
        targets = latent.argmax(1)
    else:
        targets = (latent > 0).float() if target == "multilabel" else latent
        targets = targets[:, 0] if target == "score" and outputs == 1 else targets
    by_row = latent if sequence == "dialogue" else latent.repeat_interleave(lengths, 0)
    values, observed = {}, {}
    for name, width in WIDTHS.items():
        mixing = torch.randn(outputs, width, generator=generator)
        values[name] = by_row @ mixing + 0.3 * torch.randn(rows, width, generator=generator)
        observed[name] = torch.ones(rows, dtype=torch.bool)
    if absent:
        observed["audio"][spans[0, 0] : spans[0, 1]] = False
        values["audio"][~observed["audio"]] = 0.0
    return MultimodalDataset(
        spec,
        values=values,
        observed=observed,
        spans=spans if sequence != "single" else {n: spans.clone() for n in WIDTHS},
        targets=targets,
        ids=[f"s{i}" for i in range(samples)],
        groups={"session": [f"session {i % 4}" for i in range(samples)]},
    )


@dataclass(frozen=True)
class Config:
    width: int = 4
    dropout: float = 0.2
    staged: bool = False
    steered: bool = False


class Tiny(nn.Module):
    """Masked means of each modality, projected and added up; double precision, so sums may be compared."""

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.project = nn.ModuleDict({n: nn.Linear(w, config.width) for n, w in spec.modalities.items()})
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, spec.outputs)
        self.double()
        if config.staged:
            self.stages = (Stage("complete", 1, missing=False), Stage("missing", 2))

    def represent(self, batch: MultimodalBatch) -> Tensor:
        total = 0
        for name, layer in self.project.items():
            mask, x = batch.masks[name].unsqueeze(-1), batch.inputs[name].double()
            if self.spec.sequence == "dialogue":
                total = total + layer(x) * mask
            else:
                mean = (x * mask).sum(1) / mask.sum(1).clamp(min=1)
                total = total + layer(mean) * mask.any(1)
        return self.dropout(torch.tanh(total))

    def forward(self, batch: MultimodalBatch) -> Tensor:
        logits = self.head(self.represent(batch))
        return logits.squeeze(-1) if self.spec.target == "score" and self.spec.outputs == 1 else logits

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        output, target = self(observed), observed.targets
        if self.spec.target == "class":
            rows = nn.functional.cross_entropy(output.flatten(0, -2), target.flatten(), reduction="sum")
            known = (target != -100).sum()
        else:
            known = (~target.isnan()).sum()
            rows = torch.where(target.isnan(), 0.0, output - target.nan_to_num()).square().sum()
        terms = {"task": rows / known.clamp(min=1)}
        terms["size"] = 1e-3 * sum(p.square().sum() for p in self.parameters())
        return terms


class Steered(Tiny):
    """A system with state that only the loop's hooks move: a running mean, and a term that two controllers weigh.

    The term is one of the weights alone, so that it does not depend on how a batch is cut. A third controller follows
    the samples, of which each process sees others, and weighs nothing. Logits start from what was prepared, and what is
    settled is taken from them: settled twice it would be another.
    """

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.by_size = KLController(2.0, integral=0.05, max_beta=3.0)
        self.by_recall, self.by_spread = RecallController(), KLController(0.01)
        self.spread_betas: list[float] = []
        self.register_buffer("average", self.head.weight.detach().clone())
        self.register_buffer("start", torch.zeros(spec.outputs, dtype=torch.float64))
        self.register_buffer("surplus", torch.zeros(spec.outputs, dtype=torch.float64))

    def prepare(self, train: MultimodalDataset) -> None:
        shares = [(train.targets == c).double().mean() for c in range(self.spec.outputs)]
        self.start.copy_(torch.stack(shares) + 0.1 * torch.rand(self.spec.outputs))

    def settle(self, valid: MultimodalDataset, protocol: Protocol) -> dict[str, list[float]]:
        found = evaluate_all(self, valid, protocol.evaluation, batch_size=5).values()
        mean = torch.stack([evaluation.predictions.mean(0) for evaluation in found]).mean(0)
        self.surplus.copy_(0.5 * mean + 0.1 * torch.rand(self.spec.outputs))
        return {"surplus": self.surplus.tolist()}

    def forward(self, batch: MultimodalBatch) -> Tensor:
        return super().forward(batch) + self.start - self.surplus

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        terms = super().loss(observed, complete, progress)
        self.by_spread(self.represent(observed).square().mean())
        return terms | {"size": self.by_recall(self.by_size(1e3 * terms["size"]))}

    def after_step(self) -> None:
        self.average.lerp_(self.head.weight.detach(), 0.1)
        self.by_size.update()
        self.by_spread.update()
        self.spread_betas.append(self.by_spread.beta.item())

    def after_validation(self, metrics: dict[str, float]) -> None:
        self.by_recall.update(v for name, v in metrics.items() if name.startswith("per_class_recall/"))


def make_system(config=None, *, spec=None, seed=0):
    torch.manual_seed(seed)
    config = config or Config()
    return (Steered if config.steered else Tiny)(config, spec or make_spec())
