"""Latents brought to mean 0 and variance 1, by moments that follow the training data."""

import torch
from torch import Tensor, nn

from mmaffect.ops import at_least_float32, check_positive, check_shape, keep, step_mask


class RunningStandardisation(nn.Module):
    r"""Standardise each feature by the moments of all steps seen so far, and back.

    .. math:: z = (x - \mu) / \sigma

    μ and the population variance σ² are those of every real step that :meth:`update` was given, combined batch by
    batch without loss (Chan et al., 1983, eq. 2.1), until ``horizon`` steps have been seen; from then on the past
    counts as that many steps, so that the moments follow latents that change. They are constants for the gradient.
    Before the first step they are 0 and 1.

    A feature that never varied has z = 0 up to rounding, and :meth:`undo` returns its constant.

    Moments are buffers: saved, resumed and moved with the layer. Under ``DistributedDataParallel`` every process goes
    on with those of the first one, which come from its own share of the data, as with BatchNorm. Nothing is exchanged
    for them, so no process can wait for another. Train with them in float32, as autocast does: in bfloat16 late batches
    round to nothing, and the moments stay where the early ones put them.

    Args:
        dim: number of features D.
        horizon: steps after which the past is no longer counted in full.

    Shape:
        ``x (B, T, D)``, ``mask (B, T)`` → ``(B, T, D)``.

    Raises:
        ValueError: on sizes that are not positive.

    Example:
        >>> layer = RunningStandardisation(1)
        >>> x = torch.tensor([[[1.0], [3.0], [float("nan")]]])
        >>> mask = torch.tensor([[True, True, False]])
        >>> layer.update(x, mask)
        >>> layer(x, mask).flatten().tolist(), layer.undo(layer(x, mask)).flatten().tolist()
        ([-1.0, 1.0, 0.0], [1.0, 3.0, 2.0])
    """

    steps: Tensor
    mean: Tensor
    var: Tensor

    def __init__(self, dim: int, *, horizon: int = 100_000) -> None:
        super().__init__()
        check_positive(dim=dim, horizon=horizon)
        self.dim, self.horizon = dim, horizon
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("var", torch.ones(dim))

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, horizon={self.horizon}"

    @torch.no_grad()
    def update(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Take in the real steps of a batch; nothing where there is none.

        Args:
            x: steps.
            mask: True = a real step; all by default.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask = step_mask("mask", x, mask)
        wide, fresh = at_least_float32(x), mask.sum()
        mean = keep(wide, mask).sum((0, 1)) / fresh.clamp(min=1)
        var = keep(wide - mean, mask).square().sum((0, 1)) / fresh.clamp(min=1)
        # In the first batch nothing is left of the moments that the layer began with.
        total = (self.steps + fresh).clamp(min=1).to(wide.dtype)
        share = fresh / total
        past = torch.where(fresh > 0, self.steps / total, torch.ones_like(share))
        self.var.copy_(past * self.var + share * var + past * share * (mean - self.mean).square())
        self.mean.copy_(past * self.mean + share * mean)
        self.steps.copy_((self.steps + fresh).clamp(max=self.horizon))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Standardise; zero at masked steps.

        Args:
            x: steps.
            mask: True = a real step; all by default.

        Raises:
            ValueError: on another shape.
        """
        check_shape("x", x, "B T D", D=self.dim)
        mask = step_mask("mask", x, mask)
        scale = self._scale()
        normal = (at_least_float32(x) - self.mean) / torch.where(scale > 0, scale, torch.ones_like(scale))
        return keep(normal, mask).to(x.dtype)

    def undo(self, x: Tensor) -> Tensor:
        """Back to the units of the data.

        Args:
            x: standardised, ``(..., D)``.
        """
        return (at_least_float32(x) * self._scale() + self.mean).to(x.dtype)

    def _scale(self) -> Tensor:
        """Standard deviations, with zero for what varies by no more than rounding."""
        return torch.where(self.var > 1e-10 * self.mean.square(), self.var, torch.zeros_like(self.var)).sqrt()
