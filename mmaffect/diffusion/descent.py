"""What all samplers share: the noise levels of a run, the calls of the denoiser, and where results are written."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.diffusion.grids import log_snr_times
from mmaffect.diffusion.process import Process
from mmaffect.ops import at_least_float32, is_transformed

Denoise = Callable[[Tensor, Tensor], Tensor]


class SamplerStep(NamedTuple):
    """What a callback is told at each noise level.

    Attributes:
        step: 0 to ``steps - 1``.
        steps: how many there will be.
        t: the time.
        x: the state at this time. A buffer of the sampler: ``x.clone()`` to keep it.
        x0: what ``denoise`` made of it; at the last level, the sample. Treat it in the same way.
    """

    step: int
    steps: int
    t: float
    x: Tensor
    x0: Tensor


Callback = Callable[[SamplerStep], object]


class Level(NamedTuple):
    """A noise level in Python floats, which multiply tensors of any dtype without becoming one."""

    t: float
    alpha: float
    std: float

    @property
    def sigma(self) -> float:
        """Noise over signal."""
        return self.std / self.alpha


class Descent:
    """One run from noise to data.

    The state is kept in float32 where ``x`` is in half precision; ``denoise`` is given, and must return, the dtype
    of ``x``. Results are written into three buffers in turn: the caller's ``x`` and what ``denoise`` returned are only
    read, and the latter not again once ``denoise`` has been called anew. Where a gradient is to flow back through
    the run, which needs every state again, each step makes a new tensor instead.
    """

    def __init__(
        self,
        denoise: Denoise,
        process: Process,
        x: Tensor,
        steps: int,
        *,
        times: Tensor | Sequence[float] | None,
        generator: torch.Generator | None = None,
        callback: Callback | None,
    ) -> None:
        if not x.is_floating_point() or x.dim() == 0:
            raise ValueError(f"x: expected a floating tensor (B, ...), got {x.dtype} of shape {tuple(x.shape)}")
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps: expected an int of at least 1, got {steps!r}")
        grid = log_snr_times(process, steps) if times is None else _checked(times, process, steps)
        self.levels = [
            Level(*values)
            for values in zip(grid.tolist(), process.alpha(grid).tolist(), process.std(grid).tolist(), strict=True)
        ]
        self.pairs = list(zip(self.levels[:-1], self.levels[1:], strict=True))
        self.x = at_least_float32(x)
        self._times = grid.to(self.x).unsqueeze(1).repeat(1, x.shape[0]).unbind(0)
        self._denoise, self._generator, self._callback, self._dtype = denoise, generator, callback, x.dtype
        self._new = is_transformed(x)
        self._turn = 0
        self._buffers = [torch.empty_like(self.x, memory_format=torch.contiguous_format) for _ in range(3)]

    def denoise(self, index: int, x: Tensor) -> Tensor:
        """The data that ``x``, at level ``index``, is thought to come from."""
        x0 = self._denoise(x if x.dtype == self._dtype else x.to(self._dtype), self._times[index])
        if x0.shape != x.shape or x0.dtype != self._dtype:
            raise ValueError(
                f"denoise: expected {self._dtype} of the shape of x, {tuple(x.shape)}, "
                f"got {x0.dtype} of shape {tuple(x0.shape)}"
            )
        return x0

    def tell(self, index: int, x: Tensor, x0: Tensor) -> None:
        """Call the callback."""
        if self._callback is not None:
            self._callback(SamplerStep(index, len(self.levels), self.levels[index].t, x, x0))

    def combine(self, x: Tensor, a: float, x0: Tensor, b: float, noise: float = 0.0) -> Tensor:
        """A x + b x0 + noise z, in two kernels besides the draw of z, which is left out where ``noise`` is 0."""
        if self._keeps(x, x0):
            y = torch.add(x * a, x0, alpha=b)
            return y + torch.empty_like(self.x).normal_(0, noise, generator=self._generator) if noise else y
        out = self._next()
        if noise:
            return out.normal_(0, noise, generator=self._generator).add_(x, alpha=a).add_(x0, alpha=b)
        return torch.mul(x, a, out=out).add_(x0, alpha=b)

    def shift(self, x: Tensor, x0: Tensor, b: float) -> Tensor:
        """X + b x0, beside x."""
        return torch.add(x, x0, alpha=b, out=None if self._keeps(x, x0) else self._next())

    def finish(self, x: Tensor) -> Tensor:
        """The last denoising."""
        last = len(self.levels) - 1
        x0 = self.denoise(last, x)
        self.tell(last, x, x0)
        return x0

    def _next(self) -> Tensor:
        self._turn = (self._turn + 1) % 3
        return self._buffers[self._turn]

    def _keeps(self, x: Tensor, x0: Tensor) -> bool:
        return self._new or ((x.requires_grad or x0.requires_grad) and torch.is_grad_enabled())


def follow(run: Descent, coefficients: Sequence[tuple[float, float, float]]) -> Tensor:
    """The loop of every sampler of first order: x ← a x + b x0 + c z, and a last denoising."""
    x = run.x
    for index, (a, b, c) in enumerate(coefficients):
        x0 = run.denoise(index, x)
        run.tell(index, x, x0)
        x = run.combine(x, a, x0, b, c)
    return run.finish(x)


def _checked(times: Tensor | Sequence[float], process: Process, steps: int) -> Tensor:
    grid = torch.as_tensor(times, dtype=torch.float64, device="cpu").detach()
    if grid.shape != (steps,):
        raise ValueError(f"times: expected one for each of {steps} steps, got shape {tuple(grid.shape)}")
    if not bool((grid[1:] < grid[:-1]).all()):
        raise ValueError(f"times: expected to decrease, got {grid.tolist()}")
    slack = 1e-6 * process.t_max  # for times that have been in float32
    if not (grid[0] <= process.t_max + slack and grid[-1] >= process.t_min - slack):
        raise ValueError(
            f"times: expected to lie in [t_min, t_max] = [{process.t_min}, {process.t_max}], "
            f"got {grid[-1].item()} to {grid[0].item()}"
        )
    return grid
