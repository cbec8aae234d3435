"""Conditions under which single steps are missing, and CIDer's other ways of losing modalities.

As in `mmaffect.training.conditions` all is drawn when a condition is bound. A rate of None draws one uniformly in
[0, 1] for each sample. Under one seed, what is missing at a rate is missing at every higher one too (but where
``keep_one`` redraws): the points of a curve differ by the rate alone. Start and end tokens stay as long as anything
between them is left; then they go too, and the modality is absent.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mmaffect.data import DataSpec, MultimodalDataset
from mmaffect.missing import rmfm, rmfm_same, rmm, stmfm, tmfm
from mmaffect.ops import InputError
from mmaffect.training.conditions import Change, check_names, rows_of


@dataclass(frozen=True)
class FeatureRate:
    """Single steps of single modalities are missing at a rate, independently: CIDer's RMFM.

    Args:
        name: in tables.
        rate: expected share of missing steps in [0, 1]; None draws one uniformly in [0, 1] for each sample.

    Raises:
        ValueError: on a rate outside [0, 1].
    """

    name: str
    rate: float | None

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw every step of every modality of every sample."""
        generator = torch.Generator().manual_seed(seed)
        rate = _by_sample(self.rate, dataset, generator)
        return _hide(dataset, rmfm(_masks(dataset), rate, generator, protect=_protected(dataset)))


@dataclass(frozen=True)
class ModalityRates:
    """Single steps are missing at a rate of each modality's own: RMFM_same; rates of 0 and 1 hide chosen modalities.

    Args:
        name: in tables.
        names: all modalities, in order.
        rates: one for each; None draws one uniformly in [0, 1] for each modality of each sample.

    Raises:
        ValueError: if there is not one rate a modality, or one is outside [0, 1].
    """

    name: str
    names: tuple[str, ...]
    rates: tuple[float, ...] | None

    def __post_init__(self) -> None:
        if self.rates is not None and len(self.rates) != len(self.names):
            raise ValueError(f"rates: expected one for each of {self.names}, got {self.rates}")
        for rate in self.rates or ():
            _check_rate(rate)

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw every step of every modality of every sample."""
        check_names(self.names, dataset)
        generator = torch.Generator().manual_seed(seed)
        given = self.rates or (None,) * len(self.names)
        rates = {n: _by_sample(r, dataset, generator) for n, r in zip(self.names, given, strict=True)}
        return _hide(dataset, rmfm_same(_masks(dataset), rates, generator, protect=_protected(dataset)))


@dataclass(frozen=True)
class ModalityLoss:
    """Whole modalities are missing at a rate: RMM; turn by turn in dialogues, sample by sample elsewhere.

    Args:
        name: in tables.
        rate: chance of each modality to go, in [0, 1]; None draws one uniformly in [0, 1] for each sample.
        keep_one: never take the last of those that a turn or sample has: then the rate is met up to (k - 1)/k of k
            modalities, and above it exactly one is kept. As published all may go.

    Raises:
        ValueError: on a rate outside [0, 1].
    """

    name: str
    rate: float | None
    keep_one: bool = False

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw every modality of every turn or sample."""
        generator = torch.Generator().manual_seed(seed)
        rate, masks = _by_sample(self.rate, dataset, generator), _masks(dataset)
        if dataset.spec.sequence != "dialogue":
            return _hide(dataset, rmm(masks, rate, generator, keep_one=self.keep_one))
        turns = dataset.max_steps
        by_turn = {name: mask.reshape(-1, 1) for name, mask in masks.items()}
        kept = rmm(by_turn, rate.repeat_interleave(turns), generator, keep_one=self.keep_one)
        return _hide(dataset, {name: mask.reshape(-1, turns) for name, mask in kept.items()})


@dataclass(frozen=True)
class TimeRate:
    """The same single steps are missing from all modalities at a rate: TMFM; only where they share their time.

    Args:
        name: in tables.
        rate: expected share of missing steps in [0, 1]; None draws one uniformly in [0, 1] for each sample.

    Raises:
        ValueError: on a rate outside [0, 1].
    """

    name: str
    rate: float | None
    kind: ClassVar[str] = "single steps of all modalities at once (tmfm)"

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def check(self, spec: DataSpec) -> None:
        """Raise where modalities share no time.

        Raises:
            InputError: naming the sequence kind.
        """
        _check_shared(self.kind, spec)

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw every step of every sample."""
        self.check(dataset.spec)
        generator = torch.Generator().manual_seed(seed)
        return _hide(dataset, tmfm(_masks(dataset), _by_sample(self.rate, dataset, generator), generator))


@dataclass(frozen=True)
class TimeBlock:
    """One block of consecutive steps is missing from all modalities: STMFM; only where they share their time.

    Args:
        name: in tables.
        rate: share of the steps in [0, 1], rounded to whole steps; None draws one uniformly for each sample.

    Raises:
        ValueError: on a rate outside [0, 1].
    """

    name: str
    rate: float | None
    kind: ClassVar[str] = "a block of steps of all modalities (stmfm)"

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def check(self, spec: DataSpec) -> None:
        """Raise where modalities share no time.

        Raises:
            InputError: naming the sequence kind.
        """
        _check_shared(self.kind, spec)

    def bind(self, dataset: MultimodalDataset, seed: int) -> Change:
        """Draw where the block of every sample begins."""
        self.check(dataset.spec)
        generator = torch.Generator().manual_seed(seed)
        return _hide(dataset, stmfm(_masks(dataset), _by_sample(self.rate, dataset, generator), generator))


def _check_rate(rate: float | None) -> None:
    if rate is not None and not 0 <= rate <= 1:
        raise ValueError(f"rate: expected 0 <= rate <= 1, got {rate}")


def _check_shared(kind: str, spec: DataSpec) -> None:
    if spec.sequence == "single":
        raise InputError(
            f"protocol: {kind} needs modalities that share their time, in a 'dialogue' or a 'window'; "
            "in 'single' each has a time axis of its own"
        )


def _by_sample(rate: float | None, dataset: MultimodalDataset, generator: torch.Generator) -> Tensor:
    """The rate of each sample ``(N,)``."""
    if rate is None:
        return torch.rand(len(dataset), generator=generator, dtype=torch.float64)
    return torch.full((len(dataset),), rate, dtype=torch.float64)


def _masks(dataset: MultimodalDataset) -> dict[str, Tensor]:
    """What is observed of every sample, ``(N, T_m)`` by modality."""
    found = {}
    for name, span in dataset.spans.items():
        observed = dataset.observed[name]
        at = span[:, :1] + torch.arange(int(dataset.lengths[name].max()))
        inside = at < span[:, 1:]
        found[name] = inside & observed[torch.where(inside, at, 0)] if len(observed) else inside
    return found


def _protected(dataset: MultimodalDataset) -> dict[str, Tensor]:
    return {name: dataset.protected(name) for name in dataset.spec.tokens}


def _hide(dataset: MultimodalDataset, kept: dict[str, Tensor]) -> Change:
    """Hide what is not kept; a modality that keeps nothing but protected steps goes as a whole."""
    tables = dict(kept)
    for name, guard in _protected(dataset).items():
        tables[name] = kept[name] & (kept[name] & ~guard).any(1, keepdim=True)
    return lambda batch: batch.drop(rows_of(tables, batch))
