"""Dropout from packed random bits: on CPU most of dropout is the drawing of random numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmaffect.ops.masks import at_least_float32
from mmaffect.ops.transforms import is_transformed

LEVELS = 2**16


def dropout(x: Tensor, rate: float, *, training: bool = True) -> Tensor:
    """Zero each element with chance ``rate`` and scale the others so that the mean stays (Srivastava et al., 2014).

    On CPU one draw of 64 random bits decides four elements, which takes about half the time of PyTorch's one draw
    an element. There the rate is rounded to a multiple of 1/65536, and the scale follows the rounded rate: the
    mean is exact, the rate off by at most 1/131072. On other devices, for a rate of 1 and under ``vmap``, it is
    PyTorch's own dropout. Random numbers come from the global generator, as they do there; the draws differ.

    Args:
        x: values, floating.
        rate: share that is zeroed, in [0, 1].
        training: False returns ``x``.

    Shape:
        any → the same.

    Raises:
        ValueError: on a rate outside [0, 1].

    Example:
        >>> _ = torch.manual_seed(0)
        >>> dropout(torch.ones(100_000), 0.2).unique()
        tensor([0.0000, 1.2500])
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate: expected 0 <= rate <= 1, got {rate}")
    dropped = round(rate * LEVELS)
    if not training or dropped == 0:
        return x
    if x.device.type != "cpu" or dropped == LEVELS or is_transformed(x):
        return F.dropout(x, rate)
    kept = (_random_bits(x.numel()) >= dropped - LEVELS // 2).view(x.shape)
    # Bytes are turned into floats three times as fast as bools.
    scale = kept.view(torch.uint8).to(at_least_float32(x).dtype).mul_(LEVELS / (LEVELS - dropped))
    return (x * scale).to(x.dtype)


def _random_bits(size: int) -> Tensor:
    """Uniform numbers of 16 bits, -32768 ... 32767."""
    words = (size + 3) // 4
    if torch.compiler.is_compiling():  # cannot trace random_; randint takes a division a word, and never gives 2^63 - 1
        bits = torch.randint(-(2**63), 2**63 - 1, (words,))
    else:
        bits = torch.empty(words, dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[:size]
