"""A network, a process and what the network predicts, made into an estimate of the data and a loss."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmaffect.diffusion.prediction import (
    PREDICTIONS,
    WEIGHTINGS,
    Direction,
    Prediction,
    Weighting,
    direction,
    error_weight,
    karras_direction,
)
from mmaffect.diffusion.process import Process
from mmaffect.diffusion.training_times import TIMES, Times, draw_times
from mmaffect.ops import at_least_float32, check_choice, check_mask, check_positive, check_shape, keep, per_sample


class Denoiser(nn.Module):
    r"""Any network as an estimate of the data: :math:`\hat x_0(x_t, t)`, and the loss that trains it.

    The network is called as ``net(x, t, **cond)`` and returns a tensor like ``x``. What it predicts lies in the plane
    of data and noise, :math:`F = p\, x_0 + q\, \varepsilon` (``mmaffect.diffusion.prediction``), so that with
    :math:`x_t = \alpha x_0 + s \varepsilon`

    .. math:: \hat x_0 = \frac{s F - q\, x_t}{s p - q \alpha}, \qquad
              L = E_{t, \varepsilon}\big[w(t)\, \|\hat x_0 - x_0\|^2\big]

    With ``preconditioning="karras"`` the network is given :math:`x_t / \sqrt{s^2 + \sigma_d^2 \alpha^2}` and
    :math:`\ln(\sigma) / 4` in place of the time, with :math:`\sigma = s / \alpha`, and predicts the direction of unit
    variance that is uncorrelated with what it is given (Karras et al., 2022, eq. 7 and 8).
    All four predictions, preconditioned, are this one up to their sign; ``prediction`` then makes no difference.

    Args:
        net: the network.
        process: of noising.
        prediction: ``"eps"``, ``"x0"``, ``"v"`` or ``"score"``: the noise, the data, alpha times noise minus std times
            data (Salimans and Ho, 2022), or the gradient of the log-density, -noise / std (Song et al., 2021).
        preconditioning: ``"none"`` or ``"karras"``.
        sigma_data: :math:`\sigma_d`, standard deviation of the data; of Karras' preconditioning, weighting and times.
        weighting: ``"uniform"`` counts the error of the network's own output, with Karras' preconditioning that is
            his weighting; ``"std2"`` the error of the noise, which is λ(t) = std² on the score (Song et al., 2021);
            ``"min_snr"`` that of the data times min(SNR, γ) (Hang et al., 2023); ``"karras"`` that of the data times
            (σ² + σ_d²) / (σ σ_d)² (Karras et al., 2022, table 1). All but the first weigh alike whatever is predicted.
        gamma: γ of ``"min_snr"``.
        times: at which times to train; see :func:`draw_times`.

    Shape:
        ``x (B, …)``, ``t (B,)`` → like ``x``.

    Raises:
        ValueError: on an unknown name, or numbers that are not positive.

    Example:
        >>> from mmaffect.diffusion import UNet1d, VPSDE
        >>> denoiser = Denoiser(UNet1d(4, width=8, multipliers=(1, 2)), VPSDE(), "v", times="stratified")
        >>> x0, mask = torch.randn(2, 5, 4), torch.tensor([[True] * 5, [True, True] + [False] * 3])
        >>> denoiser.loss(x0, mask=mask).shape, denoiser.x0(x0, torch.rand(2), mask=mask).shape
        (torch.Size([]), torch.Size([2, 5, 4]))
    """

    def __init__(
        self,
        net: nn.Module | Callable[..., Tensor],
        process: Process,
        prediction: Prediction = "eps",
        *,
        preconditioning: Literal["none", "karras"] = "none",
        sigma_data: float = 1.0,
        weighting: Weighting = "uniform",
        gamma: float = 5.0,
        times: Times = "uniform",
    ) -> None:
        super().__init__()
        check_choice("prediction", prediction, PREDICTIONS)
        check_choice("preconditioning", preconditioning, ("none", "karras"))
        check_choice("weighting", weighting, WEIGHTINGS)
        check_choice("times", times, TIMES)
        check_positive(sigma_data=sigma_data, gamma=gamma)
        # A process finds its range and its tables when first asked, and how it keeps them no compiler can follow.
        process.std(torch.tensor([process.t_min, process.t_max], device="cpu"))
        self.net, self.process, self.prediction = net, process, prediction
        self.preconditioning, self.sigma_data = preconditioning, sigma_data
        self.weighting, self.gamma, self.times = weighting, gamma, times

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return (
            f"{self.process}, prediction={self.prediction!r}, preconditioning={self.preconditioning!r}, "
            f"sigma_data={self.sigma_data}, weighting={self.weighting!r}, gamma={self.gamma}, times={self.times!r}"
        )

    def forward(self, x: Tensor, t: Tensor, *, mask: Tensor | None = None, **cond: Any) -> Tensor:
        """See :meth:`x0`: a denoiser is what samplers call."""
        return self.x0(x, t, mask=mask, **cond)

    def x0(self, x: Tensor, t: Tensor, *, mask: Tensor | None = None, **cond: Any) -> Tensor:
        """Estimate the data.

        Args:
            x: noised data.
            t: the time of each sample, between the process's ``t_min`` and ``t_max``.
            mask: True = a real step; handed on to the network where it is given.
            **cond: handed on to the network.

        Returns:
            The estimate, zero at masked steps.

        Raises:
            ValueError: on another shape, also of what the network returns.
        """
        x = _masked("x", x, mask)
        alpha, std, toward = self._plane(x, t)
        output = self._output(x, t, alpha, std, mask, cond)
        estimate = toward.data(at_least_float32(output), at_least_float32(x), alpha, std).to(x.dtype)
        return _masked("x", estimate, mask)

    def loss(
        self,
        x0: Tensor,
        *,
        mask: Tensor | None = None,
        noise: Tensor | None = None,
        t: Tensor | None = None,
        generator: torch.Generator | None = None,
        **cond: Any,
    ) -> Tensor:
        """Mean weighted error over the entries that are there; zero where there is none.

        Args:
            x0: data.
            mask: True = a real step, of data ``(B, T, D)``; handed on to the network where it is given.
            noise: standard normal, like ``x0``; drawn by default.
            t: the time of each sample, as in :meth:`x0`; drawn by default, see ``times``.
            generator: where the randomness comes from.
            **cond: handed on to the network.

        Shape:
            ``x0 (B, …)``, ``mask (B, T)``, ``t (B,)`` → scalar, float32 at least.

        Raises:
            ValueError: on another shape, also of what the network returns.
        """
        if t is None:
            t = draw_times(
                self.process, len(x0), self.times, sigma_data=self.sigma_data, generator=generator, device=x0.device
            )
        if noise is None:
            noise = torch.randn(x0.shape, generator=generator, dtype=at_least_float32(x0).dtype, device=x0.device)
        elif noise.shape != x0.shape:
            raise ValueError(f"noise: expected the shape of x0, {tuple(x0.shape)}, got {tuple(noise.shape)}")
        x0, noise = _masked("x0", x0, mask), _masked("noise", noise, mask)
        alpha, std, toward = self._plane(x0, t)
        x = self.process.perturb(x0, t, noise)
        output = self._output(x, t, alpha, std, mask, cond)
        gain = toward.gain(alpha, std)
        weight = error_weight(self.weighting, alpha, std, gain, sigma_data=self.sigma_data, gamma=self.gamma)
        # In units of what is predicted: there the error is of order one at every time.
        error = at_least_float32(output) - toward.target(at_least_float32(x0), at_least_float32(noise))
        error = weight * _masked("x0", error, mask).square()
        if mask is None:
            return error.mean()
        return error.sum() / (mask.sum() * x0.shape[2]).clamp(min=1)

    def _plane(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Direction]:
        """Factors of data and noise at each sample's time, and where the prediction lies between the two."""
        check_shape("t", t, "B", B=x.shape[0])
        t = at_least_float32(t)
        alpha, std = per_sample(self.process.alpha(t), x), per_sample(self.process.std(t), x)
        if self.preconditioning == "karras":
            return alpha, std, karras_direction(alpha, std, self.sigma_data)
        return alpha, std, direction(self.prediction, alpha, std)

    def _output(
        self, x: Tensor, t: Tensor, alpha: Tensor, std: Tensor, mask: Tensor | None, cond: dict[str, Any]
    ) -> Tensor:
        """The network's output; a mask goes with the rest if there is one."""
        t = at_least_float32(t)
        if self.preconditioning == "karras":
            spread = (std.square() + (self.sigma_data * alpha).square()).sqrt()
            x, t = (x / spread).to(x.dtype), -self.process.log_snr(t) / 8
        cond = cond if mask is None else {**cond, "mask": mask}
        output: Tensor = self.net(x, t, **cond)
        if output.shape != x.shape:
            raise ValueError(f"net: expected outputs of the shape of x, {tuple(x.shape)}, got {tuple(output.shape)}")
        return output


def _masked(name: str, x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return x
    check_shape(name, x, "B T D")
    check_mask("mask", mask, "B T", **dict(zip("BT", x.shape, strict=False)))
    return keep(x, mask)
