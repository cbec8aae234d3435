"""Group normalisation over the steps that are there: padding never enters the statistics."""

import torch.nn.functional as F
from torch import Tensor

from mmaffect.ops.checks import check_positive, check_shape
from mmaffect.ops.masks import at_least_float32, keep, step_mask


def masked_group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    r"""Standardise groups of channels over the real steps of each sample (Wu and He, 2018, eq. 1 and 7).

    .. math:: \hat x_{btc} = w_c \frac{x_{btc} - \mu_{bg}}{\sqrt{\sigma^2_{bg} + \epsilon}} + b_c

    with mean and population variance over the channels of group g and the steps of sample b that are there. Unlike
    ``torch.nn.functional.group_norm``, which counts padding in, and takes channels before steps.

    Args:
        x: steps.
        groups: number of groups, a divisor of the width.
        weight: w of each channel; 1 by default.
        bias: b of each channel; 0 by default.
        mask: True = a real step; all by default.
        eps: added to the variance.

    Shape:
        ``x (B, T, D)``, ``weight (D,)``, ``bias (D,)``, ``mask (B, T)`` → ``(B, T, D)``.

    Returns:
        Standardised steps; zero at steps that are not there.

    Raises:
        ValueError: on another shape, or a width that is no multiple of the groups.

    Example:
        >>> import torch
        >>> x, mask = torch.tensor([[[1.0], [3.0], [float("nan")]]]), torch.tensor([[True, True, False]])
        >>> masked_group_norm(x, 1, mask=mask, eps=0.0).flatten().tolist()
        [-1.0, 1.0, 0.0]
    """
    check_shape("x", x, "B T D")
    check_positive(groups=groups)
    if x.shape[2] % groups:
        raise ValueError(f"groups: expected a divisor of the width {x.shape[2]}, got {groups}")
    if mask is None:
        return F.group_norm(x.mT, groups, weight, bias, eps).mT
    mask = step_mask("mask", x, mask)
    wide = keep(at_least_float32(x), mask).reshape(*x.shape[:2], groups, -1)
    count = mask.sum(1).clamp(min=1)[:, None, None, None] * wide.shape[3]
    mean = wide.sum((1, 3), keepdim=True) / count
    centred = keep(wide - mean, mask[:, :, None, None].expand_as(wide))
    variance = centred.square().sum((1, 3), keepdim=True) / count
    normal = (centred * (variance + eps).rsqrt()).flatten(2)
    if weight is not None:
        normal = normal * weight
    if bias is not None:
        normal = normal + bias
    return keep(normal, mask).to(x.dtype)
