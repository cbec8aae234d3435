"""IMDer: what is absent is drawn by a diffusion, given what is there, and then read as if it had been there.

Read beside the paper; equation numbers are its own. Where its code differs from it, and we from both, the page on this
system in the documentation says so.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.diffusion import (
    VESDE,
    VPSDE,
    CosineVP,
    Process,
    ancestral,
    ddim,
    dpmpp_2m,
    euler_maruyama,
    fast_score_network,
    reference_score_network,
)
from mmaffect.fusion import CrossModalFusion
from mmaffect.heads import ResidualHead
from mmaffect.losses import masked_reconstruction, task_loss
from mmaffect.missing import augment
from mmaffect.ops import keep, masked_mean
from mmaffect.recovery import CascadedResidualAutoencoder, DiffusionRecovery, MeanFill, Refinement, fill_wanted
from mmaffect.training import Progress, Stage, TrainConfig

SAMPLERS = {"dpmpp_2m": dpmpp_2m, "ddim": ddim, "ancestral": ancestral, "euler_maruyama": euler_maruyama}
ByName = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """Sizes, ablations, and what may stand in the place of the diffusion.

    Args:
        hidden: width of the latents, which are the shallow extractors' output.
        kernel: steps that these span.
        recovery: what puts back what is absent: ``"diffusion"``; ``"autoencoder"``, a cascade of residual autoencoders;
            ``"mean"``; ``"zero"``, with refinement the paper's ablation *without score network*, and without it zero
            filling; or ``"none"``: nothing is put back, and the fusion does not look there.
        network: of the scores: ``"reference"``, the published one, or ``"fast"``, with less attention.
        network_width: of the fast one, at its finest resolution.
        process: of noising: ``"ve"``, the paper's, ``"vp"`` or ``"cosine"``.
        sigma: σ of the paper's.
        preconditioning: ``"karras"``, which needs fewer evaluations, or ``"none"``, the paper's.
        condition_noise: of what is observed, while the score network sees it: ``"clean"``; ``"independent"``, the
            paper's; ``"shared"``, its code's, which leaks.
        conditional: False is the paper's *unconditional recovering*.
        sampler: ``"dpmpp_2m"``, ``"ddim"``, ``"ancestral"``, or the paper's ``"euler_maruyama"``, with 500 evaluations.
            The first two draw nothing on their way, so that a sample's recovery depends on nothing but itself.
        evaluations: of the score network, for one recovery.
        training_evaluations: the same while the rest is trained.
        draws: recoveries of each sample, over which predicted probabilities or scores are averaged.
        refinement: False is the ablation *without D*.
        refinement_width: of the refinement's blocks.
        refinement_blocks: their number.
        layers: of the fusion's directed attention.
        memory_layers: of its memories; as many as ``layers``, but 3 at least, by default.
        heads: of all attention.
        dropout: in the fusion and the head (ours).
        input_dropout: of the modalities' values, while the extractors learn (ours).
        autoencoder: widths of the cascade's blocks.
        autoencoder_blocks: their number.
        hide: chance of each modality to be hidden, at each turn of a dialogue, else in each sample, where the system
            makes its own missing data: to learn to recover, and in the truly missing regime. One is always left.
        weight: β of eq. 20.
        joint: score networks learn beside all the rest, as in the paper, and have no stage of their own.
        balanced: weigh classes by inverse frequency in training, since UA gives them equal weight.
        epochs_complete: of the extractors, the fusion and the head, on what is there (ours, as the next two).
        epochs_recovery: of the score networks, on latents that no longer move.
        epochs_missing: of the refinement, the fusion and the head, on what was recovered.
    """

    hidden: int = 32
    kernel: int = 3
    recovery: Literal["diffusion", "autoencoder", "mean", "zero", "none"] = "diffusion"
    network: Literal["reference", "fast"] = "reference"
    network_width: int = 64
    process: Literal["ve", "vp", "cosine"] = "ve"
    sigma: float = 25.0
    preconditioning: Literal["karras", "none"] = "karras"
    condition_noise: Literal["clean", "independent", "shared"] = "clean"
    conditional: bool = True
    sampler: Literal["dpmpp_2m", "ddim", "ancestral", "euler_maruyama"] = "dpmpp_2m"
    evaluations: int = 10
    training_evaluations: int = 5
    draws: int = 1
    refinement: bool = True
    refinement_width: int = 64
    refinement_blocks: int = 20
    layers: int = 4
    memory_layers: int | None = None
    heads: int = 8
    dropout: float = 0.1
    input_dropout: float = 0.0
    autoencoder: tuple[int, ...] = (64, 32)
    autoencoder_blocks: int = 5
    hide: float = 0.5
    weight: float = 0.1
    joint: bool = False
    balanced: bool = True
    epochs_complete: int = 20
    epochs_recovery: int = 40
    epochs_missing: int = 20


TRAINING = TrainConfig(batch_size=32, learning_rate=1e-3, optimizer="adam", clip_norm=1.0)

ABLATIONS: dict[str, dict[str, Any]] = {
    "without score network": {"recovery": "zero"},
    "without refinement": {"refinement": False},
    "without either": {"recovery": "zero", "refinement": False},
    "unconditional": {"conditional": False},
}


class Latents(NamedTuple):
    """Modalities on one time axis, by step.

    ``values (B, T, d)`` by modality, zero where not observed; ``observed (B, T)``; ``wanted (B, T)``: absent, though
    the sample has such a step; ``real (B, T)``: the steps that it has.
    """

    values: ByName
    observed: ByName
    wanted: ByName
    real: Tensor


def process_of(config: Config) -> Process:
    """The process that a config names."""
    if config.process == "ve":
        return VESDE(config.sigma)
    return VPSDE() if config.process == "vp" else CosineVP()


class IMDer(nn.Module):
    """IMDer for any modalities and every kind of target and sequence.

    A dialogue may lack a modality at some turns and have it at others: then its own turns are part of the condition. A
    window is read as the mean over its steps, and so is a sample whose modalities have steps of their own; of these
    the steps that are wanted of an absent modality are those of the longest one that is there.
    """

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        if config.kernel < 1 or config.kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd number of steps, got {config.kernel}")
        if config.draws < 1:
            raise ValueError(f"draws: expected at least 1, got {config.draws}")
        for field in ("evaluations", "training_evaluations"):
            if getattr(config, field) < 2:
                raise ValueError(f"{field}: expected at least 2, got {getattr(config, field)}")
        self.config, self.spec = config, spec
        width, names = config.hidden, spec.names
        self.extractors = nn.ModuleDict(
            {
                name: nn.Conv1d(dim, width, config.kernel, padding=config.kernel // 2, bias=False)
                for name, dim in spec.modalities.items()
            }
        )
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.speaker = nn.Embedding(spec.speakers, width) if spec.speakers else None
        self.fusion = CrossModalFusion(
            names,
            width,
            layers=config.layers,
            heads=config.heads,
            memory_layers=config.memory_layers,
            dropout=config.dropout,
            attention_dropout=config.dropout,
            embedding_dropout=config.dropout,
        )
        self.head = ResidualHead(self.fusion.width, spec.outputs, score=spec.target == "score", dropout=config.dropout)
        # Last, so that all recoveries of one seed stand between the same extractors and the same fusion.
        self.recovery = self._build_recovery()
        refined = config.refinement and config.recovery != "none"
        self.refinement = nn.ModuleDict(
            {
                name: Refinement(width, hidden=config.refinement_width, blocks=config.refinement_blocks)
                for name in (names if refined else ())
            }
        )
        learns = any(True for _ in self.recovery.parameters())
        self.stages = (
            Stage("complete", config.epochs_complete, missing=False),
            *((Stage("recovery", config.epochs_recovery, missing=False),) if learns and not config.joint else ()),
            Stage("missing", config.epochs_missing),
        )

    def _build_recovery(self) -> nn.Module:
        config, names, width = self.config, self.spec.names, self.config.hidden
        if config.recovery == "diffusion":
            return DiffusionRecovery(
                names,
                width,
                network=self._score_network,
                process=process_of(config),
                preconditioning=config.preconditioning,
                condition_noise=config.condition_noise,
                conditional=config.conditional,
            )
        if config.recovery == "autoencoder":
            return CascadedResidualAutoencoder(
                dict.fromkeys(names, width), hidden=config.autoencoder, blocks=config.autoencoder_blocks
            )
        return MeanFill(dict.fromkeys(names, width)) if config.recovery == "mean" else nn.Identity()

    def _score_network(self) -> nn.Module:
        width = self.config.hidden
        if self.config.network == "fast":
            return fast_score_network(width, width=self.config.network_width)
        return reference_score_network(width)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The score networks apart from the rest: gradients are clipped by group."""
        scores = list(self.recovery.parameters())
        own = {id(parameter) for parameter in scores}
        rest = [p for p in self.parameters() if id(p) not in own]
        return [{"name": "classifier", "params": rest}, {"name": "recovery", "params": scores}]

    def extract(self, batch: MultimodalBatch, *, dropout: bool = False) -> Latents:
        """Shallow features of what is there (section 3.3), and what is wanted of what is not."""
        values, observed = {}, {}
        longest = max(mask.shape[1] for mask in batch.masks.values())
        for name, x in batch.inputs.items():
            mask = batch.masks[name]
            x = keep(x, mask)
            x = self.extractors[name]((self.input_dropout(x) if dropout else x).mT).mT
            more = longest - x.shape[1]
            values[name], observed[name] = F.pad(keep(x, mask), (0, 0, 0, more)), F.pad(mask, (0, more))
        if batch.steps is not None:
            real, wanted = batch.steps, {name: batch.steps & ~mask for name, mask in observed.items()}
        else:
            real = torch.stack(list(observed.values())).any(0)
            wanted = {name: real & ~mask.any(1, keepdim=True) for name, mask in observed.items()}
        return Latents(values, observed, wanted, real)

    def recover(
        self, latents: Latents, *, draws: int = 1, keys: Tensor | None = None, evaluations: int | None = None
    ) -> ByName:
        """Draw what is wanted (section 3.4, eq. 14-16) and refine it; observed steps are as they were.

        Args:
            latents: what is observed.
            draws: how many; recoveries that draw nothing are the same in each.
            keys: of the noise, one a sample (its row in the dataset); from torch's generator by default.
            evaluations: of the score network; the config's by default.

        Shape:
            ``keys (B,)`` → by modality ``(K, B, T, d)``.
        """
        config, (values, observed, wanted, _) = self.config, latents
        with torch.no_grad():
            if isinstance(self.recovery, DiffusionRecovery):
                drawn = self.recovery.recover(
                    values,
                    observed,
                    wanted,
                    draws=draws,
                    sampler=SAMPLERS[config.sampler],
                    evaluations=config.evaluations if evaluations is None else evaluations,
                    keys=keys,
                )
            else:
                drawn = {name: x.expand(draws, *x.shape) for name, x in self._imagine(latents).items()}
        if not self.refinement:
            return drawn
        refined = {}
        for name, x in drawn.items():
            mask = (observed[name] | wanted[name]).repeat(draws, 1)
            refined[name] = self.refinement[name](x.flatten(0, 1), mask).view_as(x)
        return fill_wanted(values, observed, wanted, refined)

    def _imagine(self, latents: Latents) -> ByName:
        """What recoveries that draw nothing put in the place of what is absent."""
        values, observed, wanted, _ = latents
        if isinstance(self.recovery, MeanFill):
            return self.recovery(values, observed, wanted)
        if isinstance(self.recovery, CascadedResidualAutoencoder):
            return fill_wanted(values, observed, wanted, self.recovery(values, observed).imagined)
        return values

    def fuse(self, filled: ByName, masks: ByName, real: Tensor, batch: MultimodalBatch) -> Tensor:
        """Joint representation (section 3.5): of each step of a dialogue, else the mean over the steps.

        Args:
            filled: steps by modality, of one or of several draws.
            masks: where there is something to look at.
            real: steps that the samples have.
            batch: for the speakers.

        Shape:
            ``filled[m] (K, B, T, d)``, ``masks[m] (B, T)``, ``real (B, T)`` → ``(K, B, T, H)`` or ``(K, B, H)``.
        """
        draws = len(next(iter(filled.values())))
        if self.speaker is not None and batch.speaker is not None:
            said = self.speaker(batch.speaker.clamp(0, self.spec.speakers - 1))
            filled = {name: x + said for name, x in filled.items()}
        asked = {name: (mask if batch.steps is None else real).repeat(draws, 1) for name, mask in masks.items()}
        there = {name: mask.repeat(draws, 1) for name, mask in masks.items()}
        fused = self.fusion({name: x.flatten(0, 1) for name, x in filled.items()}, there, queries=asked)
        if self.spec.sequence != "dialogue":
            fused = {name: masked_mean(x, asked[name]) for name, x in fused.items()}
        joint = torch.cat(list(fused.values()), dim=-1)
        return joint.view(draws, -1, *joint.shape[1:])

    def _recovered(self, latents: Latents, filled: ByName, batch: MultimodalBatch) -> Tensor:
        """Fuse what is observed with what was recovered, if anything was."""
        masks = dict(latents.observed)
        if self.config.recovery != "none":
            masks = {name: mask | latents.wanted[name] for name, mask in masks.items()}
        return self.fuse(filled, masks, latents.real, batch)

    def represent_draws(self, batch: MultimodalBatch, draws: int) -> Tensor:
        """Joint representation of each draw: the same for a sample in whatever batch it comes.

        Shape:
            → ``(K, B, T, H)`` of a dialogue, else ``(K, B, H)``.
        """
        latents = self.extract(batch)
        return self._recovered(latents, self.recover(latents, draws=draws, keys=batch.index), batch)

    def represent(self, batch: MultimodalBatch) -> Tensor:
        """Joint representation ``(B, T, H)`` of a dialogue, else ``(B, H)``; the mean over draws."""
        return self.represent_draws(batch, self.config.draws).mean(0)

    def predict_draws(self, batch: MultimodalBatch, draws: int) -> Tensor:
        """Probabilities of each class or label, or scores, of each draw.

        Shape:
            → ``(K, B, T, C)`` of a dialogue, else ``(K, B, C)``; without the last axis for a single score.
        """
        out: Tensor = self.head(self.represent_draws(batch, draws))
        if self.spec.target == "class":
            return out.softmax(-1)
        return out.sigmoid() if self.spec.target == "multilabel" else out

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Logits or scores; of several draws those of the mean probability, or the mean score."""
        if self.config.draws == 1:
            out: Tensor = self.head(self.represent(batch))
            return out
        mean = self.predict_draws(batch, self.config.draws).mean(0)
        if self.spec.target == "class":
            return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()
        return mean.logit(eps=1e-6) if self.spec.target == "multilabel" else mean

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """The terms of eq. 20, in three stages.

        ``complete``: the task, on what is there, with nothing recovered. ``recovery``: eq. 18, on modalities that the
        system hides itself, so in both regimes of missing data alike. ``missing``: the task on what was recovered, and
        eq. 17 where the truth is known: in the complete batch, or, where there is none, of what the system hid itself.

        Extractors learn in the first stage alone, so the latents that the score networks learn stay what they are.
        """
        if progress.stage == "complete":
            latents = self.extract(observed, dropout=True)
            filled = {name: x.unsqueeze(0) for name, x in latents.values.items()}
            return {"task": self._task(self.fuse(filled, latents.observed, latents.real, observed), observed)}
        hides = complete is None or progress.stage == "recovery"
        shown = self._hide(observed) if hides else observed
        with torch.no_grad():
            latents = self.extract(shown)
            truth = self.extract(observed if complete is None or hides else complete)
        known = {name: truth.observed[name] & wanted for name, wanted in latents.wanted.items()}
        if progress.stage == "recovery":
            return {"score": self._recovery_loss(latents, truth, known)}
        if self.training and isinstance(self.recovery, MeanFill):
            self.recovery.fit(latents.values, latents.observed)
        filled = self.recover(latents, evaluations=self.config.training_evaluations)
        terms = {"task": self._task(self._recovered(latents, filled, shown), shown)}
        if self.refinement:
            guessed = {name: x[0] for name, x in filled.items()}
            terms["reconstruction"] = self.config.weight * masked_reconstruction(guessed, truth.values, known)
        if self.config.joint and any(True for _ in self.recovery.parameters()):
            terms["score"] = self.config.weight * self._recovery_loss(latents, truth, known)
        return terms

    def _hide(self, batch: MultimodalBatch) -> MultimodalBatch:
        """Hide more, at random, of what is there; one is left of each turn or sample."""
        changed = augment(
            batch.inputs, batch.masks, modalities=self.config.hide, by_step=self.spec.sequence == "dialogue"
        )
        return replace(batch, inputs=changed.inputs, masks=changed.masks)

    def _recovery_loss(self, latents: Latents, truth: Latents, known: ByName) -> Tensor:
        """What teaches the recovery, if it learns: eq. 18, or the error of the autoencoders."""
        if isinstance(self.recovery, DiffusionRecovery):
            joined = {
                name: torch.where(known[name].unsqueeze(-1), truth.values[name], x)
                for name, x in latents.values.items()
            }
            return self.recovery.loss(joined, latents.observed, known)
        imagined = self.recovery(latents.values, latents.observed).imagined
        return masked_reconstruction(imagined, truth.values, known)

    def _task(self, represented: Tensor, batch: MultimodalBatch) -> Tensor:
        spec = self.spec
        weights = spec.class_weights if self.config.balanced else None
        valid = batch.observed(spec.sequence)
        out = self.head(represented.squeeze(0))
        return task_loss(out, batch.targets, spec.target, valid=valid, class_weights=weights)


System = IMDer
