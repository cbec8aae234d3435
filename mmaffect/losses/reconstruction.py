"""Reconstruction error, only where the truth may be read."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmaffect.ops import at_least_float32, check_choice, check_mask, check_shape, keep


def masked_reconstruction(
    reconstructed: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    kind: str = "mse",
) -> Tensor:
    """Error of the reconstructed modalities, summed over modalities (CARN eq. 23).

    Each modality's error is averaged over its features and over the steps that ``masks`` admits, so that
    neither width nor length nor padding weighs in.

    Args:
        reconstructed: reconstructions by modality.
        truth: true values by modality; never read where the mask is False.
        masks: bool by modality. All steps that are really there: the paper's loss. The steps that were
            there and have been hidden: a missing-only loss.
        kind: ``"mse"`` or ``"smooth_l1"`` (β = 1).

    Shape:
        ``reconstructed[m]``, ``truth[m] (B, T_m, D_m)``, ``masks[m] (B, T_m)`` → scalar.

    Returns:
        Scalar; a modality with no admitted step adds zero.

    Raises:
        ValueError: on names, shapes or a kind that do not match.

    Example:
        >>> masked_reconstruction(
        ...     {"a": torch.zeros(1, 2, 3)}, {"a": torch.tensor([[[2.0] * 3, [9.0] * 3]])},
        ...     {"a": torch.tensor([[True, False]])})
        tensor(4.)
    """
    check_choice("kind", kind, ("mse", "smooth_l1"))
    if not set(reconstructed) <= set(truth) & set(masks):
        raise ValueError(
            f"reconstructed: {tuple(reconstructed)} must be in truth {tuple(truth)} and masks {tuple(masks)}"
        )
    total = torch.zeros((), device=next(iter(reconstructed.values())).device)
    for name, guess in reconstructed.items():
        check_shape(f"truth[{name!r}]", truth[name], "B T D", B=guess.shape[0], T=guess.shape[1], D=guess.shape[2])
        check_mask(f"masks[{name!r}]", masks[name], "B T", B=guess.shape[0], T=guess.shape[1])
        error = keep(at_least_float32(guess), masks[name]) - keep(at_least_float32(truth[name]), masks[name])
        rows = error.square() if kind == "mse" else torch.where(error.abs() < 1, error.square() / 2, error.abs() - 0.5)
        total = total + rows.mean(-1).sum() / masks[name].sum().clamp(min=1)
    return total
