"""A running average of a module's parameters, for inference."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    r"""Exponential moving average of the parameters of a module (Ho et al., 2020, appendix B).

    .. math:: \bar\theta_n = d_n \bar\theta_{n-1} + (1 - d_n)\, \theta_n, \qquad \bar\theta_0 = \theta_0, \qquad
              d_n = d \quad\text{or}\quad \min\big(d, \tfrac{n}{n + 9}\big)

    The average is a submodule, ``module``: a copy in evaluation mode for good, without gradients, saved and moved with
    the system that holds it. Buffers are copied as they are. The module that is followed belongs to the system and is
    not registered here a second time; copy and pickle the two together.

    The warm-up is TensorFlow's :math:`(1 + k) / (10 + k)` after k = n - 1 updates: at first the average forgets fast,
    and the untrained parameters with it. Keep the parameters in float32: in bfloat16 the steps of an average round to
    nothing.

    Args:
        module: what is followed.
        decay: d, from 0 to below 1.
        warmup: whether the decay grows to d, as above.

    Raises:
        ValueError: on a decay outside [0, 1).

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(layer.weight)
        >>> average = EMA(layer, decay=0.9)
        >>> _ = nn.init.ones_(layer.weight)
        >>> average.update()
        >>> average(torch.ones(1, 1)).item()
        0.10000000149011612
    """

    updates: Tensor

    def __init__(self, module: nn.Module, decay: float = 0.9999, *, warmup: bool = False) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a share from 0 to below 1, got {decay}")
        self.decay, self.warmup = decay, warmup
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        # In a tuple, which a module does not look into: its parameters are the system's, not ours.
        self._followed = (module,)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"decay={self.decay}, warmup={self.warmup}"

    def train(self, mode: bool = True) -> "EMA":
        """The average stays in evaluation mode while the system around it trains."""
        return super().train(False)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's parameters as they are now; call it after each step of the optimiser."""
        (followed,) = self._followed
        averages: list[Tensor] = list(self.module.parameters())
        parameters: list[Tensor] = list(followed.parameters())
        self.updates += 1
        if self.warmup:
            # The share is a tensor, so that no device has to be waited for.
            share = (9 / (self.updates + 9)).clamp(min=1 - self.decay)  # 1 - d, which float32 would not hold as well
            steps = torch._foreach_sub(parameters, averages)
            torch._foreach_mul_(steps, share)
            torch._foreach_add_(averages, steps)
        else:
            torch._foreach_lerp_(averages, parameters, 1 - self.decay)
        for kept, buffer in zip(self.module.buffers(), followed.buffers(), strict=True):
            kept.copy_(buffer)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the average."""
        return self.module(*args, **kwargs)
