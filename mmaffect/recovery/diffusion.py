"""Recovery by conditional diffusion: what is absent is drawn, given all that is there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mmaffect.diffusion import VESDE, Denoiser, Process, dpmpp_2m, fast_score_network, reference_score_network
from mmaffect.diffusion.prediction import Prediction, Weighting
from mmaffect.diffusion.training_times import Times
from mmaffect.ops import (
    at_least_float32,
    check_choice,
    check_int64,
    check_mask,
    check_modalities,
    check_names,
    check_positive,
    check_shape,
    keep,
)
from mmaffect.recovery.condition import ConditionNoise
from mmaffect.recovery.conditional_diffusion import ConditionalDiffusion
from mmaffect.recovery.noise import recovery_noise
from mmaffect.recovery.standardise import RunningStandardisation

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "fast": fast_score_network,
    "reference": reference_score_network,
}


class DiffusionRecovery(nn.Module):
    r"""Draw absent latents from :math:`p(x_{\text{wanted}} \mid x_{\text{observed}})` (IMDer: Wang et al., 2023, 3.2).

    One diffusion a modality m, on its wanted steps, conditioned on everything observed, of every modality:

    .. math:: L = \frac{1}{N} \sum_m \sum_{\text{wanted}} w(t)\,
              \big\|\hat x_m\big(\alpha(t) x_m + \mathrm{std}(t)\, \varepsilon,\, t;\, c\big) - x_m\big\|^2

    with N the number of wanted entries, w the weighting of :class:`mmaffect.diffusion.Denoiser` and c the
    :class:`ObservedContext`. All modalities share one time axis; each may be observed at some steps, wanted at others
    and neither at the rest, which is padding or truly unknown. Nothing is read but latents at observed steps and, by
    :meth:`loss`, at wanted ones: NaN elsewhere changes neither an output nor a gradient. A step that is both is wanted.

    Latents come and go in the caller's units; inside they are standardised by :class:`RunningStandardisation`, which
    :meth:`loss` feeds in training mode with what is observed or wanted, so that the noise levels fit any latents.
    Sampling starts around the first estimate, since a solver of the probability flow keeps an error of its start: with
    the exact denoiser of a Gaussian world, the start at the moments of the data leaves a 2-Wasserstein distance of
    0.1 to 0.16 from the conditional law, over its standard deviation, after any number of steps.

    Modalities are drawn independently of each other given what is observed, as in the paper: of two that are wanted
    together, each follows its own law, but what they share beyond the condition is not drawn in common.

    Where the paper and its code differ from this: the condition is clean by default (``condition_noise``); sampling is
    no part of training; the probability flow needs 10 evaluations where they take 500 and 100; latents are
    standardised; the modality's own observed steps belong to the condition; one map fuses any subset.

    Args:
        names: the modalities.
        dim: width D of their latents.
        network: of each modality: ``"fast"``; ``"reference"``, the published one; or a function that makes one, which
            is called as ``net(x, t, mask=..., context=..., context_mask=...)`` with a context ``(B, T, D)``. If it has
            a method ``prepare(context, context_mask)``, then while sampling with a clean condition it is called once
            a trajectory, and the network with ``prepared=`` in the place of the two.
        process: of noising; ``VESDE(25.0)``, the paper's, by default.
        prediction: what a network predicts, see :class:`mmaffect.diffusion.Denoiser`.
        preconditioning: ``"karras"``, for which fewer evaluations suffice, or ``"none"``, as published.
        weighting: of the errors, as there; ``"std2"`` is the paper's.
        times: at which times to train, as there.
        condition_noise: ``"clean"``; ``"independent"``: what is observed is noised to the same t, by noise of its own
            (eq. 7-10); ``"shared"``: by the target's own noise, as the published code does in training, so that the
            network learns to read the noise off the condition, which it cannot when sampling. There both are noised
            anew at every evaluation, as published: a solver of the probability flow has no smooth path to follow.
        conditional: False = the networks are told that nothing is observed (the paper's ablation).
        horizon: steps after which standardisation forgets.

    Shape:
        ``latents[m] (B, T, D)``, ``observed[m]``, ``wanted[m] (B, T)``.

    Raises:
        ValueError: on sizes, names or kinds that are not as above.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> recovery = DiffusionRecovery(("voice", "face"), 4)
        >>> latents = {"voice": torch.randn(8, 5, 4), "face": torch.randn(8, 5, 4)}
        >>> there, gone = torch.ones(8, 5, dtype=torch.bool), torch.zeros(8, 5, dtype=torch.bool)
        >>> observed, wanted = {"voice": there, "face": gone}, {"voice": gone, "face": there}
        >>> recovery.loss(latents, wanted=wanted, observed=observed).shape
        torch.Size([])
        >>> latents["face"] = torch.full_like(latents["face"], torch.nan)
        >>> recovered = recovery.recover(latents, observed=observed, wanted=wanted, keys=torch.arange(8))
        >>> torch.equal(recovered["voice"], latents["voice"]), bool(recovered["face"].isfinite().all())
        (True, True)
        >>> recovery.recover(latents, observed=observed, wanted=wanted, draws=3)["face"].shape
        torch.Size([3, 8, 5, 4])
    """

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
        check_names("names", names)
        if isinstance(network, str):
            check_choice("network", network, NETWORKS)
        self.names, self.dim, self.process = tuple(names), dim, VESDE() if process is None else process
        self.standards, self.parts = nn.ModuleDict(), nn.ModuleDict()
        for name in names:
            net = NETWORKS[network](dim) if isinstance(network, str) else network()
            denoiser = Denoiser(
                net, self.process, prediction, preconditioning=preconditioning, weighting=weighting, times=times
            )
            self.standards[name] = RunningStandardisation(dim, horizon=horizon)
            self.parts[name] = ConditionalDiffusion(
                denoiser, len(self.names), dim, condition_noise=condition_noise, conditional=conditional
            )

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
        observed: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean weighted error over the wanted entries of all modalities; zero where nothing is wanted.

        The gradient reaches latents that require one, through the target and the condition: detach them where the
        diffusion alone is to learn.

        Args:
            latents: the truth, where wanted or observed.
            observed: True = known, and part of the condition.
            wanted: True = to be recovered.
            generator: where the randomness comes from.

        Returns:
            Scalar, float32 at least.

        Raises:
            ValueError: on other names or shapes, or masks that are not bool.
        """
        self._check(latents, observed, wanted)
        if self.training:
            for name in self.names:
                self._standard(name).update(latents[name], observed[name] | wanted[name])
        known, there = self._known(latents, observed, wanted)
        losses = []
        for name in self.names:
            truth = self._standard(name)(latents[name], wanted[name])
            losses.append(self._part(name).loss(truth, wanted[name], known, there, generator=generator))
        entries = torch.stack([wanted[name].sum() for name in self.names])
        return (torch.stack(losses) * entries).sum() / entries.sum().clamp(min=1)

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
        """Draw what is wanted, given what is observed; without gradient.

        Args:
            latents: read where observed.
            observed: True = known.
            wanted: True = to be recovered.
            draws: how many, independent given what is observed; None = one, without an axis for it.
            sampler: one of ``mmaffect.diffusion``; options of its own through ``functools.partial``.
            evaluations: of each network: one to find where to start, and one at each noise level; ``heun`` and
                ``predictor_corrector`` take twice as many levels' worth.
            noise: which each modality's sampling starts from, standard normal, in place of ``keys`` or ``generator``.
            keys: a number for each sample, such as ``batch.index``: its noise is then a function of key and ``seed``
                (:func:`mmaffect.ops.keyed_normal`), and a deterministic sampler recovers it alike in any batch.
            seed: beside the keys.
            generator: where all other randomness comes from, that of a stochastic sampler always.

        Shape:
            ``noise[m] (B, T, D)``, or ``(K, B, T, D)`` of K draws; ``keys (B,)`` → of each modality ``(B, T, D)``, or
            ``(K, B, T, D)``.

        Returns:
            Observed steps as they are, wanted ones recovered, all others zero.

        Raises:
            ValueError: on other names or shapes, masks that are not bool, keys that are not int64, draws
                below 1 or evaluations below 2.
        """
        self._check(latents, observed, wanted)
        count = 1 if draws is None else draws
        check_positive(draws=count)
        known, there = self._known(latents, observed, wanted)
        batch, steps = known.shape[:2]
        if evaluations < 2:
            raise ValueError(f"evaluations: expected at least 2, got {evaluations}")
        if keys is not None:
            check_shape("keys", keys, "B", B=batch)
            check_int64(keys=keys)
        like = at_least_float32(known)

        def normal(stream: int, *shape: int) -> Tensor:
            sizes = count, batch, steps, *shape
            return recovery_noise(*sizes, keys=keys, seed=seed, stream=stream, generator=generator, like=like)

        recovered = {}
        for place, name in enumerate(self.names):

            def condition_noise(evaluation: int, place: int = place) -> Tensor:
                return normal(place + len(self.names) * (evaluation + 1), len(self.names), self.dim)

            drawn = normal(place, self.dim) if noise is None else self._given(name, noise, draws, known)
            sample = self._part(name).sample(
                drawn.to(known.dtype),
                wanted[name],
                known,
                there,
                sampler=sampler,
                evaluations=evaluations,
                condition_noise=condition_noise,
                generator=generator,
            )
            seen = keep(latents[name], observed[name])
            sample = torch.where(wanted[name].unsqueeze(-1), self._standard(name).undo(sample), seen)
            recovered[name] = sample[0] if draws is None else sample
        return recovered

    def _known(
        self, latents: Mapping[str, Tensor], observed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Standardised latents ``(B, T, M, D)`` and where they are known ``(B, T, M)``."""
        there = {name: observed[name] & ~wanted[name] for name in self.names}
        known = [self._standard(name)(latents[name], there[name]) for name in self.names]
        return torch.stack(known, dim=2), torch.stack([there[name] for name in self.names], dim=2)

    def _given(self, name: str, noise: Mapping[str, Tensor], draws: int | None, known: Tensor) -> Tensor:
        """The noise that the caller gave, ``(K, B, T, D)``."""
        check_modalities("noise", noise, self.names)
        sizes = {"B": known.shape[0], "T": known.shape[1], "D": self.dim}
        if draws is None:
            check_shape(f"noise[{name!r}]", noise[name], "B T D", **sizes)
            return noise[name].unsqueeze(0)
        check_shape(f"noise[{name!r}]", noise[name], "K B T D", K=draws, **sizes)
        return noise[name]

    def _check(
        self, latents: Mapping[str, Tensor], observed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> None:
        for what, given in (("latents", latents), ("observed", observed), ("wanted", wanted)):
            check_modalities(what, given, self.names)
        first = latents[self.names[0]]
        check_shape(f"latents[{self.names[0]!r}]", first, "B T D", D=self.dim)
        sizes = {"B": first.shape[0], "T": first.shape[1]}
        for name in self.names:
            check_shape(f"latents[{name!r}]", latents[name], "B T D", **sizes, D=self.dim)
            check_mask(f"observed[{name!r}]", observed[name], "B T", **sizes)
            check_mask(f"wanted[{name!r}]", wanted[name], "B T", **sizes)

    def _standard(self, name: str) -> RunningStandardisation:
        return cast(RunningStandardisation, self.standards[name])

    def _part(self, name: str) -> ConditionalDiffusion:
        return cast(ConditionalDiffusion, self.parts[name])
