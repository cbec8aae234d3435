"""Noise that is the same for every sample, whatever the batch and its padding: for tests only.

A draw of shape (B, T, D) hands each sample other numbers once the batch is reordered, or padded further. To
compare such runs the noise must not depend on the place in the batch. Inside :func:`steady_noise` it does not.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _SteadyNoise(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Overwrites what each random operation drew, below autograd and whatever generator it was given."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        # Read before the operation runs: in-place ones overwrite their own probabilities.
        arguments = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
        given = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        arguments |= {n: v.clone() if isinstance(v, Tensor) else v for n, v in given.items()}
        out = func(*args, **kwargs)
        # Attention and recurrent kernels are marked random for a dropout that need not be in use.
        if arguments.get("dropout_p", arguments.get("dropout")) == 0 or arguments.get("train") is False:
            return out
        self.calls += 1
        name = func.overloadpacket.__name__
        if name not in _DRAWS:
            raise NotImplementedError(f"steady_noise: no steady counterpart of {func}")
        return out.copy_(_DRAWS[name](arguments, self._uniform(out)))

    def _uniform(self, like: Tensor) -> Tensor:
        # A low-discrepancy sequence: one number a call, and one a feature where there surely is a feature axis.
        steps = torch.zeros((), dtype=torch.float64, device=like.device)
        if like.dim() >= 3:
            steps = torch.arange(like.shape[-1], dtype=torch.float64, device=like.device)
        return ((self.calls * 0.7548776662466927 + steps * 0.5698402909980532 + 0.1234567) % 1).expand(like.shape)


def _normal(arguments: dict[str, Any], uniform: Tensor) -> Tensor:
    return arguments.get("mean", 0.0) + arguments.get("std", 1.0) * math.sqrt(2) * torch.erfinv(2 * uniform - 1)


def _whole(arguments: dict[str, Any], uniform: Tensor) -> Tensor:
    low = arguments.get("low", 0)
    return low + (uniform * (arguments["high"] - low)).floor()


# Each draw at given uniform numbers, by the name of the operation and with its arguments.
_DRAWS: dict[str, Callable[[dict[str, Any], Tensor], Tensor]] = {
    "rand": lambda _, u: u,
    "rand_like": lambda _, u: u,
    "uniform_": lambda a, u: a["from"] + (a["to"] - a["from"]) * u,
    "randn": _normal,
    "randn_like": _normal,
    "normal": _normal,
    "normal_": _normal,
    "exponential_": lambda a, u: -(1 - u).log() / a["lambd"],
    "bernoulli": lambda a, u: u < a.get("p", a["self"]),
    "bernoulli_": lambda a, u: u < a["p"],
    "randint": _whole,
    "randint_like": _whole,
    "randperm": lambda a, u: torch.arange(a["n"], device=u.device),
    "multinomial": lambda a, _: a["self"].topk(a["num_samples"]).indices,
}


@contextmanager
def steady_noise() -> Iterator[None]:
    """Within this context random operations do not depend on a seed, on the batch or on its padding.

    The n-th draw of a run is one fixed number, or, from three dimensions on, one fixed row of numbers along the
    last axis; permutations are the identity and multinomial draws the likeliest entries. Each number is a quantile
    of the distribution asked for.

    Raises:
        NotImplementedError: when a random operation without a steady counterpart runs.

    Example:
        >>> import torch
        >>> with steady_noise():
        ...     short = torch.randn(1, 2, 3)
        >>> with steady_noise():
        ...     long = torch.randn(4, 7, 3)
        >>> torch.equal(short.expand(4, 2, 3), long[:, :2])
        True
    """
    with _SteadyNoise():
        yield
