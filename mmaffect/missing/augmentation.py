"""Augmentation for training: noise, blank frames and whole modalities taken away, but never all of them."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.missing.corruption import gaussian_noise
from mmaffect.missing.features import feature_rate
from mmaffect.missing.rmfm import check_masks, rmm
from mmaffect.ops import check_choice, check_dropout, check_shape, keep


class Augmented(NamedTuple):
    """Values and masks after augmentation.

    Args:
        inputs: by modality, zero where a frame was blanked or the mask is False.
        masks: by modality; False for modalities that were dropped.
    """

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]


def augment(
    inputs: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    *,
    noise: Mapping[str, float] | None = None,
    frames: float = 0.0,
    modalities: float = 0.0,
    by_step: bool = False,
    generator: torch.Generator | None = None,
) -> Augmented:
    """Affect-Diff's augmentation of a training batch (section II-D).

    Gaussian noise is added to some modalities. Each frame is zeroed independently, noise and all, and the model is not
    told: it takes the zero for a value. Each modality is dropped, and the model is told: its mask becomes False. (The
    paper zeroes dropped modalities and does not say whether its model knows; with masks it must.) One modality of
    those that are there is always left, by the law of :func:`~mmaffect.missing.rmm` with ``keep_one``.

    Call it in training only. Without a generator it draws from torch's own, which the training loop seeds at each step.

    Args:
        inputs: values by modality.
        masks: bool by modality, True = a real step.
        noise: standard deviation of the noise by modality, values being standardised; those not named get none.
        frames: chance of each real step of each modality to be zeroed.
        modalities: chance of each modality to be dropped.
        by_step: modalities are dropped at each step by itself, and one is left at each (dialogues, whose turns
            are predicted one by one); by default for all steps of a sample together. Needs a shared time axis.
        generator: where the randomness comes from. Torch's own by default.

    Shape:
        ``inputs[m] (B, T_m, D_m)`` or ``(B, T_m)``, ``masks[m] (B, T_m)`` → alike.

    Raises:
        ValueError: on shapes, names or chances that do not fit.

    Example:
        >>> x = {"face": torch.ones(1, 2, 3), "voice": torch.ones(1, 2, 2)}
        >>> masks = {"face": torch.ones(1, 2, dtype=torch.bool), "voice": torch.ones(1, 2, dtype=torch.bool)}
        >>> out = augment(x, masks, noise={"voice": 0.1}, modalities=1.0)  # as far as one is left
        >>> sum(mask.any().item() for mask in out.masks.values())
        1
    """
    check_dropout(frames=frames, modalities=modalities)
    if set(inputs) != set(masks):
        raise ValueError(f"masks: expected those of {tuple(inputs)}, got {tuple(masks)}")
    check_masks(masks)
    for name, x in inputs.items():
        b, t = masks[name].shape
        check_shape(f"inputs[{name!r}]", x, "B T" if x.dim() == 2 else "B T D", B=b, T=t)
    if by_step and len({mask.shape[1] for mask in masks.values()}) > 1:
        lengths = {name: mask.shape[1] for name, mask in masks.items()}
        raise ValueError(f"by_step: expected a time axis that all share, got lengths {lengths}")
    for name, level in (noise or {}).items():
        check_choice("noise", name, inputs)
        if not 0 <= level < math.inf:
            raise ValueError(f"noise[{name!r}]: expected a finite value >= 0, got {level}")
    left = dict(masks)
    if modalities > 0:
        # Where steps stand for themselves each is a sample of one step.
        alone = {name: mask.reshape(-1, 1) if by_step else mask for name, mask in masks.items()}
        drawn = rmm(alone, modalities, generator, keep_one=True)
        left = {name: drawn[name].view_as(mask) for name, mask in masks.items()}
    values = {}
    for name, x in inputs.items():
        if noise and name in noise:
            x = gaussian_noise(x, masks[name], noise[name], generator)
        shown = feature_rate(left[name], frames, generator) if frames > 0 else left[name]
        values[name] = keep(x, shown)
    return Augmented(values, left)
