"""A structural causal model of affect, modalities, a confounder and a label, all of it known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from mmaffect.data.gaussian_softmax import balancing_bias
from mmaffect.ops import check_choice, check_positive

RESERVED = ("affect", "confounder", "label")


class CausalGraph(NamedTuple):
    """Who acts on whom: ``adjacency[i, j]`` is True where ``names[i]`` acts directly on ``names[j]``."""

    names: tuple[str, ...]
    adjacency: Tensor


@dataclass(frozen=True)
class StructuralModel:
    r"""Linear-Gaussian modalities around an affect, a confounder, and a softmax label.

    .. math::
        a \sim N(0, I_k), \quad c \sim \text{prior}, \quad
        x = W a + E x + S_c + \sigma \odot \varepsilon, \quad
        y \sim \text{softmax}(B x + U_c + b)

    with x the features of all modalities side by side and E strictly triangular in some order of them. So the
    affect is a common cause of the modalities, and c one of a modality and the label.

    Args:
        widths: features of each modality by name; D in all.
        loadings: W, what the affect does ``(D, k)``.
        coupling: E, what modalities do to each other ``(D, D)``; row = the feature acted on.
        shifts: S, what the confounder does to the features ``(K, D)``.
        noise: σ, standard deviations ``(D,)``.
        prior: of the confounder's values ``(K,)``.
        readout: B, what the features do to the logits ``(C, D)``.
        offsets: U, what the confounder does to the logits ``(K, C)``.
        bias: b ``(C,)``.
    """

    widths: dict[str, int]
    loadings: Tensor
    coupling: Tensor
    shifts: Tensor
    noise: Tensor
    prior: Tensor
    readout: Tensor
    offsets: Tensor
    bias: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in order."""
        return tuple(self.widths)

    @property
    def total(self) -> Tensor:
        """What a unit put into one feature does to all of them, ``(I - E)^-1``: ``(D, D)``."""
        return torch.linalg.inv(torch.eye(len(self.noise), dtype=self.coupling.dtype) - self.coupling)

    @property
    def means(self) -> Tensor:
        """E[x | c]: ``(K, D)``."""
        return self.shifts @ self.total.T

    @property
    def covariance(self) -> Tensor:
        """Cov[x | c], the same for every c: ``(D, D)``."""
        total = self.total
        return total @ (self.loadings @ self.loadings.T + self.noise.square().diag()) @ total.T

    @property
    def graph(self) -> CausalGraph:
        """The causal graph over affect, modalities, confounder and label."""
        names = ("affect", *self.names, "confounder", "label")
        adjacency = torch.zeros(len(names), len(names), dtype=torch.bool)
        blocks = {name: self.columns([name]) for name in self.names}
        for i, block in enumerate(blocks.values(), start=1):
            adjacency[0, i] = bool(self.loadings[block].any())
            adjacency[-2, i] = bool(self.shifts[:, block].any())
            adjacency[i, -1] = bool(self.readout[:, block].any())
            for j, other in enumerate(self.names, start=1):
                adjacency[i, j] = bool(self.coupling[blocks[other]][:, block].any())
        adjacency[-2, -1] = bool(self.offsets.any())
        return CausalGraph(names, adjacency)

    def columns(self, names: Sequence[str]) -> Tensor:
        """Where the features of these modalities stand, in the order asked: int64."""
        starts = dict(zip(self.widths, torch.tensor([0, *self.widths.values()]).cumsum(0).tolist(), strict=False))
        ranges = [torch.arange(starts[n], starts[n] + self.widths[n]) for n in names]
        return torch.cat(ranges) if ranges else torch.zeros(0, dtype=torch.int64)

    def cut(self, name: str) -> "StructuralModel":
        """The model after an intervention: nothing acts on this modality any more, and its value is 0."""
        kept = torch.ones(len(self.noise), dtype=self.noise.dtype)
        kept[self.columns([name])] = 0
        return replace(
            self,
            loadings=self.loadings * kept[:, None],
            coupling=self.coupling * kept[:, None],
            shifts=self.shifts * kept,
            noise=self.noise * kept,
        )

    def features(self, affect: Tensor, confounder: Tensor, noise: Tensor) -> Tensor:
        """Compute x from its causes: ``(..., k)``, int64 ``(...)``, standard normal ``(..., D)`` → ``(..., D)``."""
        return (affect @ self.loadings.T + self.shifts[confounder] + self.noise * noise) @ self.total.T

    def logits(self, features: Tensor, confounder: Tensor) -> Tensor:
        """Logits of the label: ``(..., D)``, int64 ``(...)`` → ``(..., C)``."""
        return features @ self.readout.T + self.offsets[confounder] + self.bias


def structural_model(
    modalities: Mapping[str, int],
    *,
    class_shares: Sequence[float],
    affect: int,
    loading: float,
    noise: float | Mapping[str, float],
    sharpness: float,
    edges: Mapping[tuple[str, str], float],
    label_from: Sequence[str] | None,
    confounder_prior: Sequence[float],
    confounder_shift: float,
    confounder_strength: float,
    confounded: str | None,
    generator: Generator,
) -> StructuralModel:
    """Draw a model; what each argument scales is said at :func:`mmaffect.data.synthetic_affect`.

    Returns:
        The model in float64, its bias solved so that the marginal class shares are those asked for.

    Raises:
        ValueError: (``InputError`` for names) naming the argument that is out of range.
    """
    widths = dict(modalities)
    names = tuple(widths)
    sources = names if label_from is None else tuple(label_from)
    moved = names[0] if confounded is None else confounded
    noises = dict(noise) if isinstance(noise, Mapping) else dict.fromkeys(names, noise)
    _check_names(names, sources, moved, noises, edges)
    positive = {"sharpness": sharpness, **{f"noise[{n!r}]": s for n, s in noises.items()}}
    check_positive(affect=affect, **positive)
    scales = {"loading": loading, "confounder_shift": confounder_shift, "confounder_strength": confounder_strength}
    for argument, value in (scales | positive).items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{argument}: expected a finite value of at least 0, got {value}")
    prior, shares = _distribution("confounder_prior", confounder_prior), _distribution("class_shares", class_shares)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def contrasts(size: int) -> Tensor:
        """One vector a value of the confounder: mean 0 and mean square 1 (over entries) under the prior."""
        drawn = normal(len(prior), size)
        drawn = drawn - prior @ drawn
        return drawn / (prior @ drawn.square()).mean().sqrt()

    features, classes = sum(widths.values()), len(shares)
    model = StructuralModel(
        widths=widths,
        loadings=loading * torch.nn.functional.normalize(normal(features, affect), dim=1),
        coupling=torch.zeros(features, features, dtype=torch.float64),
        shifts=torch.zeros(len(prior), features, dtype=torch.float64),
        noise=torch.cat([torch.full((widths[n],), float(noises[n]), dtype=torch.float64) for n in names]),
        prior=prior,
        readout=torch.zeros(classes, features, dtype=torch.float64),
        offsets=confounder_strength * contrasts(classes),
        bias=torch.zeros(classes, dtype=torch.float64),
    )
    block = {name: model.columns([name]) for name in names}
    model.shifts[:, block[moved]] = confounder_shift * contrasts(widths[moved])
    for (cause, effect), weight in edges.items():
        mixing = normal(widths[effect], widths[cause]) / math.sqrt(widths[cause])
        model.coupling[block[effect][:, None], block[cause]] = weight * mixing
    spread = model.covariance + model.means.T @ (prior[:, None] * model.means)
    for name in names:  # drawn for every modality, so that label_from leaves the other draws as they are
        drawn = normal(classes, widths[name])
        if name in sources:
            model.readout[:, block[name]] = _scaled(drawn, spread[block[name]][:, block[name]])
    readout = sharpness * _scaled(model.readout, spread)
    model = replace(model, readout=readout)
    logits = model.means @ readout.T + model.offsets
    return replace(model, bias=balancing_bias(logits, readout @ model.covariance @ readout.T, prior, shares))


def _scaled(readout: Tensor, covariance: Tensor) -> Tensor:
    """Centre over classes; bring the logits' variance, averaged over classes, to 1."""
    centred = readout - readout.mean(0)
    return centred / ((centred @ covariance).mul(centred).sum() / len(readout)).sqrt()


def _distribution(name: str, given: Sequence[float]) -> Tensor:
    values = torch.tensor([float(v) for v in given], dtype=torch.float64)
    if len(values) < 2 or not bool((values > 0).all()) or not abs(float(values.sum()) - 1) < 1e-6:
        raise ValueError(f"{name}: expected at least 2 positive numbers of sum 1, got {tuple(given)}")
    return values / values.sum()


def _check_names(
    names: tuple[str, ...],
    sources: tuple[str, ...],
    moved: str,
    noises: Mapping[str, float],
    edges: Mapping[tuple[str, str], float],
) -> None:
    for reserved in set(names) & set(RESERVED):
        raise ValueError(f"modalities: expected names other than {RESERVED}, which the graph uses, got {reserved!r}")
    check_choice("confounded", moved, names)
    for name in sources:
        check_choice("label_from", name, names)
    if not sources:
        raise ValueError(f"label_from: expected at least one modality of {names}, got none")
    for name in noises:
        check_choice("noise", name, names)
    if set(noises) != set(names):
        raise ValueError(f"noise: expected a value for each of {names}, got {tuple(noises)}")
    causes: dict[str, set[str]] = {name: set() for name in names}
    for (cause, effect), weight in edges.items():
        check_choice("edges", cause, names)
        check_choice("edges", effect, names)
        if not math.isfinite(weight):
            raise ValueError(f"edges[{cause!r}, {effect!r}]: expected a finite number, got {weight}")
        causes[effect].add(cause)
    try:
        TopologicalSorter(causes).prepare()
    except CycleError as error:
        raise ValueError(f"edges: expected no cycle, got {' → '.join(error.args[1])}") from None
