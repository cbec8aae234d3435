"""Euler and Maruyama's method on the stochastic differential equation that runs the process backwards."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mmaffect.diffusion.descent import Callback, Denoise, Descent, Levels, follow, remembered
from mmaffect.diffusion.process import Process


def euler_maruyama(
    denoise: Denoise,
    process: Process,
    x: Tensor,
    steps: int,
    *,
    times: Tensor | Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Euler–Maruyama (Song et al., 2021, eq. 6): weak order 1, one evaluation and one draw a step.

    .. math::
        x_s = x_t - \big(f(t)\, x_t - g(t)^2\, \nabla \log p_t(x_t)\big) (t - s) + g(t) \sqrt{t - s}\; \varepsilon,
        \qquad \nabla \log p_t(x_t) = \frac{\alpha_t \hat x_0 - x_t}{\mathrm{std}_t^2}

    An explicit method: it needs hundreds of steps, and one that shrinks σ = std / alpha to less than about a third
    magnifies what it should damp. A few of these in a row explode: under eight steps by default, under fifteen where
    sampling starts at the clipped end of :meth:`DiscreteVP.cosine`. :func:`ancestral` has the same limit, costs the
    same and is stable with any steps.

    IMDer takes equal steps in time, :func:`uniform_times`, and returns the last without its noise. It overshoots:
    with 500 steps it is twice as long as the noise that is left allows, with 100 ten times. Here the last is a
    denoising, as in :func:`ddim`, whose rules and arguments this has.

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
        >>> from mmaffect.diffusion import VESDE, uniform_times
        >>> x = VESDE().prior((4, 2), mean=1.0, var=0.0)
        >>> ones = torch.ones(4, 2)
        >>> euler_maruyama(lambda x, t: ones, VESDE(), x, 100, times=uniform_times(VESDE(), 100))[0].tolist()
        [1.0, 1.0]
    """
    run = Descent(denoise, process, x, steps, times=times, generator=generator, callback=callback)
    return follow(run, _coefficients(process, run.levels))


@remembered
def _coefficients(process: Process, levels: Levels) -> tuple[tuple[float, float, float], ...]:
    """Of the state, of the estimate of the data, and of fresh noise, at each step."""
    grid = torch.tensor([now.t for now in levels[:-1]], dtype=torch.float64, device="cpu")
    rates = zip(process.drift(grid).tolist(), process.diffusion(grid).tolist(), strict=True)
    coefficients = []
    for (now, then), (f, g) in zip(pairwise(levels), rates, strict=True):
        dt = now.t - then.t
        pull = g**2 * dt / now.std**2
        coefficients.append((1 - f * dt - pull, pull * now.alpha, g * math.sqrt(dt)))
    return tuple(coefficients)
