"""The core of InfoNCE, shared by every contrastive loss of the library."""

import torch
from torch import Tensor

from mmaffect.ops.checks import check_positive, check_shape
from mmaffect.ops.masks import keep


def info_nce_rows(
    prediction: Tensor, target: Tensor, valid: Tensor | None = None, *, temperature: float = 0.1
) -> Tensor:
    r"""InfoNCE of each row against all valid rows (van den Oord et al., 2018, eq. 4).

    .. math:: \ell_i = -\log \frac{\exp(p_i^\top g_i/\tau)}{\sum_{j\ \mathrm{valid}} \exp(p_i^\top g_j/\tau)}

    Args:
        prediction: p, one row an anchor.
        target: g, one row a candidate; row i is the positive of anchor i.
        valid: bool; rows marked False are neither anchor nor candidate. All by default.
        temperature: τ > 0.

    Shape:
        ``prediction (N, D)``, ``target (N, D)``, ``valid (N,)`` → ``(N,)``; zero at invalid rows.

    Raises:
        ValueError: on other shapes, or a temperature that is not positive.

    Example:
        >>> info_nce_rows(torch.eye(2), torch.eye(2), temperature=1.0)
        tensor([0.3133, 0.3133])
    """
    check_shape("prediction", prediction, "N D")
    check_shape("target", target, "N D", N=prediction.shape[0], D=prediction.shape[1])
    check_positive(temperature=temperature)
    if valid is None:
        valid = torch.ones(prediction.shape[0], dtype=torch.bool, device=prediction.device)
    prediction, target = keep(prediction, valid), keep(target, valid)
    scores = prediction @ target.mT / temperature
    positive = scores.diagonal()
    # A finite floor: with no valid row at all, logsumexp over -inf has a NaN gradient.
    floor = torch.full((), torch.finfo(scores.dtype).min / 2, dtype=scores.dtype, device=scores.device)
    scores = torch.where(valid, scores, floor)
    return keep(torch.logsumexp(scores, dim=-1) - positive, valid)
