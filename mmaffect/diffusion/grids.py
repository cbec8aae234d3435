"""Which times a sampler visits: from ``t_max`` down to ``t_min``, both included."""

import math

import torch
from torch import Tensor

from mmaffect.diffusion.process import Process
from mmaffect.ops import check_positive


def uniform_times(process: Process, steps: int) -> Tensor:
    """Equal steps in time, as DDPM and IMDer take them.

    Most fall where the noise hides all data and few where its smallest parts appear: with VESDE(25) 69 of 100 lie
    above the standard deviation 1.0.

    Args:
        process: gives ``t_max`` and ``t_min``.
        steps: how many times; one alone is ``t_max``.

    Shape:
        ``(steps,)``, float64, decreasing.

    Raises:
        ValueError: if steps is not positive.

    Example:
        >>> from mmaffect.diffusion import VESDE
        >>> uniform_times(VESDE(), 3).tolist()
        [1.0, 0.5005, 0.001]
    """
    check_positive(steps=steps)
    return _spaced(process.t_max, process.t_min, steps)


def log_snr_times(process: Process, steps: int) -> Tensor:
    """Equal steps in the logarithm of the signal-to-noise ratio: the default, and the best here for few evaluations.

    Each step shrinks noise over signal by the same factor, so that no part of the data, large or small, gets more
    steps than another (Lu et al., 2022, section 3.4).

    Args:
        process: gives ``t_max`` and ``t_min``.
        steps: how many times; one alone is ``t_max``.

    Shape:
        ``(steps,)``, float64, decreasing.

    Raises:
        ValueError: if steps is not positive.

    Example:
        >>> from mmaffect.diffusion import VESDE
        >>> VESDE().sigma(log_snr_times(VESDE(), 3)).numpy().round(3).tolist()
        [9.845, 0.558, 0.032]
    """
    check_positive(steps=steps)
    first, last = _log_snr_ends(process)
    return _with_exact_ends(process, process.time(_spaced(first, last, steps)))


def karras_times(process: Process, steps: int, *, rho: float = 7.0) -> Tensor:
    r"""Equal steps in :math:`\sigma^{1/\rho}`, σ = std / alpha (Karras et al., 2022, eq. 5).

    Between steps equal in σ (ρ = 1) and in its logarithm (ρ → ∞).

    Args:
        process: gives ``t_max`` and ``t_min``.
        steps: how many times; one alone is ``t_max``.
        rho: ρ.

    Shape:
        ``(steps,)``, float64, decreasing.

    Raises:
        ValueError: if steps or rho is not positive.

    Example:
        >>> from mmaffect.diffusion import VESDE
        >>> VESDE().sigma(karras_times(VESDE(), 3)).numpy().round(3).tolist()
        [9.845, 0.99, 0.032]
    """
    check_positive(steps=steps, rho=rho)
    first, last = (math.exp(end / (-2 * rho)) for end in _log_snr_ends(process))
    roots = _spaced(first, last, steps)
    return _with_exact_ends(process, process.time(-2 * rho * roots.log()))


def _log_snr_ends(process: Process) -> tuple[float, float]:
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64, device="cpu")
    first, last = process.log_snr(ends).tolist()
    return first, last


def _spaced(first: float, last: float, steps: int) -> Tensor:
    # Whatever the default device: samplers read the numbers, and not every device has float64.
    return torch.linspace(first, last, steps, dtype=torch.float64, device="cpu")


def _with_exact_ends(process: Process, times: Tensor) -> Tensor:
    # There and back through the log-SNR a digit may be lost, and the sampler would be asked for a time out of range.
    times[-1] = process.t_min
    times[0] = process.t_max
    return times
