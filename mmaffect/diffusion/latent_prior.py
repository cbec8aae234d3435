"""A diffusion over the latents of an encoder: trained, averaged and drawn from, with guidance."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmaffect.diffusion.continuous import CosineVP
from mmaffect.diffusion.ddim import ddim
from mmaffect.diffusion.denoiser import Denoiser
from mmaffect.diffusion.ema import EMA
from mmaffect.diffusion.guidance import classifier_free_guidance
from mmaffect.diffusion.prediction import Prediction
from mmaffect.diffusion.process import Process
from mmaffect.diffusion.unet1d import UNet1d
from mmaffect.ops import check_dropout, check_mask, check_positive, check_shape, keep


class LatentPrior(nn.Module):
    r"""Diffusion prior :math:`p(z \mid c, w)` over latents, guided (Ho and Salimans, 2022; so used by Affect-Diff).

    A :class:`UNet1d` in a :class:`Denoiser` is told, for each sample or for each step, a condition c that may be
    withheld, such as a one-hot label or scores, whether it is, and a context w that never is. Training withholds c from
    a share of the samples (Ho and Salimans, algorithm 1); sampling exaggerates what c changes (their eq. 6, with the
    weight g - 1), by the average of the parameters:

    .. math:: L = E_{t, \varepsilon}\,\big\|F(z_t, t, u) - F^*\big\|^2, \qquad
              u = [c;\, 0;\, w] \quad\text{or}\quad u_\varnothing = [0;\, 1;\, w], \qquad
              \hat z = \hat z(u_\varnothing) + g\, \big(\hat z(u) - \hat z(u_\varnothing)\big)

    with :math:`F^*` what is predicted, the noise or v. The network's linear map of u is the sum of a class embedding,
    a null embedding and a projection of the context.

    The gradient reaches latents that require one: detach them where the encoder is not to learn from its prior. They
    should have about unit variance, for which the noise levels are made; scale them where they do not.

    Args:
        dim: width D of the latents.
        condition: width C of what may be withheld.
        context: width K of what is always told; 0 for none.
        width: features of the U-Net at its finest resolution, even.
        process: of noising; ``CosineVP()`` by default.
        prediction: of the U-Net, see :class:`Denoiser`. Affect-Diff's is ``"eps"``; but at the start an error of the
            noise is 40 times as large in the latent, and a prior of few hundred steps draws nothing but that, where
            one of ``"v"`` draws classes.
        null_rate: share of the samples whose condition is withheld in training; above 0 where guidance is wanted.
        guidance: g of samples; 1 = the condition as it is, 0 = none.
        ema_decay: of the average, after a warm-up; see :class:`EMA`.

    Shape:
        ``z (B, T, D)``; ``condition (B, C)`` with ``known (B,)`` and ``context (B, K)``, or with an axis of steps
        ``(B, T, C)``, ``(B, T)`` and ``(B, T, K)``; ``mask (B, T)``.

    Raises:
        ValueError: on sizes that are not positive, an odd width, shares outside [0, 1], or an unknown prediction.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> prior = LatentPrior(4, 2, width=8)
        >>> optimizer = torch.optim.AdamW(prior.parameters())
        >>> z, label = torch.randn(3, 5, 4), nn.functional.one_hot(torch.tensor([0, 1, 1]))
        >>> prior.loss(z, label).backward()
        >>> optimizer.step()
        >>> prior.update()
        >>> prior.sample(label, steps=7).shape
        torch.Size([3, 7, 4])
    """

    def __init__(
        self,
        dim: int,
        condition: int,
        *,
        context: int = 0,
        width: int = 128,
        process: Process | None = None,
        prediction: Prediction = "eps",
        null_rate: float = 0.2,
        guidance: float = 2.0,
        ema_decay: float = 0.999,
    ) -> None:
        super().__init__()
        check_positive(dim=dim, condition=condition)
        check_dropout(null_rate=null_rate)
        if context < 0:
            raise ValueError(f"context: expected a width >= 0, got {context}")
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay: expected a share from 0 to below 1, got {ema_decay}")
        self.dim, self.condition, self.context = dim, condition, context
        self.null_rate, self.guidance = null_rate, guidance
        net = UNet1d(dim, width=width, condition=condition + 1 + context)
        self.denoiser = Denoiser(net, CosineVP() if process is None else process, prediction)
        self.average = EMA(self.denoiser, ema_decay, warmup=True)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return (
            f"{self.dim}, {self.condition}, context={self.context}, null_rate={self.null_rate}, "
            f"guidance={self.guidance}"
        )

    def forward(
        self,
        z: Tensor,
        condition: Tensor,
        *,
        known: Tensor | None = None,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See :meth:`loss`: wrappers that spread a batch over devices synchronise only what is called so."""
        return self.loss(z, condition, known=known, context=context, mask=mask, generator=generator)

    def loss(
        self,
        z: Tensor,
        condition: Tensor,
        *,
        known: Tensor | None = None,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean error of what the U-Net predicts over the real steps; zero where there is none.

        Args:
            z: latents.
            condition: of each sample or step.
            known: True = there is a condition, else it is withheld and whatever stands there is not read; all by
                default. In training mode it is also withheld, at every step, from ``null_rate`` of the samples.
            context: as long as ``condition``; needed if and only if the prior was built with one.
            mask: True = a real step; all by default.
            generator: where the randomness comes from.

        Returns:
            Scalar, float32 at least.

        Raises:
            ValueError: on another shape, or a context that is missing or was not announced.
        """
        check_shape("z", z, "B T D", D=self.dim)
        known = self._known(condition, known, context, mask, B=z.shape[0], T=z.shape[1])
        if self.training:
            told = torch.rand(len(z), generator=generator, device=z.device) >= self.null_rate
            known = known & (told if known.dim() == 1 else told.unsqueeze(1))
        return self.denoiser.loss(
            z, mask=mask, generator=generator, condition=_told(condition, known, context, z.dtype)
        )

    def update(self) -> None:
        """Take the parameters into the average; call it after each step of the optimiser."""
        self.average.update()

    def guided(
        self,
        condition: Tensor,
        *,
        known: Tensor | None = None,
        context: Tensor | None = None,
        guidance: float | None = None,
        mask: Tensor | None = None,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The average's estimate of the latents, guided, for any sampler; arguments are those of :meth:`sample`.

        Returns:
            A function ``denoise(x, t)``, of one call on a doubled batch, or a plain one where ``guidance`` is 1 or 0.

        Raises:
            ValueError: as :meth:`sample`.
        """
        known = self._known(condition, known, context, mask)
        dtype = next(self.average.parameters()).dtype
        return classifier_free_guidance(
            self.average,
            self.guidance if guidance is None else guidance,
            {"condition": _told(condition, known, context, dtype)},
            {"condition": _told(condition, torch.zeros_like(known), context, dtype)},
            mask=mask,
        )

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        *,
        known: Tensor | None = None,
        context: Tensor | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        mask: Tensor | None = None,
        sampler: Callable[..., Tensor] = ddim,
        evaluations: int = 50,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw latents, from the average: before the first :meth:`update` that is the network as it was made.

        Args:
            condition: of each sample or step.
            known: True = there is a condition; samples and steps without stand for any. All by default.
            context: as for :meth:`loss`.
            steps: T; by default that of ``condition`` or ``mask``, where they have steps.
            guidance: its scale; the prior's by default.
            mask: True = a real step; all by default.
            sampler: one of ``mmaffect.diffusion``; DDIM (η = 0) by default, as in Affect-Diff.
            evaluations: noise levels, each an evaluation; ``heun`` and ``predictor_corrector`` take more.
            generator: where the randomness comes from.

        Returns:
            ``(B, T, D)``, zero at masked steps.

        Raises:
            ValueError: on another shape, a context that is missing or was not announced, or if nothing tells T.
        """
        self._known(condition, known, context, mask)
        timed = condition if condition.dim() == 3 else mask
        if steps is None:
            if timed is None:
                raise ValueError("steps: expected a number, as neither condition nor mask has steps, got None")
            steps = timed.shape[1]
        check_positive(steps=steps, evaluations=evaluations)
        shape = (condition.shape[0], steps, self.dim)
        self._known(condition, known, context, mask, T=steps)
        denoise = self.guided(condition, known=known, context=context, guidance=guidance, mask=mask)
        like, process = next(self.average.parameters()), self.denoiser.process
        start = process.prior(shape, generator=generator, dtype=like.dtype, device=like.device)
        return sampler(denoise, process, start, evaluations, generator=generator)

    def _known(
        self,
        condition: Tensor,
        known: Tensor | None,
        context: Tensor | None,
        mask: Tensor | None,
        **sizes: int,
    ) -> Tensor:
        """Check what is told, and say where there is a condition."""
        axes = "B T" if condition.dim() == 3 else "B"
        sizes.setdefault("B", condition.shape[0] if condition.dim() else 1)
        check_shape("condition", condition, f"{axes} C", C=self.condition, **sizes)
        sizes |= dict(zip("BT", condition.shape[:-1], strict=False))
        if mask is not None:
            check_mask("mask", mask, "B T", **sizes)
        if (context is None) != (self.context == 0):
            wanted = "a tensor" if self.context else "None"
            got = "None" if context is None else f"a tensor of shape {tuple(context.shape)}"
            raise ValueError(f"context: expected {wanted} (context = {self.context}), got {got}")
        if context is not None:
            check_shape("context", context, f"{axes} K", K=self.context, **sizes)
        if known is None:
            return torch.ones(condition.shape[:-1], dtype=torch.bool, device=condition.device)
        check_mask("known", known, axes, **sizes)
        return known


def _told(condition: Tensor, known: Tensor, context: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What the network is told: the condition, zero where it is withheld, whether it is, and the context."""
    parts = [keep(condition.to(dtype), known), (~known).unsqueeze(-1).to(dtype)]
    return torch.cat(parts if context is None else [*parts, context.to(dtype)], dim=-1)
