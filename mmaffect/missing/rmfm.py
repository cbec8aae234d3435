"""Missing at the level of features in several modalities: CIDer's RMFM and its kin.

Masks of one modality are ``(B, T_m)`` bool, True = a real step; several travel as a dict. The result is a
subset of what was given: padding stays False. `protect` marks steps that are never dropped ([CLS], [SEP]).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmaffect.missing.conditional import at_least_one
from mmaffect.missing.draws import check_rate, uniform
from mmaffect.missing.features import Rate, check_mask, feature_rate
from mmaffect.ops import check_choice, check_shape


def check_masks(masks: Mapping[str, Tensor], protect: Mapping[str, Tensor] | None = None) -> None:
    """Raise unless all masks are bool of one batch and ``protect`` names some of them, in their shapes."""
    for name, mask in masks.items():
        check_mask(f"masks[{name!r}]", mask)
        check_shape(f"masks[{name!r}]", mask, "B T")
    sizes = {mask.shape[0] for mask in masks.values()}
    if len(sizes) != 1:
        raise ValueError(f"masks: expected one or more modalities of one batch size, got sizes {sorted(sizes)}")
    for name, mask in (protect or {}).items():
        check_choice("protect", name, masks)
        check_mask(f"protect[{name!r}]", mask, masks[name])


def rmfm(
    masks: Mapping[str, Tensor],
    rate: Rate,
    generator: torch.Generator | None = None,
    *,
    protect: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Random modality feature missing: one rate for all positions of all modalities (CIDer's evaluation).

    The same as one mask over the concatenated positions, since positions are independent.

    Args:
        masks: bool by modality, True = a real step.
        rate: probability of being dropped; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.
        protect: bool by modality, True = kept in any case; modalities may be left out.

    Shape:
        ``masks[m] (B, T_m)``, ``rate ()`` or ``(B,)`` → like ``masks``.

    Raises:
        ValueError: as `feature_rate`, or on masks of several batch sizes or an unknown name in ``protect``.

    Example:
        >>> rmfm({"text": torch.ones(1, 2, dtype=torch.bool)}, 0.0)
        {'text': tensor([[True, True]])}
    """
    check_masks(masks, protect)
    return {n: feature_rate(m, rate, generator, protect=(protect or {}).get(n)) for n, m in masks.items()}


def rmfm_per_position(
    masks: Mapping[str, Tensor],
    generator: torch.Generator | None = None,
    *,
    protect: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """RMFM as CIDer's published code trains with it: every position draws a rate of its own from U(0, 1).

    A position is kept iff u > r with u and r both uniform, so it is a coin with chance 1/2, and drawn as one:
    a sample of n positions keeps 0.5 ± 0.5/√n of them, never nearly all or nearly none. For rates that
    really vary from 0 to 1, draw one a sample and give it to `rmfm`.

    Args, Shape, Raises: as `rmfm`, without a rate.

    Example:
        >>> kept = rmfm_per_position({"text": torch.ones(1, 10000, dtype=torch.bool)}, torch.Generator().manual_seed(0))
        >>> round(kept["text"].double().mean().item(), 1)
        0.5
    """
    return rmfm(masks, 0.5, generator, protect=protect)


def rmfm_same(
    masks: Mapping[str, Tensor],
    rates: Mapping[str, Rate],
    generator: torch.Generator | None = None,
    *,
    protect: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """RMFM_same: one rate a modality; rates of 0 and 1 hide chosen modalities whole.

    Args:
        masks: bool by modality, True = a real step.
        rates: probability of being dropped by modality: a number, or one a sample; all modalities are named.
        generator: where the randomness comes from. Torch's own by default.
        protect: bool by modality, True = kept in any case; modalities may be left out.

    Shape:
        ``masks[m] (B, T_m)``, ``rates[m] ()`` or ``(B,)`` → like ``masks``.

    Raises:
        ValueError: as `rmfm`, or if ``rates`` names an unknown modality or leaves one out.

    Example:
        >>> one = torch.ones(1, 2, dtype=torch.bool)
        >>> rmfm_same({"text": one, "audio": one}, {"text": 0.0, "audio": 1.0})
        {'text': tensor([[True, True]]), 'audio': tensor([[False, False]])}
    """
    check_masks(masks, protect)
    for name in rates:
        check_choice("rates", name, masks)
    if left := [name for name in masks if name not in rates]:
        raise ValueError(f"rates: expected one for every modality, got none for {', '.join(left)}")
    return {n: feature_rate(m, rates[n], generator, protect=(protect or {}).get(n)) for n, m in masks.items()}


def rmm(
    masks: Mapping[str, Tensor],
    rate: Rate,
    generator: torch.Generator | None = None,
    *,
    keep_one: bool = False,
    protect: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Random modality missing: each modality of each sample is dropped whole with probability ``rate``.

    As published the modalities are independent and all may vanish. With ``keep_one`` a sample keeps at least
    one of those that it has (any real step), by the law of `random_rate` over them: each is dropped with
    probability exactly ``rate`` as far as their number k allows, (k-1)/k; beyond, exactly one is kept.

    Args:
        masks: bool by modality, True = a real step.
        rate: probability of being dropped; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.
        keep_one: never drop all modalities of a sample.
        protect: bool by modality, steps kept even in a dropped modality; modalities may be left out.

    Shape:
        ``masks[m] (B, T_m)``, ``rate ()`` or ``(B,)`` → like ``masks``.

    Raises:
        ValueError: as `rmfm`.

    Example:
        >>> one = torch.ones(1, 2, dtype=torch.bool)
        >>> rmm({"text": one, "audio": ~one}, 1.0, keep_one=True)
        {'text': tensor([[True, True]]), 'audio': tensor([[False, False]])}
    """
    check_masks(masks, protect)
    there = torch.stack([mask.flatten(1).any(1) for mask in masks.values()], dim=1)
    noise = uniform(*there.shape, generator=generator, device=there.device)
    there = there.to(noise.device)
    kept = (1 - check_rate("rate", rate, there.shape[0], noise)).unsqueeze(-1).expand(noise.shape)
    if keep_one:
        least = 1 / there.sum(1, keepdim=True).clamp(min=1)
        drawn = at_least_one(torch.where(there, torch.maximum(kept, least), 0.0), noise)
    else:
        drawn = noise < kept
    columns = [column[:, None] for column in drawn.to(next(iter(masks.values())).device).unbind(1)]
    guard = {n: (protect or {}).get(n, torch.zeros_like(m)) for n, m in masks.items()}
    return {n: m & (c | guard[n]) for (n, m), c in zip(masks.items(), columns, strict=True)}
