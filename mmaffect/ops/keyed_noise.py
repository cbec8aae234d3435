"""Normal noise that is a function of integers: the same for a sample wherever in whatever batch it stands."""

import math

import torch
from torch import Tensor

from mmaffect.ops.masks import at_least_float32

# Constants of splitmix64 (Steele et al., 2014), as signed numbers of 64 bits.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
_BITS = 23  # of each uniform number: float32 holds it and its half without rounding


def keyed_normal(*keys: int | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    r"""Standard normal numbers, one for each combination of integer keys, with no generator and no state.

    The keys are taken in one after the other with splitmix64's mix and γ (Steele et al., 2014), and two times 23 bits
    of the last h make a normal number (Box and Muller, 1958):

    .. math:: h \leftarrow \mathrm{mix}\big((h + \gamma) \oplus k\big), \qquad
              z = \sqrt{-2 \ln u_1}\, \cos 2 \pi u_2

    With a sample's row in the dataset and the step among the keys, what is drawn for it depends neither on the batch,
    nor on its order or padding. Integers are exact: every device draws the same numbers, up to the rounding of the
    last line, and so does every dtype. No number lies beyond ±5.8, where a normal one would in 7 of a billion.

    Args:
        *keys: int64, or Python integers of 64 bits; at least one. Their order counts. Large ones first: the cost is
            that of the shape reached so far, at each key.
        dtype: of the numbers.

    Shape:
        keys that broadcast together → the shape they broadcast to.

    Raises:
        ValueError: without a key, or on a tensor that is not int64.

    Example:
        >>> row, step = torch.tensor([7, 3]), torch.arange(4)
        >>> noise = keyed_normal(0, row[:, None], step)
        >>> noise.shape, torch.equal(keyed_normal(0, torch.tensor(3), torch.tensor(2)), noise[1, 2])
        (torch.Size([2, 4]), True)
    """
    if not keys:
        raise ValueError("keys: expected at least one, got none")
    device = next((key.device for key in keys if isinstance(key, Tensor)), None)
    state = torch.zeros((), dtype=torch.int64, device=device)
    for key in keys:
        if isinstance(key, Tensor) and key.dtype != torch.int64:
            raise ValueError(f"keys: expected int64, got {key.dtype}")
        state = _mix((state + _GOLDEN) ^ key)
    exact = at_least_float32(torch.empty((), dtype=dtype)).dtype
    first, second = ((_shift(state, drop) & (2**_BITS - 1)).to(exact) for drop in (64 - _BITS, 64 - 2 * _BITS))
    radius = (-2 * ((2 * first + 1) * 2.0 ** -(_BITS + 1)).log()).sqrt()
    return (radius * (second * (2 * math.pi * 2.0**-_BITS)).cos()).to(dtype)


def _mix(state: Tensor) -> Tensor:
    """Splitmix64's finaliser: one to one, and each bit of the result depends on all bits given."""
    state = (state ^ _shift(state, 30)) * _FIRST
    state = (state ^ _shift(state, 27)) * _SECOND
    return state ^ _shift(state, 31)


def _shift(state: Tensor, bits: int) -> Tensor:
    """To the right, zeros moving in: of signed numbers the sign would."""
    return (state >> bits) & (2 ** (64 - bits) - 1)
