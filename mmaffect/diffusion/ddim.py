"""DDIM: the estimate of the data and that of the noise, mixed anew at the next level."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mmaffect.diffusion.descent import Callback, Denoise, Descent, Levels, follow, remembered
from mmaffect.diffusion.process import Process


def ddim(
    denoise: Denoise,
    process: Process,
    x: Tensor,
    steps: int,
    *,
    eta: float = 0.0,
    times: Tensor | Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""DDIM (Song, Meng & Ermon, 2021, eq. 12 and 16): order 1, one evaluation a step.

    .. math::
        x_s = \alpha_s \hat x_0 + \sqrt{\mathrm{std}_s^2 - \nu^2} \, \frac{x_t - \alpha_t \hat x_0}{\mathrm{std}_t}
        + \nu \varepsilon, \qquad \nu = \eta\, \mathrm{std}_s \sqrt{1 - \sigma_s^2 / \sigma_t^2}

    with σ = std / alpha, which is the paper's formula for any process. With η = 0 it draws nothing and is the Euler
    method on the probability flow, in the form that is exact while the estimate of the data stays the same; with
    η = 1 it is :func:`ancestral`.

    All samplers keep these rules. A run visits ``steps`` noise levels, from ``x`` at the first down to the last, where
    ``denoise`` is asked once more and its answer returned: ``steps`` evaluations here. Coefficients are float64. ``x``
    is never changed. Noise is drawn only where its coefficient is not 0. Gradients flow through a run, at the cost of
    its memory; under ``torch.no_grad()`` states are written over. Between runs only a schedule's numbers are kept.

    Args:
        denoise: called as ``denoise(x, t)`` with a time a sample; returns the expected data, like ``x``. The ``x``
            that it is given may be written over after the call.
        process: how the noise came about.
        x: where sampling starts, at the first time: see :meth:`Process.prior`.
        steps: noise levels.
        eta: η, from 0 to 1: how much of the noise is drawn anew.
        times: the levels' times, decreasing; by default ``log_snr_times(process, steps)``.
        generator: where the randomness comes from.
        callback: called at each level with a :class:`SamplerStep`; what it returns is ignored.

    Shape:
        ``x (B, …)`` → the same, and ``denoise`` is given times ``(B,)``.

    Raises:
        ValueError: if ``x`` is not floating, ``steps`` is below 1, ``eta`` is not in [0, 1], the times are not as many
            as the steps, do not decrease or leave the range of the process, or ``denoise`` returns another shape or
            dtype.

    Example:
        >>> from mmaffect.diffusion import CosineVP
        >>> process, one = CosineVP(), torch.ones(4, 2)
        >>> x = process.prior((4, 2), mean=1.0, var=0.0)
        >>> ddim(lambda x, t: one, process, x, 10).tolist() == one.tolist()
        True
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a value from 0 to 1, got {eta}")
    run = Descent(denoise, process, x, steps, times=times, generator=generator, callback=callback)
    return follow(run, ddim_coefficients(run.levels, eta))


@remembered
def ddim_coefficients(levels: Levels, eta: float) -> tuple[tuple[float, float, float], ...]:
    """Of the state, of the estimate of the data, and of fresh noise, at each step."""
    coefficients = []
    for now, then in pairwise(levels):
        fresh = eta * math.sqrt(max(0.0, 1 - (then.sigma / now.sigma) ** 2))
        kept = then.std * math.sqrt(1 - fresh**2) / now.std
        coefficients.append((kept, then.alpha - kept * now.alpha, then.std * fresh))
    return tuple(coefficients)
