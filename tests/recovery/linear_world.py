"""A linear-Gaussian world, in which every conditional law is known, and a recovery whose networks know it too.

Modalities, steps and features of a sample are jointly normal. What a network should estimate, the mean of the clean
latents given noised ones and everything observed, is one linear system a sample.
"""

import torch
from torch import nn

from mmaffect.ops import keep
from mmaffect.recovery import DiffusionRecovery

NAMES, STEPS, DIM = ("a", "b", "c"), 3, 2
SIZE = STEPS * len(NAMES) * DIM  # entries of a sample, ordered by step, modality, feature
DOUBLE = torch.float64


class World:
    """Mean and covariance of a sample, and of the same standardised by the moments of each feature over the steps."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        factors = torch.randn(SIZE, 5, generator=generator, dtype=DOUBLE)
        spread = 0.5 + 3 * torch.rand(len(NAMES) * DIM, generator=generator, dtype=DOUBLE)
        covariance = factors @ factors.T / 5 + 0.15 * torch.eye(SIZE, dtype=DOUBLE)
        # Stationary variances, so that standardised by feature every entry has variance 1 and mean 0.
        root = covariance.diagonal().sqrt()
        self.correlation = covariance / root / root[:, None]
        self.scale = spread.repeat(STEPS)
        self.shift = (4 * torch.randn(len(NAMES) * DIM, generator=generator, dtype=DOUBLE)).repeat(STEPS)
        self.mean, self.covariance = self.shift, self.correlation * self.scale * self.scale[:, None]

    def draw(self, count, seed=1):
        """Latents by name, ``(B, T, D)`` each."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(count, SIZE, generator=generator, dtype=DOUBLE)
        rows = self.mean + noise @ torch.linalg.cholesky(self.covariance).T
        return dict(zip(NAMES, rows.view(count, STEPS, len(NAMES), DIM).unbind(2), strict=True))

    def conditional(self, latents, observed, name, wanted):
        """Mean and covariance of the wanted entries of one sample's modality, by the formula of conditional Gaussians.

        In the units of the data; ``latents (T, M, D)``, ``observed (T, M)``, ``wanted (T,)``.
        """
        known = observed.unsqueeze(-1).expand(STEPS, len(NAMES), DIM).flatten()
        sought = torch.zeros(STEPS, len(NAMES), DIM, dtype=torch.bool)
        sought[:, NAMES.index(name)] = wanted.unsqueeze(-1)
        sought = sought.flatten()
        c = self.covariance
        gain = c[sought][:, known] @ torch.linalg.inv(c[known][:, known])
        mean = self.mean[sought] + gain @ (latents.flatten()[known] - self.mean[known])
        return mean, c[sought][:, sought] - gain @ c[known][:, sought]


class Pack(nn.Module):
    """In the place of the learned context: everything observed, and where, side by side."""

    def forward(self, x, observed):
        slots = torch.cat([keep(x, observed), observed.unsqueeze(-1).to(x.dtype)], dim=-1)
        return slots.flatten(2)


class ExactNetwork(nn.Module):
    """The mean of one modality's standardised latents given noised ones at time t and what is packed in the context."""

    def __init__(self, world, place, process):
        super().__init__()
        self.world, self.place, self.process, self.calls = world, place, process, []

    def forward(self, x, t, *, mask, context, context_mask):
        self.calls.append(len(x))
        rows = len(x)
        slots = context.view(rows, STEPS, len(NAMES), DIM + 1)
        measured = slots[..., -1:].expand(rows, STEPS, len(NAMES), DIM) > 0
        value = torch.where(measured, slots[..., :-1], torch.zeros((), dtype=DOUBLE))
        target = torch.zeros_like(measured)
        target[:, :, self.place] = mask.unsqueeze(-1)
        value = value.clone()
        value[:, :, self.place] += keep(x, mask)
        alpha, std = (f(t).view(-1, 1, 1, 1).to(DOUBLE) for f in (self.process.alpha, self.process.std))
        factor = (measured.to(DOUBLE) + alpha * target).flatten(1)
        noise = torch.where(target, std**2, torch.where(measured, 0.0, 1.0)).flatten(1)
        # One system for all where all are alike, as draws of one sample are.
        alike = bool((factor == factor[:1]).all() and (noise == noise[:1]).all())
        factor, noise = (factor[:1], noise[:1]) if alike else (factor, noise)
        cross = self.world.correlation * factor.unsqueeze(1)
        spread = factor.unsqueeze(2) * cross + torch.diag_embed(noise)
        gain = torch.linalg.solve(spread, cross.mT).mT
        estimate = (gain @ value.flatten(1).unsqueeze(2)).view(rows, STEPS, len(NAMES), DIM)
        return estimate[:, :, self.place].to(x.dtype)


def exact_recovery(world, process, **options):
    """A recovery whose standardisation and networks are the truth."""
    places = iter(range(len(NAMES)))
    recovery = DiffusionRecovery(
        NAMES,
        DIM,
        network=lambda: ExactNetwork(world, next(places), process),
        process=process,
        prediction="x0",
        preconditioning="none",
        **options,
    ).double()
    for place, name in enumerate(NAMES):
        rows = slice(place * DIM, (place + 1) * DIM)
        recovery.standards[name].mean.copy_(world.shift[rows])
        recovery.standards[name].var.copy_(world.scale[rows].square())
        recovery.parts[name].fuse = Pack()
    return recovery.eval()


def distance(mean, covariance, found_mean, found_covariance):
    """2-Wasserstein distance of two Gaussians, over the root of the first one's total variance."""

    def root(matrix):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * values.clamp(min=0).sqrt() @ vectors.T

    half = root(covariance)
    cross = root(half @ found_covariance @ half)
    squared = (mean - found_mean).square().sum() + torch.trace(covariance + found_covariance - 2 * cross)
    return (squared.clamp(min=0) / covariance.trace()).sqrt().item()
