"""The half of MACI that takes a head's place: a mixture of classifiers, one a class prototype."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmaffect.causal import PrototypeHead, class_totals
from mmaffect.data import MultimodalBatch
from mmaffect.heads import PredictionHead
from mmaffect.ops import InputError


class ClassMixture(nn.Module):
    """A prototype head in the place of a system's own, before its prototypes are known.

    Args:
        system: the innermost one, with the head to replace: of a plain one the dropout is kept.
        hidden: width of the prototypes' encoders.
        uniform: outside of training the classifiers count alike, as published, and not by the classes' shares.

    Raises:
        InputError: if the head does not map one joint state to one logit a class.
    """

    def __init__(self, system: Any, *, hidden: int, uniform: bool) -> None:
        super().__init__()
        spec, head = system.spec, system.head
        first, last = (head[0], head[-1]) if isinstance(head, nn.Sequential) else (head, head)
        dim = getattr(first, "dim", getattr(first, "in_features", None))
        outputs = getattr(last, "outputs", getattr(last, "out_features", None))
        if not isinstance(dim, int) or outputs != spec.outputs:
            raise InputError(
                f"MACI: expected a head from one joint state to {spec.outputs} logits, one a class; that of "
                f"{type(system).__name__} has {outputs}"
            )
        self.uniform = uniform
        self.dropout = nn.Dropout(last.dropout.p if isinstance(last, PredictionHead) else 0.0)
        zeros = {name: torch.zeros(spec.outputs, width) for name, width in spec.modalities.items()}
        prior = torch.full((spec.outputs,), 1 / spec.outputs)
        self.mixture = PrototypeHead(dim, zeros, prior=prior, hidden=hidden)

    def fill(self, sums: dict[str, list[Tensor]], prior: Tensor, classes: Sequence[str]) -> None:
        """Put in the means that sums and numbers of steps give, and the prior.

        Raises:
            InputError: if a class has no step of some modality.
        """
        for name, (_, number) in sums.items():
            empty = [classes[i] for i in (number == 0).nonzero().flatten().tolist()]
            if empty:
                raise InputError(
                    f"train: expected some steps of {name!r} in every class, got none in {', '.join(empty)}"
                )
        means = {name: total / number.unsqueeze(-1) for name, (total, number) in sums.items()}
        self.mixture.fill(means, prior)

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of the classes."""
        out: Tensor = self.mixture(self.dropout(hidden), uniform=self.uniform and not self.training)
        return out


def class_sums(batch: MultimodalBatch, classes: int) -> dict[str, list[Tensor]]:
    """By modality, the sum of each class over its real steps, and their number."""
    return {n: list(class_totals(x, batch.targets, batch.masks[n], classes)) for n, x in batch.inputs.items()}
