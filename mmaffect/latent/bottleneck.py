"""A Gaussian posterior over what is fused, with free bits."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.ops import at_least_float32, check_mask, check_positive, check_shape, keep


def free_bits_kl(mean: Tensor, log_var: Tensor, free_bits: float, mask: Tensor | None = None) -> Tensor:
    r"""KL divergence of diagonal Gaussians from the standard normal, in nats, above a share that costs nothing.

    .. math:: L = \sum_k \max(\mathrm{KL}_k - \lambda, 0), \qquad
              \mathrm{KL}_k = \frac{1}{|R|} \sum_{(b,t) \in R}
              \tfrac12 \left(\mu_{btk}^2 + \sigma_{btk}^2 - 1 - \log \sigma_{btk}^2\right)

    over the real steps R of the whole batch (Affect-Diff; free bits of Kingma et al., 2016). A latent dimension
    whose KL is at most λ has no gradient: it may carry that much without being pushed into the prior. Kingma et al.
    write max(λ, KL_k), which is larger by λ for every dimension; ours is exactly zero where the posterior is the prior.

    It is a loss for training and, by design, reads the batch as a whole: whether a dimension is above λ is decided by
    its mean over all samples, so a sample's gradient depends on its batch mates, and the loss of a batch is not
    the mean of the losses of its parts. With λ = 0 it is the mean of the samples' steps, and both are as one expects.

    Args:
        mean: μ.
        log_var: log σ².
        free_bits: λ, nats a latent dimension.
        mask: bool, True = a real step; all by default.

    Shape:
        ``mean (..., K)``, ``log_var`` likewise, ``mask (...)``; such as ``(B, T, K)`` with ``(B, T)`` → scalar.

    Returns:
        Scalar of at least float32; zero, with zero gradient, where the mask has no real step.

    Raises:
        ValueError: on other shapes, a mask that is not bool, or a negative ``free_bits``.

    Example:
        >>> mean, log_var = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.zeros(2, 2)
        >>> free_bits_kl(mean, log_var, 0.0), free_bits_kl(mean, log_var, 0.25)
        (tensor(1.), tensor(0.7500))
    """
    _check_free_bits(free_bits)
    if log_var.shape != mean.shape:
        raise ValueError(f"log_var: expected the shape of mean, {tuple(mean.shape)}, got {tuple(log_var.shape)}")
    mean, log_var = at_least_float32(mean), at_least_float32(log_var)
    if mask is None:
        mask = mean.new_ones(mean.shape[:-1], dtype=torch.bool)
    elif mask.dtype != torch.bool or mask.shape != mean.shape[:-1]:
        raise ValueError(
            f"mask: expected bool of shape {tuple(mean.shape[:-1])}, got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    mean, log_var = keep(mean, mask), keep(log_var, mask)
    # expm1, so that nothing cancels near the prior; a masked step stands at the prior and adds zero.
    divergence = (mean.square() + log_var.expm1() - log_var) / 2
    by_dimension = divergence.flatten(0, -2).sum(0) / mask.sum().clamp(min=1)
    return (by_dimension - free_bits).relu().sum()


class Bottleneck(NamedTuple):
    """What :class:`GaussianBottleneck` returns.

    Args:
        z: the latent: a draw in training, the mean in evaluation; zero at masked steps.
        mean: μ, zero at masked steps.
        log_var: log σ², zero at masked steps.
        kl: scalar, after free bits and before any β.
    """

    z: Tensor
    mean: Tensor
    log_var: Tensor
    kl: Tensor


class GaussianBottleneck(nn.Module):
    r"""Squeeze each step through a Gaussian: Affect-Diff's variational bottleneck.

    .. math:: \mu = W_\mu h + b_\mu, \quad \log \sigma^2 = \mathrm{clamp}(W_\sigma h + b_\sigma), \quad
              z = \mu + \sigma \epsilon

    In evaluation z = μ. The bounds of log σ² are ours (the paper's text names none): they keep σ in about
    [0.007, 150], where nothing overflows. A clamped entry has no gradient through log σ², only through μ.

    Args:
        dim: width of the input.
        latent: width of the latent; that of the input by default.
        free_bits: λ, nats a latent dimension that cost nothing, see :func:`free_bits_kl`.
        max_log_var: log σ² is kept within plus and minus this.

    Shape:
        ``h (B, T, dim)`` with ``mask (B, T)``, or ``h (B, dim)`` with ``mask (B,)`` → ``z``, ``mean``, ``log_var``
        alike with ``latent`` for ``dim``; ``kl ()``.

    Raises:
        ValueError: on sizes that are not positive, negative free bits, or other shapes.

    Example:
        >>> bottleneck = GaussianBottleneck(8, latent=4, free_bits=0.1)
        >>> out = bottleneck(torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, True, True]]))
        >>> out.z.shape, out.kl.shape, bool((out.z[0, 2] == 0).all())
        (torch.Size([2, 3, 4]), torch.Size([]), True)
        >>> out = bottleneck.eval()(torch.randn(2, 8))
        >>> torch.equal(out.z, out.mean)
        True
    """

    def __init__(
        self, dim: int, latent: int | None = None, *, free_bits: float = 0.0, max_log_var: float = 10.0
    ) -> None:
        super().__init__()
        latent = dim if latent is None else latent
        check_positive(dim=dim, latent=latent, max_log_var=max_log_var)
        _check_free_bits(free_bits)
        self.dim, self.latent, self.free_bits, self.max_log_var = dim, latent, free_bits, max_log_var
        self.mean = nn.Linear(dim, latent)
        self.log_var = nn.Linear(dim, latent)

    def forward(
        self,
        h: Tensor,
        mask: Tensor | None = None,
        *,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Bottleneck:
        """Posterior, latent and divergence.

        Args:
            h: the fused representation.
            mask: bool, True = a real step; all by default.
            noise: ε, standard normal, like ``z``; where given it is used in evaluation too. Drawn in training where
                it is not.
            generator: where the draw comes from. Torch's own by default.
        """
        axes = "B T" if h.dim() == 3 else "B"
        check_shape("h", h, f"{axes} D", D=self.dim)
        sizes = dict(zip(axes.split(), h.shape[:-1], strict=True))
        mask = h.new_ones(h.shape[:-1], dtype=torch.bool) if mask is None else mask
        check_mask("mask", mask, axes, **sizes)
        h = keep(h, mask)
        mean = keep(self.mean(h), mask)
        log_var = keep(self.log_var(h).clamp(-self.max_log_var, self.max_log_var), mask)
        kl = free_bits_kl(mean, log_var, self.free_bits, mask)
        if noise is None and self.training:
            device = generator.device if generator is not None else mean.device
            noise = torch.randn(mean.shape, generator=generator, device=device, dtype=at_least_float32(mean).dtype)
        if noise is None:
            return Bottleneck(mean, mean, log_var, kl)
        check_shape("noise", noise, f"{axes} K", **sizes, K=self.latent)
        std = (at_least_float32(log_var) / 2).exp()
        z = keep(at_least_float32(mean) + std * noise.to(std), mask)
        return Bottleneck(z.to(mean.dtype), mean, log_var, kl)

    def extra_repr(self) -> str:
        """Sizes and free bits."""
        return f"{self.dim}, latent={self.latent}, free_bits={self.free_bits}, max_log_var={self.max_log_var}"


def _check_free_bits(free_bits: float) -> None:
    if not free_bits >= 0:
        raise ValueError(f"free_bits: expected a value >= 0, got {free_bits}")
