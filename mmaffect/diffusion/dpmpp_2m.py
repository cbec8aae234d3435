"""DPM-Solver++(2M): second order from one evaluation a step, by looking back at the last one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmaffect.diffusion.descent import Callback, Denoise, Descent
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
    """DPM-Solver++(2M) (Lu et al., 2022b, algorithm 2), of order 2."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a value from 0 to 1, got {eta}")
    run = Descent(denoise, process, x, steps, times=times, generator=generator, callback=callback)
    coefficients, before = [], math.inf
    for now, then in run.pairs:
        h = math.log(now.sigma / then.sigma)
        a = then.std / now.std * math.exp(-eta * h)
        b = -then.alpha * math.expm1(-(1 + eta) * h)
        back = h / (2 * before)
        coefficients.append((a, b * (1 + back), -b * back / a, then.std * math.sqrt(-math.expm1(-2 * eta * h))))
        before = h
    # What the step after next needs of the last x0 is added to the state at once: x0 may then be overwritten.
    x = shifted = run.x
    for index, (a, b, _, noise) in enumerate(coefficients):
        x0 = run.denoise(index, x)
        run.tell(index, x, x0)
        x = run.combine(shifted, a, x0, b, noise)
        if index + 1 < len(coefficients):
            shifted = run.shift(x, x0, coefficients[index + 1][2])
    return run.finish(x)
