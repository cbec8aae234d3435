"""A few rows at a time, so that they stay in a CPU's cache through many passes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmaffect.ops.transforms import is_transformed

# How many elements a CPU works on at a time: 4 MiB of float32 stay in its cache through thirty passes.
BLOCK = 1 << 20
# Into how many bands of rows a causal square is cut, each as wide as its last row: they hold little over half of it.
_BANDS = 16


def in_blocks(first: Tensor, *others: Tensor) -> bool:
    """Whether a CPU is better off with a part at a time.

    Example:
        >>> in_blocks(torch.zeros(8, 8)), in_blocks(torch.zeros(2 * BLOCK))
        (False, True)
    """
    return not (
        torch.compiler.is_compiling()
        or first.device.type != "cpu"
        or first.numel() < 2 * BLOCK
        or is_transformed(first, *others)
    )


def row_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of all tensors, a few at a time where that keeps them in a CPU's cache, else all at once."""
    if not in_blocks(*tensors):
        yield tensors
        return
    rows = max(1, BLOCK // tensors[0].shape[-1])
    yield from zip(*(torch.split(t.reshape(-1, t.shape[-1]), rows) for t in tensors), strict=True)


def bands(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same band of rows of all tensors as far as its last row reaches, of a few samples at a time."""
    first = tensors[0]
    height = first.shape[-2]
    rows = -(-height // _BANDS)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        parts = [t[..., start:stop, :stop] for t in tensors]
        if first.dim() == 2:
            yield tuple(parts)
            continue
        count = max(1, BLOCK * len(first) // parts[0].numel())
        yield from zip(*(torch.split(part, count) for part in parts), strict=True)
