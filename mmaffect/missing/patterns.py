"""Availability patterns by name: which modalities are there."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.ops import InputError, check_choice, check_shape

_JOIN = "+"


class Pattern(NamedTuple):
    """A set of available modalities.

    Args:
        name: the available modalities in their order, joined by "+", e.g. ``"audio+text"``.
        available: bool ``(M,)``, True = there.
    """

    name: str
    available: Tensor


def _check_names(names: Sequence[str]) -> None:
    if isinstance(names, str) or not names or len(set(names)) != len(names) or any(_JOIN in n or not n for n in names):
        raise InputError(f"names: expected distinct, non-empty modality names without {_JOIN!r}, got {names!r}")


def fixed_pattern(names: Sequence[str], available: str | Iterable[str]) -> Tensor:
    """The pattern in which exactly the named modalities are there (fixed-missing protocol).

    Args:
        names: all modalities, in order.
        available: those that are there, in any order; or the pattern's name, ``"audio+text"``.

    Shape:
        → bool ``(M,)``, True = there.

    Raises:
        InputError: (a ValueError) on a name that is not among ``names`` (the nearest are offered), on none at
            all, or on modality names that repeat, are empty or hold a "+".

    Example:
        >>> fixed_pattern(["text", "audio", "video"], ["video", "text"]).tolist()
        [True, False, True]
        >>> fixed_pattern(["text", "audio", "video"], "audio+vidoe")
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: available: 'vidoe' is unknown; did you mean 'video'? Known: audio, text, video
    """
    _check_names(names)
    chosen = available.split(_JOIN) if isinstance(available, str) and available else list(available)
    for name in chosen:
        check_choice("available", name, names)
    if not chosen:
        raise InputError(f"available: expected at least one of {', '.join(names)}, got none")
    return torch.tensor([name in chosen for name in names])


def pattern_name(available: Tensor, names: Sequence[str]) -> str:
    """Name of a pattern: the modalities that are there, in their order, joined by "+".

    Args:
        available: bool, True = there.
        names: all modalities, in order.

    Shape:
        ``available (M,)``.

    Raises:
        ValueError: on another shape or dtype, or if nothing is there.

    Example:
        >>> pattern_name(torch.tensor([True, False, True]), ["text", "audio", "video"])
        'text+video'
    """
    _check_names(names)
    check_shape("available", available, "M", M=len(names))
    if available.dtype != torch.bool or not available.any():
        raise ValueError(f"available: expected bool with at least one True, got {available.dtype} {available.tolist()}")
    return _JOIN.join(name for name, there in zip(names, available.tolist(), strict=True) if there)


def all_patterns(names: Sequence[str]) -> tuple[Pattern, ...]:
    """The 2^M - 1 patterns that leave something, fewest modalities first, then in the order of ``names``.

    Args:
        names: all modalities, in order.

    Raises:
        InputError: (a ValueError) on names that repeat, are empty or hold a "+".

    Example:
        >>> [pattern.name for pattern in all_patterns(["text", "audio"])]
        ['text', 'audio', 'text+audio']
    """
    _check_names(names)
    chosen = itertools.chain.from_iterable(itertools.combinations(names, k) for k in range(1, len(names) + 1))
    return tuple(Pattern(_JOIN.join(c), fixed_pattern(names, c)) for c in chosen)


def draw_patterns(n: int, patterns: Sequence[Pattern], generator: torch.Generator | None = None) -> Tensor:
    """One pattern a sample, independently, each with the same chance.

    Args:
        n: samples.
        patterns: those to choose from, e.g. ``all_patterns(names)``.
        generator: where the randomness comes from; its device is that of the result. Torch's own by default.

    Shape:
        → bool ``(n, M)``, True = there.

    Raises:
        ValueError: if n is negative or there is no pattern.

    Example:
        >>> draw_patterns(3, all_patterns(["text"])).tolist()
        [[True], [True], [True]]
    """
    if n < 0 or not patterns:
        raise ValueError(
            f"n, patterns: expected n >= 0 and at least one pattern, got n = {n}, {len(patterns)} patterns"
        )
    device = generator.device if generator is not None else torch.device("cpu")
    table = torch.stack([pattern.available for pattern in patterns]).to(device)
    return table[torch.randint(len(patterns), (n,), generator=generator, device=device)]
