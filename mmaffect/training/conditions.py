"""What is hidden or corrupted: conditions, bound to a dataset once and for all samples at once.

Every draw is made for the whole dataset when a condition is bound, as a table whose rows are looked up by
``batch.index``. So what a sample looks like depends on the dataset, the seed and its row: not on the batch it comes
in, the order, the number of processes, or the system.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmaffect.data import MultimodalBatch, MultimodalDataset
from mmaffect.missing import Pattern, draw_patterns, feature_rate, fixed_pattern, random_rate
from mmaffect.ops import InputError, check_choice

Change = Callable[[MultimodalBatch], MultimodalBatch]


class Condition(Protocol):
    """What every condition offers: a name for tables and curves, and ``bind``."""

    @property
    def name(self) -> str:
        """Name in tables, logs and results."""

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw for every sample of the dataset; the result is applied to batches of it, on the CPU.

        Args:
            dataset: the one whose batches are changed.
            seed: of all draws.

        Raises:
            ValueError: if the condition does not fit the dataset's modalities.
        """


@dataclass(frozen=True)
class Complete:
    """Nothing is hidden beyond what the data lack themselves.

    Example:
        >>> Complete().name
        'complete'
    """

    name: str = "complete"

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw nothing; batches pass unchanged."""
        return lambda batch: batch


@dataclass(frozen=True)
class Patterns:
    """Each sample gets one of some availability patterns, uniformly; all turns of a dialogue share it.

    Args:
        name: in tables.
        names: all modalities, in order.
        patterns: names of the patterns to draw from, e.g. ``("audio", "audio+text")``; one is no draw.

    Raises:
        ValueError: if there is no pattern, or one names an unknown modality.
    """

    name: str
    names: tuple[str, ...]
    patterns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.patterns:
            raise ValueError("patterns: expected at least one, got none")
        for pattern in self.patterns:
            fixed_pattern(self.names, pattern)

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw one pattern a sample."""
        check_names(self.names, dataset)
        choices = [Pattern(p, fixed_pattern(self.names, p)) for p in self.patterns]
        table = draw_patterns(len(dataset), choices, torch.Generator().manual_seed(seed))
        return lambda batch: batch.drop(table[batch.index])


@dataclass(frozen=True)
class RandomRate:
    """Modalities are missing at a rate: turn by turn in dialogues, sample by sample elsewhere.

    One is always kept by the draw, which does not look at the data: where the one kept is really missing, nothing is
    left, and the turn or sample is excluded and counted.

    Args:
        name: in tables.
        names: all modalities, in order.
        rates: each sample draws its own uniformly among them; one is no draw.

    Raises:
        ValueError: if there is no rate, or one is outside [0, (M-1)/M].
    """

    name: str
    names: tuple[str, ...]
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.rates:
            raise ValueError("rates: expected at least one, got none")
        for rate in self.rates:
            random_rate(0, len(self.names), rate)

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw a rate a sample, and a pattern a turn or sample at that rate."""
        check_names(self.names, dataset)
        generator = torch.Generator().manual_seed(seed)
        samples, modalities = len(dataset), len(self.names)
        picks = torch.randint(len(self.rates), (samples,), generator=generator)
        rate = torch.tensor(self.rates, dtype=torch.float64)[picks]
        if dataset.spec.sequence != "dialogue":
            table = random_rate(samples, modalities, rate, generator)
            return lambda batch: batch.drop(table[batch.index])
        turns = dataset.max_steps
        by_turn = random_rate(samples * turns, modalities, rate.repeat_interleave(turns), generator)
        by_turn = by_turn.view(samples, turns, modalities)
        return lambda batch: batch.drop(by_turn[batch.index, : _steps(batch)])


@dataclass(frozen=True)
class Deletion:
    """One modality is deleted at a rate, wherever another one is left: turn by turn in dialogues, else by sample.

    The rate is that of the turns or samples that have it and another: none is left with nothing by this. Under one
    seed, what is deleted at a rate is deleted at every higher one too.

    Args:
        name: in tables.
        names: all modalities, in order.
        modality: the one that is deleted.
        rates: each sample draws its own uniformly among them; one is no draw.

    Raises:
        ValueError: if the modality is unknown, or there is no rate, or one is outside [0, 1].
    """

    name: str
    names: tuple[str, ...]
    modality: str
    rates: tuple[float, ...]

    def __post_init__(self) -> None:
        check_choice("modality", self.modality, self.names)
        if not self.rates:
            raise ValueError("rates: expected at least one, got none")
        for rate in self.rates:
            if not 0 <= rate <= 1:
                raise ValueError(f"rate: expected 0 <= rate <= 1, got {rate}")

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw a rate a sample, and a coin a turn or sample."""
        check_names(self.names, dataset)
        generator = torch.Generator().manual_seed(seed)
        samples, by_turn = len(dataset), dataset.spec.sequence == "dialogue"
        picks = torch.randint(len(self.rates), (samples,), generator=generator)
        rate = torch.tensor(self.rates, dtype=torch.float64)[picks]
        every = torch.ones(samples, dataset.max_steps if by_turn else 1, dtype=torch.bool)
        table = feature_rate(every, rate, generator)

        def change(batch: MultimodalBatch) -> MultimodalBatch:
            others = [mask for name, mask in batch.masks.items() if name != self.modality]
            if by_turn:
                kept, alone = table[batch.index, : _steps(batch)], ~_any(others, batch.masks[self.modality])
            else:
                seen = [mask.any(1, keepdim=True) for mask in others]
                kept, alone = table[batch.index], ~_any(seen, table[batch.index])
            return batch.drop({self.modality: kept | alone})

        return change


def rows_of(tables: Mapping[str, Tensor], batch: MultimodalBatch) -> dict[str, Tensor]:
    """The batch's rows of tables ``(N, T_m)``, cut or filled with False to the batch's own width."""
    found = {}
    for name, table in tables.items():
        rows = table[batch.index]
        width = batch.masks[name].shape[1]
        found[name] = torch.nn.functional.pad(rows, (0, max(0, width - rows.shape[1])))[:, :width]
    return found


def _any(masks: list[Tensor], like: Tensor) -> Tensor:
    """Where one of the masks is True; nowhere if there is none."""
    return torch.stack([torch.zeros_like(like), *masks]).any(0)


def _steps(batch: MultimodalBatch) -> int:
    return next(iter(batch.masks.values())).shape[1]


def check_names(names: tuple[str, ...], dataset: MultimodalDataset) -> None:
    """Raise unless a condition is for the modalities of a dataset."""
    if names != dataset.spec.names:
        raise InputError(f"names: the condition is for modalities {names}, the dataset has {dataset.spec.names}")
