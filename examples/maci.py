"""MACI: CIDer's causal module, on any system: a mixture of classifiers for its head, and a counterfactual of its text.

What the published code does with the test split stays out: its labels make no prototypes, and τ is not chosen on it.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from examples.class_mixture import ClassMixture, class_sums
from examples.telling_words import TellingWords, count_words
from examples.wrap import Wrapper, innermost
from mmaffect.causal import choose_tau, class_frequencies, counterfactual_difference, telling_tokens
from mmaffect.data import MultimodalBatch, MultimodalDataset, Vocabulary
from mmaffect.ops import InputError, check_choice, keep
from mmaffect.training import Evaluation, Protocol, evaluate_all, prior_prediction
from mmaffect.training.measure import choose_monitor, is_better, measure

_CHUNK = 64
USES = ("none", "backdoor", "counterfactual", "both")


@dataclass(frozen=True)
class MACIConfig:
    """Which halves of MACI are used, and how.

    Args:
        use: ``"backdoor"``: the mixture of classifiers in the place of the head; ``"counterfactual"``: what the
            telling words alone explain is subtracted; ``"both"``; or ``"none"``.
        hidden: width of the prototypes' encoders.
        prior: of the classifiers outside of training: ``"training"``, how often each class is there, or ``"uniform"``,
            as published.
        compared: classes between which the use of a telling word differs, by name; all by default. The paper leaves
            out neutral.
        by_share: compare the words' shares in the text of each class and not their numbers, which are larger in a
            larger class (ours).
        threshold: least coefficient of variation of a telling word.
        top: how many telling words are kept at most.
        words: those that are not kept: ``"missing"``, as steps of a modality are (ours; but start and end stay also
            where nothing is left between them), or ``"mask"``: the token that stands for a word taken away, as in the
            published code. To a model that was never trained on that token it is noise.
        monitor: metric by which τ is chosen; that of the kind of target by default.
    """

    use: Literal["none", "backdoor", "counterfactual", "both"] = "none"
    hidden: int = 32
    prior: Literal["training", "uniform"] = "training"
    compared: tuple[str, ...] = ()
    by_share: bool = False
    threshold: float = 0.1
    top: int = 100
    words: Literal["missing", "mask"] = "missing"
    monitor: str | None = None

    @property
    def backdoor(self) -> bool:
        """Whether the head is replaced."""
        return self.use in ("backdoor", "both")

    @property
    def counterfactual(self) -> bool:
        """Whether a counterfactual is subtracted, where there is text."""
        return self.use in ("counterfactual", "both")


class MACI(Wrapper):
    r"""MACI on any system that predicts classes.

    *Backdoor*: the system's head becomes a :class:`~mmaffect.causal.PrototypeHead`, whose log-probabilities are the
    logits of the system's own loss. Prototypes are means over the real steps of the training split, of each modality as
    the system gets it: of text, as its encoder stands before training. No causal claim comes with the name; see there.

    *Counterfactual*: outside of training, where there are token ids,

    .. math:: s_y = \log p(y \mid x) - \tau \log p(y \mid x_{cf})

    with every observed word taken from x but the telling ones of the training split; other modalities, and what is
    missing, are the same in both. Where nothing is taken from a sample, nothing is subtracted: the published code then
    scales its log-probabilities by 1 - τ, and beyond τ = 1 reverses them. τ is one number, chosen on the validation
    split over all conditions of the evaluation together. Of several draws (``predict_draws``) nothing is subtracted:
    they are the system's own.

    Args:
        system: of ``examples/systems``; around token ids wrapped in ``ReadsText``.
        config: which halves, and how.

    Raises:
        InputError: if the target is no class, the metric or a class to compare is unknown, or the head does not map
            one joint state to one logit a class.
    """

    tau: Tensor
    from_nothing: Tensor

    def __init__(self, system: nn.Module, config: MACIConfig) -> None:
        super().__init__(system)
        spec = self.spec
        if spec.target != "class":
            raise InputError(
                f"MACI: expected a target of kind 'class', got {spec.target!r}: its prototypes are of classes"
            )
        check_choice("use", config.use, USES)
        for name in config.compared:
            check_choice("compared", name, spec.classes)
        self.maci, self.monitor = config, choose_monitor(spec, config.monitor)
        if config.backdoor:
            inner = innermost(system)
            inner.head = ClassMixture(inner, hidden=config.hidden, uniform=config.prior == "uniform")
        self.names = tuple(spec.tokens if config.counterfactual else ())
        # A list, since a ModuleDict refuses names with a dot and some others.
        self.texts = nn.ModuleList(TellingWords(spec.tokens[name], config.words) for name in self.names)
        self.register_buffer("tau", torch.zeros(()))
        self.register_buffer("from_nothing", torch.zeros(spec.outputs))
        # While the system is trained τ is zero, and the counterfactual need not be computed.
        self.unsettled = False

    def counterfactual(self, batch: MultimodalBatch) -> tuple[MultimodalBatch, Tensor]:
        """The batch without its words but the telling ones, and in which samples ``(B,)`` some were taken."""
        inputs, masks = dict(batch.inputs), dict(batch.masks)
        taken = torch.zeros(batch.size, dtype=torch.bool, device=batch.index.device)
        for name, text in zip(self.names, self.texts, strict=True):
            inputs[name], masks[name], some = text(batch.inputs[name], batch.masks[name])
            taken = taken | some
        return replace(batch, inputs=inputs, masks=masks), taken

    def explained(self, batch: MultimodalBatch) -> Tensor:
        """The log-probabilities of the counterfactual ``(B, C)``; zero where it is the batch itself."""
        without, taken = self.counterfactual(batch)
        return keep(self.system(without).log_softmax(-1), taken)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """The system's logits; outside of training without what the counterfactual explains."""
        out: Tensor = self.system(batch)
        if self.training or self.unsettled or not self.names:
            return out
        # Logits are log-probabilities up to a number a sample, which compares nothing.
        return counterfactual_difference(out, self.explained(batch), self.tau)

    def prepare(self, train: MultimodalDataset) -> None:
        """Take prototypes, prior and telling words from the training split.

        Raises:
            InputError: if a class has no step of some modality there.
        """
        own = getattr(self.system, "prepare", None)
        if own is not None:
            own(train)
        self.unsettled = True
        self.from_nothing.copy_(prior_prediction(train))
        spec, head = self.spec, getattr(innermost(self), "head", None)
        sums: dict[str, list[Tensor]] = {}
        labels: list[Tensor] = []
        counts = [torch.zeros(v.size, spec.outputs, dtype=torch.int64) for v in self._vocabularies()]
        for start in range(0, len(train), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(train)))
            batch = train.collate([train[i] for i in rows]).to(self.tau.device)
            labels.append(batch.targets.flatten())
            for number, (name, words) in enumerate(zip(self.names, self._vocabularies(), strict=True)):
                counts[number] += count_words(batch, name, words, spec.outputs).cpu()
            if isinstance(head, ClassMixture):
                for name, found in class_sums(self._as_given(batch), spec.outputs).items():
                    sums[name] = [a + b for a, b in zip(sums[name], found, strict=True)] if name in sums else found
        if isinstance(head, ClassMixture):
            head.fill(sums, class_frequencies(torch.cat(labels), spec.outputs), spec.classes)
        for text, count in zip(self.texts, counts, strict=True):
            text.get_buffer("kept")[self._telling(count).to(self.tau.device)] = True

    def _as_given(self, batch: MultimodalBatch) -> MultimodalBatch:
        """The batch as the system within gets it."""
        system: nn.Module = self
        while isinstance(system, Wrapper):
            batch, system = system.change(batch), system.system
        return batch

    def _vocabularies(self) -> list[Vocabulary]:
        return [self.spec.tokens[name] for name in self.names]

    def _telling(self, counts: Tensor) -> Tensor:
        config = self.maci
        compared = [self.spec.classes.index(name) for name in config.compared] or None
        used = counts / counts.sum(0).clamp(min=1) if config.by_share else counts
        return telling_tokens(used, classes=compared, threshold=config.threshold, top=config.top)

    def settle(self, valid: MultimodalDataset, protocol: Protocol) -> dict[str, Any]:
        """Choose τ on the validation split; the smallest of the best.

        Returns:
            τ, and what it makes of the metric.
        """
        own = getattr(self.system, "settle", None)
        found: dict[str, Any] = own(valid, protocol) or {} if own is not None else {}
        self.unsettled = False
        if not self.names:
            return found
        prior = self.from_nothing.cpu() if protocol.empty == "prior" else None
        seen = evaluate_all(self.system, valid, protocol.evaluation, prior=prior)
        explained = evaluate_all(_Explained(self), valid, protocol.evaluation, prior=prior)
        scores, subtracted, targets = (torch.cat(parts) for parts in zip(*_rows(seen, explained), strict=True))
        sizes = [int(evaluation.counted.sum()) for evaluation in seen.values()]
        rising = is_better(self.monitor, 1.0, 0.0)

        def mean(scores: Tensor, targets: Tensor) -> float:
            parts = zip(torch.split(scores, sizes), torch.split(targets, sizes), strict=True)
            return sum(measure(self.spec, s, t)[self.monitor] for s, t in parts) / len(sizes)

        tau = choose_tau(scores, subtracted, targets, lambda s, t: mean(s, t) if rising else -mean(s, t))
        self.tau.fill_(tau)
        after = mean(counterfactual_difference(scores, subtracted, tau), targets)
        return found | {"tau": tau, "monitor": self.monitor, "without": mean(scores, targets), "with": after}


class _Explained(nn.Module):
    """Predicts what the counterfactual explains, for ``evaluate_all``."""

    def __init__(self, maci: MACI) -> None:
        super().__init__()
        self.maci = maci

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """See `MACI.explained`."""
        return self.maci.explained(batch)


def _rows(seen: dict[str, Evaluation], explained: dict[str, Evaluation]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Scores, what is subtracted of them, and targets of the rows that count, by condition; of filled rows nothing."""
    found = []
    for name, evaluation in seen.items():
        subtracted = keep(explained[name].predictions, ~evaluation.filled)
        rows = evaluation.counted
        found.append((evaluation.predictions[rows], subtracted[rows], evaluation.targets[rows]))
    return found
