"""Masks: ``True`` marks a real step; whatever stands elsewhere must not matter, not even as NaN."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mmaffect.ops.checks import check_choice, check_mask


def keep(x: Tensor, mask: Tensor) -> Tensor:
    """Zero ``x`` where ``mask`` is False.

    A selection, not a product: NaN or infinity under the mask is dropped, and so is its gradient.

    Args:
        x: values.
        mask: bool.

    Shape:
        ``x (..., D)`` with ``mask (...)``, or ``mask`` of the shape of ``x``.

    Returns:
        Tensor like ``x``.

    Example:
        >>> keep(torch.tensor([[1.0], [float("nan")]]), torch.tensor([True, False])).tolist()
        [[1.0], [0.0]]
    """
    if mask.dim() == x.dim() - 1:
        mask = mask.unsqueeze(-1)
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it is in half precision: sums and squares overflow float16 and are coarse in bfloat16.

    Example:
        >>> at_least_float32(torch.ones(2, dtype=torch.float16)).dtype, at_least_float32(torch.ones(2).double()).dtype
        (torch.float32, torch.float64)
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Out of autocast on the device of ``x``: there a product of float32 matrices is one of half precision.

    Example:
        >>> one, x = torch.ones(1, 1), torch.full((1, 1), 1.001)
        >>> with torch.autocast("cpu", dtype=torch.bfloat16):
        ...     coarse = one @ x
        ...     with full_precision(x):
        ...         fine = one @ x
        >>> round(coarse.item(), 3), round(fine.item(), 3)
        (1.0, 1.001)
    """
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def masked_mean(x: Tensor, mask: Tensor, dim: int = 1) -> Tensor:
    """Mean over the steps that are there; zero where there is none.

    Args:
        x: values.
        mask: bool, True = a real step.
        dim: the dimension of the steps.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, D)`` for ``dim=1``.

    Example:
        >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])).item()
        2.0
    """
    weight = mask.unsqueeze(-1) if mask.dim() == x.dim() - 1 else mask
    total = at_least_float32(keep(x, mask)).sum(dim)
    return (total / weight.sum(dim).clamp(min=1)).to(x.dtype)


def step_mask(name: str, x: Tensor, mask: Tensor | None, expected: str = "B T") -> Tensor:
    """The mask of a sequence, checked; True throughout where none is given.

    Args:
        name: what the caller calls the mask.
        x: the sequence.
        mask: True = a real step; all by default.
        expected: how the caller calls batch and steps.

    Shape:
        ``x (B, T, D)`` → ``(B, T)``.

    Raises:
        ValueError: on another shape, or a mask that is not bool.

    Example:
        >>> step_mask("mask", torch.zeros(1, 2, 3), None).tolist()
        [[True, True]]
    """
    if mask is None:
        return x.new_ones(x.shape[:2]).bool()
    check_mask(name, mask, expected, **dict(zip(expected.split(), x.shape[:2], strict=True)))
    return mask


def sources_and_queries(x: Tensor, mask: Tensor | None, queries: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fill in what a layer that looks across steps was not told, and check what it was.

    Args:
        x: steps.
        mask: True = the step may be looked at; all by default.
        queries: True = the step looks; those that may be looked at always do.

    Shape:
        ``x (B, T, D)`` → both ``(B, T)``.

    Raises:
        ValueError: on another shape, or a mask that is not bool.

    Example:
        >>> sources_and_queries(torch.zeros(1, 2, 3), torch.tensor([[True, False]]))[1].tolist()
        [[True, False]]
    """
    mask = step_mask("mask", x, mask)
    return mask, mask if queries is None else step_mask("queries", x, queries) | mask


def lengths_to_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Bool mask ``(B, T)`` whose first ``lengths[b]`` entries are True.

    Args:
        lengths: steps per sample.
        size: T; the longest of ``lengths`` by default (which reads values: pass it where one compiles).

    Shape:
        ``(B,)`` → ``(B, T)``.

    Example:
        >>> lengths_to_mask(torch.tensor([1, 2])).tolist()
        [[True, False], [True, True]]
    """
    if size is None:
        size = int(lengths.max())
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(-1)


def last_step(x: Tensor, mask: Tensor) -> Tensor:
    """Values at the last real step of each sample; zero where a sample has none.

    Args:
        x: values.
        mask: bool, True = a real step; the real steps need not stand first.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, D)``.

    Example:
        >>> last_step(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])).item()
        3.0
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, steps, torch.full((), -1, device=mask.device)).amax(1)
    picked = x.gather(1, last.clamp(min=0)[:, None, None].expand(-1, 1, x.shape[-1])).squeeze(1)
    return keep(picked, last >= 0)


def reverse_steps(x: Tensor, mask: Tensor) -> Tensor:
    """Mirror each sequence in time within its own span, so that padding stays behind.

    The span of a sample ends at its last True; an involution on sequences of the same mask span.

    Args:
        x: values.
        mask: bool, True = a real step.

    Shape:
        ``x (B, T, D)`` or ``(B, T)``, ``mask (B, T)`` → like ``x``.

    Example:
        >>> reverse_steps(torch.tensor([[1, 2, 3]]), torch.tensor([[True, True, False]])).tolist()
        [[2, 1, 3]]
    """
    steps = torch.arange(mask.shape[1], device=mask.device)
    length = torch.where(mask, steps + 1, torch.zeros_like(steps)).amax(1, keepdim=True)
    source = torch.where(steps < length, length - 1 - steps, steps)
    if x.dim() == 3:
        return x.gather(1, source.unsqueeze(-1).expand_as(x))
    return x.gather(1, source)


def read_out(x: Tensor, mask: Tensor, sequence: str) -> Tensor:
    """What of a hidden sequence the prediction is made from, by the kind of sequence.

    Args:
        x: hidden steps.
        mask: bool, True = a real step.
        sequence: ``"dialogue"`` keeps every step (a label a step), ``"window"`` takes the last real step,
            ``"single"`` the mean over the real steps.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, T, D)`` for a dialogue, else ``(B, D)``.

    Raises:
        ValueError: on an unknown kind.

    Example:
        >>> read_out(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[True, True]]), "single").item()
        2.0
    """
    check_choice("sequence", sequence, ("dialogue", "window", "single"))
    if sequence == "dialogue":
        return x
    return last_step(x, mask) if sequence == "window" else masked_mean(x, mask)
