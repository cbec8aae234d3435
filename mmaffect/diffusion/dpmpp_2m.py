"""DPM-Solver++(2M): second order from one evaluation a step, by looking back at the last one."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mmaffect.diffusion.descent import Callback, Denoise, Descent, Levels, remembered
from mmaffect.diffusion.process import Process


def dpmpp_2m(
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
    r"""DPM-Solver++(2M) (Lu et al., 2022b, algorithm 2): order 2, one evaluation a step. The sampler to take first.

    With λ = log(alpha / std), a step h in it from t to s, and :math:`h'` and :math:`\hat x_0'` of the step before:

    .. math::
        x_s = \frac{\mathrm{std}_s}{\mathrm{std}_t} e^{-\eta h} x_t + \alpha_s \big(1 - e^{-(1 + \eta) h}\big)
        \Big(\hat x_0 + \frac{h}{2 h'} \big(\hat x_0 - \hat x_0'\big)\Big)
        + \mathrm{std}_s \sqrt{1 - e^{-2 \eta h}}\, \varepsilon

    The first step has none before it and is of order 1, which costs the result no order. With η = 0 it follows the
    probability flow and draws nothing. With η = 1 it is SDE-DPM-Solver++(2M) of the same paper, whose moments converge
    on Gaussian data with order 2 as well: it forgets an error of the start, and is the one to take where the moments of
    the data are not known.

    On correlated Gaussians of 32 dimensions, with the exact denoiser and a matched start, 14 evaluations reach on
    ``VESDE(25)`` and 20 on a VP process a 2-Wasserstein distance of .008 of the data's standard deviation.

    ``steps`` evaluations. The rules and the other arguments are those of :func:`ddim`.

    Args:
        denoise: ``denoise(x, t)``, the expected data.
        process: how the noise came about.
        x: where sampling starts.
        steps: noise levels, and evaluations.
        eta: η, from 0 to 1: how much noise is drawn anew.
        times: the levels' times; uniform in the log-SNR by default.
        generator: where the randomness comes from.
        callback: called at each level with a :class:`SamplerStep`.

    Shape:
        ``x (B, …)`` → the same.

    Raises:
        ValueError: as :func:`ddim`.

    Example:
        >>> from mmaffect.diffusion import CosineVP
        >>> process = CosineVP()
        >>> x = process.prior((4096, 1), generator=torch.Generator().manual_seed(0))
        >>> dpmpp_2m(lambda x, t: x * process.alpha(t)[:, None], process, x, 20).std()  # data N(0, 1)
        tensor(1.0...)
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a value from 0 to 1, got {eta}")
    run = Descent(denoise, process, x, steps, times=times, generator=generator, callback=callback)
    coefficients = _coefficients(run.levels, eta)
    # What a step will read of the last estimate is added to the state beforehand, so that none need be kept.
    x = shifted = run.x
    for step, (kept, new, _, noise) in enumerate(coefficients):
        x0 = run.estimate(step, x)
        last, x = x, run.combine(shifted, kept, x0, new, noise)
        run.release(last, x0)
        if step + 1 < len(coefficients):
            shifted = run.shift(x, x0, coefficients[step + 1][2])
    return run.finish(x)


@remembered
def _coefficients(levels: Levels, eta: float) -> tuple[tuple[float, float, float, float], ...]:
    """Of the state, of the estimate of the data here and, divided by the first, of the one before, and of noise."""
    coefficients, before = [], math.inf
    for now, then in pairwise(levels):
        h = math.log(now.sigma / then.sigma)
        kept = then.std / now.std * math.exp(-eta * h)
        new = -then.alpha * math.expm1(-(1 + eta) * h)
        back = new * h / (2 * before)
        coefficients.append((kept, new + back, -back / kept, then.std * math.sqrt(-math.expm1(-2 * eta * h))))
        before = h
    return tuple(coefficients)
