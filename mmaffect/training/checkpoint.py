"""Files that are whole or not there: tensors as safetensors, the rest as JSON, nothing that can execute."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.ops import InputError

_ALIASES = "aliases"
_STATE = "state"


class Checkpoint(NamedTuple):
    """What a checkpoint file holds.

    Args:
        tensors: by name.
        state: plain values.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def temporary(path: Path) -> Path:
    """Where a file is written before it takes its name: hidden, beside it; leftovers of a killed run look like that."""
    return path.with_name(f".{path.name}.tmp")


def is_temporary(path: Path) -> bool:
    """Whether a name is one that `temporary` gives."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


def flush(path: Path) -> None:
    """Force a file's content onto the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def settle(path: Path) -> None:
    """Give a fully written temporary file its name: flushed to the disk, then renamed in one step."""
    flush(temporary(path))
    os.replace(temporary(path), path)
    if os.name == "posix":  # the rename itself lives in the folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write text; at any moment the path holds the old content or the new, whole."""
    temporary(path).write_text(text, encoding="utf-8")
    settle(path)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, as `write_text` does."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and plain values into one safetensors file, whole or not at all; see `draft_checkpoint`."""
    draft_checkpoint(path, tensors, state)
    settle(path)


def draft_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint beside its name, for `settle` to give it.

    Tensors that are one and the same (tied weights) are stored once; views of a common memory are stored apart.

    Args:
        path: the name it will have.
        tensors: by name; any device.
        state: JSON-able values, kept in the file's header.
    """
    from safetensors.torch import save_file

    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in tensors.items():
        key = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
        else:
            seen[key] = name
            stored[name] = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    header = {_STATE: json.dumps(dict(state)), _ALIASES: json.dumps(aliases)}
    save_file(stored, temporary(path), header)
    flush(temporary(path))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote.

    Raises:
        InputError: if the file is not there or not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        state, aliases = json.loads(header[_STATE]), json.loads(header[_ALIASES])
    except FileNotFoundError:
        raise InputError(f"checkpoint: there is no file {path}") from None
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"checkpoint: {path} is not a checkpoint of this library ({error})") from error
    return Checkpoint(tensors | {name: tensors[source] for name, source in aliases.items()}, state)


def system_tensors(system: nn.Module) -> dict[str, Tensor]:
    """The state dict of a system, which must consist of tensors.

    Raises:
        ValueError: naming an entry that is not a tensor (from ``get_extra_state``): it could not be stored safely.
    """
    state = system.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"system: expected tensors in its state dict, got {type(value).__name__} at {name!r}")
    return dict(state)


def load_weights(system: nn.Module, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Put the weights of ``best.safetensors`` into a system.

    Args:
        system: of the architecture that was trained.
        path: of the file.

    Returns:
        What the file says of itself: stage, epoch, and the monitored value.

    Raises:
        InputError: if the file is not there, is not such a file, or its names or shapes are not the system's.
    """
    checkpoint = read_checkpoint(Path(path))
    try:
        system.load_state_dict(checkpoint.tensors)
    except RuntimeError as error:
        raise InputError(f"checkpoint: {path} does not fit the system: {' '.join(str(error).split())}") from error
    return checkpoint.state
