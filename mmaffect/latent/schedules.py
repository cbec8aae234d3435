"""The weight of a loss term over the epochs: constant, rising, or rising again and again."""

from dataclasses import dataclass

from mmaffect.ops import check_positive


@dataclass(frozen=True)
class ConstantWeight:
    """The same weight throughout.

    Args:
        value: the weight.

    Example:
        >>> ConstantWeight(0.5)(7)
        0.5
    """

    value: float = 1.0

    def __call__(self, epoch: float) -> float:
        """The weight at an epoch, which does not matter."""
        return self.value


@dataclass(frozen=True)
class LinearWarmup:
    r"""Zero, then a straight rise between two epochs, then the full weight.

    .. math:: r(e) = v \cdot \mathrm{clamp}\left(\frac{e - e_0}{e_1 - e_0}, 0, 1\right)

    Affect-Diff's curriculum: its KL term rises over epochs 0 to 30, its diffusion term over 9 to 29.

    Args:
        begin: e₀, up to which the weight is zero.
        end: e₁, from which it is full.
        value: v, the full weight.

    Raises:
        ValueError: unless ``begin`` is before ``end``.

    Example:
        >>> ramp = LinearWarmup(9, 29)
        >>> [ramp(epoch) for epoch in (0, 9, 19, 29, 50)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """

    begin: float
    end: float
    value: float = 1.0

    def __post_init__(self) -> None:
        if not self.begin < self.end:
            raise ValueError(f"begin, end: expected begin < end, got {self.begin} and {self.end}")

    def __call__(self, epoch: float) -> float:
        """The weight at an epoch, which may be a fraction."""
        return self.value * min(max((epoch - self.begin) / (self.end - self.begin), 0.0), 1.0)


@dataclass(frozen=True)
class CyclicalWarmup:
    r"""In each cycle a straight rise from zero, then the full weight (Fu et al., 2019).

    .. math:: r(e) = v \cdot \min(\tau / R, 1), \qquad \tau = (e \bmod P) / P

    Each fall to zero lets the latent take up again what the pressure of the cycle before has squeezed out. Fu et al.
    count steps and take four cycles with R = 0.5.

    Args:
        period: P, epochs of a cycle.
        rise: R, part of the cycle over which the weight rises, in (0, 1].
        value: v, the full weight.

    Raises:
        ValueError: on a period that is not positive, or a rise outside (0, 1].

    Example:
        >>> cyclical = CyclicalWarmup(8)
        >>> [cyclical(epoch) for epoch in (0, 1, 4, 7, 8, 9)]
        [0.0, 0.25, 1.0, 1.0, 0.0, 0.25]
    """

    period: float
    rise: float = 0.5
    value: float = 1.0

    def __post_init__(self) -> None:
        check_positive(period=self.period)
        if not 0 < self.rise <= 1:
            raise ValueError(f"rise: expected a part of the cycle in (0, 1], got {self.rise}")

    def __call__(self, epoch: float) -> float:
        """The weight at an epoch, which may be a fraction."""
        return self.value * min(epoch % self.period / (self.period * self.rise), 1.0)
