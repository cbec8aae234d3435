"""Seeds and the order of the data: functions of the seed and the position, never of what ran before."""

import zlib

import numpy as np
import torch
from torch import Tensor


def derive(seed: int, *path: int | str) -> int:
    """A 63-bit seed for one purpose: independent streams from one seed and a path of names and numbers.

    Args:
        seed: the user's seed, ≥ 0.
        path: e.g. ``"order", stage, epoch``.

    Returns:
        The same integer for the same path, on every machine.

    Raises:
        ValueError: if ``seed`` or a number of the path is negative.

    Example:
        >>> derive(0, "order", 1) == derive(0, "order", 1), derive(0, "order", 1) == derive(0, "order", 2)
        (True, False)
    """
    # A name and a number are told apart by a tag, and the position by the order of the words.
    words = [(1, zlib.crc32(p.encode())) if isinstance(p, str) else (2, p) for p in path]
    numbers = [seed, *(n for pair in words for n in pair)]
    if min(numbers) < 0:
        raise ValueError(f"seed: expected numbers >= 0, got {(seed, *path)}")
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_batches(samples: int, batch_size: int, seed: int, weights: Tensor | None = None) -> list[Tensor]:
    """The rows of each batch of one epoch: a permutation by ``seed``, cut; the last batch may be short.

    With weights, as many independent draws instead, with replacement.

    Args:
        samples: size of the dataset.
        batch_size: rows of a batch.
        seed: of this epoch; see `derive`.
        weights: how likely each row is drawn, up to a factor; None takes every row once.

    Shape:
        ``weights (samples,)``.

    Returns:
        Row numbers, one tensor a batch.

    Example:
        >>> [len(b) for b in epoch_batches(5, 2, seed=0)]
        [2, 2, 1]
    """
    generator = torch.Generator().manual_seed(seed)
    if weights is None:
        rows = torch.randperm(samples, generator=generator)
    else:
        rows = torch.multinomial(weights, samples, replacement=True, generator=generator)
    return list(rows.split(batch_size))  # type: ignore[no-untyped-call]


def pieces(rows: Tensor, process: int, processes: int, accumulate: int) -> list[Tensor]:
    """This process's share of a batch, cut into the pieces that are accumulated.

    The batch is cut into ``processes * accumulate`` runs whose sizes differ by one at most, so that a short batch
    spreads over the processes; then some pieces may be empty.

    Args:
        rows: the batch's rows in order.
        process: which process this is.
        processes: how many there are.
        accumulate: pieces a process.

    Returns:
        ``accumulate`` tensors of rows.

    Example:
        >>> [p.tolist() for p in pieces(torch.arange(6), process=1, processes=2, accumulate=2)]
        [[4], [5]]
    """
    cuts = rows.tensor_split(processes * accumulate)
    return list(cuts[process * accumulate : (process + 1) * accumulate])
