"""How well a score ranks: the area under the receiver's operating curve."""

import torch
from torch import Tensor


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Chance that a positive outranks a negative, ties counted half (Mann and Whitney, 1947).

    ``AUROC = (Σ ranks of the positives − n₊(n₊ + 1)/2) / (n₊ n₋)`` with mid-ranks for ties: the exact area under
    the empirical curve, without binning.

    Args:
        scores: greater means more likely positive; infinities are allowed.
        positive: bool, True = positive.

    Shape:
        ``scores (N,)``, ``positive (N,)``.

    Returns:
        The area; NaN if there is no positive or no negative, as then no pair can be ranked.

    Raises:
        ValueError: if the shapes are not (N,) and equal, ``positive`` is not bool, or a score is NaN.

    Example:
        >>> auroc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, False, True, True]))
        0.875
    """
    if scores.dim() != 1 or scores.shape != positive.shape:
        raise ValueError(
            f"scores: expected shape (N,) like positive {tuple(positive.shape)}, got {tuple(scores.shape)}"
        )
    if positive.dtype != torch.bool:
        raise ValueError(f"positive: expected bool, got {positive.dtype}")
    values, truth = scores.detach().cpu().double().contiguous(), positive.detach().cpu()
    if bool(values.isnan().any()):
        raise ValueError(f"scores: expected no NaN, got {int(values.isnan().sum())}")
    n_positive = int(truth.sum())
    n_negative = truth.numel() - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    ordered = values.sort().values
    below = torch.searchsorted(ordered, values, right=False)
    up_to = torch.searchsorted(ordered, values, right=True)
    doubled_ranks = below + up_to + 1  # integers, so that the sum is exact
    return float(int(doubled_ranks[truth].sum()) - n_positive * (n_positive + 1)) / (2 * n_positive * n_negative)
