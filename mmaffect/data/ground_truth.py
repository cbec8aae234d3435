"""What is true of a structural model: what seeing and doing tell of the label, and of what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mmaffect.data.gaussian_softmax import softmax_expectation
from mmaffect.data.structural_model import CausalGraph, StructuralModel
from mmaffect.ops import check_choice, check_shape


class ConditionalMoments(NamedTuple):
    """p(x_missing | x_observed), a mixture over the confounder of Gaussians of one covariance."""

    mean: Tensor
    """of the mixture ``(N, D)``"""
    covariance: Tensor
    """of the mixture ``(N, D, D)``"""
    weights: Tensor
    """p(c | x_observed), or one-hot where c is given ``(N, K)``"""
    means: Tensor
    """of the components ``(N, K, D)``"""
    within: Tensor
    """covariance of every component ``(D, D)``"""


class BayesAccuracy(NamedTuple):
    """What no classifier can exceed; each is reached by its own decision rule."""

    accuracy: float
    """by choosing the most probable class"""
    balanced: float
    """mean recall over classes, by choosing the class most probable relative to its share"""


@dataclass(frozen=True)
class GroundTruth:
    r"""Closed-form answers about one step of a :class:`StructuralModel`.

    All that is Gaussian is exact; the one integral left, the mean of a softmax over Gaussian logits, is
    :func:`~mmaffect.data.gaussian_softmax.softmax_expectation`, whose accuracy is stated there. Nothing here
    knows of missingness: a modality that is not given is integrated out, which is right for any mechanism that
    does not look at the values. In a dialogue this is the truth given one step alone; its neighbours tell more.

    Inputs may be of any floating dtype; answers are float64. Observed values: ``(N, D_m)`` by modality.

    Args:
        model: what the data were drawn from.

    Example:
        >>> from mmaffect.data import synthetic_affect
        >>> truth = synthetic_affect({"face": 2, "voice": 3}, sizes=(4, 4, 4)).truth
        >>> truth.posterior({"voice": torch.zeros(5, 3)}).shape
        torch.Size([5, 4])
        >>> truth.conditional_moments({"voice": torch.zeros(5, 3)}, ["face"]).mean.shape
        torch.Size([5, 2])
    """

    model: StructuralModel

    @property
    def graph(self) -> CausalGraph:
        """Names and adjacency over affect, modalities, confounder and label."""
        return self.model.graph

    @property
    def class_shares(self) -> Tensor:
        """P(y) ``(C,)``."""
        return self.posterior({})[0]

    def observational(self, name: str, x: Tensor) -> Tensor:
        """P(y | x_m = x): what seeing the value of one modality tells of the label.

        Shape:
            ``(N, D_m)`` → ``(N, C)``.
        """
        return self.posterior({name: x})

    def interventional(self, name: str, x: Tensor) -> Tensor:
        r"""P(y | do(x_m = x)): the law of the label when the modality is set to a value, whatever its causes say.

        Arrows into the modality are cut (Pearl, 2009, eq. 3.10): affect and confounder keep their prior, and
        modalities that the one acts on follow it. It differs from :meth:`observational` by every back-door path,
        the confounder and the affect (x_m ← a → x_m' → y) alike.

        Shape:
            ``(N, D_m)`` → ``(N, C)``.

        Raises:
            ValueError: on an unknown name (``InputError``) or another shape.
        """
        check_choice("name", name, self.model.names)
        check_shape("x", x, "N D", D=self.model.widths[name])
        model = self.model.cut(name)
        readout = model.readout
        moved = (x.double() @ model.total[:, model.columns([name])].T) @ readout.T
        logits = moved[:, None] + model.means @ readout.T + model.offsets + model.bias
        return self._mix(logits, readout @ model.covariance @ readout.T, model.prior.expand(len(x), -1))

    def posterior(self, observed: Mapping[str, Tensor], confounder: Tensor | None = None) -> Tensor:
        """P(y | x_observed) or P(y | x_observed, c): the Bayes-optimal prediction from any subset of modalities.

        Args:
            observed: values by modality, in any order; none of them gives P(y) or P(y | c).
            confounder: its value where it is known; averaged over where it is not.

        Shape:
            ``(N, D_m)`` each, int64 ``(N,)`` → ``(N, C)``; N = 1 where nothing is given.

        Raises:
            ValueError: on unknown names (``InputError``), other shapes, or confounders out of range.
        """
        model = self.model
        missing = [n for n in model.names if n not in observed]
        _, _, weights, means, within = self.conditional_moments(observed, missing, confounder)
        unseen = model.readout[:, model.columns(missing)]
        logits = means @ unseen.T + model.offsets + model.bias
        for name, x in observed.items():
            logits = logits + (x.double() @ model.readout[:, model.columns([name])].T)[:, None]
        return self._mix(logits, unseen @ within @ unseen.T, weights)

    def conditional_moments(
        self, observed: Mapping[str, Tensor], missing: Sequence[str], confounder: Tensor | None = None
    ) -> ConditionalMoments:
        """p(x_missing | x_observed) or p(x_missing | x_observed, c).

        Args:
            observed: values by modality, in any order; may be empty.
            missing: other modalities, side by side in the answer in this order.
            confounder: its value where it is known.

        Shape:
            ``(N, D_m)`` each, int64 ``(N,)`` → see :class:`ConditionalMoments`, D = features of ``missing``.

        Raises:
            ValueError: on unknown names (``InputError``), a modality on both sides, other shapes, or confounders
                out of range.
        """
        rows = self._check(observed, confounder)
        for name in missing:
            check_choice("missing", name, self.model.names)
            if name in observed:
                raise ValueError(f"missing: expected modalities that are not observed, got {name!r}")
        model, seen, unseen = self.model, self.model.columns(list(observed)), self.model.columns(missing)
        covariance, centres = model.covariance, model.means
        values = [x.double() for x in observed.values()]
        x = torch.cat(values, dim=1) if values else centres.new_zeros(rows, 0)
        residual = x[:, None] - centres[:, seen]
        root = torch.linalg.cholesky(covariance[seen][:, seen])
        gain = torch.cholesky_solve(covariance[seen][:, unseen], root).T
        means = centres[:, unseen] + residual @ gain.T
        within = covariance[unseen][:, unseen] - gain @ covariance[seen][:, unseen]
        if confounder is None:
            white = torch.linalg.solve_triangular(root, residual.transpose(1, 2), upper=False)
            weights = (model.prior.log() - white.square().sum(1) / 2).softmax(1)
        else:
            weights = torch.nn.functional.one_hot(confounder, len(model.prior)).double()
        mean = torch.einsum("nk,nkd->nd", weights, means)
        apart = means - mean[:, None]
        between = torch.einsum("nk,nkd,nke->nde", weights, apart, apart)
        return ConditionalMoments(mean, within + between, weights, means, within)

    def bayes_accuracy(
        self,
        names: Sequence[str],
        *,
        knows_confounder: bool = False,
        draws: int = 2048,
        generator: Generator | None = None,
    ) -> BayesAccuracy:
        """The best accuracy from these modalities of one step.

        Posteriors are exact; their mean over x is taken over draws (standard error below 0.5 / sqrt(draws) for the
        accuracy; the balanced one weighs classes by their inverse share, and so is less certain where one is rare).

        Args:
            names: the modalities at hand.
            knows_confounder: whether c is at hand too.
            draws: how many steps are drawn.
            generator: of the draws; seeded with 0 by default.

        Raises:
            ValueError: (``InputError``) on an unknown name.
        """
        model = self.model
        for name in names:
            check_choice("names", name, model.names)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        c = torch.multinomial(model.prior, draws, replacement=True, generator=generator)
        shapes = (draws, model.loadings.shape[1]), (draws, len(model.noise))
        affect, noise = (torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes)
        x = model.features(affect, c, noise)
        observed = {n: x[:, model.columns([n])] for n in names}
        posterior = self.posterior(observed, c if knows_confounder else None)
        relative = posterior / self.class_shares
        return BayesAccuracy(float(posterior.amax(1).mean()), float(relative.amax(1).mean()) / posterior.shape[1])

    def _mix(self, logits: Tensor, covariance: Tensor, weights: Tensor) -> Tensor:
        """Mean softmax of a mixture: logits ``(N, K, C)``, covariance ``(C, C)``, weights ``(N, K)``."""
        parts = softmax_expectation(logits.flatten(0, 1), covariance).view_as(logits)
        return (weights[:, :, None] * parts).sum(1)

    def _check(self, observed: Mapping[str, Tensor], confounder: Tensor | None) -> int:
        rows = {len(x) for x in observed.values()} | ({len(confounder)} if confounder is not None else set())
        if len(rows) > 1:
            raise ValueError(f"observed: expected as many rows everywhere, got {sorted(rows)}")
        for name, x in observed.items():
            check_choice("observed", name, self.model.names)
            check_shape(f"observed[{name!r}]", x, "N D", D=self.model.widths[name])
        values = len(self.model.prior)
        if confounder is not None and not bool(((confounder >= 0) & (confounder < values)).all()):
            raise ValueError(
                f"confounder: expected values from 0 to {values - 1}, got {sorted(set(confounder.tolist()))}"
            )
        return rows.pop() if rows else 1
