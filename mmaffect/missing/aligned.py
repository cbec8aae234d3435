"""Missing in time, for modalities on one time axis: the same steps vanish from all (CIDer's TMFM, STMFM)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmaffect.missing.draws import check_rate, uniform
from mmaffect.missing.features import Rate, check_mask, feature_rate
from mmaffect.missing.rmfm import check_masks


def _shared_steps(masks: Mapping[str, Tensor], protect: Tensor | None) -> tuple[Tensor, Tensor]:
    check_masks(masks)
    shapes = {name: tuple(mask.shape) for name, mask in masks.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"masks: expected aligned modalities of one shape (B, T), got {shapes}")
    steps = torch.stack(list(masks.values())).any(0)
    if protect is None:
        return steps, torch.zeros_like(steps)
    check_mask("protect", protect, steps)
    return steps, protect


def tmfm(
    masks: Mapping[str, Tensor],
    rate: Rate,
    generator: torch.Generator | None = None,
    *,
    protect: Tensor | None = None,
) -> dict[str, Tensor]:
    """Temporal modality feature missing: each step is dropped from all modalities with probability ``rate``.

    Args:
        masks: bool by modality, True = a real step, all of one shape.
        rate: probability of being dropped; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.
        protect: bool, True = a step that is kept in any case.

    Shape:
        ``masks[m] (B, T)``, ``rate ()`` or ``(B,)``, ``protect (B, T)`` → like ``masks``.

    Raises:
        ValueError: on masks of several shapes, or as `feature_rate`.

    Example:
        >>> one = torch.ones(1, 100, dtype=torch.bool)
        >>> kept = tmfm({"text": one, "audio": one}, 0.5)
        >>> bool((kept["text"] == kept["audio"]).all())
        True
    """
    steps, protected = _shared_steps(masks, protect)
    kept = feature_rate(steps, rate, generator, protect=protected)
    return {name: mask & kept for name, mask in masks.items()}


def stmfm(
    masks: Mapping[str, Tensor],
    rate: Rate,
    generator: torch.Generator | None = None,
    *,
    protect: Tensor | None = None,
) -> dict[str, Tensor]:
    """Structural temporal missing: one contiguous block of steps is dropped from all modalities.

    Of the n steps that are real in some modality and not protected, round(n · rate) consecutive ones go (half
    to even); the block starts anywhere it fits with the same chance. With [CLS] and [SEP] protected,
    n = length - 2: the published round((length - 2) · rate).

    Args:
        masks: bool by modality, True = a real step, all of one shape.
        rate: share of the steps to drop; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.
        protect: bool, True = a step that is kept in any case; a block steps over it.

    Shape:
        ``masks[m] (B, T)``, ``rate ()`` or ``(B,)``, ``protect (B, T)`` → like ``masks``.

    Raises:
        ValueError: on masks of several shapes, or a rate that is NaN or outside [0, 1].

    Example:
        >>> one = torch.ones(1, 5, dtype=torch.bool)
        >>> ends = torch.tensor([[True, False, False, False, True]])
        >>> stmfm({"text": one}, 1.0, protect=ends)
        {'text': tensor([[ True, False, False, False,  True]])}
    """
    steps, protected = _shared_steps(masks, protect)
    noise = uniform(steps.shape[0], generator=generator, device=steps.device)
    free = (steps & ~protected).to(noise.device)
    size = free.sum(1)
    count = (size * check_rate("rate", rate, steps.shape[0], noise)).round().to(torch.int64)
    # Rounding must not push the start past the last place where the block fits.
    start = torch.minimum((noise * (size - count + 1)).floor().to(torch.int64), size - count)
    place = free.cumsum(1) - 1 - start[:, None]
    hit = (free & (place >= 0) & (place < count[:, None])).to(steps.device)
    return {name: mask & ~hit for name, mask in masks.items()}
