"""CIDer's label debiasing: a mixture of classifiers, one a class prototype."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmaffect.causal.backdoor import as_log_prior, backdoor_adjust
from mmaffect.ops import at_least_float32, check_int64, check_mask, check_positive, check_shape, keep

CHUNK = 64  # samples that are summed at once: a whole split in float64 may not fit into memory


def class_prototypes(values: Tensor, labels: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Mean of each class over the real steps of its samples; call it on the training split and on nothing else.

    Every real step counts alike, so a long sample counts for more than a short one. The published code seems to
    average over padding too, and takes new means from the labels of the split it is tested on.

    Args:
        values: one modality of the whole training split.
        labels: class of each sample, or of each step; negative ones (-100) are unknown and left out.
        mask: True = a real step.
        classes: how many there are.

    Shape:
        ``values (N, T, D)``, ``labels (N,)`` or ``(N, T)`` int64, ``mask (N, T)`` → ``(classes, D)``.

    Raises:
        ValueError: on other shapes, labels out of range, or a class without any real step, which has no mean.

    Example:
        >>> values = torch.tensor([[[1.0], [3.0]], [[7.0], [9.0]]])
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> class_prototypes(values, torch.tensor([0, 1]), mask, 2).flatten().tolist()
        [2.0, 7.0]
    """
    total, counts = class_totals(values, labels, mask, classes)
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"labels: expected a real step in every one of {classes} classes, got none in {empty}")
    return (total / counts.unsqueeze(-1)).to(values.dtype)


def class_totals(values: Tensor, labels: Tensor, mask: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sums of each class over the real steps of its samples, and their number: of a split that comes in batches.

    Summed over the batches, their quotient is what :func:`class_prototypes` gives of the whole.

    Args:
        values: one modality of some samples.
        labels: as in :func:`class_prototypes`.
        mask: True = a real step.
        classes: how many there are.

    Shape:
        ``values (N, T, D)``, ``labels (N,)`` or ``(N, T)`` int64, ``mask (N, T)`` → ``(classes, D)``, ``(classes,)``,
        both float64.

    Raises:
        ValueError: on other shapes, or labels out of range.

    Example:
        >>> total, counts = class_totals(
        ...     torch.tensor([[[1.0], [3.0]]]), torch.tensor([1]), torch.ones(1, 2, dtype=torch.bool), 2)
        >>> total.flatten().tolist(), counts.tolist()
        ([0.0, 4.0], [0.0, 2.0])
    """
    check_shape("values", values, "N T D")
    check_mask("mask", mask, "N T", N=values.shape[0], T=values.shape[1])
    if labels.dim() == 1:
        check_shape("labels", labels, "N", N=values.shape[0])
        labels = labels.unsqueeze(1)
    else:
        check_shape("labels", labels, "N T", N=values.shape[0], T=values.shape[1])
    check_int64(labels=labels)
    if bool((labels >= classes).any()):
        raise ValueError(f"labels: expected classes from 0 to {classes - 1}, got {int(labels.max())}")
    counts = torch.zeros(classes, dtype=torch.float64, device=values.device)
    total = torch.zeros(classes, values.shape[-1], dtype=torch.float64, device=values.device)
    for start in range(0, len(values), CHUNK):
        value, label, real = (part[start : start + CHUNK] for part in (values, labels, mask))
        member = (label.unsqueeze(-1) == torch.arange(classes, device=label.device)) & real.unsqueeze(-1)
        member = member.flatten(0, 1).double()
        counts += member.sum(0)
        total += member.mT @ keep(value, real).flatten(0, 1).double()
    return total, counts


class PrototypeHead(nn.Module):
    r"""A mixture of classifiers, one a class prototype: CIDer's multimodal causal module.

    .. math:: e_{i,m} = \mathrm{MLP}_m(\bar x_{i,m}), \qquad
              p(y \mid h) = \sum_i P(i)\, \mathrm{softmax}(W_i [h; e_{i,1}; \dots; e_{i,M}] + b_i)

    **This head makes no causal claim.** The paper reads i as a confounder and the sum as P(y | do(x)). But i is nothing
    a sample has: only the mixture meets the labels, and what maximises its likelihood is P(y | x), as near as
    it can express it (measured in the guide). Nor does the prototype depend on the sample: it reaches the logits as one
    constant a classifier. For the do-distribution use :class:`BackdoorHead`, which needs the confounder observed.

    The prototypes are buffers: they are saved with the head, and ``forward`` takes no others.

    Args:
        dim: width of the joint state h.
        prototypes: class means by modality, see :func:`class_prototypes`; the order is fixed here.
        prior: P(i), such as :func:`~mmaffect.causal.class_frequencies` of the training labels.
        hidden: width of the prototypes' encoders, three linear maps with ReLU between.
        learn_prior: whether P(i) moves from the one given: a parameter added to its logarithm, before a softmax.

    Shape:
        ``hidden (..., D)``, ``prototypes[m] (C, D_m)`` → ``(..., C)``.

    Raises:
        ValueError: on sizes that are not positive, no modality, prototypes of other shapes, or a prior that is no
            distribution.

    Example:
        >>> head = PrototypeHead(8, {"face": torch.randn(3, 5), "voice": torch.randn(3, 2)}, prior=[0.5, 0.3, 0.2])
        >>> head(torch.randn(4, 8)).shape
        torch.Size([4, 3])
    """

    given_log_prior: Tensor

    def __init__(
        self,
        dim: int,
        prototypes: Mapping[str, Tensor],
        *,
        prior: Tensor | Sequence[float],
        hidden: int = 32,
        learn_prior: bool = False,
    ) -> None:
        super().__init__()
        check_positive(dim=dim, hidden=hidden)
        if not prototypes:
            raise ValueError("prototypes: expected at least one modality, got none")
        self.register_buffer("given_log_prior", as_log_prior(prior))
        self.dim, self.classes = dim, len(self.given_log_prior)
        for name, means in prototypes.items():
            check_shape(f"prototypes[{name!r}]", means, "C D", C=self.classes)
        # A list, since a ModuleDict refuses names with a dot and some others.
        self.names = tuple(prototypes)
        self.encoders = nn.ModuleList(_PrototypeEncoder(means, hidden) for means in prototypes.values())
        self.weight = nn.Parameter(torch.empty(self.classes, self.classes, dim + hidden * len(prototypes)))
        self.bias = nn.Parameter(torch.empty(self.classes, self.classes))
        self.prior_shift = nn.Parameter(torch.empty(self.classes)) if learn_prior else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all maps anew as ``nn.Linear`` does; a learned prior goes back to the one given."""
        for part in self.encoders.modules():
            if isinstance(part, nn.Linear):
                part.reset_parameters()
        bound = 1 / math.sqrt(self.weight.shape[-1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        if self.prior_shift is not None:
            nn.init.zeros_(self.prior_shift)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, classes={self.classes}, names={self.names}, learn_prior={self.prior_shift is not None}"

    @torch.no_grad()
    def fill(self, prototypes: Mapping[str, Tensor], prior: Tensor | Sequence[float]) -> None:
        """Put other prototypes and another prior in their place, as of a head that was built before its data were seen.

        Args:
            prototypes: class means by modality, of the shapes that the head was built with.
            prior: P(i).

        Raises:
            ValueError: on other names or shapes, or a prior that is no distribution.
        """
        if tuple(prototypes) != self.names:
            raise ValueError(f"prototypes: expected {self.names}, got {tuple(prototypes)}")
        log_prior = as_log_prior(prior)
        check_shape("prior", log_prior, "C", C=self.classes)
        for encoder, (name, means) in zip(self.encoders, prototypes.items(), strict=True):
            held = encoder.get_buffer("means")
            check_shape(f"prototypes[{name!r}]", means, "C D", C=self.classes, D=held.shape[1])
            held.copy_(means)
        self.given_log_prior.copy_(log_prior)

    @property
    def log_prior(self) -> Tensor:
        """The logarithm of P(i), as given or as learned: ``(C,)``."""
        given = at_least_float32(self.given_log_prior)
        # Normalised in either case, as a head in half precision has rounded what was given.
        return (given if self.prior_shift is None else given + self.prior_shift).log_softmax(0)

    def forward(self, hidden: Tensor, *, uniform: bool = False) -> Tensor:
        """Log-probabilities of y.

        Args:
            hidden: one joint state a sample, or a step.
            uniform: weigh the classifiers equally instead of by P(i), as the published code does outside training.

        Raises:
            ValueError: on another width.
        """
        if hidden.dim() < 1 or hidden.shape[-1] != self.dim:
            raise ValueError(f"hidden: expected shape (..., D) with D = {self.dim}, got {tuple(hidden.shape)}")
        # W_i [h; e_i] + b_i in its two parts: the second is the same for every sample.
        encoded = torch.cat([encoder() for encoder in self.encoders], dim=-1)
        constant = torch.einsum("ke,kce->kc", encoded, self.weight[:, :, self.dim :]) + self.bias
        own = nn.functional.linear(hidden, self.weight[:, :, : self.dim].flatten(0, 1))
        own = own.reshape(*hidden.shape[:-1], self.classes, self.classes)
        logits = at_least_float32(own) + at_least_float32(constant)
        log_prior = self.log_prior
        if uniform:
            log_prior = torch.full_like(log_prior, -math.log(self.classes))
        return backdoor_adjust(logits.log_softmax(-1), log_prior).to(hidden.dtype)


class _PrototypeEncoder(nn.Module):
    """One modality's prototypes, and three linear maps of them with ReLU between: → ``(C, hidden)``."""

    means: Tensor

    def __init__(self, means: Tensor, hidden: int) -> None:
        super().__init__()
        self.register_buffer("means", means.detach().clone().to(torch.get_default_dtype()))
        self.maps = nn.Sequential(
            nn.Linear(means.shape[1], hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
        )

    def forward(self) -> Tensor:
        """Encode all prototypes."""
        encoded: Tensor = self.maps(self.means)
        return encoded
