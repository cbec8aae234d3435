"""What a system must know of the data, and nothing more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mmaffect.data.vocabulary import Vocabulary, as_vocabulary
from mmaffect.ops import check_names

TargetKind = Literal["class", "multilabel", "score"]
SequenceKind = Literal["dialogue", "window", "single"]


@dataclass(frozen=True)
class DataSpec:
    """Names, widths and kinds: the contract between a dataset and a system.

    Args:
        modalities: width of each modality by name (of token ids: how many there are); the order is the order
            everywhere.
        target: ``"class"`` (one of several), ``"multilabel"`` (any of several) or ``"score"`` (real numbers).
        classes: names of the classes or labels; for scores, the names of the scores.
        sequence: ``"dialogue"`` (a label a step), ``"window"`` (the last steps, one label) or ``"single"``
            (one label a sample, each modality on a time axis of its own).
        speakers: how many speakers ``batch.speaker`` tells apart; 0 where it is not given.
        confounders: how many values ``batch.confounder`` takes; 0 where it is not given.
        class_shares: share of each class among the labels of the training split, for ``"class"``; empty where
            unknown.
        tokens: the modalities that are token ids ``(T,)`` int64 and not vectors, with their vocabularies; for
            ``"single"`` alone, since a turn of a dialogue has no time axis of its own.

    Raises:
        ValueError: if there is no modality, a width below 1, no class or a single one, not a share a class, or tokens
            of an unknown modality, of another size than its width, or outside ``"single"``.

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
    class_shares: tuple[float, ...] = ()
    # Not shown, so that a spec without tokens reads (and is hashed into fingerprints) as it always was.
    tokens: Mapping[str, Vocabulary] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.modalities:
            raise ValueError("modalities: expected at least one, got none")
        check_names("modalities", self.modalities)
        for name, width in self.modalities.items():
            if width < 1:
                raise ValueError(f"modalities: expected a width of at least 1 for {name!r}, got {width}")
        least = 2 if self.target == "class" else 1
        if len(self.classes) < least:
            raise ValueError(f"classes: expected at least {least} for {self.target!r}, got {self.classes}")
        if self.class_shares and len(self.class_shares) != len(self.classes):
            raise ValueError(f"class_shares: expected one for each of {self.classes}, got {self.class_shares}")
        # A spec that was read from JSON holds lists where it had vocabularies.
        tokens = {name: as_vocabulary(name, value) for name, value in self.tokens.items()}
        object.__setattr__(self, "tokens", tokens)
        for name, vocabulary in tokens.items():
            if self.modalities.get(name) != vocabulary.size:
                raise ValueError(
                    f"tokens: expected a modality {name!r} as wide as its vocabulary, {vocabulary.size}, "
                    f"got {dict(self.modalities)}"
                )
        if tokens and self.sequence != "single":
            raise ValueError(
                f"tokens: {', '.join(tokens)}: a turn of a {self.sequence} has no time axis of its own that tokens "
                "could be on; expected sequence = 'single'"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in order."""
        return tuple(self.modalities)

    @property
    def outputs(self) -> int:
        """Width of the prediction: classes, labels or scores."""
        return len(self.classes)

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """Inverse-frequency weights whose mean over the training labels is 1; None where shares are unknown.

        A class that never occurs in training gets weight zero: nothing can be learned of it.

        Example:
            >>> DataSpec({"text": 8}, "class", ("a", "b"), "single", class_shares=(0.8, 0.2)).class_weights
            (0.625, 2.5)
        """
        seen = sum(share > 0 for share in self.class_shares)
        return tuple(1 / (seen * share) if share > 0 else 0.0 for share in self.class_shares) or None
