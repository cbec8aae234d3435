"""The systems, one a file: each offers ``Config``, ``System``, ``TRAINING`` and, if it has any, ``ABLATIONS``."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from types import ModuleType
from typing import Any

from mmaffect.ops import InputError, check_choice


def system_names() -> tuple[str, ...]:
    """Names of the systems there are: the files beside this one."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def system_module(name: str) -> ModuleType:
    """The file of a system.

    Raises:
        InputError: if there is no such system; the nearest names are offered.
    """
    check_choice("system", name, system_names())
    return importlib.import_module(f"{__name__}.{name}")


def restore_config(name: str, values: Mapping[str, Any]) -> Any:
    """A system's config from plain values, as a run directory records them.

    Raises:
        InputError: if a field is unknown.
    """
    config = system_module(name).Config
    known = {field.name for field in fields(config)}
    for key in values:
        if key not in known:
            raise InputError(f"config of {name}: unknown field {key!r}; known: {', '.join(sorted(known))}")
    return config(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
