"""Argument checks that name the argument, what was given and what was expected."""

import difflib
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn


class InputError(ValueError):
    """What the user gave cannot be used: a file, a recipe, a name. Command lines show it without traceback.

    The message is one paragraph that names the file or argument, the key, what was given and what was expected.
    """


def check_shape(name: str, tensor: Tensor, expected: str, **sizes: int) -> None:
    """Raise unless ``tensor`` has the shape spelled in ``expected``.

    Only shapes are read, never values, so the check survives ``torch.export`` and ``torch.compile``.

    Args:
        name: what the caller calls the argument.
        tensor: the argument.
        expected: dimension names apart by blanks, e.g. ``"B T D"``; a number stands for itself.
        **sizes: sizes that are known, by dimension name.

    Raises:
        ValueError: if the number of dimensions or a known size differs.

    Example:
        >>> import torch
        >>> check_shape("x", torch.zeros(2, 3), "B D", D=4)
        Traceback (most recent call last):
        ...
        ValueError: x: expected shape (B, D) with D = 4, got (2, 3)
    """
    names = expected.split()
    wanted = [int(n) if n.isdigit() else sizes.get(n) for n in names]
    shape = tuple(tensor.shape)
    if len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True)):
        return
    known = ", ".join(f"{n} = {sizes[n]}" for n in names if n in sizes)
    raise ValueError(f"{name}: expected shape ({', '.join(names)}){' with ' + known if known else ''}, got {shape}")


def check_mask(name: str, mask: Tensor, expected: str, **sizes: int) -> None:
    """Raise unless ``mask`` is bool and has the shape spelled in ``expected``, as for :func:`check_shape`.

    A mask of numbers is refused rather than read as one: tokenizers and other libraries do not agree on what 0 means.

    Raises:
        ValueError: on another shape or dtype.

    Example:
        >>> check_mask("mask", torch.ones(2, 3), "B T", B=2, T=3)
        Traceback (most recent call last):
        ...
        ValueError: mask: expected bool, True = is there, got torch.float32; see mask.bool()
    """
    check_shape(name, mask, expected, **sizes)
    if mask.dtype != torch.bool:
        raise ValueError(f"{name}: expected bool, True = is there, got {mask.dtype}; see mask.bool()")


def check_int64(**tensors: Tensor) -> None:
    """Raise unless every named tensor holds int64: labels, token ids, values of a confounder.

    Raises:
        ValueError: naming the first that does not.

    Example:
        >>> check_int64(labels=torch.tensor([0.5]))
        Traceback (most recent call last):
        ...
        ValueError: labels: expected an int64 tensor, got torch.float32
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.int64:
            raise ValueError(f"{name}: expected an int64 tensor, got {tensor.dtype}")


def check_dropout(**rates: float) -> None:
    """Raise unless every named share of what is dropped lies in [0, 1].

    Raises:
        ValueError: naming the first argument that does not.

    Example:
        >>> check_dropout(dropout=1.5)
        Traceback (most recent call last):
        ...
        ValueError: dropout: expected a share from 0 to 1, got 1.5
    """
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"{name}: expected a share from 0 to 1, got {rate}")


def check_positive(**values: float) -> None:
    """Raise unless every named value is greater than zero.

    Raises:
        ValueError: naming the first argument that is not.

    Example:
        >>> check_positive(dim=4, temperature=0.0)
        Traceback (most recent call last):
        ...
        ValueError: temperature: expected a value > 0, got 0.0
    """
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: expected a value > 0, got {value}")


def check_names(name: str, given: Collection[str]) -> None:
    """Raise unless ``given`` are modalities: at least one, each once, each fit to name a part of a module.

    Parts are kept by name in ``torch.nn.ModuleDict``, where a name may hold no dot and not be one of its own, such as
    ``values``.

    Raises:
        ValueError: naming the argument and what cannot be a name.

    Example:
        >>> check_names("names", ["face.left", "voice"])
        Traceback (most recent call last):
        ...
        ValueError: names: expected names of modalities without a dot, and not of torch.nn.ModuleDict, got 'face.left'
    """
    if isinstance(given, str) or not given or len(set(given)) < len(given):
        raise ValueError(f"{name}: expected a list of modalities, at least one and each once, got {given!r}")
    taken = nn.ModuleDict()
    for modality in given:
        if not isinstance(modality, str) or not modality or "." in modality or hasattr(taken, modality):
            raise ValueError(
                f"{name}: expected names of modalities without a dot, and not of torch.nn.ModuleDict, got {modality!r}"
            )


def check_modalities(name: str, given: Iterable[str], expected: Iterable[str]) -> None:
    """Raise unless ``given``, the keys of a mapping say, are the expected modalities, in any order.

    Raises:
        ValueError: naming the argument and both.

    Example:
        >>> check_modalities("masks", {"voice": 0}, ("voice", "face"))
        Traceback (most recent call last):
        ...
        ValueError: masks: expected the modalities ('voice', 'face'), got ('voice',)
    """
    if set(given) != set(expected):
        raise ValueError(f"{name}: expected the modalities {tuple(expected)}, got {tuple(given)}")


def check_choice(name: str, given: object, options: Iterable[str]) -> None:
    """Raise unless ``given`` is one of ``options``; the nearest ones are offered.

    Raises:
        InputError: (a ValueError) naming the argument, the value, the nearest options and all of them.

    Example:
        >>> check_choice("modality", "adio", ["text", "audio"])
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: modality: 'adio' is unknown; did you mean 'audio'? Known: audio, text
    """
    known = sorted(options)
    if given in known:
        return
    near = difflib.get_close_matches(str(given), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    raise InputError(f"{name}: {given!r} is unknown; {hint}Known: {', '.join(known)}")
