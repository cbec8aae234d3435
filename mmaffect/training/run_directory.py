"""The directory of a run: what was asked, with what, what happened, and what came of it."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mmaffect import __version__
from mmaffect.ops import InputError
from mmaffect.training.checkpoint import is_temporary, write_json
from mmaffect.training.config import TrainConfig

CONFIG, LOG, LAST, BEST, RESULT = "config.json", "log.jsonl", "last.safetensors", "best.safetensors", "result.json"


def plain(value: Any) -> Any:
    """A value as JSON gives it back: dataclasses and mappings as dicts, tuples and sets as lists, NaN as null.

    Raises:
        InputError: if it holds something that JSON has no form for.

    Example:
        >>> plain({"sizes": (1, 2)})
        {'sizes': [1, 2]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(v) for v in value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise InputError(f"description: expected values that JSON can hold, got {type(value).__name__} {value!r}")


def describe_system(system: nn.Module) -> dict[str, Any]:
    """Name and config of a system, as recorded."""
    config = getattr(system, "config", None)
    return {"name": type(system).__name__, "config": plain(config) if is_dataclass(config) else None}


def versions() -> dict[str, str]:
    """What ran: versions and the kind of machine; nothing about where."""
    return {
        "mmaffect": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def check_directory(out: Path, config: Mapping[str, Any], *, resume: bool) -> bool:
    """Whether there is a run to go on with; writes nothing.

    Args:
        out: the run directory, which need not exist.
        config: what the run is asked to be, as `plain` gives it.
        resume: whether the user wants to go on.

    Returns:
        True if ``out`` holds a run of this very config.

    Raises:
        InputError: if ``out`` is a file, holds something without ``resume``, holds something that is no run, or a
            run whose config differs: with both values of every field that does.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"out: expected a directory, {out} is a file")
    # A run that was killed before it wrote its config has left nothing but a temporary file.
    held = sorted(p.name for p in out.iterdir() if not is_temporary(p)) if out.exists() else []
    if not held:
        return False
    if not resume:
        raise InputError(
            f"out: {out} is not empty (it holds {', '.join(held[:5])}); "
            "resume it with resume=True (--resume), or name another directory"
        )
    if CONFIG not in held:
        raise InputError(f"out: {out} holds no run to resume: {CONFIG} is not there, but {', '.join(held[:5])}")
    before = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    before.pop("versions", None)  # a run may be resumed with a newer library; the first one stays on record
    # What an older library did not know yet it did as the defaults do.
    defaults = plain(TrainConfig())
    before["train"] = {n: defaults[n] for n in config["train"] if n in defaults} | before["train"]
    if "spec" in before and "tokens" in config.get("spec", {}):
        before["spec"] = {"tokens": {}} | before["spec"]
    differing = differences(before, dict(config))
    if differing:
        listed = "; ".join(f"{name}: {old!r} there, {new!r} now" for name, old, new in differing)
        raise InputError(f"resume: the run in {out} was started otherwise: {listed}")
    return True


def start_directory(out: Path, config: Mapping[str, Any]) -> None:
    """Create the directory of a new run, with its config and what it runs on.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / CONFIG, {**config, "versions": versions()})
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror})") from error


def differences(before: Any, now: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Fields in which two plain values differ, with both values; a field that one lacks is None there.

    Example:
        >>> differences({"train": {"epochs": 3, "seed": 0}}, {"train": {"epochs": 5, "seed": 0}})
        [('train.epochs', 3, 5)]
    """
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(n for n in now if n not in before)]
        inner = (differences(before.get(n), now.get(n), f"{path}.{n}" if path else n) for n in names)
        return [found for each in inner for found in each]
    same = before == now or (before != before and now != now)
    return [] if same else [(path, before, now)]
