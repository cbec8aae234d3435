"""One step of the optimiser: what a system's loss is given, and what is done with what it returns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.ops import InputError
from mmaffect.training.config import Progress, TrainConfig

_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class LossModule(nn.Module):
    """Calls a system's ``loss`` from a ``forward``: data-parallel wrappers synchronise gradients only through that.

    Args:
        system: with ``loss(observed, complete, progress) -> dict of scalar terms``.
        mixed_precision: ``"no"``, ``"bf16"`` or ``"fp16"``.
    """

    def __init__(self, system: nn.Module, mixed_precision: str) -> None:
        super().__init__()
        self.system = system
        self.dtype = _DTYPES[mixed_precision]

    def forward(
        self, observed: MultimodalBatch, complete: MultimodalBatch | None, progress: Progress
    ) -> dict[str, Tensor]:
        """The named terms, in full precision.

        Raises:
            ValueError: if the loss is not a mapping from names to scalars.
        """
        device = observed.index.device.type
        with torch.autocast(device, dtype=self.dtype, enabled=self.dtype != torch.float32):
            terms = self.system.loss(observed, complete, progress)  # type: ignore[operator]
        if not isinstance(terms, Mapping) or not terms:
            raise ValueError(f"loss: expected a dict of named terms, got {type(terms).__name__} {terms!r}")
        for name, term in terms.items():
            if not isinstance(term, Tensor) or term.dim() != 0:
                given = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
                raise ValueError(f"loss: expected a scalar tensor for the term {name!r}, got {given}")
        return {name: term if term.dtype == torch.float64 else term.float() for name, term in terms.items()}


def hide_labels(spec: DataSpec, batch: MultimodalBatch) -> MultimodalBatch:
    """Take the label from turns or samples that are left with nothing observed, so that no loss counts them.

    Example:
        >>> batch = MultimodalBatch({"text": torch.zeros(2, 1, 1)}, {"text": torch.tensor([[True], [False]])},
        ...     torch.tensor([0, 1]), None, ("a", "b"), torch.arange(2))
        >>> hide_labels(DataSpec({"text": 1}, "class", ("sad", "happy"), "single"), batch).targets.tolist()
        [0, -100]
    """
    seen = batch.observed(spec.sequence)
    targets = batch.targets
    seen = seen.reshape(*seen.shape, *[1] * (targets.dim() - seen.dim()))
    unlabelled = torch.nan if targets.is_floating_point() else -100
    return replace(batch, targets=torch.where(seen, targets, torch.full_like(targets, unlabelled)))


def parameter_groups(system: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """The optimiser's groups: the system's own, or all its trainable parameters in one.

    Raises:
        InputError: if there is nothing to train.
        ValueError: if a group holds a parameter that is not the system's.
    """
    own = getattr(system, "parameter_groups", None)
    groups = own() if callable(own) else [{"params": system.parameters(), "name": "all"}]
    known = set(system.parameters())
    found = []
    for number, group in enumerate(groups):
        group = {"name": f"group {number}", "lr": config.learning_rate, "weight_decay": config.weight_decay, **group}
        group["params"] = [p for p in group["params"] if p.requires_grad]
        if not known.issuperset(group["params"]):
            raise ValueError(f"parameter_groups: {group['name']!r} holds a parameter that is not in the system")
        if group["params"]:
            found.append(group)
    if not found:
        raise InputError(f"system: {type(system).__name__} has no trainable parameter")
    return found


def make_optimizer(system: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """A fresh optimiser over the system's parameter groups."""
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameter_groups(system, config))


def check_finite(terms: Mapping[str, Tensor], where: str, ids: Sequence[str]) -> None:
    """Raise if a term is NaN or infinite.

    Raises:
        FloatingPointError: naming the term, the place and the samples.
    """
    if torch.stack([term.isfinite() for term in terms.values()]).all():
        return
    bad = {name: term.item() for name, term in terms.items() if not term.isfinite()}
    listed = ", ".join(f"{name!r} is {value}" for name, value in bad.items())
    raise FloatingPointError(f"loss: {listed} at {where}; samples {', '.join(ids[:5])}{' …' * (len(ids) > 5)}")


def clip_gradients(
    optimizer: torch.optim.Optimizer, clip_norm: float | None, where: str | None, *, joint: bool = False
) -> None:
    """Clip each parameter group by its own norm, or all by their common one.

    Args:
        optimizer: whose groups.
        clip_norm: the largest norm; None clips nothing.
        where: named in the error on a norm that is not finite; None (loss scaling) leaves that to the scaler.
        joint: whether all groups are clipped as one.

    Raises:
        FloatingPointError: if a gradient is not finite: before it reaches the weights.
    """
    limit = float("inf") if clip_norm is None else clip_norm
    groups = [(f"group {group['name']!r}", group["params"]) for group in optimizer.param_groups]
    if joint:
        groups = [("all groups together", [p for _, params in groups for p in params])]
    for name, params in groups:
        norm = nn.utils.clip_grad_norm_(params, limit)
        if where is not None and not norm.isfinite():
            raise FloatingPointError(f"gradient: its norm in {name} is {norm.item()} at {where}")
