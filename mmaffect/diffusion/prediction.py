"""What a network predicts of a noised sample, and how much its error counts: four predictions, one plane."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Prediction = Literal["eps", "x0", "v", "score"]
Weighting = Literal["uniform", "std2", "min_snr", "karras"]
PREDICTIONS = ("eps", "x0", "v", "score")
WEIGHTINGS = ("uniform", "std2", "min_snr", "karras")


class Direction(NamedTuple):
    r"""A target :math:`F = p\, x_0 + q\, \varepsilon` in the plane that data and noise span."""

    p: Tensor
    q: Tensor

    def target(self, x0: Tensor, noise: Tensor) -> Tensor:
        """F of these data and this noise."""
        return self.p * x0 + self.q * noise

    def data(self, output: Tensor, x: Tensor, alpha: Tensor, std: Tensor) -> Tensor:
        r"""x0 from F and :math:`x = \alpha x_0 + s \varepsilon`: :math:`x_0 = (s F - q x) / (s p - q \alpha)`."""
        scale = std * self.p - self.q * alpha
        return (std / scale) * output - (self.q / scale) * x

    def gain(self, alpha: Tensor, std: Tensor) -> Tensor:
        """By how much the error of x0 exceeds the error of F."""
        return std / (std * self.p - self.q * alpha)


def direction(prediction: Prediction, alpha: Tensor, std: Tensor) -> Direction:
    r"""Where each prediction lies.

    ==========  ======================================  ================  ==================
    prediction  is                                      p                 q
    ==========  ======================================  ================  ==================
    ``eps``     the noise (Ho et al., 2020)             0                 1
    ``x0``      the data                                1                 0
    ``v``       :math:`\alpha\varepsilon - s\, x_0`     :math:`-s`        :math:`\alpha`
                (Salimans and Ho, 2022)
    ``score``   :math:`-\varepsilon / s`                0                 :math:`-1/s`
                (Song et al., 2021)
    ==========  ======================================  ================  ==================

    Args:
        prediction: which.
        alpha: factor of the data.
        std: s, that of the noise.
    """
    zero, one = torch.zeros_like(std), torch.ones_like(std)
    if prediction == "eps":
        return Direction(zero, one)
    if prediction == "x0":
        return Direction(one, zero)
    if prediction == "v":
        return Direction(-std, alpha)
    return Direction(zero, -1 / std)


def karras_direction(alpha: Tensor, std: Tensor, sigma_data: float) -> Direction:
    r"""The prediction of a preconditioned network (Karras et al., 2022, eq. 7 and 8).

    With :math:`\sigma = s / \alpha`, D = c_skip x/α + c_out F has the target

    .. math:: F = \frac{x_0 - c_\mathrm{skip}\, x / \alpha}{c_\mathrm{out}}
                = \frac{s\, x_0 / \sigma_d - \sigma_d\, \alpha\, \varepsilon}{\sqrt{s^2 + \sigma_d^2 \alpha^2}},
              \qquad c_\mathrm{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \qquad
              c_\mathrm{out} = \frac{\sigma\, \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}

    which has unit variance at every time if the data have that of :math:`\sigma_d^2`, is uncorrelated with x, and for
    :math:`\sigma_d = 1` and a variance-preserving process is -v. It is finite where α = 0 too.
    """
    spread = (std.square() + (sigma_data * alpha).square()).sqrt()
    return Direction(std / (sigma_data * spread), -sigma_data * alpha / spread)


def error_weight(
    weighting: Weighting, alpha: Tensor, std: Tensor, gain: Tensor, *, sigma_data: float = 1.0, gamma: float = 5.0
) -> Tensor:
    r"""Weight of the squared error of what is predicted: gain² times the weight of that of x0.

    ===========  ==========================================================  =========================================
    weighting    weight of :math:`\|\hat x_0 - x_0\|^2`                      which is
    ===========  ==========================================================  =========================================
    ``uniform``  :math:`1 / \mathrm{gain}^2`                                 the plain error of what is predicted
    ``std2``     :math:`\alpha^2 / s^2` = SNR                                :math:`\lambda = s^2` on the score (Song et
                                                                             al., 2021): the plain error of the noise
    ``min_snr``  :math:`\min(\mathrm{SNR}, \gamma)`                          Hang et al. (2023), section 3.4
    ``karras``   :math:`(\sigma^2 + \sigma_d^2) / (\sigma \sigma_d)^2`       Karras et al. (2022), table 1
    ===========  ==========================================================  =========================================
    """
    if weighting == "uniform":
        return torch.ones_like(gain)  # not by way of the gain, which is 0 where there is no noise
    if weighting == "std2":
        weight = (alpha / std).square()
    elif weighting == "min_snr":
        weight = (alpha / std).square().clamp(max=gamma)
    else:
        weight = (std.square() + (sigma_data * alpha).square()) / (std * sigma_data).square()
    return gain.square() * weight
