"""The mean of a softmax whose logits are Gaussian, by deterministic quadrature."""

import math

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

_RADIUS = 6.0  # standard deviations integrated over: 1e-7 of the mass of three dimensions lies outside
_NODES = 2**19  # most nodes of the box around the ball
_WIDEST = 12.0  # standard deviation of a contrast up to which the rules below are trusted
_CELLS = 2**18  # rows times nodes held at once: what fits a cache is fastest
_SPREAD = 300.0  # mean logits further apart than this, beyond any node's reach, are cut: exponentials stay finite


def gaussian_nodes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Nodes and weights for means over centred Gaussian logits, of which only the contrasts count.

    The logits are reduced to the principal axes of their contrasts. Up to three axes: the trapezoidal rule on a
    grid cut to a ball, finer along wider axes. On the whole line it converges as :math:`e^{-2 \pi d / h}`, with
    spacing h and with d the distance of the integrand's nearest pole from the real line (Trefethen & Weideman, 2014,
    thm. 5.1); here :math:`d \propto 1 / \text{width}`, so a spacing in proportion to it keeps the error, where
    Gauss-Hermite rules need many more nodes. Above three axes: ``2**15`` scrambled Sobol points, always the same.

    Args:
        covariance: of the logits, positive semi-definite.

    Shape:
        ``(C, C)`` → ``(Q, C)``, ``(Q,)``.

    Returns:
        Centred nodes in the space of logits, and their weights, which sum to 1; float64.

    Raises:
        ValueError: if a contrast has a standard deviation above 12: labels so certain would need a finer rule.
    """
    classes = covariance.shape[-1]
    centre = torch.eye(classes, dtype=torch.float64) - 1 / classes
    values, vectors = torch.linalg.eigh(centre @ covariance.double() @ centre)
    if not float(values[-1]) <= _WIDEST**2:
        raise ValueError(
            f"covariance: expected a standard deviation of at most {_WIDEST:g} along every contrast of the logits, "
            f"got {float(values[-1]) ** 0.5:.3g}; lower the sharpness of the labels"
        )
    wide = values > 1e-12 * max(1.0, float(values[-1]))
    axes = vectors[:, wide] * values[wide].sqrt()
    rank = axes.shape[1]
    if rank == 0:
        return torch.zeros(1, classes, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    if rank > 3:
        engine = SobolEngine(rank, scramble=True, seed=0)  # type: ignore[no-untyped-call]
        uniform = engine.draw(2**15, dtype=torch.float64)
        points = torch.special.ndtri(uniform.clamp(min=2.0**-31))
        return points @ axes.T, torch.full((len(points),), 1 / len(points), dtype=torch.float64)
    # The nearest pole is at sqrt(2) / 2 * pi / width: spacings of 1.25 / width err by about 1e-5, of 0.8 by 3e-8.
    spacing = ((1.25 if rank == 3 else 0.8) / values[wide].sqrt()).clamp(max=0.5)
    excess = math.prod((2 * _RADIUS / spacing).tolist()) / _NODES
    spacing = spacing * max(1.0, excess) ** (1 / rank)
    steps = [torch.arange(-(_RADIUS // h), _RADIUS // h + 1, dtype=torch.float64) * h for h in spacing.tolist()]
    grid = torch.stack(torch.meshgrid(*steps, indexing="ij"), dim=-1).reshape(-1, rank)
    squared = grid.square().sum(1)
    inside = squared <= _RADIUS**2
    return grid[inside] @ axes.T, (-squared[inside] / 2).softmax(0)


def softmax_expectation(mean: Tensor, covariance: Tensor) -> Tensor:
    r"""Mean of softmax(L) for :math:`L \sim N(\text{mean}, \text{covariance})`.

    Where the standard deviation along the widest contrast is at most 8, the error is below 1e-6 for two and three
    classes, below 3e-5 for four and below 2e-3 for more; it falls with narrower logits. Up to 12, where the rule
    ends, four classes err below 1e-3.

    Args:
        mean: of the logits, one row a case.
        covariance: of the logits, the same for all rows; positive semi-definite.

    Shape:
        ``(N, C)``, ``(C, C)`` → ``(N, C)``.

    Returns:
        Probabilities in float64; rows sum to 1.

    Example:
        >>> softmax_expectation(torch.zeros(1, 2), torch.eye(2)).tolist()
        [[0.5, 0.5]]
    """
    nodes, weights = gaussian_nodes(covariance)
    # softmax(m + z)_j = exp(m_j) exp(z_j) / (exp(m) · exp(z)): rows and nodes meet in matrix products alone.
    left = (mean.double() - mean.double().amax(1, keepdim=True)).clamp(min=-_SPREAD).exp()
    right = (nodes - nodes.amax(1, keepdim=True)).exp()
    weighted = weights[:, None] * right
    parts = torch.split(left, max(1, _CELLS // len(nodes)))
    rows = [part * ((1 / (part @ right.T)) @ weighted) for part in parts]
    out = torch.cat(rows)
    return out / out.sum(1, keepdim=True)


def balancing_bias(mean: Tensor, covariance: Tensor, prior: Tensor, shares: Tensor) -> Tensor:
    r"""Bias b for which a mixture of Gaussian logits has the asked class shares.

    Solves :math:`\sum_k \text{prior}_k\, E[\text{softmax}(L_k + b)] = \text{shares}`: the stationary point of the
    convex :math:`E[\log \sum_j e^{L_j + b_j}] - \text{shares} \cdot b`, by Newton's method with step halving.

    Args:
        mean: of the logits, one row a component.
        covariance: of the logits within every component.
        prior: weights of the components.
        shares: positive, of sum 1.

    Shape:
        ``(K, C)``, ``(C, C)``, ``(K,)``, ``(C,)`` → ``(C,)``.

    Returns:
        The bias, centred, in float64.

    Raises:
        ValueError: if the shares are not met to 1e-8 (components so far apart that they leave no choice).

    Example:
        >>> balancing_bias(torch.zeros(1, 2), torch.zeros(2, 2), torch.ones(1), torch.tensor([0.5, 0.5])).tolist()
        [0.0, 0.0]
    """
    nodes, node_weights = gaussian_nodes(covariance)
    logits = (mean.double()[:, None] + nodes).flatten(0, 1)
    weights = (prior.double()[:, None] * node_weights).flatten()
    shares = shares.double()
    classes = len(shares)

    def objective(bias: Tensor) -> Tensor:
        return weights @ (logits + bias).logsumexp(1) - shares @ bias

    bias = shares.log() - shares.log().mean()
    for _ in range(100):
        soft = (logits + bias).softmax(1)
        average = weights @ soft
        gap = shares - average
        if gap.abs().max() < 1e-12:
            break
        curvature = average.diag() - (soft * weights[:, None]).T @ soft
        # The objective does not move along (1, ..., 1), and barely where the softmax is saturated: both are lifted.
        lift = 1 / classes + 1e-9 * torch.eye(classes, dtype=torch.float64)
        step = torch.linalg.solve(curvature + lift, gap)
        scale, level, slope = 1.0, objective(bias), float(gap @ step)
        while scale > 1e-9 and objective(bias + scale * step) > level - 1e-4 * scale * slope + 1e-14:
            scale /= 2
        bias = bias + scale * step
        bias = bias - bias.mean()
    gap = weights @ (logits + bias).softmax(1) - shares
    if not gap.abs().max() < 1e-8:
        raise ValueError(
            f"shares: expected what logits of means up to {float(mean.abs().max()):.3g} can meet, got "
            f"{[round(s, 6) for s in shares.tolist()]}, missed by {float(gap.abs().max()):.2g}"
        )
    return bias
