"""What all samplers share: the noise levels of a run, the calls of the denoiser, and what is written where."""

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from itertools import pairwise
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from mmaffect.diffusion.grids import log_snr_times
from mmaffect.diffusion.process import Process
from mmaffect.ops import at_least_float32, is_transformed, under_transform

Denoise = Callable[[Tensor, Tensor], Tensor]
P = ParamSpec("P")
R = TypeVar("R")
_KEPT = 64  # schedules that are remembered


class SamplerStep(NamedTuple):
    """What a sampler tells its callback at each noise level, once the data are estimated there.

    ``step`` of ``steps``, from 0; ``t``, the time; ``x``, the state there, which may be written over once the callback
    has returned (``x.clone()`` to keep it); ``x0``, the estimate of the data: at the last step, what will be returned.
    """

    step: int
    steps: int
    t: float
    x: Tensor
    x0: Tensor


Callback = Callable[[SamplerStep], object]


class Level(NamedTuple):
    """A noise level as Python floats, which multiply a tensor of any dtype without a tensor being made of them."""

    t: float
    alpha: float
    std: float
    sigma: float


Levels = tuple[Level, ...]


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """Keep the numbers that a function made of its arguments, the first of which is a process or a number of levels.

    A schedule costs as much as twenty steps of a small state. It is kept only of what is hashed by its values, as a
    frozen dataclass is: any other process could have changed since, or, as a plain subclass of one, have values of its
    own that the hash knows nothing of. A program that is exported or compiled is given the numbers, which no tracer
    has seen; the second is compiled anew for another process.
    """
    known: Callable[P, R] = lru_cache(maxsize=_KEPT)(function)  # type: ignore[assignment]

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def constant(*args: P.args, **kwargs: P.kwargs) -> R:
        return known(*args, **kwargs)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        by_value = isinstance(args[0], tuple) or vars(type(args[0])).get("__hash__") is not None
        if by_value and torch.compiler.is_dynamo_compiling():
            return constant(*args, **kwargs)
        chosen = known if by_value else function
        if torch.compiler.is_exporting() and not torch.compiler.is_dynamo_compiling():
            with torch._C.DisableTorchFunction(), _disable_current_modes():
                return chosen(*args, **kwargs)
        return chosen(*args, **kwargs)

    return call


@remembered
def default_levels(process: Process, steps: int) -> Levels:
    """Equal steps in the log-SNR."""
    return _levels(process, log_snr_times(process, steps))


class Descent:
    """One run down the noise levels.

    The state is in float32 where ``x`` is in half precision; ``denoise`` is given the dtype of ``x`` and must return
    it, and times are never below float32. The caller's ``x`` and what ``denoise`` returns are only read, and the latter
    not again after the next call, so that it may reuse its output. States are written over as soon as they have been
    read for the last time, unless something still needs them: a gradient that is to flow back through the run, a
    transform of ``torch.func``, or a compiler that traces the run; then each operation makes a new tensor.
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
        callback: Callback | None = None,
    ) -> None:
        if not x.is_floating_point() or x.dim() == 0:
            raise ValueError(f"x: expected a floating tensor (B, ...), got {x.dtype} of shape {tuple(x.shape)}")
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps: expected an int of at least 1, got {steps!r}")
        if times is None:
            self.levels = default_levels(process, steps)
        else:
            self.levels = _levels(process, _checked(times, process, steps))
        # Noise fills a tensor in the order in which it is stored: strides of its own would be met by other draws.
        self.x = self._given = at_least_float32(x).contiguous()
        times = torch.tensor([level.t for level in self.levels], dtype=torch.float64, device="cpu").to(self.x)
        self._times = times.unsqueeze(1).repeat(1, x.shape[0]).unbind(0)
        self._denoise, self._generator, self._callback, self._dtype = denoise, generator, callback, x.dtype
        # Of the denoiser's parameters, if not of x; or into a program, whose tensors have no memory to tell apart.
        self._transformed = is_transformed(x) or under_transform() or torch.compiler.is_compiling()
        self._spare: list[Tensor] = []

    def denoise(self, step: int, x: Tensor) -> Tensor:
        """The data that ``x``, at the level of ``step``, is thought to come from."""
        x0 = self._denoise(x if x.dtype == self._dtype else x.to(self._dtype), self._times[step])
        if x0.shape != x.shape or x0.dtype != self._dtype:
            raise ValueError(
                f"denoise: expected it to return {self._dtype} of the shape of x, {tuple(x.shape)}, "
                f"got {x0.dtype} of shape {tuple(x0.shape)}"
            )
        return x0

    def estimate(self, step: int, x: Tensor) -> Tensor:
        """Denoise, and tell the callback."""
        x0 = self.denoise(step, x)
        if self._callback is not None:
            self._callback(SamplerStep(step, len(self.levels), self.levels[step].t, x, x0))
        return x0

    def finish(self, x: Tensor) -> Tensor:
        """The last denoising, whose result is the sample."""
        return self.estimate(len(self.levels) - 1, x)

    def combine(self, x: Tensor, a: float, x0: Tensor, b: float, noise: float = 0.0) -> Tensor:
        """The sum a x + b x0 + noise z, where x is not needed again: two kernels, and one to draw z if there is any."""
        if not noise:
            return x.mul_(a).add_(x0, alpha=b) if self._free(x, x0) else torch.add(x * a, x0, alpha=b)
        if self._needed(x, x0):
            z = torch.empty_like(self._given).normal_(0, noise, generator=self._generator)
            return torch.add(torch.add(z, x, alpha=a), x0, alpha=b)
        z = self._buffer().normal_(0, noise, generator=self._generator)
        self.release(x, x0)
        return z.add_(x, alpha=a).add_(x0, alpha=b)

    def shift(self, x: Tensor, x0: Tensor, b: float) -> Tensor:
        """The sum x + b x0, beside x."""
        return torch.add(x, x0, alpha=b, out=None if self._needed(x, x0) else self._buffer())

    def release(self, x: Tensor, x0: Tensor) -> None:
        """Let a state be written over that has been read for the last time, ``x0`` having been made of it."""
        if self._free(x, x0):
            self._spare.append(x)

    def _buffer(self) -> Tensor:
        if self._spare:
            return self._spare.pop()
        return torch.empty_like(self._given)

    def _needed(self, x: Tensor, x0: Tensor) -> bool:
        return self._transformed or ((x0.requires_grad or x.requires_grad) and torch.is_grad_enabled())

    def _free(self, x: Tensor, x0: Tensor) -> bool:
        # A denoiser may return what it was given, or a view of it.
        return (
            x is not self._given
            and not self._needed(x, x0)
            and x0.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        )


def follow(run: Descent, coefficients: Sequence[tuple[float, float, float]]) -> Tensor:
    """The loop of the samplers of first order: x ← a x + b x0 + c z, and a last denoising."""
    x = run.x
    for step, (a, b, c) in enumerate(coefficients):
        x = run.combine(x, a, run.estimate(step, x), b, c)
    return run.finish(x)


def _levels(process: Process, grid: Tensor) -> Levels:
    numbers = zip(grid.tolist(), process.alpha(grid).tolist(), process.std(grid).tolist(), strict=True)
    levels = tuple(Level(t, alpha, std, std / alpha) for t, alpha, std in numbers)
    if not all(now.sigma > then.sigma for now, then in pairwise(levels)):
        raise ValueError(f"times: expected less noise over signal at each of {len(grid)} steps, got {grid.tolist()}")
    return levels


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
            f"got {grid[0].item()} to {grid[-1].item()}"
        )
    return grid
