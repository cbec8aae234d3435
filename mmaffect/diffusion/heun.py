"""Heun's method on the probability flow: a step, a look at where it led, and the mean of the two."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mmaffect.diffusion.descent import Callback, Denoise, Descent, Levels, remembered
from mmaffect.diffusion.process import Process


def heun(
    denoise: Denoise,
    process: Process,
    x: Tensor,
    steps: int,
    *,
    times: Tensor | Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    r"""Heun's method for the part that is not linear (Cox & Matthews, 2002, eq. 22): order 2, two evaluations a step.

    In λ = log(alpha / std) the probability flow is :math:`d(x / \mathrm{std}) = e^\lambda \hat x_0\, d\lambda`. Its
    integral from t to s, h apart in λ, with the estimate at t, then with the straight line to that at the end:

    .. math::
        \tilde x_s &= \frac{\mathrm{std}_s}{\mathrm{std}_t} x_t + \alpha_s (1 - e^{-h})\, \hat x_0(x_t, t) \\
        x_s &= \tilde x_s + \alpha_s \Big(1 - \frac{1 - e^{-h}}{h}\Big)
               \big(\hat x_0(\tilde x_s, s) - \hat x_0(x_t, t)\big)

    Karras et al. (2022, algorithm 1) take Heun's method in σ = std / alpha instead, which agrees for small steps.
    There the last bracket is multiplied by :math:`\alpha_s (e^h - 1) / 2`, and where a grid jumps, as at the noisy end
    of a cosine, one step is enough to explode (h = 4.5 gives 44). Here the factor is below 1 whatever the step.

    ``2 * steps - 1`` evaluations; the callback sees one a level. The rules and arguments are those of :func:`ddim`.

    Args:
        denoise: ``denoise(x, t)``, the expected data.
        process: how the noise came about.
        x: where sampling starts.
        steps: noise levels.
        times: the levels' times; uniform in the log-SNR by default.
        generator: not used, as nothing is drawn; all samplers take it.
        callback: called at each level with a :class:`SamplerStep`.

    Shape:
        ``x (B, …)`` → the same.

    Raises:
        ValueError: as :func:`ddim`.

    Example:
        >>> from mmaffect.diffusion import CosineVP
        >>> process, ones = CosineVP(), torch.ones(4, 2)
        >>> x = process.prior((4, 2), mean=1.0, var=0.0)
        >>> heun(lambda x, t: ones, process, x, 10)[0].tolist()
        [1.0, 1.0]
    """
    run = Descent(denoise, process, x, steps, times=times, callback=callback)
    x = run.x
    for step, (a, first, second) in enumerate(_coefficients(run.levels)):
        x0 = run.estimate(step, x)
        predicted = run.combine(x, a, x0, first)
        x = run.shift(predicted, x0, -second)
        x0 = run.denoise(step + 1, predicted)
        run.release(predicted, x0)
        x = run.combine(x, 1.0, x0, second)
    return run.finish(x)


@remembered
def _coefficients(levels: Levels) -> tuple[tuple[float, float, float], ...]:
    """Of the state, and of the estimates of the data at both ends of each step."""
    coefficients = []
    for now, then in pairwise(levels):
        h = math.log(now.sigma / then.sigma)
        first = -then.alpha * math.expm1(-h)
        coefficients.append((then.std / now.std, first, then.alpha - first / h))
    return tuple(coefficients)
