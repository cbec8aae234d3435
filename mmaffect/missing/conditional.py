"""Independent availability given that something is left, with exactly the asked marginals.

Every law of this room that must keep at least one modality is this one.
"""

import torch
from torch import Tensor

from mmaffect.ops import check_shape

_HALVINGS = 60  # bisection of [0, 1] to below the spacing of doubles


def _chance_from(scale: Tensor, kept: Tensor) -> Tensor:
    # t_j = (1 - Π_{i ≥ j} (1 - S c_i)) / S as a recursion: nothing cancels, and S = 0 is no special case.
    total = torch.zeros_like(kept[..., 0] * scale)
    chances = []
    for c in reversed(kept.unbind(-1)):
        total = c + (1 - scale * c) * total
        chances.append(total)
    return torch.stack(chances[::-1], dim=-1)


def _solve_scale(kept: Tensor) -> Tensor:
    # t_1 falls in S from Σ c at 0 to 1 - Π(1 - c) <= 1 at 1, so the root of t_1 = 1 can be bracketed.
    low, high = torch.zeros_like(kept[..., 0]), torch.ones_like(kept[..., 0])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _chance_from(middle, kept)[..., 0] > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    # The two ends exactly: a modality that is always there conditions nothing; a sum of one leaves one.
    scale = torch.where((kept == 1).any(-1), torch.ones_like(low), low)
    slack = 8 * kept.shape[-1] * torch.finfo(kept.dtype).eps
    return torch.where(kept.sum(-1) <= 1 + slack, torch.zeros_like(low), scale)


def at_least_one(kept: Tensor, noise: Tensor) -> Tensor:
    r"""Keep modality j with probability ``kept[j]``, and at least one in every row.

    The law is that of independent coins with chances p_j, given that not all of them fail:

    .. math:: P(a) = \frac{1}{S} \prod_j p_j^{a_j} (1 - p_j)^{1 - a_j}, \quad a \neq 0, \qquad
              S = 1 - \prod_j (1 - p_j)

    Its marginals are p_j / S, so p_j = S c_j for asked marginals c_j, and what is left is one equation in S,

    .. math:: \frac{1 - \prod_j (1 - S c_j)}{S} = 1,

    whose left side falls from Σ c at S = 0 to 1 - Π(1 - c) at S = 1: one root if Σ c > 1. Of all laws on the
    non-empty patterns with these marginals it has the greatest entropy (an exponential family whose
    statistics are the a_j). At Σ c = 1 the limit S → 0 keeps exactly one, modality j with chance c_j.
    Nothing is rejected: modality after modality is drawn from its conditional law, with chance
    p_j / (1 - Π_{i ≥ j} (1 - p_i)) as long as none has been kept, and p_j from then on.

    Args:
        kept: c, the asked chance of each modality to be kept; a row of zeros keeps nothing.
        noise: uniform in [0, 1); row i of the result reads row i alone.

    Shape:
        ``kept (N, M)`` or ``(1, M)``, ``noise (N, M)`` → bool ``(N, M)``, True = kept.

    Raises:
        ValueError: on other shapes, values outside [0, 1], or a row that sums to less than one, unless zero.

    Example:
        >>> at_least_one(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.4, 0.9], [0.6, 0.9]])).tolist()
        [[True, False], [False, True]]
    """
    check_shape("noise", noise, "N M")
    n, m = noise.shape
    check_shape("kept", kept, "1 M" if kept.shape[:1] == (1,) else "N M", N=n, M=m)
    total = kept.sum(-1)
    bad = ~((kept >= 0) & (kept <= 1)).all(-1) | ((total < 1 - 1e-6 * m) & (total > 0))
    if bad.any():
        row = kept[bad][0].tolist()
        raise ValueError(f"kept: expected chances in [0, 1] that sum to at least 1 (or all zero), got {row}")
    rows, which = torch.unique(kept, dim=0, return_inverse=True)  # few: one a class, or one a rate
    scale = _solve_scale(rows.cpu()).to(rows.device)[which]  # few numbers and many small steps: on the CPU
    rest = _chance_from(scale, kept)
    first = torch.where(rest > 0, kept / rest, torch.zeros_like(rest))
    later = scale.unsqueeze(-1) * kept
    some = torch.zeros(n, dtype=torch.bool, device=noise.device)
    columns = []
    for j in range(m):
        here = noise[:, j] < torch.where(some, later[:, j], first[:, j])
        some = some | here
        columns.append(here)
    return torch.stack(columns, dim=1)
