"""Ancestral sampling: each level drawn from the distribution it had, were the data what they are estimated to be."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmaffect.diffusion.ddim import ddim
from mmaffect.diffusion.descent import Callback, Denoise
from mmaffect.diffusion.process import Process


def ancestral(
    denoise: Denoise,
    process: Process,
    x: Tensor,
    steps: int,
    *,
    times: Tensor | Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""DDPM's sampler (Ho et al., 2020, eq. 7 and algorithm 2): weak order 1, one evaluation and one draw a step.

    .. math::
        x_s \sim N\Big( \frac{\sigma_s^2}{\sigma_t^2} \frac{\alpha_s}{\alpha_t} x_t
        + \alpha_s \big(1 - \frac{\sigma_s^2}{\sigma_t^2}\big) \hat x_0,\;
        \mathrm{std}_s^2 \big(1 - \frac{\sigma_s^2}{\sigma_t^2}\big) \Big)

    the posterior of the forward process between any two of its times, and on :class:`DiscreteVP` with all steps of the
    table exactly the paper's, with its variance :math:`\tilde\beta`. The same as :func:`ddim` with η = 1, whose rules
    and arguments it has.

    Args:
        denoise: ``denoise(x, t)``, the expected data.
        process: how the noise came about.
        x: where sampling starts.
        steps: noise levels, and evaluations.
        times: the levels' times; uniform in the log-SNR by default.
        generator: where the randomness comes from.
        callback: called at each level with a :class:`SamplerStep`.

    Shape:
        ``x (B, …)`` → the same.

    Raises:
        ValueError: as :func:`ddim`.

    Example:
        >>> from mmaffect.diffusion import VESDE
        >>> x = VESDE().prior((4, 2), mean=1.0, var=0.0)
        >>> ancestral(lambda x, t: torch.ones_like(x), VESDE(), x, 10)[0].tolist()
        [1.0, 1.0]
    """
    return ddim(denoise, process, x, steps, eta=1.0, times=times, generator=generator, callback=callback)
