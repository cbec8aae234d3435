"""Changes that must not matter: other batches, more padding, other values where nothing is."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmaffect.testing.case import Case, Gate


def take(case: Case, tensors: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """The samples ``rows`` (int64) of all that belongs to samples."""
    return {n: t[rows.to(t.device)] if per_sample(case, n, t) else t for n, t in tensors.items()}


def pad(case: Case, tensors: Mapping[str, Tensor], extra: int, filler: float) -> dict[str, Tensor]:
    """``extra`` steps more on every masked time axis: masks False, values ``filler``, targets unlabelled."""
    padded = dict(tensors)
    for name, gate in (case.time | case.label_time).items():
        padded[gate.mask] = _append(tensors[gate.mask], extra, False)
        x = tensors[name]
        if x.dtype != torch.bool:
            padded[name] = _append(x, extra, case.unlabelled(x) if name in case.labels else _garbage(x, filler))
    for name, (mask, axes) in case.along.items():
        padded[mask] = _append(tensors[mask], extra, False)
        for axis in axes:
            padded[name] = _append(padded[name], extra, _garbage(tensors[name], filler), axis)
    return padded


def poison(case: Case, tensors: Mapping[str, Tensor], filler: float) -> dict[str, Tensor]:
    """``filler`` at every value that is not there."""
    return dict(tensors) | {
        n: torch.where(there, tensors[n], _garbage(tensors[n], filler)) for n, there in real(case, tensors).items()
    }


def hide(case: Case, tensors: Mapping[str, Tensor], gates: tuple[Gate, ...], rows: Tensor) -> dict[str, Tensor]:
    """The masks ``gates`` False throughout the samples ``rows`` (int64); values stay as they are."""
    hidden = dict(tensors)
    for name, column in gates:
        mask = hidden[name].clone()
        mask[rows.to(mask.device), ... if column is None else column] = False
        hidden[name] = mask
    return hidden


def real(case: Case, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For each masked value, bool of its shape: True where it is there."""
    found: dict[str, Tensor] = {}
    for gates in (case.time, case.available):
        for name, (mask_name, column) in gates.items():
            x = tensors[name]
            if x.dtype == torch.bool:
                continue
            mask = tensors[mask_name] if column is None else tensors[mask_name][:, column]
            mask = mask.reshape(mask.shape + (1,) * (x.dim() - mask.dim())).expand_as(x)
            found[name] = found[name] & mask if name in found else mask
    return found


def gates(case: Case) -> tuple[Gate, ...]:
    """The masks that may be False throughout a sample, each once."""
    tensors = case.arguments()
    pairs = [*case.time.items(), *case.available.items()]
    if case.hideable is not None:
        return tuple(dict.fromkeys(g for _, g in pairs if g.mask in case.hideable))
    return tuple(dict.fromkeys(g for n, g in pairs if tensors[n].is_floating_point()))


def per_sample(case: Case, name: str, tensor: Tensor) -> bool:
    """Whether an argument belongs to samples, one row each."""
    return not case.is_shared(name, tensor) and tensor.shape[0] == case.size


def _garbage(x: Tensor, filler: float) -> Tensor:
    if x.is_floating_point():
        return torch.full((), filler, dtype=x.dtype, device=x.device)
    # An integer may index a table: garbage must be a number that could have been given.
    return x.min() if filler != filler else x.max()


def _append(x: Tensor, extra: int, filler: Tensor | float, axis: int = 1) -> Tensor:
    tail = torch.as_tensor(filler, dtype=x.dtype, device=x.device)
    return torch.cat([x, tail.expand(*x.shape[:axis], extra, *x.shape[axis + 1 :])], dim=axis)
