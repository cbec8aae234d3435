"""The tables of DDPM as a process: exact at their own steps, interpolated between."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mmaffect.diffusion.process import Process
from mmaffect.ops import at_least_float32, check_positive


@dataclass(frozen=True)
class DiscreteVP(Process):
    r"""A table of β, one a step, for networks that were trained on it (Ho et al., 2020, eq. 4).

    .. math:: \alpha(n/N) = \sqrt{\prod_{i \le n} (1 - \beta_i)}, \qquad \mathrm{std}^2 = 1 - \alpha^2

    Step n of N is the time n / N, so a network that counts its steps from 0 to N - 1 is called with ``t * N - 1``.
    Between two steps log alpha runs straight (Lu et al., 2022, appendix D.4), and so does its derivative jump; at a
    step it is that of the β which leads there.

    :meth:`linear` and :meth:`cosine` are the published tables. They are not the continuous processes of the same names:

    * linear: :class:`VPSDE` is the limit of many steps. At the end alpha² is 4.04e-5, there 4.32e-5.
    * cosine: no β exceeds .999, where the cosine alone would leave no signal. The clip acts on the last step only:
      noise over signal is 2.0e4 at the end and 640 one step before. A sampler that starts there spends two fifths of
      a grid in the log-SNR where nothing is decided yet; with few steps let ``times`` begin near t = .984, where
      :class:`CosineVP` does.

    Sampling starts and ends at the table's own ends, N / N and 1 / N.

    Args:
        betas: the table, each between 0 and 1.

    Raises:
        ValueError: if the table is empty or a β is not between 0 and 1.

    Example:
        >>> process = DiscreteVP((0.1, 0.5))
        >>> process.alpha(torch.tensor([0.5, 1.0])).square()
        tensor([0.9000, 0.4500])
    """

    betas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected numbers between 0 and 1, got {self.betas[:5]} …")

    def __repr__(self) -> str:
        """Short: a table of a thousand numbers would fill every printed model."""
        return f"{type(self).__name__}({len(self.betas)} steps, {self.betas[0]:.3g} to {self.betas[-1]:.3g})"

    @classmethod
    def linear(cls, steps: int = 1000, *, first: float = 1e-4, last: float = 0.02) -> "DiscreteVP":
        """Betas in equal steps: DDPM's table.

        Args:
            steps: N.
            first: β of step 1.
            last: β of step N.

        Raises:
            ValueError: if N is not positive or a β is not between 0 and 1.
        """
        check_positive(steps=steps)
        return cls(torch.linspace(first, last, steps, dtype=torch.float64, device="cpu").tolist())

    @classmethod
    def cosine(cls, steps: int = 1000, *, s: float = 0.008, largest: float = 0.999) -> "DiscreteVP":
        """Betas from the ratios of a squared cosine, clipped (Nichol & Dhariwal, 2021, eq. 17 and below).

        Args:
            steps: N.
            s: the offset of the cosine.
            largest: where β is clipped.

        Raises:
            ValueError: if N or s is not positive or a β is not between 0 and 1.
        """
        check_positive(steps=steps, s=s)
        squares = [math.cos((n / steps + s) / (1 + s) * math.pi / 2) ** 2 for n in range(steps + 1)]
        return cls([min(1 - then / now, largest) for now, then in pairwise(squares)])

    @property
    def t_min(self) -> float:
        """The first step of the table."""
        return 1 / len(self.betas)

    @property
    def t_max(self) -> float:
        """Its last step."""
        return 1.0

    def alpha(self, t: Tensor) -> Tensor:
        """The factor of the data."""
        return self._log_alpha(t).exp()

    def std(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise."""
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def time(self, log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`log_snr`."""
        wanted = 0.5 * F.softplus(-at_least_float32(log_snr), threshold=1000.0)  # minus log alpha
        table = -torch.from_numpy(self._table).to(wanted)
        after = torch.searchsorted(table, wanted.detach()).clamp(1, len(self.betas))
        low, high = table[after - 1], table[after]
        return (after - 1 + (wanted - low) / (high - low)) / len(self.betas)

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """Log alpha at 0 / N, …, N / N; in NumPy, for a tensor would keep the mode in which it was made first."""
        return 0.5 * np.cumsum(np.log1p(-np.array([0.0, *self.betas])))

    def _log_alpha(self, t: Tensor) -> Tensor:
        position = (at_least_float32(t) * len(self.betas)).clamp(0, len(self.betas))
        # A time n / N may be a digit above its step, and would be given the β that comes after.
        digit = 2 * torch.finfo(position.dtype).eps * len(self.betas)
        before = ((position.detach() - digit).ceil() - 1).clamp(min=0).long()
        table = torch.from_numpy(self._table).to(position)
        low, high = table[before], table[before + 1]
        return low + (position - before) * (high - low)
