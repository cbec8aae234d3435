"""Protocols: under which condition one trains, and under which one is measured."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from torch import Tensor

from mmaffect.data import MultimodalDataset
from mmaffect.missing import all_patterns
from mmaffect.ops import check_choice
from mmaffect.training.conditions import Complete, Condition, Deletion, Patterns, RandomRate
from mmaffect.training.corruptions import FrameMasking, GaussianNoise
from mmaffect.training.missing_features import FeatureRate, ModalityLoss, ModalityRates, TimeBlock, TimeRate
from mmaffect.training.prior import prior_prediction

KINDS = ("none", "fixed", "random", "deletion", "feature", "rmfm_same", "rmm", "tmfm", "stmfm", "corruption")
CURVES = ("random", "deletion", "feature", "rmm", "tmfm", "stmfm")  # their conditions are missing rates
_MOST_MODALITIES = 6
_ELEVEN = tuple(i / 10 for i in range(11))


@dataclass(frozen=True)
class Protocol:
    """A condition to train under and those to be measured under.

    In evaluation every condition is bound once with a seed that depends on neither system nor training seed; in
    training the condition is bound anew every epoch (in the truly missing regime: once).

    Args:
        name: e.g. ``"random"``.
        train: condition of the training batches.
        evaluation: conditions of validation and test, of different names.
        empty: what becomes of rows (turns or samples) that a condition of evaluation leaves with nothing.
            ``"exclude"``: they enter no metric. ``"prior"``: `prior_prediction` of the training split is taken for
            them, whatever the system, so that every condition is measured on the same rows. Rows that the data
            themselves have nothing of are excluded in any case.

    Raises:
        ValueError: if there is no evaluation condition, two share a name, or ``empty`` is unknown.
    """

    name: str
    train: Condition
    evaluation: tuple[Condition, ...]
    empty: Literal["exclude", "prior"] = "exclude"

    def __post_init__(self) -> None:
        names = [c.name for c in self.evaluation]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"evaluation: expected at least one condition, of different names, got {names}")
        check_choice("empty", self.empty, ("exclude", "prior"))

    def prior(self, train: MultimodalDataset) -> Tensor | None:
        """What is predicted of rows that a condition leaves with nothing; None where they are excluded.

        Args:
            train: what the system is trained on.
        """
        return prior_prediction(train) if self.empty == "prior" else None

    def apart(self) -> tuple["Protocol", ...]:
        """A protocol for each condition of evaluation, under which one trains as well: a model for each condition.

        Example:
            >>> [p.train.name for p in protocol("random", ["text", "audio"], rates=[0, 0.5]).apart()]
            ['0', '0.5']
        """
        return tuple(Protocol(self.name, condition, (condition,), self.empty) for condition in self.evaluation)

    def describe(self) -> dict[str, Any]:
        """What the run directory records of it: plain values for JSON."""
        return {
            "name": self.name,
            "train": _describe(self.train),
            "evaluation": [_describe(c) for c in self.evaluation],
            **({} if self.empty == "exclude" else {"empty": self.empty}),
        }


def _describe(condition: Any) -> dict[str, Any]:
    own = {f.name: getattr(condition, f.name) for f in fields(condition)} if is_dataclass(condition) else {}
    return {"kind": type(condition).__name__, "name": condition.name, **own}


def protocol(
    kind: str,
    names: Sequence[str],
    *,
    rates: Sequence[float] | None = None,
    patterns: Sequence[str] | None = None,
    modality: str | None = None,
    training_rates: str | None = None,
    keep_one: bool = False,
) -> Protocol:
    """The field's protocols by kind.

    * ``"none"``: complete everywhere.
    * ``"fixed"``: measured under each of the 2^M - 1 patterns (or ``patterns``), named ``"audio+text"``; in training
      each sample draws one of them.
    * ``"random"``: measured at each rate, 0, 0.1 … 0.7 by default as far as one modality can be kept; in training each
      sample draws one of the rates.
    * ``"deletion"``: one ``modality`` is deleted wherever another is left, measured at each rate, 0.1, 0.3 and 0.5 by
      default; in training each sample draws one of the rates.
    * ``"feature"``: CIDer's RMFM, single steps of single modalities missing at each rate, 0, 0.1 … 1 by default; in
      training each sample draws its rate in [0, 1], or each position (``training_rates``).
    * ``"rmfm_same"``: the same with a rate for each modality: measured with modalities whole or gone, as ``"fixed"``,
      or as ``patterns`` says, such as ``"text=0.5+audio"`` (0.5 for text, 0 for audio, 1 for those not named); in
      training each modality of each sample draws its rate in [0, 1].
    * ``"rmm"``: whole modalities missing at each rate, independently, so that all may go (``keep_one``).
    * ``"tmfm"``, ``"stmfm"``: the same single steps, or one block of steps, missing from all modalities, which share
      their time, at each rate.
    * ``"corruption"``: trained clean; measured clean, under Gaussian noise of 0.25, 0.5 and 1 standard deviations
      (values are standardised) and with 10, 30 and 50 % of the frames masked.

    The rates of the last three before this are 0, 0.1 … 1 by default, and in training each sample draws its own in
    [0, 1]. From ``"feature"`` to ``"stmfm"`` all of a row may go: `Protocol.empty` is ``"prior"`` there, so that the
    area over 0 … 1 is over the same rows at every rate; elsewhere such rows are excluded.

    Args:
        kind: one of those.
        names: all modalities, in order.
        rates: for ``"random"``, ``"deletion"``, ``"feature"``, ``"rmm"``, ``"tmfm"`` and ``"stmfm"``.
        patterns: for ``"fixed"`` and ``"rmfm_same"``.
        modality: for ``"deletion"``, which needs it.
        training_rates: for ``"feature"``: ``"sample"`` (by default), a true rate in [0, 1] for each sample; or
            ``"position"``, CIDer's published code: a rate for each position, which comes to a fair coin a position.
        keep_one: for ``"rmm"``: never take the last modality of a row.

    Raises:
        ValueError: on an unknown kind, an argument the kind does not take, rates that cannot be met, or more than 6
            modalities without ``patterns``.

    Example:
        >>> [c.name for c in protocol("fixed", ["text", "audio"]).evaluation]
        ['text', 'audio', 'text+audio']
        >>> [c.name for c in protocol("random", ["text", "audio"], rates=[0, 0.5]).evaluation]
        ['0', '0.5']
    """
    check_choice("kind", kind, KINDS)
    names = tuple(names)
    if rates is not None and kind not in CURVES:
        raise ValueError(f"rates: expected none with the protocol {kind!r}, got {list(rates)}")
    if patterns is not None and kind not in ("fixed", "rmfm_same"):
        raise ValueError(f"patterns: expected none with the protocol {kind!r}, got {list(patterns)}")
    if (modality is not None) != (kind == "deletion"):
        wanted = "one of the modalities" if kind == "deletion" else "none"
        raise ValueError(f"modality: expected {wanted} with the protocol {kind!r}, got {modality!r}")
    if training_rates is not None and kind != "feature":
        raise ValueError(f"training_rates: expected none with the protocol {kind!r}, got {training_rates!r}")
    if keep_one and kind != "rmm":
        raise ValueError(f"keep_one: expected False with the protocol {kind!r}, got True")
    if kind == "none":
        return Protocol(kind, Complete(), (Complete(),))
    if kind == "corruption":
        noise = tuple(GaussianNoise(f"noise {level:g}", level) for level in (0.25, 0.5, 1.0))
        frames = tuple(FrameMasking(f"frames {rate:g}", rate) for rate in (0.1, 0.3, 0.5))
        return Protocol(kind, Complete(), (Complete(), *noise, *frames))
    if kind == "fixed":
        chosen = _patterns(names, patterns)
        return Protocol(kind, Patterns("drawn", names, chosen), tuple(Patterns(p, names, (p,)) for p in chosen))
    if kind == "rmfm_same":
        same = tuple(ModalityRates(p, names, _modality_rates(p, names)) for p in _patterns(names, patterns))
        return Protocol(kind, ModalityRates("drawn", names, None), same, "prior")
    if kind == "random":
        if rates is None:
            rates = [i / 10 for i in range(8) if i * len(names) <= 10 * (len(names) - 1)]
        levels = tuple(sorted(float(r) for r in rates))
        at = tuple(RandomRate(f"{r:g}", names, (r,)) for r in levels)
        return Protocol(kind, RandomRate("drawn", names, levels), at)
    if kind == "deletion" and modality is not None:
        levels = tuple(sorted(float(r) for r in ((0.1, 0.3, 0.5) if rates is None else rates)))
        removed = tuple(Deletion(f"{r:g}", names, modality, (r,)) for r in levels)
        return Protocol(kind, Deletion("drawn", names, modality, levels), removed)
    levels = tuple(sorted(float(r) for r in (_ELEVEN if rates is None else rates)))
    if kind == "feature":
        check_choice("training_rates", training_rates or "sample", ("sample", "position"))
        # A rate for each position, drawn uniformly in [0, 1], is a coin with chance 1/2: see rmfm_per_position.
        drawn = FeatureRate("a coin a position", 0.5) if training_rates == "position" else FeatureRate("drawn", None)
        return Protocol(kind, drawn, tuple(FeatureRate(f"{r:g}", r) for r in levels), "prior")
    if kind == "rmm":
        lost = tuple(ModalityLoss(f"{r:g}", r, keep_one) for r in levels)
        return Protocol(kind, ModalityLoss("drawn", None, keep_one), lost, "prior")
    time = TimeRate if kind == "tmfm" else TimeBlock
    return Protocol(kind, time("drawn", None), tuple(time(f"{r:g}", r) for r in levels), "prior")


def _patterns(names: tuple[str, ...], patterns: Sequence[str] | None) -> tuple[str, ...]:
    """The patterns asked for, or all."""
    if patterns is not None:
        return tuple(patterns)
    if len(names) > _MOST_MODALITIES:
        raise ValueError(
            f"patterns: {len(names)} modalities have {2 ** len(names) - 1} patterns; expected a list of those "
            f"wanted, such as ['{names[0]}', '{names[0]}+{names[1]}'], above {_MOST_MODALITIES} modalities"
        )
    return tuple(p.name for p in all_patterns(names))


def _modality_rates(pattern: str, names: tuple[str, ...]) -> tuple[float, ...]:
    """``"text=0.5+audio"``: a rate for each modality; 0 where it is only named, 1 where it is not."""
    rates = dict.fromkeys(names, 1.0)
    for part in pattern.split("+"):
        name, _, rate = part.partition("=")
        check_choice("patterns", name, names)
        try:
            rates[name] = float(rate or 0)
        except ValueError as error:
            raise ValueError(f"patterns: expected NAME or NAME=RATE joined by +, got {pattern!r}") from error
    return tuple(rates.values())
