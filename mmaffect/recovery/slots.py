"""Modalities side by side on one axis of features, in an order fixed once, and apart again."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmaffect.ops import check_mask, check_modalities, keep


def check_slots(what: str, widths: Mapping[str, int], values: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Raise unless there is a tensor ``(..., D_m)`` for every modality and all agree but in the last dimension.

    Args:
        what: what the caller calls ``values``.
        widths: of each modality, by name.
        values: by modality.

    Returns:
        The leading dimensions.

    Raises:
        ValueError: naming the modality and what was expected.

    Example:
        >>> check_slots("x", {"face": 2, "voice": 3}, {"voice": torch.zeros(4, 3), "face": torch.zeros(4, 2)})
        (4,)
    """
    check_modalities(what, values, widths)
    leading = tuple(next(iter(values.values())).shape[:-1])
    for name, width in widths.items():
        given = tuple(values[name].shape)
        if given != (*leading, width):
            raise ValueError(f"{what}[{name!r}]: expected shape {(*leading, width)}, got {given}")
    return leading


def check_slot_masks(
    what: str, widths: Mapping[str, int], masks: Mapping[str, Tensor], leading: tuple[int, ...]
) -> None:
    """Raise unless there is a bool mask of these leading dimensions for every modality.

    Raises:
        ValueError: naming the modality and what was expected.
    """
    check_modalities(what, masks, widths)
    for name in widths:
        check_mask(f"{what}[{name!r}]", masks[name], " ".join(map(str, leading)))


def join_slots(widths: Mapping[str, int], values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
    """All modalities side by side, in the order of ``widths``; zero where one is absent.

    Shape:
        ``values[m] (..., D_m)``, ``masks[m] (...)`` → ``(..., D)``.
    """
    return torch.cat([keep(values[name], masks[name]) for name in widths], dim=-1)


def split_slots(widths: Mapping[str, int], joined: Tensor) -> dict[str, Tensor]:
    """The modalities apart again.

    Shape:
        ``(..., D)`` → ``(..., D_m)`` each.
    """
    return dict(zip(widths, torch.split(joined, list(widths.values()), dim=-1), strict=True))


def fill_wanted(
    values: Mapping[str, Tensor],
    observed: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    recovered: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Wanted steps recovered, others as they are where they are observed, and zero elsewhere.

    Shape:
        ``values[m] (..., D_m)``, masks ``(...)``, ``recovered[m] (..., D_m)`` or, of several draws,
        ``(K, ..., D_m)`` → like ``recovered``.

    Example:
        >>> x, guess = {"face": torch.tensor([[1.0], [2.0], [3.0]])}, {"face": torch.full((3, 1), 9.0)}
        >>> seen, wanted = {"face": torch.tensor([True, False, False])}, {"face": torch.tensor([False, True, False])}
        >>> fill_wanted(x, seen, wanted, guess)["face"].flatten().tolist()
        [1.0, 9.0, 0.0]
    """
    filled = {}
    for name, guess in recovered.items():
        seen = keep(values[name], observed[name])
        filled[name] = torch.where(wanted[name].unsqueeze(-1), guess.to(seen.dtype), seen)
    return filled
