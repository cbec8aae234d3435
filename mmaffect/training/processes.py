"""The processes a script was launched as: one, or several by ``accelerate launch`` or ``torchrun``."""

import os
from typing import TYPE_CHECKING

import torch

from mmaffect.ops import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState


def processes() -> "PartialState":
    """Accelerate's state of the processes; the first call joins them.

    Launched as several on a machine without an accelerator, accelerate would leave every process alone with the
    whole work, all writing the same files; so it is told to join them on the CPU then.

    Raises:
        InputError: if the processes were launched together but did not join.
    """
    from accelerate import PartialState

    state = PartialState(cpu=_on_cpu())
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched:
        raise InputError(
            f"processes: {launched} were launched together, but accelerate sees {state.num_processes}; create no "
            "PartialState or Accelerator before, or create it with cpu=True where there is no GPU"
        )
    return state


def accelerator() -> "Accelerator":
    """Accelerate's front, for wrapping a model; precision is none of its business here (see `LossModule`)."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    processes()
    # Gradients of parameters that a stage or a batch does not use must not be waited for.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    return Accelerator(mixed_precision="no", cpu=_on_cpu(), kwargs_handlers=handlers)


def _on_cpu() -> bool:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    found = torch.accelerator.current_accelerator() if hasattr(torch, "accelerator") else None
    return not torch.cuda.is_available() and (found is None or found.type in ("cpu", "mps"))
