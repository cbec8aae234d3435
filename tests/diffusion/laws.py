"""What a sampler makes of Gaussian data, computed without sampling, and what it should.

For Gaussian data the exact denoiser is affine, so a run is an affine map of its start and of each noise it draws. The
map is found by sending basis vectors through the sampler's own code; the law of its output follows exactly.
"""

from itertools import pairwise
from unittest.mock import patch

import torch

DOUBLE = torch.float64


class Gaussian:
    """Data N(mean, covariance); modes in the axes if no rotation is asked for."""

    def __init__(self, variances, mean=None, *, seed=None):
        self.dim = len(variances)
        self.basis = torch.eye(self.dim, dtype=DOUBLE)
        self.mean = torch.zeros(self.dim, dtype=DOUBLE) if mean is None else mean
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
            self.basis = torch.linalg.qr(torch.randn(self.dim, self.dim, dtype=DOUBLE, generator=generator)).Q
            self.mean = torch.randn(self.dim, dtype=DOUBLE, generator=generator)
        self.variances = variances
        self.covariance = self.basis * variances @ self.basis.T

    def denoiser(self, process):
        """E[x0 | x] by the formula of conditional Gaussians."""

        def denoise(x, t):
            assert t.shape == x.shape[:1]
            assert (t == t[0]).all()
            alpha, std = process.alpha(t[0]), process.std(t[0])
            gain = self.basis * (alpha * self.variances / (alpha**2 * self.variances + std**2)) @ self.basis.T
            return self.mean + (x - alpha * self.mean) @ gain.T

        return denoise

    def at(self, process, t):
        """Mean and covariance of x_t."""
        alpha, std = level(process, t)
        return alpha * self.mean, alpha**2 * self.covariance + std**2 * torch.eye(self.dim, dtype=DOUBLE)

    def start(self, process, matched=True):
        """Law of ``process.prior`` with the moments of each column, or of N(0, std²)."""
        alpha, std = level(process, process.t_max)
        if not matched:
            return 0 * self.mean, std**2 * torch.eye(self.dim, dtype=DOUBLE)
        return alpha * self.mean, torch.diag(alpha**2 * self.covariance.diagonal() + std**2)

    def distance(self, mean, covariance):
        """2-Wasserstein distance from the data, over the root of their total variance."""
        root = square_root(self.covariance)
        cross = square_root(root @ covariance @ root)
        squared = (mean - self.mean).square().sum() + torch.trace(self.covariance + covariance - 2 * cross)
        return (squared.clamp(min=0) / self.covariance.trace()).sqrt().item()


def spectrum(dim=32, least=0.02):
    return torch.logspace(torch.log10(torch.tensor(least)).item(), 0, dim, dtype=DOUBLE)


def level(process, t):
    time = torch.tensor(t, dtype=DOUBLE)
    return process.alpha(time).item(), process.std(time).item()


def square_root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def affine(sampler, data, process, steps, *, before_last=False, **options):
    """Offset b and matrix A of a deterministic run: x ↦ A x + b; to ``t_min`` alone if ``before_last``."""
    x = torch.cat([torch.zeros(1, data.dim, dtype=DOUBLE), torch.eye(data.dim, dtype=DOUBLE)])
    seen = []
    options.setdefault("callback", lambda now: seen.append(now.x.clone()) if now.step == steps - 1 else None)
    out = sampler(data.denoiser(process), process, x, steps, **options)
    out = seen[0] if before_last else out
    return out[0], (out[1:] - out[0]).T


def law(sampler, data, process, steps, *, matched=True, before_last=False, **options):
    """Mean and covariance of what a sampler returns, its noise included.

    Data with modes in the axes if the sampler draws noise. Row 0 starts at 0, row 1 at 1; each further row starts at 0
    too and meets one noise of the run, of size 1 in every mode, in place of a random one.
    """
    mean, covariance = data.start(process, matched)
    draws = []

    def count(self, mean=0.0, std=1.0, *, generator=None):
        draws.append(std)
        return self.zero_()

    with patch.object(torch.Tensor, "normal_", count):
        b, a = affine(sampler, data, process, steps, before_last=before_last, **options)
    if not draws:
        return b + a @ mean, a @ covariance @ a.T
    assert torch.equal(data.basis, torch.eye(data.dim, dtype=DOUBLE))
    drawn = 0

    def one_by_one(self, mean=0.0, std=1.0, *, generator=None):
        nonlocal drawn
        self.zero_()[2 + drawn] = std
        drawn += 1
        return self

    x = torch.zeros(2 + len(draws), data.dim, dtype=DOUBLE)
    x[1] = 1
    seen = []
    with patch.object(torch.Tensor, "normal_", one_by_one):
        out = sampler(
            data.denoiser(process), process, x, steps, **options,
            callback=lambda now: seen.append(now.x.clone()) if now.step == steps - 1 else None,
        )  # fmt: skip
    out = seen[0] if before_last else out
    noise = (out[2:] - out[0]).square().sum(0)
    return b + a @ mean, a @ covariance @ a.T + torch.diag(noise)


def slope(errors):
    """The order of a method from errors at doubling numbers of steps: each halving's, on a log scale."""
    return [torch.log2(torch.tensor(a / b)).item() for a, b in pairwise(errors)]
