"""Classifier-free guidance: one network, asked with and without its condition."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def classifier_free_guidance(
    denoise: Callable[..., Tensor],
    scale: float,
    condition: Mapping[str, Tensor],
    null: Mapping[str, Tensor],
    /,
    **shared: Tensor | None,
) -> Callable[[Tensor, Tensor], Tensor]:
    r"""A denoiser that exaggerates what its condition changes (Ho and Salimans, 2022, eq. 6).

    .. math:: \hat x_0 = \hat x_0(x, t, \varnothing) + g\, \big(\hat x_0(x, t, c) - \hat x_0(x, t, \varnothing)\big)

    Guiding the estimate of the data is guiding that of the noise: one is an affine function of the other. The paper's
    weight is w = g - 1. Both estimates come from one call on a doubled batch; for g = 1 and g = 0 one of them is not
    needed, and the batch is not doubled.

    The network must have been trained with the null condition in the place of some of its conditions.

    Args:
        denoise: called as ``denoise(x, t, **condition)``, such as a :class:`Denoiser`.
        scale: g; 1 = the condition as it is, 0 = none.
        condition: keyword arguments of each sample, by name.
        null: for each of them what stands for no condition; of the same shape, or broadcast to it.
        **shared: further keyword arguments of each sample, the same for both, such as ``mask``; or None. The four
            above go by position, so that these may have any name: ``condition``, where a context is guided.

    Shape:
        each argument ``(B, …)``.

    Returns:
        A function ``denoise(x, t)``, as samplers take it, for batches of the same B samples.

    Raises:
        ValueError: if ``null`` has other names than ``condition``, or a shape that does not broadcast to its.

    Example:
        >>> def denoise(x, t, shift):
        ...     return x + shift
        >>> guided = classifier_free_guidance(denoise, 3.0, {"shift": torch.ones(2, 1)}, {"shift": torch.zeros(1)})
        >>> guided(torch.zeros(2, 1), torch.ones(2)).flatten().tolist()
        [3.0, 3.0]
    """
    if condition.keys() != null.keys():
        raise ValueError(f"null: expected the names of condition, {sorted(condition)}, got {sorted(null)}")
    nulls = {name: _broadcast(name, null[name], value) for name, value in condition.items()}
    if scale == 1 or scale == 0:
        alone = {**shared, **(condition if scale == 1 else nulls)}
        return lambda x, t: denoise(x, t, **alone)
    both = {name: None if value is None else torch.cat([value, value]) for name, value in shared.items()}
    both |= {name: torch.cat([value, nulls[name]]) for name, value in condition.items()}

    def guided(x: Tensor, t: Tensor) -> Tensor:
        conditional, unconditional = denoise(torch.cat([x, x]), torch.cat([t, t]), **both).chunk(2)
        return torch.lerp(unconditional, conditional, scale)

    return guided


def _broadcast(name: str, null: Tensor, condition: Tensor) -> Tensor:
    given, wanted = null.shape, condition.shape
    if len(given) > len(wanted) or any(g not in (1, w) for g, w in zip(given[::-1], wanted[::-1], strict=False)):
        raise ValueError(
            f"null[{name!r}]: expected what broadcasts to the shape of its condition, {tuple(wanted)}, "
            f"got {tuple(given)}"
        )
    return null.expand(wanted)
