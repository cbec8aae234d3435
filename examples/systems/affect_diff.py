"""Affect-Diff: a causal-diffusion bridge for emotions of which some are rare.

Read beside the paper. Its equations are lost in the text we have, and so are most of its numbers: what the fields of
:class:`Config` hold in their place is ours where their description says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect.attention import AttentionPool, TransformerEncoder
from mmaffect.causal import DAGGate
from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.diffusion import LatentPrior, dpmpp_2m
from mmaffect.encoders import StreamInput, TemporalConvolution
from mmaffect.fusion import PerceptronFusion
from mmaffect.heads import PredictionHead
from mmaffect.latent import GaussianBottleneck, LinearWarmup, RecallController
from mmaffect.losses import focal_cross_entropy, task_loss
from mmaffect.missing import augment
from mmaffect.ops import keep, masked_mean
from mmaffect.training import Progress, Stage, TrainConfig
from mmaffect.training.measure import labelled

T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """Sizes, ablations, and remedies for classes that are never found.

    Args:
        hidden: width d of every hidden sequence and of the latents.
        heads: of the transformer encoders.
        layers: blocks of each.
        feed_forward: width inside the blocks (ours; it gives the paper's number of parameters).
        kernels: steps that the front of each modality spans, in the order of the modalities; the last serves those
            beyond. 1 is a linear map, as for the paper's text; more is a convolution.
        positions: ``"sinusoidal"`` where the front is a linear map and none where it is a convolution, as in the paper;
            ``"distance"`` lets each head prefer near steps of every modality (for dialogues, not in the paper).
        dropout: in the encoders and the fusion (ours).
        input_dropout: of the modalities' values (not in the paper).
        head_dropout: in the classifier.
        context_layers: blocks of a transformer over the fused steps, before the bottleneck: a remedy of ours. In the
            paper a step asks others of its own modality alone, and what all of them say together meets no other step.
        graph: ``"notears"``, or the ablations ``"gumbel"`` and ``"none"``.
        graph_weight: λ_causal (ours).
        l1: weight of the edges beside their acyclicity (ours).
        variational: False is the ablation *no VAE*: the mean is the latent.
        beta: β of the divergence (ours).
        free_bits: λ, nats a latent dimension that cost nothing (ours).
        adaptive_beta: β falls while a class is never found in validation and rises after: a remedy the paper names.
        prior: False is the ablation *no diffusion*.
        stop_gradient: the prior learns from latents that do not learn from it; False is the ablation.
        prior_width: base width of the U-Net.
        prediction: of the U-Net: the noise, as in the paper, or ``"v"``, for a short training.
        diffusion_weight: λ_diff (ours).
        null_rate: share of training samples whose label the prior is not told.
        guidance: scale of :meth:`AffectDiff.sample` (ours).
        ema_decay: of the U-Net's average (ours), after a warm-up.
        gamma: of the focal loss (ours; the paper says that sentiment takes a milder one).
        label_smoothing: of the same loss (ours).
        balanced: weigh classes by inverse frequency. The paper's section IV-F does not; its appendix G prints weights.
        frame_masking: share of frames blanked in training (ours, as the next two).
        noise: standard deviation added to each modality in training, as for ``kernels``; the paper's text gets none.
        modality_dropout: chance of each modality to be hidden in training; one is always left.
        drawn: latent signals of minority classes drawn from the prior at each step of training once the prior is
            trained at full weight, to train the classifier on: a remedy of ours.
        drawn_steps: length of each signal.
        drawn_evaluations: of the network, for all of them together.
        drawn_weight: of the classifier's loss on them.
        kl_ramp: epochs over which the divergence is phased in.
        diffusion_ramp: the same of the prior's loss.
        epochs: of the whole curriculum; a training of another length stretches it.
    """

    hidden: int = 128
    heads: int = 4
    layers: int = 2
    feed_forward: int = 512
    kernels: tuple[int, ...] = (1, 5, 3)
    positions: Literal["sinusoidal", "distance"] = "sinusoidal"
    dropout: float = 0.1
    input_dropout: float = 0.0
    head_dropout: float = 0.3
    context_layers: int = 0
    graph: Literal["notears", "gumbel", "none"] = "notears"
    graph_weight: float = 0.1
    l1: float = 1e-2
    variational: bool = True
    beta: float = 0.01
    free_bits: float = 0.1
    adaptive_beta: bool = False
    prior: bool = True
    stop_gradient: bool = True
    prior_width: int = 128
    prediction: Literal["eps", "v"] = "eps"
    diffusion_weight: float = 0.5
    null_rate: float = 0.2
    guidance: float = 2.0
    ema_decay: float = 0.999
    gamma: float = 2.0
    label_smoothing: float = 0.1
    balanced: bool = False
    frame_masking: float = 0.1
    noise: tuple[float, ...] = (0.0, 0.1)
    modality_dropout: float = 0.1
    drawn: int = 0
    drawn_steps: int = 8
    drawn_evaluations: int = 8
    drawn_weight: float = 0.5
    kl_ramp: tuple[float, float] = (0, 30)
    diffusion_ramp: tuple[float, float] = (9, 29)
    epochs: int = 100


TRAINING = TrainConfig(
    batch_size=64, learning_rate=1e-3, weight_decay=1e-2, optimizer="adamw", schedule="cosine", patience=35
)

# The paper's table III, beside the full model, and its appendix D. What "classifier only" leaves out of 1.47 million
# parameters is no module, so it is the terms of the loss: the classifier's is the only one.
ABLATIONS: dict[str, dict[str, Any]] = {
    "no diffusion": {"prior": False},
    "no causal graph": {"graph": "none"},
    "Gumbel": {"graph": "gumbel"},
    "no stop-gradient": {"stop_gradient": False},
    "no VAE": {"variational": False},
    "classifier only": {"prior": False, "variational": False, "graph_weight": 0.0},
}

# Appendix G: besides the width of the text and the classes only the focal loss changes.
SENTIMENT: dict[str, Any] = {"gamma": 1.0}


class Code(NamedTuple):
    """What a batch is encoded as.

    ``z``, ``mean (B, T, d)``: latents, zero at steps that are not ``real (B, T)``; ``weights``: of the modalities,
    ``(B, T, M)`` of a dialogue, else ``(B, M)``; ``kl``, ``penalty ()``.
    """

    z: Tensor
    mean: Tensor
    real: Tensor
    weights: Tensor
    kl: Tensor
    penalty: Tensor


def by_order(field: str, values: Sequence[T], names: Sequence[str]) -> dict[str, T]:
    """What a field of the config says of each modality: in their order, the last serves those beyond."""
    if not values:
        raise ValueError(f"{field}: expected at least one, got none")
    return {name: values[min(i, len(values) - 1)] for i, name in enumerate(names)}


def _of_today(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Names of the parameters of a run that was saved when the prior was no layer of its own."""
    for name in list(state):
        for old, new in (("average.", "prior.average."), ("prior.net.", "prior.denoiser.net.")):
            if name.startswith(prefix + old):
                state[prefix + new + name[len(prefix + old) :]] = state.pop(name)


class AffectDiff(nn.Module):
    """Affect-Diff for any modalities and every kind of target and sequence.

    A window, or a sample whose modalities have steps of their own, is one sample as in the paper: it has one graph, and
    its latents are pooled. A dialogue has a label a turn, so each turn has its graph, its label for the prior, and its
    prediction. Modalities with a time axis of their own are laid side by side step by step, as the paper's are aligned.
    """

    modality_weights: Tensor

    def __init__(self, config: Config, spec: DataSpec) -> None:
        super().__init__()
        if config.drawn and not (config.prior and spec.class_shares):
            raise ValueError("drawn: expected a prior, and classes with known shares, to draw latents of rare classes")
        if config.adaptive_beta and spec.target != "class":
            raise ValueError(f"adaptive_beta: expected classes to be found, got target {spec.target!r}")
        if config.context_layers < 0:
            raise ValueError(f"context_layers: expected a number >= 0, got {config.context_layers}")
        self.config, self.spec = config, spec
        self.stages = (Stage("train", config.epochs),)
        width, names, count = config.hidden, spec.names, len(spec.names)
        self.kernels = by_order("kernels", config.kernels, names)
        self.noise = by_order("noise", config.noise, names)
        streams = {
            n: StreamInput(d, speakers=spec.speakers, dropout=config.input_dropout) for n, d in spec.modalities.items()
        }
        self.inputs = nn.ModuleDict(streams)
        self.fronts = nn.ModuleDict(
            {
                name: nn.Linear(stream.width, width)
                if self.kernels[name] == 1
                else TemporalConvolution(stream.width, width, kernel=self.kernels[name], groups=math.gcd(8, width))
                for name, stream in streams.items()
            }
        )
        self.encoders = nn.ModuleDict(
            {
                name: TransformerEncoder(
                    width,
                    config.layers,
                    config.heads,
                    hidden=config.feed_forward,
                    dropout=config.dropout,
                    positions=config.positions if kernel == 1 or config.positions == "distance" else "none",
                )
                for name, kernel in self.kernels.items()
            }
        )
        self.gate = DAGGate(width, kind=config.graph, l1=config.l1)
        self.fusion = PerceptronFusion(dict.fromkeys(names, width), width, dropout=config.dropout)
        self.context: TransformerEncoder | None = None
        if config.context_layers > 0:
            self.context = TransformerEncoder(
                width,
                config.context_layers,
                config.heads,
                hidden=config.feed_forward,
                dropout=config.dropout,
                positions=config.positions,
            )
        self.bottleneck = GaussianBottleneck(width, free_bits=config.free_bits)
        self.beta = RecallController(min_beta=config.beta / 100, max_beta=config.beta) if config.adaptive_beta else None
        self.pool = AttentionPool(width, bias=False)
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.GELU(),
            PredictionHead(width, spec.outputs, score=spec.target == "score", dropout=config.head_dropout),
        )
        self.register_buffer("modality_weights", torch.full((count,), 1 / count))
        self.register_load_state_dict_pre_hook(_of_today)  # type: ignore[no-untyped-call]
        self.prior: LatentPrior | None = None
        if config.prior:
            self.prior = LatentPrior(
                width,
                spec.outputs,
                context=count,
                width=config.prior_width,
                prediction=config.prediction,
                null_rate=config.null_rate,
                guidance=config.guidance,
                ema_decay=config.ema_decay,
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The prior apart from the rest: gradients are clipped by group, so neither touches the other's step."""
        prior = [] if self.prior is None else list(self.prior.parameters())
        own = {id(parameter) for parameter in prior}
        rest = [p for p in self.parameters() if id(p) not in own]
        return [{"name": "classifier", "params": rest}, {"name": "prior", "params": prior}]

    def streams(self, batch: MultimodalBatch) -> tuple[Tensor, Tensor]:
        """Hidden steps of every modality on one time axis ``(B, T, M, d)``, and which of them are there ``(B, T, M)``.

        A turn at which a modality is absent asks the turns at which it is there; it is never asked.
        """
        hidden, there = [], []
        longest = max(mask.shape[1] for mask in batch.masks.values())
        for name, x in batch.inputs.items():
            mask = batch.masks[name]
            steps = mask if batch.steps is None else batch.steps & mask.any(1, keepdim=True)
            x = self.inputs[name](x, mask, batch.speaker)
            x = self.fronts[name](x) if self.kernels[name] == 1 else self.fronts[name](x, steps)
            x = self.encoders[name](x, mask, queries=steps)
            hidden.append(F.pad(x, (0, 0, 0, longest - x.shape[1])))
            there.append(F.pad(steps, (0, longest - x.shape[1])))
        return torch.stack(hidden, dim=2), torch.stack(there, dim=2)

    def encode(self, batch: MultimodalBatch) -> Code:
        """Encoders, graph, fusion, context where there is one, and bottleneck."""
        hidden, there = self.streams(batch)
        real = there.any(2)
        # A sample is a turn of a dialogue, else all of its steps.
        by_turn = self.spec.sequence == "dialogue"
        nodes = hidden.flatten(0, 1) if by_turn else masked_mean(hidden, there)
        present = there.flatten(0, 1) if by_turn else there.any(1)
        weights, _, penalty = self.gate(nodes, present)
        # The mean over the samples that are there: padded turns add nothing to the sum, nor must they to the number.
        penalty = penalty * len(present) / present.any(1).sum().clamp(min=1)
        scale = weights * present.sum(1, keepdim=True)
        if by_turn:
            weights, scale = weights.unflatten(0, real.shape), scale.unflatten(0, real.shape)
        gated = hidden * (scale if by_turn else scale.unsqueeze(1)).unsqueeze(3)
        fused = self.fusion(dict(zip(self.spec.names, gated.unbind(2), strict=True)))
        if self.context is not None:
            fused = self.context(fused, real)
        z, mean, _, kl = self.bottleneck(fused, real)
        return Code(z if self.config.variational else mean, mean, real, weights, kl, penalty)

    def read_out(self, latents: Tensor, real: Tensor) -> Tensor:
        """What the classifier reads: each turn's latent of a dialogue, else the latents pooled by attention."""
        return latents if self.spec.sequence == "dialogue" else self.pool(latents, real).pooled

    def represent(self, batch: MultimodalBatch) -> Tensor:
        """Joint representation ``(B, T, d)`` of a dialogue, else ``(B, d)``: no draw, and nothing of the prior."""
        code = self.encode(batch)
        return self.read_out(code.mean, code.real)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Logits or scores."""
        return self.head(self.represent(batch))

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """The weighted terms of the total; what is not yet phased in, or taken away, is not computed."""
        config = self.config
        epoch = progress.fraction * config.epochs
        kl, diffusion = LinearWarmup(*config.kl_ramp)(epoch), LinearWarmup(*config.diffusion_ramp)(epoch)
        batch = self._augmented(observed) if self.training else observed
        code = self.encode(batch)
        valid = batch.observed(self.spec.sequence)
        if self.training:
            self._note_weights(code)
        terms = {"task": self._task(self.read_out(code.z, code.real), batch.targets, valid)}
        if config.variational:
            divergence = config.beta * code.kl if self.beta is None else self.beta(code.kl)
            terms["kl"] = kl * divergence
        if config.graph != "none" and config.graph_weight > 0:
            terms["graph"] = config.graph_weight * code.penalty
        if self.prior is not None and diffusion > 0:
            known = labelled(self.spec, batch.targets) & valid
            z = code.z.detach() if config.stop_gradient else code.z
            condition, weights = self.condition(batch.targets), code.weights.detach()
            loss = self.prior.loss(z, condition, known=known, context=weights, mask=code.real)
            terms["diffusion"] = config.diffusion_weight * diffusion * loss
            if config.drawn and diffusion == 1:
                terms["drawn"] = config.drawn_weight * self._drawn_loss(z.device)
        return terms

    def condition(self, targets: Tensor) -> Tensor:
        """What the prior may be told of each sample or turn: its class as one-hot, or its labels or scores.

        Shape:
            ``targets (..., C)`` or ``(...)`` → ``(..., C)``, zero where unlabelled.
        """
        if self.spec.target == "class":
            return targets.unsqueeze(-1) == torch.arange(self.spec.outputs, device=targets.device)
        values = targets.view(*labelled(self.spec, targets).shape, -1)
        return keep(values, ~values.isnan() & (values != -100))

    def sample(self, labels: Tensor, *, steps: int = 50, weights: Tensor | None = None, **options: Any) -> Tensor:
        """Latents of given labels, from the averaged prior with classifier-free guidance.

        Args:
            labels: targets as in a batch; unlabelled ones stand for any.
            steps: T; of a dialogue, that of its labels.
            weights: of the modalities; a running mean of training by default.
            **options: ``guidance``, ``mask``, ``sampler``, ``evaluations``, ``generator``: see
                :meth:`LatentPrior.sample`. DDIM with 50 evaluations by default, and the guidance of the config.

        Shape:
            ``labels (B,)``, of a dialogue ``(B, T)``, with an axis of labels or scores where they are several;
            ``weights (M,)``, or as ``labels`` with an axis ``M``; ``mask (B, T)`` → ``(B, T, d)``.

        Raises:
            ValueError: if the system has no prior.
        """
        if self.prior is None:
            raise ValueError("prior: expected a system with a prior to sample from, it was built without")
        known = labelled(self.spec, labels)
        weights = (self.modality_weights if weights is None else weights).expand(*known.shape, -1)
        steps = known.shape[1] if known.dim() == 2 else steps
        return self.prior.sample(self.condition(labels), known=known, context=weights, steps=steps, **options)

    @torch.no_grad()
    def _note_weights(self, code: Code) -> None:
        """A running mean of the modalities' weights: for the log, and for samples that name none."""
        weights = code.weights.flatten(0, -2)
        there = weights.sum(1) > 0.5
        mean = masked_mean(weights, there, dim=0).to(self.modality_weights)
        self.modality_weights.lerp_(torch.where(there.any(), mean, self.modality_weights), 0.1)

    def _task(self, hidden: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
        if self.spec.target != "class":
            return task_loss(self.head(hidden), targets, self.spec.target, valid=valid)
        weights = self.spec.class_weights if self.config.balanced else None
        return self._focal(hidden, targets, valid=valid, class_weights=weights)

    def _focal(self, hidden: Tensor, targets: Tensor, **options: Any) -> Tensor:
        config = self.config
        return focal_cross_entropy(
            self.head(hidden), targets, gamma=config.gamma, label_smoothing=config.label_smoothing, **options
        )

    def _augmented(self, batch: MultimodalBatch) -> MultimodalBatch:
        config = self.config
        changed = augment(
            batch.inputs,
            batch.masks,
            noise={name: level for name, level in self.noise.items() if level != 0},
            frames=config.frame_masking,
            modalities=config.modality_dropout,
            by_step=self.spec.sequence == "dialogue",
        )
        return replace(batch, inputs=changed.inputs, masks=changed.masks)

    def _drawn_loss(self, device: torch.device) -> Tensor:
        """The classifier's loss on latents of classes below an equal share, drawn by how much they lack of it.

        Without class weights: the draw is their weight.
        """
        config, spec = self.config, self.spec
        shares = torch.tensor(spec.class_shares, device=device)
        lacking = torch.where(shares > 0, (1 / spec.outputs - shares).clamp(min=1e-6), torch.zeros_like(shares))
        labels = torch.multinomial(lacking, config.drawn, replacement=True)
        if spec.sequence == "dialogue":
            labels = labels.unsqueeze(1).expand(-1, config.drawn_steps)
        z = self.sample(labels, steps=config.drawn_steps, sampler=dpmpp_2m, evaluations=config.drawn_evaluations)
        real = torch.ones(z.shape[:2], dtype=torch.bool, device=device)
        return self._focal(self.read_out(z, real), labels)

    def after_step(self) -> None:
        """Take the new parameters into the prior's average."""
        if self.prior is not None:
            self.prior.update()

    def after_validation(self, metrics: Mapping[str, float]) -> None:
        """Move β where it follows the classes that are found."""
        if self.beta is not None:
            self.beta.update([metrics[f"per_class_recall/{name}"] for name in self.spec.classes])

    def report(self) -> dict[str, Any]:
        """For the log: the modalities' weights, a running mean over steps of training, and β."""
        weights = dict(zip(self.spec.names, self.modality_weights.tolist(), strict=True))
        return {"weights": weights, "beta": self.config.beta if self.beta is None else self.beta.beta.item()}


System = AffectDiff
