"""Fill what is absent with the mean of what was seen of it."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmaffect.ops import at_least_float32, check_positive, keep
from mmaffect.recovery.slots import check_slot_masks, check_slots, fill_wanted


class MeanFill(nn.Module):
    """Replace absent values by the mean of the observed ones, one mean a feature: the least that recovery must beat.

    The published DCCA and DCCAE fill with means over training, validation and test together. Here only what
    :meth:`fit` was given counts: give it the training split, whole or in batches. Labels play no part.

    Args:
        widths: of each modality by name; the order is fixed here.

    Shape:
        ``values[m] (..., D_m)``, ``observed[m]``, ``wanted[m] (...)`` → ``(..., D_m)`` by modality.

    Raises:
        ValueError: on no modality, or widths that are not positive.

    Example:
        >>> fill = MeanFill({"face": 1})
        >>> fill.fit({"face": torch.tensor([[1.0], [3.0], [99.0]])}, {"face": torch.tensor([True, True, False])})
        >>> x, seen = {"face": torch.tensor([[7.0], [0.0]])}, {"face": torch.tensor([True, False])}
        >>> fill(x, seen, {"face": ~seen["face"]})["face"].flatten().tolist()
        [7.0, 2.0]
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths: expected at least one modality, got none")
        check_positive(widths=min(widths.values()))
        self.widths = dict(widths)
        # Buffers by number, since a name may hold a dot.
        for number, width in enumerate(widths.values()):
            self.register_buffer(f"mean_{number}", torch.zeros(width))
        self.register_buffer("count", torch.zeros(len(widths), dtype=torch.int64))

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.widths}"

    @property
    def means(self) -> dict[str, Tensor]:
        """The mean of each modality ``(D_m,)``; zero for one never seen."""
        return {name: self.get_buffer(f"mean_{number}") for number, name in enumerate(self.widths)}

    @torch.no_grad()
    def fit(self, values: Mapping[str, Tensor], observed: Mapping[str, Tensor]) -> None:
        """Take more observed values into the means; every one counts alike, in whatever batches they come.

        Args:
            values: of each modality.
            observed: True = it is there.

        Raises:
            ValueError: on other names or shapes.
        """
        leading = check_slots("values", self.widths, values)
        check_slot_masks("observed", self.widths, observed, leading)
        count = self.get_buffer("count")
        for number, (name, mean) in enumerate(self.means.items()):
            mask = observed[name]
            count[number] += mask.sum()
            apart = keep(values[name].double() - mean.double(), mask).reshape(-1, len(mean)).sum(0)
            mean.add_((apart / count[number].clamp(min=1)).to(mean.dtype))

    def forward(
        self, values: Mapping[str, Tensor], observed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Fill: observed values as they are, means where one is wanted, zero elsewhere.

        Args:
            values: of each modality; read where observed.
            observed: True = it is there.
            wanted: True = it is to be filled, whether or not it is there.

        Raises:
            ValueError: on other names or shapes.
        """
        leading = check_slots("values", self.widths, values)
        check_slot_masks("observed", self.widths, observed, leading)
        check_slot_masks("wanted", self.widths, wanted, leading)
        means = {name: at_least_float32(mean).expand_as(values[name]) for name, mean in self.means.items()}
        return fill_wanted(values, observed, wanted, means)
