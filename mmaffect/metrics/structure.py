"""How far a learnt graph is from the true one."""

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor


def structural_hamming_distance(found: ArrayLike | Tensor, truth: ArrayLike | Tensor) -> int:
    """Number of pairs of nodes whose edges differ: added, missing, or turned around.

    An edge in the wrong direction counts once, as in the evaluation of NOTEARS, DAGMA and gCastle (others count it as
    one added and one missing). So does an edge both ways where the truth has one way. A loop counts as any edge.

    Args:
        found: adjacency; every entry that is not 0 is an edge from its row to its column.
        truth: the same of the true graph.

    Shape:
        Both ``(d, d)``.

    Returns:
        The distance, 0 if and only if both have the same edges.

    Raises:
        ValueError: if the shapes differ or are not square.

    Example:
        >>> truth = [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
        >>> structural_hamming_distance([[0, 0.7, 0], [0, 0, 0], [0, -0.4, 0]], truth)
        2
    """
    a, b = (np.asarray(m.detach().cpu() if isinstance(m, Tensor) else m) != 0 for m in (found, truth))
    if a.ndim != 2 or a.shape[0] != a.shape[1] or a.shape != b.shape:
        raise ValueError(f"found, truth: expected one shape (d, d), got {a.shape} and {b.shape}")
    differs = a != b
    return int(np.triu(differs | differs.T).sum())
