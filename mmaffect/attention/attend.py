"""Dense attention as a pure function: the one softmax under every layer that mixes steps by softmax weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmaffect.ops import at_least_float32, is_transformed, keep
from mmaffect.ops import dropout as drop

# Up to this many steps the fused kernel is the slower one on CPU (benchmarks/multihead.py).
SHORT = 64


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Give each head its share of the features.

    Shape:
        ``(B, T, D)`` → ``(B, H, T, D/H)``.
    """
    return x.reshape(*x.shape[:2], heads, x.shape[-1] // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Concatenate the heads' features: the inverse of :func:`split_heads`.

    Shape:
        ``(B, H, T, D/H)`` → ``(B, T, D)``.
    """
    return x.transpose(1, 2).flatten(2)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    dropout: float = 0.0,
    training: bool = True,
) -> Tensor:
    r"""Scaled dot-product attention (Vaswani et al., 2017, eq. 1) over the allowed sources.

    .. math:: y = \mathrm{softmax}(QK^\top / \sqrt{d} + b)\, V

    The fused kernel of PyTorch where it pays: on accelerators, in compiled and exported programs, and on CPU for
    more than 64 steps. For fewer steps on CPU, or with dropout there, the softmax is written out, which is faster
    and has a second derivative. Both give the same numbers up to rounding.

    Args:
        query: one row a step that asks; finite.
        key: one row a source; finite, also where no query may attend to it (zero it first: see ``keep``).
        value: like ``key``.
        allowed: bool, query by source; all pairs by default.
        bias: added to the scaled scores.
        dropout: share of the weights dropped; see :func:`mmaffect.ops.dropout`.
        training: False turns dropout off.

    Shape:
        ``query (B, H, T, D/H)``, ``key (B, H, S, D/H)``, ``value (B, H, S, D/H)``, ``allowed (B, T, S)``,
        ``bias (H, T, S)`` → ``(B, H, T, D/H)``.

    Returns:
        Mixed values; a query without a source gets zeros, with zero gradient.

    Example:
        >>> x = torch.eye(2).reshape(1, 1, 2, 2)
        >>> attend(0 * x, x, x, torch.tensor([[[True, True], [False, False]]])).tolist()
        [[[[0.5, 0.5], [0.0, 0.0]]]]
    """
    dropout = dropout if training else 0.0
    # Sizes are not compared while tracing: an exported program would be bound to one side of the comparison.
    short = not torch.compiler.is_compiling() and max(query.shape[2], key.shape[2]) <= SHORT
    mix = _written_out if query.device.type == "cpu" and (short or dropout > 0) else _fused
    if allowed is None:
        return mix(query, key, value, None, bias, dropout)
    # A row without a source attends to everything and is zeroed afterwards: softmax of nothing is NaN.
    some = allowed.any(-1, keepdim=True)
    mixed = mix(query, key, value, (allowed | ~some).unsqueeze(1), bias, dropout)
    return keep(mixed, some.unsqueeze(1).expand_as(mixed))


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None, dropout: float
) -> Tensor:
    scores = at_least_float32((query * query.shape[-1] ** -0.5) @ key.mT)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        # Added rather than selected: one number a pair serves all heads, and the backward pass skips it. In place
        # where that can be, for nothing else holds the scores, and fresh memory is much of the cost.
        floor = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -torch.inf)
        scores = scores + floor if is_transformed(mask) else scores.add_(floor)
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return drop(weights, dropout) @ value


def _fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None, dropout: float
) -> Tensor:
    if bias is not None:
        bias = bias.to(query.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
