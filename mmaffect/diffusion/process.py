"""A Gaussian process of noising is two functions of time; all else follows from them, here and once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmaffect.ops import at_least_float32, check_shape, per_sample, under_transform


class Process(ABC):
    r"""What turns data, at time 0, into noise, at time 1.

    .. math:: x_t = \alpha(t)\, x_0 + \mathrm{std}(t)\, \varepsilon, \qquad \varepsilon \sim N(0, I)

    A process is ``alpha`` and ``std``, with the range of times ``t_min`` to ``t_max`` over which it is used: at 0 there
    is no noise and at 1 there may be no signal left, and quantities derived from the two are infinite there. Everything
    below keeps the dtype and device of the times it is given; half precision is computed and returned in float32,
    since bfloat16 cannot tell .987 from .99. A process holds numbers and no tensors: it is no module.

    Write another one by giving the four; as a flow from data to noise along straight lines:

    Example:
        >>> class Straight(Process):
        ...     t_min, t_max = 0.03, 0.975
        ...
        ...     def alpha(self, t):
        ...         return 1 - t
        ...
        ...     def std(self, t):
        ...         return t + 0.0
        >>> Straight().time(torch.tensor([0.0])).item()  # where signal and noise are equally strong
        0.5
    """

    @property
    @abstractmethod
    def t_min(self) -> float:
        """Where sampling ends, with the last denoising."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """Where sampling starts."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data; 1 at t = 0 and never increasing."""

    @abstractmethod
    def std(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise."""

    def sigma(self, t: Tensor) -> Tensor:
        """Noise over signal, std / alpha: the σ of Karras et al. (2022), who scale the signal to 1."""
        return self.std(t) / self.alpha(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """Logarithm of the signal-to-noise ratio alpha² / std², which falls with time."""
        return 2 * (self.alpha(t).log() - self.std(t).log())

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`log_snr`, between ``t_min`` and ``t_max``.

        By bisection to the last digit of float64; the processes here know their inverse in closed form.
        """
        wanted = log_snr.double()
        low, high = torch.full_like(wanted, self.t_min), torch.full_like(wanted, self.t_max)
        for _ in range(54):
            middle = (low + high) / 2
            later = self.log_snr(middle) > wanted
            low, high = torch.where(later, middle, low), torch.where(later, high, middle)
        return ((low + high) / 2).to(at_least_float32(log_snr).dtype)

    def drift(self, t: Tensor) -> Tensor:
        """f(t) of the stochastic differential equation dx = f(t) x dt + g(t) dw: the derivative of log alpha."""
        return _derivative(lambda time: self.alpha(time).log(), at_least_float32(t))

    def diffusion(self, t: Tensor) -> Tensor:
        """g(t) of the same equation, a standard deviation: g² = std² times minus the derivative of the log-SNR.

        That is d(std²)/dt - 2 f std², without the difference.
        """
        t = at_least_float32(t)
        return self.std(t) * (-_derivative(self.log_snr, t)).clamp(min=0).sqrt()

    def perturb(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = alpha(t) x0 + std(t) noise, at a time a sample.

        Args:
            x0: data.
            t: a time a sample.
            noise: standard normal.

        Shape:
            ``x0 (B, …)``, ``t (B,)``, ``noise`` like ``x0`` → like ``x0``, in its dtype.

        Raises:
            ValueError: on other shapes.
        """
        if noise.shape != x0.shape:
            raise ValueError(f"noise: expected the shape of x0, {tuple(x0.shape)}, got {tuple(noise.shape)}")
        check_shape("t", t, "B", B=x0.shape[0])
        t = at_least_float32(t)
        alpha, std = per_sample(self.alpha(t), x0), per_sample(self.std(t), x0)
        return (alpha * x0 + std * noise).to(x0.dtype)

    def prior(
        self,
        shape: Sequence[int],
        mean: Tensor | float = 0.0,
        var: Tensor | float = 1.0,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        r"""Draw where sampling starts: at ``t_max``, with the moments that data of mean m and variance v have there.

        .. math:: N(\alpha m, \alpha^2 v + \mathrm{std}^2)

        Matched to the data's moments, the start has no error that a solver of the probability flow would carry to the
        end. For data that are not centred and a process that leaves some of them at ``t_max``, such as
        :class:`VESDE`, N(0, std²) puts a floor under the error, whatever the number of steps.

        Args:
            shape: of the result.
            mean: of the data: a number or what broadcasts to ``shape``, such as ``(D,)``.
            var: variance of the data, likewise.
            generator: where the randomness comes from.
            dtype: that of ``mean`` by default, or PyTorch's.
            device: that of ``mean`` by default, or the generator's, or PyTorch's.

        Raises:
            ValueError: if ``mean`` or ``var`` does not broadcast to ``shape``.
        """
        if isinstance(mean, Tensor):
            dtype, device = dtype or mean.dtype, device or mean.device
        if device is None and generator is not None:
            device = generator.device
        noise = torch.randn(tuple(shape), generator=generator, dtype=dtype, device=device)
        end = torch.tensor(self.t_max, dtype=torch.float64, device="cpu")
        alpha, std = self.alpha(end).item(), self.std(end).item()
        drawn = at_least_float32(noise)
        mean, var = _moment("mean", mean, drawn), _moment("var", var, drawn)
        return (drawn * (var * alpha**2 + std**2).sqrt() + mean * alpha).to(noise.dtype)


def _moment(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    moment = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    try:
        return moment.expand(like.shape)
    except RuntimeError:
        raise ValueError(
            f"{name}: expected what broadcasts to {tuple(like.shape)}, got shape {tuple(moment.shape)}"
        ) from None


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """Entry by entry, and without a gradient of its own: forward mode, which has one, takes six times as long."""
    if under_transform():  # there nothing else is allowed
        return torch.func.grad(lambda time: function(time).sum())(t.detach())
    with torch.inference_mode(False), torch.enable_grad():
        time = t.detach().clone().requires_grad_()
        value = function(time)
        if not value.requires_grad:  # a constant
            return torch.zeros_like(t)
        (slope,) = torch.autograd.grad(value.sum(), time)
    return slope
