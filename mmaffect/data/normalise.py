"""Normalisation: mean and standard deviation of what was observed in training, or within each group without labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmaffect.ops import InputError


class Statistics(NamedTuple):
    """Mean, population standard deviation and number of values of each group and column, ``(G, D)``."""

    mean: Tensor
    sd: Tensor
    number: Tensor


def group_statistics(values: Tensor, valid: Tensor, group: Tensor, groups: int) -> Statistics:
    """Mean and population standard deviation (÷ n) of each column within each group, over what is valid.

    Two passes in float64. A constant column gets standard deviation 1; so does one that varies by less than
    ``1e-7`` of its mean, which float32 cannot tell from constant. A group without values gets mean 0.

    Args:
        values: anything where not valid, NaN included.
        valid: bool.
        group: code of each row, ``0 … groups - 1``.
        groups: how many.

    Shape:
        ``values``, ``valid (R, D)``; ``group (R,)`` → ``(groups, D)``.

    Example:
        >>> x = torch.tensor([[1.0], [3.0], [7.0]])
        >>> result = group_statistics(x, torch.ones(3, 1, dtype=torch.bool), torch.tensor([0, 0, 1]), 2)
        >>> result.mean.tolist(), result.sd.tolist()
        ([[2.0], [7.0]], [[1.0], [1.0]])
    """
    x = torch.where(valid, values, 0.0).double()

    def total(rows: Tensor) -> Tensor:
        return rows.new_zeros(groups, values.shape[1]).index_add_(0, group, rows)

    count = total(valid.double())
    mean = total(x) / count.clamp(min=1)
    sd = (total(torch.where(valid, x - mean[group], 0.0) ** 2) / count.clamp(min=1)).sqrt()
    return Statistics(mean, torch.where(sd > 1e-7 * mean.abs(), sd, 1.0), count)


def standardise(values: Tensor, valid: Tensor, mean: Tensor, sd: Tensor, clip: float) -> Tensor:
    """Map to ``(values - mean) / sd`` held within ``± clip``; zero where not valid.

    Shape:
        ``values``, ``valid (R, D)``; ``mean``, ``sd (D,)`` or ``(R, D)`` → ``(R, D)`` in the dtype of ``values``.
    """
    scaled = ((torch.where(valid, values, 0.0).double() - mean) / sd).clamp(-clip, clip)
    return torch.where(valid, scaled, 0.0).to(values.dtype)


@dataclass(frozen=True)
class Normaliser:
    """Training statistics by modality: what must be kept to apply a fitted system to new data.

    Args:
        mean: ``(D,)`` by modality, float64.
        sd: ``(D,)`` by modality, float64, never zero.
        clip: normalised values are held within this many standard deviations.

    Example:
        >>> fitted = Normaliser({"text": torch.zeros(2)}, {"text": torch.ones(2)}, clip=10.0)
        >>> Normaliser.from_state_dict(fitted.state_dict()).mean["text"].tolist()
        [0.0, 0.0]
    """

    mean: Mapping[str, Tensor]
    sd: Mapping[str, Tensor]
    clip: float

    def apply(self, name: str, values: Tensor, valid: Tensor, group: Tensor | None = None) -> Tensor:
        """Normalise a modality; one without statistics is left as it is, but zero where not valid.

        Args:
            name: the modality.
            values: its rows.
            valid: bool; the entries to be trusted.
            group: code of each row where normalisation is within groups. A column with fewer than two values in a
                group falls back on the training statistics there.

        Shape:
            ``values``, ``valid (R, D)``; ``group (R,)`` → ``(R, D)``.
        """
        if name not in self.mean:
            return torch.where(valid, values, 0.0)
        mean, sd = self.mean[name], self.sd[name]
        if group is None:
            return standardise(values, valid, mean, sd, self.clip)
        own = group_statistics(values, valid, group, int(group.max()) + 1)
        enough = own.number >= 2
        mean, sd = torch.where(enough, own.mean, mean), torch.where(enough, own.sd, sd)
        return standardise(values, valid, mean[group], sd[group], self.clip)

    def state_dict(self) -> dict[str, Any]:
        """Flat dict of tensors and one number, for ``torch.save`` (or safetensors, with the number as metadata)."""
        tensors = {f"mean.{n}": m for n, m in self.mean.items()} | {f"sd.{n}": s for n, s in self.sd.items()}
        return {"clip": self.clip, **tensors}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Normaliser":
        """Undo ``state_dict``.

        Raises:
            InputError: if an entry is missing, or not finite, or a standard deviation is not positive.
        """
        mean = {n.removeprefix("mean."): v for n, v in state.items() if n.startswith("mean.")}
        sd = {n.removeprefix("sd."): v for n, v in state.items() if n.startswith("sd.")}
        if set(mean) != set(sd) or "clip" not in state:
            raise InputError(f"normaliser: expected 'clip' and a mean and sd of each modality, got {sorted(state)}")
        for name in mean:
            usable = torch.isfinite(mean[name]).all() and torch.isfinite(sd[name]).all() and (sd[name] > 0).all()
            if not usable or mean[name].shape != sd[name].shape:
                raise InputError(f"normaliser: {name!r}: expected finite means and positive sds of one shape")
        return cls(mean, sd, float(state["clip"]))
