"""Mean and covariance of a Gaussian, by maximum likelihood, though entries be absent."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmaffect.ops import check_mask, check_positive, check_shape, keep


class FittedGaussian(NamedTuple):
    """Moments of a Gaussian and how long it took to find them."""

    mean: Tensor
    """``(D,)``, float64"""
    covariance: Tensor
    """``(D, D)``, float64"""
    iterations: int
    """of EM"""


@torch.no_grad()
def fit_gaussian(
    x: Tensor, observed: Tensor, *, shrinkage: float = 0.0, iterations: int = 500, tolerance: float = 1e-6
) -> FittedGaussian:
    r"""Maximum likelihood under whatever is observed, by EM (Dempster, Laird and Rubin, 1977).

    .. math::
        \mu \leftarrow \frac1N \sum_i E[x_i \mid x_{i,o}], \qquad
        \Sigma \leftarrow \frac1N \sum_i E[(x_i - \mu)(x_i - \mu)^\top \mid x_{i,o}]

    Right where absence has nothing to do with the absent values. The covariance divides by N, as likelihood has it.
    All that EM needs of the rows is their number, sum and second moment for each pattern of absence, so an iteration
    costs the same however many rows there are. Complete data have one pattern, and one iteration finds their moments.

    Entries never observed together leave their covariance to be whatever joins the others most smoothly: EM
    starts without correlation.

    Args:
        x: rows.
        observed: True = the entry is there; rows with none count for nothing.
        shrinkage: λ in [0, 1]: in each iteration covariances, not variances, are multiplied by 1 - λ.
        iterations: how many at most.
        tolerance: stop once no mean or covariance moves by more, relative to standard deviations.

    Shape:
        ``x (N, D)``, ``observed (N, D)`` → ``(D,)`` and ``(D, D)``, float64.

    Raises:
        ValueError: on another shape, a feature never observed, or a covariance that becomes singular.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [2.0, 5.0], [4.0, float("nan")]])
        >>> fitted = fit_gaussian(x, ~x.isnan(), shrinkage=0.01)
        >>> [round(value, 1) for value in fitted.mean.tolist()]
        [2.0, 4.9]
    """
    check_shape("x", x, "N D")
    check_mask("observed", observed, "N D", N=x.shape[0], D=x.shape[1])
    check_positive(iterations=iterations, tolerance=tolerance)
    never = (~observed.any(0)).nonzero().flatten().tolist()
    if never:
        raise ValueError(f"observed: expected every feature to be there in some row, got none for {never}")
    anything = observed.any(1)
    x, observed = keep(x.double(), observed)[anything], observed[anything]
    # In units of each feature's own: moments do not cancel, and one tolerance suits all.
    centre = x.sum(0) / observed.sum(0)
    x = keep(x - centre, observed)
    variance = x.square().sum(0) / observed.sum(0)
    varies = variance > 1e-20 * centre.square()
    scale = torch.where(varies, variance, torch.ones_like(variance)).sqrt()
    x = keep(x / scale, observed & varies)

    patterns, which, count = torch.unique(observed | ~varies, dim=0, return_inverse=True, return_counts=True)
    member = torch.nn.functional.one_hot(which, len(patterns)).to(x.dtype)
    total = member.T @ x
    order = which.argsort()
    square = torch.stack([part.T @ part for part in torch.split(x[order], count.tolist())])

    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    absent = ~patterns
    there = patterns.unsqueeze(2) & patterns.unsqueeze(1)
    mean, covariance = torch.zeros_like(centre), eye
    done = 0
    while done < iterations:
        done += 1
        root, info = torch.linalg.cholesky_ex(torch.where(there, covariance, eye))
        if bool(info.any()):
            raise ValueError(
                f"x: expected features of a covariance that is not singular, got {len(x)} rows of {x.shape[1]}; "
                f"see shrinkage (given {shrinkage})"
            )
        across = keep(covariance, patterns.unsqueeze(2) & absent.unsqueeze(1))  # observed by absent
        gain = torch.cholesky_solve(across, root).mT
        within = keep(covariance - gain @ across, absent.unsqueeze(2) & absent.unsqueeze(1))
        complete = torch.where(there, eye, gain)  # from the observed entries to the whole row
        own = keep(mean.expand_as(total), patterns)
        moved = torch.einsum("pij,pj->i", complete, total - count.unsqueeze(1) * own) / len(x)
        cross = total.unsqueeze(2) * own.unsqueeze(1)
        spread = square - cross - cross.mT + count[:, None, None] * own.unsqueeze(2) * own.unsqueeze(1)
        summed = (complete @ spread @ complete.mT + count[:, None, None] * within).sum(0)
        found = summed / len(x) - moved.unsqueeze(1) * moved
        found = torch.where(eye.bool(), found, (1 - shrinkage) * (found + found.T) / 2)
        found = torch.where(varies.unsqueeze(1) & varies, found, eye)
        step = max(float(moved.abs().max()), float((found - covariance).abs().max()))
        mean, covariance = mean + moved, found
        if step < tolerance or len(patterns) == 1:
            break
    covariance = keep(covariance, varies.unsqueeze(1) & varies)
    return FittedGaussian(centre + mean * scale * varies, covariance * scale.unsqueeze(1) * scale, done)
