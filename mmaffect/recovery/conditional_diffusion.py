"""The diffusion of one modality's latents, given what is known of all."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmaffect.diffusion import Denoiser, draw_times
from mmaffect.ops import at_least_float32, check_choice, keep, under_transform
from mmaffect.recovery.condition import CONDITION_NOISE, ConditionNoise, ObservedContext


class ConditionalDiffusion(nn.Module):
    """Denoise the wanted steps of one modality, told what is observed; in standardised units throughout.

    The part of :class:`DiffusionRecovery` that belongs to one modality; see there for what the options mean. Only the
    samples that want something are evaluated, except in a compiled or exported program, whose shapes depend on no
    value, and under ``torch.func``. Where no sample does, the loss evaluates the first, so that every parameter has a
    gradient, of zero.

    Args:
        denoiser: its network is called as ``net(x, t, mask=..., context=..., context_mask=...)``, or with
            ``prepared=net.prepare(context, context_mask)`` in the place of the last two if it has such a method.
        count: number of modalities M.
        dim: width D of the latents.
        condition_noise: ``"clean"``, ``"independent"`` or ``"shared"``.
        conditional: False = the network is told that nothing is observed.

    Raises:
        ValueError: on an unknown kind of noise.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        count: int,
        dim: int,
        *,
        condition_noise: ConditionNoise = "clean",
        conditional: bool = True,
    ) -> None:
        super().__init__()
        check_choice("condition_noise", condition_noise, CONDITION_NOISE)
        self.denoiser, self.condition_noise = denoiser, condition_noise
        self.fuse = ObservedContext(count, dim) if conditional else None
        end = torch.tensor(denoiser.process.t_max, dtype=torch.float64, device="cpu")
        alpha, std = denoiser.process.alpha(end).item(), denoiser.process.std(end).item()
        # The estimate that is added to the start is itself wider by up to alpha² / std², the less the condition leaves
        # open; half of it is taken off in advance.
        start = std * math.sqrt(1 - alpha**2 / (alpha**2 + std**2) / 2)
        self._end = end.item(), alpha, start

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"condition_noise={self.condition_noise!r}, conditional={self.fuse is not None}"

    def loss(
        self,
        x0: Tensor,
        wanted: Tensor,
        latents: Tensor,
        observed: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean weighted error over the wanted entries; zero where there is none.

        Args:
            x0: this modality's latents, read at the wanted steps.
            wanted: True = to be recovered.
            latents: of all modalities.
            observed: True = known.
            generator: where the randomness comes from.

        Shape:
            ``x0 (B, T, D)``, ``wanted (B, T)``, ``latents (B, T, M, D)``, ``observed (B, T, M)`` → scalar.
        """
        denoiser, device, dtype = self.denoiser, x0.device, at_least_float32(x0).dtype
        t = draw_times(denoiser.process, len(x0), denoiser.times, generator=generator, device=device)
        noise = torch.randn(x0.shape, generator=generator, dtype=dtype, device=device)
        added = noise.unsqueeze(2).expand_as(latents)
        if self.condition_noise == "independent":
            added = torch.randn(latents.shape, generator=generator, dtype=dtype, device=device)
        rows = _rows(wanted)
        if rows is not None:
            rows = rows if len(rows) else rows.new_zeros(1)
            x0, wanted, t, noise, added = x0[rows], wanted[rows], t[rows], noise[rows], added[rows]
            latents, observed = latents[rows], observed[rows]
        told: dict[str, Any] = self._told(latents, observed, t, added)
        return denoiser.loss(x0, mask=wanted, noise=noise, t=t, **told)

    def sample(
        self,
        noise: Tensor,
        wanted: Tensor,
        latents: Tensor,
        observed: Tensor,
        *,
        sampler: Callable[..., Tensor],
        evaluations: int,
        condition_noise: Callable[[int], Tensor],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Follow the diffusion back from noise: every draw of every sample that wants something in one batch.

        Sampling starts where the first estimate of the data, noised to the end of the process, lies:

        .. math:: x = \mathrm{std}\, \varepsilon + \alpha\, \hat x_0(\mathrm{std}\, \varepsilon, t_{\max})

        What is observed has moved the mean of what is wanted, and a solver of the probability flow would carry an error
        of its start to the end. The estimate at so much noise is nearly that mean; it costs one of the evaluations.

        Args:
            noise: standard normal, K draws.
            wanted: True = to be recovered.
            latents: of all modalities.
            observed: True = known.
            sampler: one of ``mmaffect.diffusion``.
            evaluations: noise levels and the first estimate.
            condition_noise: called with the number of the evaluation, from 0; the noise that the condition is given
                there. Not called where the condition is clean.
            generator: where the sampler's randomness comes from.

        Shape:
            ``noise (K, B, T, D)``, ``condition_noise(n) (K, B, T, M, D)`` → ``(K, B, T, D)``, zero where not wanted.
        """
        draws, rows = len(noise), _rows(wanted)
        if rows is not None and not len(rows):
            return torch.zeros_like(noise)

        def pick(x: Tensor, axis: int = 0) -> Tensor:
            return x if rows is None else x.index_select(axis, rows)

        def spread(x: Tensor) -> Tensor:
            return pick(x).expand(draws, -1, *x.shape[1:]).flatten(0, 1)

        mask, latents, observed = spread(wanted), spread(latents), spread(observed)
        denoiser, evaluation = self.denoiser, 0
        told = None if self._renoised() else self._prepared(self._told(latents, observed, None, None))

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            nonlocal evaluation
            if told is not None:
                return denoiser.x0(x, t, mask=mask, **told)
            added = pick(condition_noise(evaluation), 1).flatten(0, 1)
            evaluation += 1
            return denoiser.x0(x, t, mask=mask, **self._told(latents, observed, t, added))

        t_max, alpha, start = self._end
        x = keep(start * pick(noise, 1).flatten(0, 1), mask)
        x = x + alpha * denoise(x, torch.full(x.shape[:1], t_max, dtype=at_least_float32(x).dtype, device=x.device))
        x = sampler(denoise, denoiser.process, x, evaluations - 1, generator=generator)
        x = x.reshape(draws, -1, *noise.shape[2:])
        return x if rows is None else torch.zeros_like(noise).index_copy(1, rows, x)

    def _renoised(self) -> bool:
        return self.fuse is not None and self.condition_noise != "clean"

    def _told(self, latents: Tensor, observed: Tensor, t: Tensor | None, added: Tensor | None) -> dict[str, Tensor]:
        """What the network is told of what is observed; noised to time t where the condition is not clean."""
        if self.fuse is None:
            return {"context": torch.zeros_like(latents[:, :, 0]), "context_mask": torch.zeros_like(observed[:, :, 0])}
        if self.condition_noise != "clean" and t is not None and added is not None:
            latents = self.denoiser.process.perturb(latents, t, added)
        return {"context": self.fuse(latents, observed), "context_mask": observed.any(2)}

    def _prepared(self, told: dict[str, Tensor]) -> dict[str, Any]:
        prepare = getattr(self.denoiser.net, "prepare", None)
        return told if prepare is None else {"prepared": prepare(told["context"], told["context_mask"])}


def _rows(wanted: Tensor) -> Tensor | None:
    """The samples that want something; None = take all as they are."""
    if torch.compiler.is_compiling() or under_transform():
        return None
    rows = wanted.any(1).nonzero().squeeze(1)
    return None if len(rows) == len(wanted) else rows
