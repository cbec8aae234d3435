"""Random missing at a rate: which modalities of each sample are kept."""

import torch
from torch import Tensor

from mmaffect.missing.conditional import at_least_one
from mmaffect.missing.draws import check_rate, rounding, uniform


def random_rate(n: int, m: int, rate: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Availability of m modalities in n samples, of which a share ``rate`` is missing.

    IMDer's random-missing protocol, MR = 1 - (Σ available)/(N·M) with at least one modality kept, as an exact
    law. Rows are independent; in each, every modality is a coin that keeps it with chance p, given that not
    all are lost, so the number kept is a binomial without its zero and the modalities are exchangeable.
    With q = 1 - p the share kept is p / (1 - q^m), hence p solves

    .. math:: 1 + q + \dots + q^{m-1} = \frac{1}{1 - \mathrm{rate}}

    (for m = 2, q = rate / (1 - rate)). The left side rises from 1 to m as q goes from 0 to 1: a root for each
    rate in [0, (m-1)/m]; nothing is missing at 0 and exactly one modality, any with the same chance, is kept
    at (m-1)/m. No law that keeps one can go beyond: an MR of "0.7" with three modalities does not exist.
    (IMDer's code, which draws one pattern a batch, realises 0.606 there.) Independent coins with chance
    1 - rate, repaired or redrawn where all fail, would miss every rate but 0; redrawing never ends at rate 1.

    Args:
        n: samples.
        m: modalities.
        rate: expected share missing; one number, or one rate a sample.
        generator: where the randomness comes from; its device is that of the result. Torch's own by default.

    Shape:
        ``rate ()`` or ``(n,)`` → bool ``(n, m)``, True = kept.

    Raises:
        ValueError: if n < 0, m < 1, or a rate is negative, NaN or above (m-1)/m.

    Example:
        >>> random_rate(4, 3, 2 / 3, torch.Generator().manual_seed(0)).sum(1).tolist()
        [1, 1, 1, 1]
        >>> random_rate(4, 3, 0.7)
        Traceback (most recent call last):
        ...
        ValueError: rate: expected 0 <= rate <= 0.666667 (one of m = 3 modalities is always kept), got 0.7
    """
    if n < 0 or m < 1:
        raise ValueError(f"n, m: expected n >= 0 samples and m >= 1 modalities, got n = {n}, m = {m}")
    noise = uniform(n, m, generator=generator)
    most = (m - 1) / m
    why = f" (one of m = {m} modalities is always kept)"
    missing = check_rate("rate", rate, n, noise, most=most, why=why)
    # A bound written as 1 - 1/m, or in float32, is still the bound.
    kept = torch.where(missing >= most - rounding(rate), torch.full_like(missing, 1 / m), 1 - missing)
    return at_least_one(kept.unsqueeze(-1).expand(-1, m), noise)
