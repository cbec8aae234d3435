"""DDIM: from the estimate of the data and of the noise to the next level, with a chosen share of fresh noise."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmaffect.diffusion.descent import Callback, Denoise, Descent, Level, follow
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
    """DDIM (Song, Meng & Ermon, 2021, eq. 12), of order 1."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: expected a value from 0 to 1, got {eta}")
    run = Descent(denoise, process, x, steps, times=times, generator=generator, callback=callback)
    return follow(run, [ddim_step(now, then, eta) for now, then in run.pairs])


def ddim_step(now: Level, then: Level, eta: float) -> tuple[float, float, float]:
    """Coefficients of x, x0 and fresh noise."""
    fresh = eta * math.sqrt(max(0.0, 1 - (then.sigma / now.sigma) ** 2))
    kept = then.std * math.sqrt(1 - fresh**2)
    return kept / now.std, then.alpha - kept / now.std * now.alpha, then.std * fresh
