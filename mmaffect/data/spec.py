"""What a system must know of the data, and nothing more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

TargetKind = Literal["class", "multilabel", "score"]
SequenceKind = Literal["dialogue", "window", "single"]


@dataclass(frozen=True)
class DataSpec:
    """Names, widths and kinds: the contract between a dataset and a system.

    Args:
        modalities: width of each modality by name; the order is the order everywhere.
        target: ``"class"`` (one of several), ``"multilabel"`` (any of several) or ``"score"`` (real numbers).
        classes: names of the classes or labels; for scores, the names of the scores.
        sequence: ``"dialogue"`` (a label a step), ``"window"`` (the last steps, one label) or ``"single"``
            (one label a sample, each modality on a time axis of its own).
        speakers: how many speakers ``batch.speaker`` tells apart; 0 where it is not given.
        confounders: how many values ``batch.confounder`` takes; 0 where it is not given.

    Raises:
        ValueError: if there is no modality, a width below 1, no class, or a single class.

    Example:
        >>> DataSpec({"text": 8, "audio": 4}, "class", ("sad", "happy"), "dialogue").outputs
        2
    """

    modalities: Mapping[str, int]
    target: TargetKind
    classes: tuple[str, ...]
    sequence: SequenceKind
    speakers: int = 0
    confounders: int = 0

    def __post_init__(self) -> None:
        if not self.modalities:
            raise ValueError("modalities: expected at least one, got none")
        for name, width in self.modalities.items():
            if width < 1:
                raise ValueError(f"modalities: expected a width of at least 1 for {name!r}, got {width}")
        least = 2 if self.target == "class" else 1
        if len(self.classes) < least:
            raise ValueError(f"classes: expected at least {least} for {self.target!r}, got {self.classes}")

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in order."""
        return tuple(self.modalities)

    @property
    def outputs(self) -> int:
        """Width of the prediction: classes, labels or scores."""
        return len(self.classes)
