"""Whether ``torch.func`` is at work: its tensors cannot be written into buffers of the plain kind."""

import torch
from torch import Tensor


def is_transformed(*tensors: Tensor) -> bool:
    """True under ``vmap``, ``jvp``, ``grad`` and their likes, and in batched gradients.

    Example:
        >>> is_transformed(torch.zeros(2))
        False
        >>> seen = []
        >>> _ = torch.func.vmap(lambda x: seen.append(is_transformed(x)) or x)(torch.zeros(2))
        >>> seen
        [True]
    """
    if torch.compiler.is_compiling():  # cannot ask, and needs not: what is traced is made functional anyway
        return False
    functorch = torch._C._functorch
    return any(functorch.is_functorch_wrapped_tensor(t) or functorch.is_legacy_batchedtensor(t) for t in tensors)


def under_transform() -> bool:
    """True wherever one of ``torch.func`` is at work, though the tensors at hand be plain: others may not be.

    Example:
        >>> under_transform()
        False
        >>> torch.func.vmap(lambda x: x + under_transform())(torch.zeros(2))
        tensor([1., 1.])
    """
    return torch._C._functorch.maybe_current_level() is not None
