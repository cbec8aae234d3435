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


def is_traced(*tensors: Tensor) -> bool:
    """True where values cannot be asked for, or should not be: what is asked would be fixed in a program.

    So under compilation and transforms, for tensors without data, and wherever a mode notes what is done.

    Example:
        >>> is_traced(torch.zeros(2))
        False
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> seen = []
        >>> _ = make_fx(lambda x: seen.append(is_traced(x)) or x + 1)(torch.zeros(2))
        >>> seen
        [True]
    """
    if torch.compiler.is_compiling():
        return True
    noted = torch._C._len_torch_dispatch_stack() > 0 or any(type(t) is not Tensor for t in tensors)
    return noted or is_transformed(*tensors)


def under_transform() -> bool:
    """True wherever one of ``torch.func`` is at work, though the tensors at hand be plain: others may not be.

    Example:
        >>> under_transform()
        False
        >>> torch.func.vmap(lambda x: x + under_transform())(torch.zeros(2))
        tensor([1., 1.])
    """
    return torch._C._functorch.maybe_current_level() is not None
