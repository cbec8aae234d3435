"""Protocols: under which condition one trains, and under which one is measured."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from mmaffect.missing import all_patterns
from mmaffect.ops import check_choice
from mmaffect.training.conditions import Complete, Condition, Deletion, FeatureRate, Patterns, RandomRate
from mmaffect.training.corruptions import FrameMasking, GaussianNoise

KINDS = ("none", "fixed", "random", "deletion", "feature", "corruption")
_MOST_MODALITIES = 6


@dataclass(frozen=True)
class Protocol:
    """A condition to train under and those to be measured under.

    In evaluation every condition is bound once with a seed that depends on neither system nor training seed; in
    training the condition is bound anew every epoch (in the truly missing regime: once).

    Args:
        name: e.g. ``"random"``.
        train: condition of the training batches.
        evaluation: conditions of validation and test, of different names.

    Raises:
        ValueError: if there is no evaluation condition or two share a name.
    """

    name: str
    train: Condition
    evaluation: tuple[Condition, ...]

    def __post_init__(self) -> None:
        names = [c.name for c in self.evaluation]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"evaluation: expected at least one condition, of different names, got {names}")

    def apart(self) -> tuple["Protocol", ...]:
        """A protocol for each condition of evaluation, under which one trains as well: a model for each condition.

        Example:
            >>> [p.train.name for p in protocol("random", ["text", "audio"], rates=[0, 0.5]).apart()]
            ['0', '0.5']
        """
        return tuple(Protocol(self.name, condition, (condition,)) for condition in self.evaluation)

    def describe(self) -> dict[str, Any]:
        """What the run directory records of it: plain values for JSON."""
        return {
            "name": self.name,
            "train": _describe(self.train),
            "evaluation": [_describe(c) for c in self.evaluation],
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
) -> Protocol:
    """The field's protocols by kind.

    * ``"none"``: complete everywhere.
    * ``"fixed"``: measured under each of the 2^M - 1 patterns (or ``patterns``), named ``"audio+text"``; in training
      each sample draws one of them.
    * ``"random"``: measured at each rate, 0, 0.1 … 0.7 by default as far as one modality can be kept; in training each
      sample draws one of the rates.
    * ``"deletion"``: one ``modality`` is deleted wherever another is left, measured at each rate, 0.1, 0.3 and 0.5 by
      default; in training each sample draws one of the rates.
    * ``"feature"``: single steps missing at each rate, 0, 0.1 … 0.9 by default; in training each sample draws its rate
      in [0, 1].
    * ``"corruption"``: trained clean; measured clean, under Gaussian noise of 0.25, 0.5 and 1 standard deviations
      (values are standardised) and with 10, 30 and 50 % of the frames masked.

    Args:
        kind: one of those.
        names: all modalities, in order.
        rates: for ``"random"``, ``"deletion"`` and ``"feature"``.
        patterns: for ``"fixed"``.
        modality: for ``"deletion"``, which needs it.

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
    if rates is not None and kind not in ("random", "deletion", "feature"):
        raise ValueError(f"rates: expected none with the protocol {kind!r}, got {list(rates)}")
    if patterns is not None and kind != "fixed":
        raise ValueError(f"patterns: expected none with the protocol {kind!r}, got {list(patterns)}")
    if (modality is not None) != (kind == "deletion"):
        wanted = "one of the modalities" if kind == "deletion" else "none"
        raise ValueError(f"modality: expected {wanted} with the protocol {kind!r}, got {modality!r}")
    if kind == "none":
        return Protocol(kind, Complete(), (Complete(),))
    if kind == "corruption":
        noise = tuple(GaussianNoise(f"noise {level:g}", level) for level in (0.25, 0.5, 1.0))
        frames = tuple(FrameMasking(f"frames {rate:g}", rate) for rate in (0.1, 0.3, 0.5))
        return Protocol(kind, Complete(), (Complete(), *noise, *frames))
    if kind == "fixed":
        if patterns is None and len(names) > _MOST_MODALITIES:
            raise ValueError(
                f"patterns: {len(names)} modalities have {2 ** len(names) - 1} patterns; expected a list of those "
                f"wanted, such as ['{names[0]}', '{names[0]}+{names[1]}'], above {_MOST_MODALITIES} modalities"
            )
        chosen = tuple(p.name for p in all_patterns(names)) if patterns is None else tuple(patterns)
        return Protocol(kind, Patterns("drawn", names, chosen), tuple(Patterns(p, names, (p,)) for p in chosen))
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
    levels = tuple(sorted(float(r) for r in (rates if rates is not None else [i / 10 for i in range(10)])))
    if not all(0 <= r < 1 for r in levels):
        raise ValueError(f"rates: expected 0 <= rate < 1 (at 1 nothing is left to measure), got {list(levels)}")
    return Protocol(kind, FeatureRate("drawn", None), tuple(FeatureRate(f"{r:g}", r) for r in levels))
