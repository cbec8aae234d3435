"""Nested arguments and outputs as flat dictionaries of named tensors, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


def _children(value: Any) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    if isinstance(value, tuple | list):
        return {str(i): v for i, v in enumerate(value)}
    return None


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def flatten(value: Any, prefix: str = "") -> dict[str, Tensor]:
    """Tensors of a nested value by dotted name; whatever is no tensor is left out.

    Args:
        value: a tensor, or mappings, dataclasses, named tuples, tuples and lists of them.
        prefix: name of the value itself; a bare tensor without one is called ``"output"``.

    Example:
        >>> import torch
        >>> list(flatten({"x": {"text": torch.zeros(1)}, "mask": None, "pair": (torch.ones(1), 2)}))
        ['x.text', 'pair.0']
    """
    if isinstance(value, Tensor):
        return {prefix or "output": value}
    flat: dict[str, Tensor] = {}
    for key, child in (_children(value) or {}).items():
        flat |= flatten(child, _join(prefix, key))
    return flat


def rebuild(value: Any, tensors: Mapping[str, Tensor], prefix: str = "") -> Any:
    """The nested value again, its tensors replaced by those of the same dotted name.

    Args:
        value: what :func:`flatten` was given.
        tensors: one tensor a name.
        prefix: as in :func:`flatten`.

    Example:
        >>> import torch
        >>> value = {"x": (torch.zeros(1), "kept")}
        >>> rebuild(value, {"x.0": torch.ones(1)})
        {'x': (tensor([1.]), 'kept')}
    """
    if isinstance(value, Tensor):
        return tensors[prefix or "output"]
    children = _children(value)
    if children is None:
        return value
    new = {key: rebuild(child, tensors, _join(prefix, key)) for key, child in children.items()}
    if isinstance(value, Mapping):
        return dict(zip(value, new.values(), strict=True))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **new)
    if hasattr(value, "_asdict"):
        return type(value)(**new)
    return type(value)(new.values())
