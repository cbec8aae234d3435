"""Three processes in continuous time, each with its inverse in closed form."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mmaffect.diffusion.process import Process
from mmaffect.ops import at_least_float32, check_positive


@dataclass(frozen=True, init=False)
class VESDE(Process):
    r"""Noise is added and the signal kept (Song et al., 2021, section 3.4, in the form that IMDer uses).

    .. math:: dx = \sigma^t\, dw, \qquad \alpha = 1, \qquad \mathrm{std}^2 = \frac{\sigma^{2t} - 1}{2 \ln \sigma}

    Args:
        sigma: σ > 1; ``growth`` of the object, whose :meth:`sigma` is the noise at a time.
        t_min: end of sampling.
        t_max: start of sampling.

    Raises:
        ValueError: unless σ > 1 and 0 < t_min < t_max.

    Example:
        >>> VESDE(sigma=25.0).std(torch.tensor([1e-3, 1.0]))
        tensor([0.0317, 9.8452])
    """

    growth: float = 25.0
    t_min: float = 1e-3
    t_max: float = 1.0

    def __init__(self, sigma: float = 25.0, *, t_min: float = 1e-3, t_max: float = 1.0) -> None:
        if not 1 < sigma < math.inf:
            raise ValueError(f"sigma: expected a finite value > 1, got {sigma}")
        _check_range("t_min", "t_max", t_min, t_max)
        for name, value in (("growth", sigma), ("t_min", t_min), ("t_max", t_max)):
            object.__setattr__(self, name, float(value))

    def alpha(self, t: Tensor) -> Tensor:
        """1 throughout."""
        return torch.ones_like(at_least_float32(t))

    def std(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise."""
        rate = 2 * math.log(self.growth)
        return (torch.expm1(rate * at_least_float32(t)) / rate).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`log_snr`."""
        rate = 2 * math.log(self.growth)
        return torch.log1p(rate * torch.exp(-at_least_float32(log_snr))) / rate


@dataclass(frozen=True)
class VPSDE(Process):
    r"""Signal fades as noise grows, alpha² + std² = 1, with a linear rate (Song et al., 2021, eq. 11 and 32-33).

    .. math:: dx = -\tfrac12 \beta(t) x\, dt + \sqrt{\beta(t)}\, dw, \quad
              \beta = \beta_{\min} + t (\beta_{\max} - \beta_{\min}), \quad
              \alpha = e^{-\frac12 \int_0^t \beta}

    The limit of DDPM's linear table for many steps; at t = 1 alpha² is 4.3e-5 against the table's 4.0e-5. For networks
    trained on the table see :class:`DiscreteVP`.

    Args:
        beta_min: β at t = 0.
        beta_max: β at t = 1.
        sigma_min: noise over signal, std / alpha, where sampling ends.
        sigma_max: the same where it starts, or at t = 1 if it is not reached: with small β some signal is left there.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max and 0 < sigma_min < sigma_max, and if not even ``sigma_min`` is
            reached by t = 1.

    Example:
        >>> process = VPSDE()
        >>> round(process.t_min, 4), round(process.t_max, 4)
        (0.0057, 0.8561)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    sigma_min: float = 0.03
    sigma_max: float = 40.0

    def __post_init__(self) -> None:
        check_positive(beta_min=self.beta_min)
        if not self.beta_min <= self.beta_max < math.inf:
            raise ValueError(f"beta_max: expected a finite value >= beta_min = {self.beta_min}, got {self.beta_max}")
        _check_range("sigma_min", "sigma_max", self.sigma_min, self.sigma_max)
        if math.log1p(self.sigma_min**2) >= (self.beta_min + self.beta_max) / 2:  # the integral of β, to there and to 1
            raise ValueError(
                f"sigma_min: expected a noise over signal that beta_min = {self.beta_min} and beta_max = "
                f"{self.beta_max} reach before t = 1, got {self.sigma_min}"
            )

    @cached_property
    def t_min(self) -> float:
        """Where std / alpha is ``sigma_min``."""
        return _time_of(self, self.sigma_min)

    @cached_property
    def t_max(self) -> float:
        """Where std / alpha is ``sigma_max``, or 1."""
        return min(1.0, _time_of(self, self.sigma_max))

    def _integral(self, t: Tensor) -> Tensor:
        t = at_least_float32(t)
        return t * (self.beta_min + t * (0.5 * (self.beta_max - self.beta_min)))

    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data."""
        return torch.exp(-0.5 * self._integral(t))

    def std(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise."""
        return (-torch.expm1(-self._integral(t))).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`log_snr`."""
        integral = F.softplus(-at_least_float32(log_snr), threshold=1000.0)
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral).sqrt()
        return 2 * integral / (self.beta_min + root)


@dataclass(frozen=True)
class CosineVP(Process):
    r"""Signal fades as a cosine, alpha² + std² = 1 (Nichol & Dhariwal, 2021, eq. 17, in continuous time).

    .. math:: \alpha = \frac{\cos\theta(t)}{\cos\theta(0)}, \qquad \theta(t) = \frac{t + s}{1 + s} \cdot \frac\pi2

    At t = 1 no signal is left. The paper clips its table there, at a noise over signal of 2e4, on which solvers in σ
    explode; here sampling starts at ``sigma_max``, beyond which there is nothing left to learn about data of about unit
    variance. For networks trained on the clipped table see :class:`DiscreteVP`.

    Args:
        s: the offset that keeps the first steps from being too small.
        sigma_min: noise over signal, std / alpha, where sampling ends.
        sigma_max: the same where it starts.

    Raises:
        ValueError: unless s > 0 and 0 < sigma_min < sigma_max.

    Example:
        >>> process = CosineVP()
        >>> round(process.t_min, 4), round(process.t_max, 4)
        (0.0128, 0.984)
    """

    s: float = 0.008
    sigma_min: float = 0.03
    sigma_max: float = 40.0

    def __post_init__(self) -> None:
        check_positive(s=self.s)
        _check_range("sigma_min", "sigma_max", self.sigma_min, self.sigma_max)

    @cached_property
    def t_min(self) -> float:
        """Where std / alpha is ``sigma_min``."""
        return _time_of(self, self.sigma_min)

    @cached_property
    def t_max(self) -> float:
        """Where std / alpha is ``sigma_max``."""
        return _time_of(self, self.sigma_max)

    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data."""
        return torch.cos(self._rate * (at_least_float32(t) + self.s)) / math.cos(self._rate * self.s)

    def std(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise, by the sum formulas: 1 - alpha² would cancel where t is small."""
        turned = self._rate * at_least_float32(t)
        square = torch.sin(turned) * torch.sin(turned + 2 * self._rate * self.s)
        return square.sqrt() / math.cos(self._rate * self.s)

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`log_snr`."""
        log_snr = at_least_float32(log_snr)
        first = self._rate * self.s
        sine = (math.sin(first) ** 2 + torch.sigmoid(-log_snr) * math.cos(first) ** 2).sqrt()
        cosine = torch.sigmoid(log_snr).sqrt() * math.cos(first)
        return torch.atan2(sine, cosine) / self._rate - self.s

    @property
    def _rate(self) -> float:
        return math.pi / 2 / (1 + self.s)


def _check_range(low_name: str, high_name: str, low: float, high: float) -> None:
    if not 0 < low < high < math.inf:
        raise ValueError(f"{low_name}, {high_name}: expected 0 < {low_name} < {high_name}, got {low} and {high}")


def _time_of(process: Process, sigma: float) -> float:
    return process.time(torch.tensor(-2 * math.log(sigma), dtype=torch.float64, device="cpu")).item()
