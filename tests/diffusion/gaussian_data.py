"""Gaussian data, for which the best denoiser is known in closed form."""

import torch

MEAN = torch.tensor([0.6, -0.9], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.3, 0.4], [0.4, 0.5]], dtype=torch.float64)


def posterior_mean(process, x, t):
    """E[x0 | x] by the formula of conditional Gaussians; x (B, 2), t a number."""
    alpha, std = levels(process, t)
    spread = alpha**2 * COVARIANCE + std**2 * torch.eye(2, dtype=torch.float64)
    return MEAN + (x - alpha * MEAN) @ (alpha * COVARIANCE @ torch.linalg.inv(spread)).T


def posterior_covariance(process, t):
    """Covariance of x0 given x, from precisions rather than from gains."""
    alpha, std = levels(process, t)
    return torch.linalg.inv(torch.linalg.inv(COVARIANCE) + (alpha / std) ** 2 * torch.eye(2, dtype=torch.float64))


def levels(process, t):
    time = torch.tensor(t, dtype=torch.float64)
    return process.alpha(time).item(), process.std(time).item()


def exact_samples(count=64):
    """Data and noise whose empirical moments up to the second are the true ones, to the last digit."""
    raw = torch.randn(count, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    raw = raw - raw.mean(0)
    white = torch.linalg.qr(raw).Q * count**0.5
    return MEAN + white[:, :2] @ torch.linalg.cholesky(COVARIANCE).T, white[:, 2:]
