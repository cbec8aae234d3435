"""Recovery by conditional diffusion: what is absent is drawn, given all that is there."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmaffect.diffusion import VESDE, CrossModalUNet1d, Denoiser, Process, UNet1d, dpmpp_2m
from mmaffect.diffusion.prediction import Prediction, Weighting
from mmaffect.diffusion.training_times import Times
from mmaffect.ops import (
    at_least_float32,
    check_choice,
    check_int64,
    check_mask,
    check_positive,
    check_shape,
    keep,
    keyed_normal,
)
from mmaffect.recovery.condition import ConditionNoise
from mmaffect.recovery.conditional_diffusion import ConditionalDiffusion
from mmaffect.recovery.standardise import RunningStandardisation

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "fast": lambda dim: UNet1d(dim, width=64, multipliers=(1, 2), context=dim),
    "reference": lambda dim: CrossModalUNet1d(dim),
}


class DiffusionRecovery(nn.Module):
    """Recover absent latents by one conditional diffusion a modality (IMDer)."""

    def __init__(
        self,
        names: Sequence[str],
        dim: int,
        *,
        network: Callable[[], nn.Module] | Literal["fast", "reference"] = "fast",
        process: Process | None = None,
        prediction: Prediction = "eps",
        preconditioning: Literal["none", "karras"] = "karras",
        weighting: Weighting = "uniform",
        times: Times = "uniform",
        condition_noise: ConditionNoise = "clean",
        conditional: bool = True,
        horizon: int = 100_000,
    ) -> None:
        super().__init__()
        check_positive(dim=dim)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"names: expected at least one modality, and each once, got {tuple(names)}")
        if isinstance(network, str):
            check_choice("network", network, NETWORKS)
        self.names, self.dim, self.process = tuple(names), dim, VESDE() if process is None else process
        self.standards = nn.ModuleDict({name: RunningStandardisation(dim, horizon=horizon) for name in names})
        parts = {}
        for name in names:
            net = NETWORKS[network](dim) if isinstance(network, str) else network()
            denoiser = Denoiser(
                net, self.process, prediction, preconditioning=preconditioning, weighting=weighting, times=times
            )
            parts[name] = ConditionalDiffusion(
                denoiser, len(self.names), dim, condition_noise=condition_noise, conditional=conditional
            )
        self.parts = nn.ModuleDict(parts)
        end = torch.tensor(self.process.t_max, dtype=torch.float64, device="cpu")
        # Of standardised data, noised to the end: the start that a solver of the probability flow carries no error from.
        self._spread = math.hypot(self.process.alpha(end).item(), self.process.std(end).item())

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.names}, {self.dim}"

    def forward(
        self,
        latents: Mapping[str, Tensor],
        observed: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        **options: Any,
    ) -> dict[str, Tensor]:
        """See :meth:`recover`."""
        return self.recover(latents, observed, wanted, **options)

    def loss(
        self,
        latents: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        observed: Mapping[str, Tensor],
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Weighted error of the denoisers: a mean over the wanted entries of all modalities; zero if none is wanted."""
        self._check(latents, observed, wanted)
        if self.training:
            for name, standard in self.standards.items():
                standard.update(latents[name], observed[name] | wanted[name])
        known, there = self._known(latents, observed, wanted)
        numbers = torch.stack([wanted[name].sum() for name in self.names])
        shares = numbers / numbers.sum().clamp(min=1)
        losses = [
            part.loss(
                self.standards[name](latents[name], wanted[name]), wanted[name], known, there, generator=generator
            )
            for name, part in self.parts.items()
        ]
        return (torch.stack(losses) * shares).sum()

    @torch.no_grad()
    def recover(
        self,
        latents: Mapping[str, Tensor],
        observed: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        *,
        draws: int | None = None,
        sampler: Callable[..., Tensor] = dpmpp_2m,
        evaluations: int = 10,
        noise: Mapping[str, Tensor] | None = None,
        keys: Tensor | None = None,
        seed: int = 0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Draw what is wanted, given what is observed."""
        self._check(latents, observed, wanted)
        if draws is not None:
            check_positive(draws=draws)
        known, there = self._known(latents, observed, wanted)
        batch, steps, count = *known.shape[:2], draws or 1
        if keys is not None:
            check_shape("keys", keys, "B", B=batch)
            check_int64(keys=keys)

        def normal(stream: int, *shape: int) -> Tensor:
            like = {"dtype": at_least_float32(known).dtype, "device": known.device}
            if keys is None:
                return torch.randn(count, batch, steps, *shape, generator=generator, **like)
            axes = [torch.arange(n, device=known.device) for n in (steps, *shape)]
            axes = [axis.view(-1, *[1] * (len(axes) - 1 - place)) for place, axis in enumerate(axes)]
            first = [torch.arange(count, device=known.device), keys]
            first = [key.view(-1, *[1] * (len(axes) + 1 - place)) for place, key in enumerate(first)]
            return keyed_normal(seed, stream, *first, *axes, dtype=like["dtype"])

        recovered = {}
        for place, (name, part) in enumerate(self.parts.items()):
            start = normal(place, self.dim) if noise is None else noise[name].reshape(count, batch, steps, self.dim)
            sample = part.sample(
                (start * self._spread).to(known.dtype),
                wanted[name],
                known,
                there,
                sampler=sampler,
                steps=evaluations,
                condition_noise=lambda n, place=place: normal(
                    place + len(self.names) * (n + 1), len(self.names), self.dim
                ),
                generator=generator,
            )
            sample = self.standards[name].undo(sample)
            seen = keep(latents[name], observed[name] & ~wanted[name])
            sample = torch.where(wanted[name].unsqueeze(-1), sample, seen)
            recovered[name] = sample[0] if draws is None else sample
        return recovered

    def _known(
        self, latents: Mapping[str, Tensor], observed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Standardised latents ``(B, T, M, D)`` and where they are known ``(B, T, M)``; never where they are wanted."""
        there = {name: observed[name] & ~wanted[name] for name in self.names}
        known = [self.standards[name](latents[name], there[name]) for name in self.names]
        return torch.stack(known, dim=2), torch.stack([there[name] for name in self.names], dim=2)

    def _check(
        self, latents: Mapping[str, Tensor], observed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> None:
        for what, given in (("latents", latents), ("observed", observed), ("wanted", wanted)):
            if set(given) != set(self.names):
                raise ValueError(f"{what}: expected the modalities {self.names}, got {tuple(given)}")
        first = latents[self.names[0]]
        check_shape(f"latents[{self.names[0]!r}]", first, "B T D", D=self.dim)
        sizes = {"B": first.shape[0], "T": first.shape[1]}
        for name in self.names:
            check_shape(f"latents[{name!r}]", latents[name], "B T D", **sizes, D=self.dim)
            check_mask(f"observed[{name!r}]", observed[name], "B T", **sizes)
            check_mask(f"wanted[{name!r}]", wanted[name], "B T", **sizes)
