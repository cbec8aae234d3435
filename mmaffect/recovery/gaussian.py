"""All modalities as one Gaussian: the exact law of what is absent given whatever is there."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from mmaffect.ops import at_least_float32, check_positive, full_precision, keep
from mmaffect.recovery.gaussian_fit import fit_gaussian
from mmaffect.recovery.slots import check_slot_masks, check_slots, fill_wanted, join_slots, split_slots


class GaussianConditional(NamedTuple):
    """p(x_absent | x_observed), all features side by side."""

    mean: Tensor
    """``(..., D)``; the values themselves where observed"""
    covariance: Tensor
    """``(..., D, D)``; zero in the rows and columns of what is observed"""


class GaussianImputation(nn.Module):
    r"""Recover from a joint Gaussian of all modalities' features; where the data are one, nothing does better.

    .. math::
        x_u \mid x_o \sim N\big(\mu_u + \Sigma_{uo} \Sigma_{oo}^{-1} (x_o - \mu_o),\;
        \Sigma_{uu} - \Sigma_{uo} \Sigma_{oo}^{-1} \Sigma_{ou}\big)

    for any subset o that is there, row by row, in one batched solution: what is absent has a row of the identity
    in its place. Draws are exact (Matheron's rule): the error that this predictor makes on a draw of the whole row is
    added to the conditional mean.

    :meth:`fit` finds moments by maximum likelihood, by EM where entries are absent
    (:func:`~mmaffect.recovery.fit_gaussian`). Steps of a sequence are rows: none is told of its neighbours.

    Args:
        widths: of each modality by name; the order is fixed here.
        shrinkage: λ in [0, 1]: correlations are multiplied by 1 - λ, variances stay. More than 0 is needed where rows
            are fewer than features.

    Shape:
        ``values[m] (..., D_m)``, ``observed[m]``, ``wanted[m] (...)`` → ``(..., D_m)`` by modality.

    Raises:
        ValueError: on no modality, widths that are not positive, or a shrinkage out of range.

    Example:
        >>> gaussian = GaussianImputation({"face": 1, "voice": 1})
        >>> voice = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
        >>> there = torch.ones(100, dtype=torch.bool)
        >>> noise = torch.randn(100, 1, generator=torch.Generator().manual_seed(1))
        >>> _ = gaussian.fit({"face": 2 * voice + 0.1 * noise, "voice": voice}, {"face": there, "voice": there})
        >>> seen = {"face": ~there[:1], "voice": there[:1]}
        >>> x = {"face": torch.zeros(1, 1), "voice": torch.ones(1, 1)}
        >>> round(gaussian(x, seen, {"face": there[:1], "voice": ~there[:1]})["face"].item(), 1)
        2.0
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, widths: Mapping[str, int], *, shrinkage: float = 0.0) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths: expected at least one modality, got none")
        check_positive(widths=min(widths.values()))
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage: expected a share from 0 to 1, got {shrinkage}")
        self.widths, self.shrinkage = dict(widths), shrinkage
        self.dim = sum(widths.values())
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("covariance", torch.eye(self.dim))

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.widths}, shrinkage={self.shrinkage}"

    @torch.no_grad()
    def fit(
        self,
        values: Mapping[str, Tensor],
        observed: Mapping[str, Tensor],
        *,
        iterations: int = 500,
        tolerance: float = 1e-6,
    ) -> int:
        """Find mean and covariance; what was fitted before is forgotten.

        Args:
            values: of each modality, the training split and nothing else.
            observed: True = it is there.
            iterations: of EM at most; complete data need one.
            tolerance: see :func:`~mmaffect.recovery.fit_gaussian`.

        Returns:
            How many iterations it took.

        Raises:
            ValueError: on other names or shapes, a modality never observed, or a covariance that is singular.
        """
        leading = check_slots("values", self.widths, values)
        check_slot_masks("observed", self.widths, observed, leading)
        x = join_slots(self.widths, values, observed).reshape(-1, self.dim)
        there = self._entries(observed).reshape(-1, self.dim)
        fitted = fit_gaussian(x, there, shrinkage=self.shrinkage, iterations=iterations, tolerance=tolerance)
        covariance = fitted.covariance.to(self.covariance)
        if bool(torch.linalg.cholesky_ex(self._as_if(covariance, covariance.diagonal() > 0)).info.any()):
            raise ValueError(
                f"values: expected features of a covariance that is not singular in {covariance.dtype}, got "
                f"{len(x)} rows of {self.dim}; see shrinkage (given {self.shrinkage}), or double()"
            )
        self.mean.copy_(fitted.mean)
        self.covariance.copy_(covariance)
        return fitted.iterations

    def forward(
        self, values: Mapping[str, Tensor], observed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Fill with the conditional mean: observed values as they are, zero where nothing is wanted.

        Args:
            values: of each modality; read where observed.
            observed: True = it is there. Of a row of which nothing is, the mean is all that is known.
            wanted: True = it is to be recovered, whether or not it is there: then its value is not read.

        Raises:
            ValueError: on other names or shapes.
        """
        offset, there, mean, covariance = self._prepare(values, observed, wanted)
        guess = mean + self._regress(offset, there, covariance)
        return fill_wanted(values, observed, wanted, split_slots(self.widths, guess))

    def recover(
        self,
        values: Mapping[str, Tensor],
        observed: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        *,
        draws: int | None = None,
        noise: Tensor | None = None,
        generator: Generator | None = None,
    ) -> dict[str, Tensor]:
        """Fill with draws from the conditional law.

        Args:
            values: of each modality; read where observed.
            observed: True = it is there.
            wanted: True = it is to be recovered.
            draws: how many, K; one, without an axis for it, by default.
            noise: standard normal ``(..., D)`` or ``(K, ..., D)``; drawn by default.
            generator: where it comes from.

        Returns:
            ``(..., D_m)`` or ``(K, ..., D_m)`` by modality.

        Raises:
            ValueError: on other names or shapes.
        """
        offset, there, mean, covariance = self._prepare(values, observed, wanted)
        shape = offset.shape if draws is None else (draws, *offset.shape)
        if noise is None:
            noise = torch.randn(shape, generator=generator, dtype=offset.dtype, device=offset.device)
        elif noise.shape != shape:
            raise ValueError(f"noise: expected shape {tuple(shape)}, got {tuple(noise.shape)}")
        varies = covariance.diagonal() > 0
        root = keep(torch.linalg.cholesky(self._as_if(covariance, varies)), varies)
        with full_precision(root):
            whole = noise.to(offset.dtype) @ root.mT
        missed = torch.where(there, offset - whole, torch.zeros_like(offset))
        guess = mean + whole + self._regress(missed, there, covariance)
        return fill_wanted(values, observed, wanted, split_slots(self.widths, guess))

    def conditional(self, values: Mapping[str, Tensor], observed: Mapping[str, Tensor]) -> GaussianConditional:
        """The conditional law itself, over all features in the order of ``widths``.

        Args:
            values: of each modality; read where observed.
            observed: True = it is there.

        Raises:
            ValueError: on other names or shapes.
        """
        nothing = {name: torch.zeros_like(mask) for name, mask in observed.items()}
        offset, there, mean, covariance = self._prepare(values, observed, nothing)
        guess = torch.where(there, offset + mean, mean + self._regress(offset, there, covariance))
        explained = self._explain(keep(covariance.expand(*there.shape, self.dim), there), there, covariance)
        absent, left = ~there, covariance - explained
        left = keep((left + left.mT) / 2, absent.unsqueeze(-1) & absent.unsqueeze(-2))
        dtype = next(iter(values.values())).dtype
        return GaussianConditional(guess.to(dtype), left.to(dtype))

    def _prepare(
        self, values: Mapping[str, Tensor], observed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Values less their mean, zero where absent; which are there; mean and covariance; in one dtype."""
        leading = check_slots("values", self.widths, values)
        check_slot_masks("observed", self.widths, observed, leading)
        check_slot_masks("wanted", self.widths, wanted, leading)
        known = {name: observed[name] & ~wanted[name] for name in self.widths}
        there = self._entries(known)
        x = at_least_float32(join_slots(self.widths, values, known))
        dtype = torch.promote_types(x.dtype, at_least_float32(self.covariance).dtype)
        mean, covariance = self.mean.to(dtype), self.covariance.to(dtype)
        return keep(x.to(dtype) - mean, there), there, mean, covariance

    def _entries(self, masks: Mapping[str, Tensor]) -> Tensor:
        """The modalities' masks, one entry a feature: ``(..., D)``."""
        return torch.cat([masks[n].unsqueeze(-1).expand(*masks[n].shape, w) for n, w in self.widths.items()], dim=-1)

    def _as_if(self, covariance: Tensor, there: Tensor) -> Tensor:
        """The covariance with rows and columns of the identity in place of what is not there: ``(..., D, D)``."""
        eye = torch.eye(self.dim, dtype=covariance.dtype, device=covariance.device)
        return torch.where(there.unsqueeze(-1) & there.unsqueeze(-2), covariance, eye)

    def _regress(self, offset: Tensor, there: Tensor, covariance: Tensor) -> Tensor:
        """What offsets ``(..., D)`` or ``(K, ..., D)`` of the observed say of all features."""
        if offset.dim() == there.dim():
            return self._explain(offset.unsqueeze(-1), there, covariance).squeeze(-1)
        return self._explain(offset.movedim(0, -1), there, covariance).movedim(-1, 0)

    def _explain(self, offsets: Tensor, there: Tensor, covariance: Tensor) -> Tensor:
        """Their linear regression on the observed, ``Σ_·o Σ_oo^-1 offsets``: ``(..., D, K)`` → the same."""
        # A feature that never varied tells nothing, and its variance of zero cannot be inverted.
        root = torch.linalg.cholesky(self._as_if(covariance, there & (covariance.diagonal() > 0)))
        with full_precision(root):
            return covariance @ torch.cholesky_solve(offsets, root)
