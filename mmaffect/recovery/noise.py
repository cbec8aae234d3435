"""Where the noise of a recovery comes from: a generator, or each sample's own key."""

import torch
from torch import Tensor

from mmaffect.ops import keyed_normal


def recovery_noise(
    *shape: int, keys: Tensor | None, seed: int, stream: int, generator: torch.Generator | None, like: Tensor
) -> Tensor:
    """Standard normal noise ``(K, B, ...)``, by the samples' keys if there are any.

    Args:
        *shape: K draws of B samples, and what each needs.
        keys: ``(B,)``, int64.
        seed: beside the keys.
        stream: a number for each use, so that no two have the same noise.
        generator: where the noise comes from without keys.
        like: gives dtype and device.

    Example:
        >>> keys, like = torch.tensor([5, 3]), torch.zeros(())
        >>> noise = recovery_noise(1, 2, 4, keys=keys, seed=0, stream=0, generator=None, like=like)
        >>> alone = recovery_noise(1, 1, 6, keys=keys[1:], seed=0, stream=0, generator=None, like=like)
        >>> torch.equal(noise[0, 1], alone[0, 0, :4])
        True
    """
    if keys is None:
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
    places = [torch.arange(size, device=like.device) for size in shape]
    places[1] = keys.to(like.device)
    spread = (place.view(-1, *[1] * (len(shape) - 1 - axis)) for axis, place in enumerate(places))
    return keyed_normal(seed, stream, *spread, dtype=like.dtype)
