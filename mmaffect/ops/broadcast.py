"""One number a sample, made to meet tensors of any shape."""

from torch import Tensor

from mmaffect.ops.checks import check_shape


def per_sample(t: Tensor, x: Tensor) -> Tensor:
    """``t (B,)`` viewed as ``(B, 1, …, 1)``, with as many dimensions as ``x (B, …)``.

    Every time, noise level or weight of a sample goes through here: left as ``(B,)`` it would meet the last dimension
    of ``x``, and mix the rows in silence where B equals D.

    Args:
        t: a number a sample.
        x: what it is to meet; only its shape is read.

    Shape:
        ``t (B,)``, ``x (B, …)`` → ``(B, 1, …, 1)``.

    Raises:
        ValueError: if ``t`` has another shape.

    Example:
        >>> import torch
        >>> x = torch.ones(2, 2)
        >>> (per_sample(torch.tensor([1.0, 5.0]), x) * x).tolist()
        [[1.0, 1.0], [5.0, 5.0]]
    """
    check_shape("t", t, "B", B=x.shape[0])
    return t.reshape(-1, *(1,) * (x.dim() - 1))
