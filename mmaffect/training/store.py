"""What a run needs to go on: its place, the weights and the optimiser's state, in one file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmaffect.ops import InputError
from mmaffect.training.checkpoint import (
    draft_checkpoint,
    read_checkpoint,
    settle,
    system_tensors,
    temporary,
    write_checkpoint,
)
from mmaffect.training.run_directory import BEST, LAST


@dataclass
class Position:
    """Where a run stands: with the weights and the optimiser's state, all that is needed to go on.

    No random state is among it: every step seeds torch from the run's seed and the step's place.

    Args:
        stage: number of the stage; beyond the last, the run is done.
        epoch: epoch within the stage.
        step: steps done within the epoch.
        steps: steps done in all.
        rows: rows of the log.
        sums: of each loss term over the steps of the epoch.
        best: stage, epoch, value and row of the best epoch of the last stage.
        stale: epochs since.
        seconds: spent in the epoch.
        scaler: state of the loss scaling (fp16).
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    steps: int = 0
    rows: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    stale: int = 0
    seconds: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)


class Store:
    """The last checkpoint and the best weights of a run directory.

    Args:
        out: run directory.
    """

    def __init__(self, out: Path) -> None:
        self.last, self.best = out / LAST, out / BEST

    def load(self, system: nn.Module) -> tuple[Position, dict[str, Tensor]] | None:
        """Put the last weights into a system; nothing is written.

        Returns:
            The position and the optimiser's tensors; None if no checkpoint was written yet.

        Raises:
            InputError: if the checkpoint is not one, or does not fit the system.
        """
        if not self.last.exists():
            return None
        tensors, state = read_checkpoint(self.last)
        try:
            system.load_state_dict(_part("system", tensors))
        except RuntimeError as error:
            raise InputError(f"resume: {self.last} does not fit the system: {' '.join(str(error).split())}") from error
        return Position(**state), _part("optimizer", tensors)

    def save(
        self,
        position: Position,
        system: nn.Module,
        optimizer: torch.optim.Optimizer,
        names: Mapping[Tensor, str],
        *,
        improved: bool,
    ) -> None:
        """Write the checkpoint, and with it the best weights: drafted before, named after.

        Killed between any two of these, the run goes on from a checkpoint whose best weights are there.
        """
        weights = system_tensors(system)
        if improved:
            draft_checkpoint(self.best, weights, position.best or {})
        tensors = {f"system/{n}": t for n, t in weights.items()}
        if position.epoch or position.step:  # a stage begins with a fresh optimiser
            tensors |= {f"optimizer/{n}": t for n, t in optimizer_tensors(optimizer, names).items()}
        write_checkpoint(self.last, tensors, asdict(position))
        if improved:
            settle(self.best)

    def save_best(self, system: nn.Module, state: Mapping[str, Any]) -> None:
        """Write the best weights anew, whole or not at all: those of the system as it is now.

        Args:
            system: with the weights.
            state: what the file says of itself.
        """
        write_checkpoint(self.best, system_tensors(system), state)

    def settle_best(self, position: Position) -> None:
        """Finish or forget a draft of the best weights that a killed run left."""
        draft = temporary(self.best)
        if not draft.exists():
            return
        try:
            drafted = read_checkpoint(draft).state
        except InputError:
            drafted = None
        # As text: a NaN is not equal to itself.
        if drafted is not None and json.dumps(drafted) == json.dumps(position.best):
            settle(self.best)
        else:
            draft.unlink()


def _part(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(f"{kind}/"): t for n, t in tensors.items() if n.startswith(f"{kind}/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The state of an optimiser, flat: ``"exp_avg/encoder.weight"`` and the like.

    Args:
        optimizer: whose state is made of tensors (Adam, AdamW).
        names: of the parameters.
    """
    return {f"{key}/{names[p]}": value for p, state in optimizer.state.items() for key, value in state.items()}


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], names: Mapping[Tensor, str]
) -> None:
    """Give an optimiser the state that `optimizer_tensors` flattened."""
    by_name: dict[str, dict[str, Tensor]] = {}
    for flat, value in tensors.items():
        key, name = flat.split("/", 1)
        by_name.setdefault(name, {})[key] = value
    state = optimizer.state_dict()
    order = [names[p] for group in optimizer.param_groups for p in group["params"]]
    state["state"] = {i: by_name[name] for i, name in enumerate(order) if name in by_name}
    optimizer.load_state_dict(state)
