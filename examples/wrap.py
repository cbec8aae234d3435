"""A module around a system that offers all that the system offers."""

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.training import Progress

# What systems offer beside represent, forward and loss: as it is, or called with a batch.
_OFFERED = ("head", "stages", "after_step", "after_validation", "report", "parameter_groups")
_READ_BATCHES = ("attention", "reconstruct", "represent_draws", "predict_draws")


class Wrapper(nn.Module):
    """Hands batches on to a system, changed; everything else that the system offers it offers too, unchanged.

    A system that lacks something, such as ``attention``, lacks it wrapped too.

    Args:
        system: as in ``examples/systems``, or wrapped itself.
    """

    def __init__(self, system: nn.Module) -> None:
        super().__init__()
        self.system: Any = system
        self.spec = cast(DataSpec, system.spec)
        self.config = getattr(system, "config", None)

    def change(self, batch: MultimodalBatch) -> MultimodalBatch:
        """What the system is given of a batch: all of it here."""
        return batch

    def represent(self, batch: MultimodalBatch) -> Any:
        """The system's joint representation."""
        return self.system.represent(self.change(batch))

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """The system's logits or scores."""
        out: Tensor = self.system(self.change(batch))
        return out

    def loss(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """The system's terms."""
        whole = None if complete is None else self.change(complete)
        terms: dict[str, Tensor] = self.system.loss(self.change(observed), whole, progress)
        return terms

    def __getattr__(self, name: str) -> Any:
        """What the system offers, looked up only where the wrapper has nothing of that name."""
        if name in _OFFERED:
            return getattr(self.system, name)
        if name in _READ_BATCHES:
            return partial(self._read, getattr(self.system, name))
        return super().__getattr__(name)

    def _read(self, method: Any, batch: MultimodalBatch, *options: Any) -> Any:
        return method(self.change(batch), *options)


def innermost(system: nn.Module) -> Any:
    """The system itself, within what is wrapped around it."""
    while isinstance(system, Wrapper):
        system = system.system
    return system
