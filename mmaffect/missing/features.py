"""Missing at the level of features: which steps of one modality are kept."""

import torch
from torch import Tensor

from mmaffect.missing.draws import check_rate, uniform

Rate = float | Tensor


def check_mask(name: str, mask: Tensor, like: Tensor | None = None) -> None:
    """Raise unless ``mask`` is bool with a sample axis, and of the shape of ``like`` where given."""
    if mask.dtype != torch.bool or mask.dim() < 1:
        raise ValueError(f"{name}: expected bool of shape (B, T), got {mask.dtype} of shape {tuple(mask.shape)}")
    if like is not None and mask.shape != like.shape:
        raise ValueError(f"{name}: expected the shape of its mask, {tuple(like.shape)}, got {tuple(mask.shape)}")


def feature_rate(
    mask: Tensor, rate: Rate, generator: torch.Generator | None = None, *, protect: Tensor | None = None
) -> Tensor:
    """Drop each real step independently with probability ``rate``; everything may go.

    Args:
        mask: bool, True = a real step.
        rate: probability of being dropped; one number, or one a sample.
        generator: where the randomness comes from. Torch's own by default.
        protect: bool, True = a step that is kept in any case (if it is real).

    Shape:
        ``mask (B, ...)``, ``rate ()`` or ``(B,)``, ``protect`` like ``mask`` → bool like ``mask``.

    Raises:
        ValueError: on other shapes or dtypes, or a rate that is NaN or outside [0, 1].

    Example:
        >>> mask = torch.tensor([[True, True, False], [True, True, True]])
        >>> feature_rate(mask, torch.tensor([0.0, 1.0])).tolist()
        [[True, True, False], [False, False, False]]
    """
    check_mask("mask", mask)
    noise = uniform(*mask.shape, generator=generator, device=mask.device)
    chance = check_rate("rate", rate, mask.shape[0], noise)
    kept = (noise >= chance.reshape(-1, *[1] * (mask.dim() - 1))).to(mask.device)
    if protect is not None:
        check_mask("protect", protect, mask)
        kept = kept | protect
    return mask & kept
