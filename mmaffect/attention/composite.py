"""Composite attention of CIDer: every subset of the modalities attends on its own, at the price of one softmax."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaffect import ops
from mmaffect.attention.attend import split_heads
from mmaffect.ops import at_least_float32, check_dropout, check_names, check_positive, check_shape, keep, step_mask


class CompositeOutput(NamedTuple):
    """What composite attention yields: ``y``, ``(B, T_m, D)`` by modality, and raw ``scores (B, H, N, N)``, or None."""

    y: dict[str, Tensor]
    scores: Tensor | None


def subsets_of(count: int) -> tuple[tuple[int, ...], ...]:
    """All non-empty subsets of ``count`` modalities, the largest first (CIDer's order for three).

    Example:
        >>> subsets_of(3)
        ((0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,))
    """
    check_positive(count=count)
    return tuple(s for size in range(count, 0, -1) for s in combinations(range(count), size))


def subset_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, lengths: Sequence[int], *, dropout: float = 0.0
) -> Tensor:
    r"""What each step sees in every subset of the modalities that contains its own (CIDer's composite attention).

    The softmaxes of all subsets are put together from one exponential of each pair. For a query and the block of
    keys b of one modality let m_b be the largest score, :math:`O_b = \sum_{j \in b} e^{s_j - m_b} v_j` and
    :math:`Z_b = \sum_{j \in b} e^{s_j - m_b}`. Then for a subset S

    .. math:: \sum_{j \in S} \mathrm{softmax}_S(s)_j v_j = \frac{\sum_{b \in S} e^{m_b - m_S} O_b}
        {\sum_{b \in S} e^{m_b - m_S} Z_b}, \qquad m_S = \max_{b \in S} m_b

    Each block has a maximum of its own: with one for the whole row, a subset whose scores all lie far below it is 0/0.
    The maxima carry no gradient, since the quotient does not depend on them.

    Args:
        query: what each step asks, modality after modality along N; finite everywhere.
        key: what it is asked about.
        value: what it gives.
        mask: True = the step is a source; values and keys elsewhere do not matter.
        lengths: steps of each modality, ``N`` in all.
        dropout: of the weights of the full subset alone, as published.

    Shape:
        ``query``, ``key``, ``value`` ``(B, H, N, d)``, ``mask (B, N)`` → ``(B, H, 2^(M-1), N, d)``: for each query the
        subsets that contain its modality, in the order of :func:`subsets_of`. Zero where a subset has no source.

    Example:
        >>> value = torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1)
        >>> mask = torch.ones(1, 2, dtype=torch.bool)
        >>> subset_attention(torch.zeros(1, 1, 2, 1), value, value, mask, (1, 1))[0, 0, :, :, 0]
        tensor([[2., 2.],
                [1., 3.]])
    """
    dtype = value.dtype
    query, key, value = at_least_float32(query), at_least_float32(key), at_least_float32(value)
    # Queries run along the last axis, so that maxima and products over the keys vectorise.
    query = (query * query.shape[-1] ** -0.5).mT.contiguous()
    # The sum Z rides along as one more feature of the values, which is 1 at a source.
    there = mask[:, None, :, None]
    value = torch.cat([keep(value, there.expand_as(value)), there.to(value.dtype).expand_as(value[..., :1])], -1)
    tops, sums, dropped = [], [], []
    keys, values, masks = (t.split_with_sizes(lengths, dim) for t, dim in ((key, 2), (value.mT, 3), (mask, 1)))
    for k, v, real in zip(keys, values, masks, strict=True):
        scores = at_least_float32(_without_absent(k, real) @ query)
        top = scores.detach().amax(-2)
        weights = scores.sub_(top.unsqueeze(-2)).exp_()
        tops.append(torch.where(real.any(1)[:, None, None], top, _lowest(top)))
        sums.append(at_least_float32(v @ weights))
        if dropout:
            dropped.append(at_least_float32(v[..., :-1, :] @ ops.dropout(weights, dropout)))
    share = _shares(torch.stack(tops, 2), _membership(lengths, mask.device))
    total = _weighted(share, sums)
    above, below = total.split_with_sizes([total.shape[3] - 1, 1], 3)
    if dropout:
        above = torch.cat([_weighted(share[:, :, :1], dropped), above[:, :, 1:]], 2)
    return (above * torch.where(below > 0, below, torch.ones_like(below)).reciprocal()).mT.to(dtype)


class CompositeAttention(nn.Module):
    r"""Self-attention over several modalities, once within every subset of them (CIDer's MCA).

    The modalities are put one after the other. One projection makes queries, keys and values of all steps, and each
    of the :math:`2^M - 1` subsets attends within itself (:func:`subset_attention`) and has a linear map of its own.
    A modality concatenates the :math:`2^{M-1}` subsets that contain it and maps them back to the width; a last map
    is shared:

    .. math:: y_m = W\, W_m\, [W_S\, \mathrm{att}_S(x)]_{S \ni m}

    (biases left out). The paper was at hand as a summary only; what is computed follows the published code, but for:

    * **masks**. The published attention has none: its steps attend to padding. Here a step that is not there is no
      source, and its output is zero unless it asks all the same. A modality that is absent leaves the others as if it
      did not exist: a sample with one modality gives each of that modality's subsets the same attention, within itself.
    * the chain of linear maps, which is multiplied out before it meets the steps. Outputs differ by rounding.

    Args:
        dim: width of the steps, a multiple of ``heads``.
        heads: attention heads.
        names: the modalities, in the order in which they are put together.
        dropout: of the attention weights of the full subset alone, as published.

    Shape:
        ``x`` ``(B, T_m, D)``, ``masks`` and ``queries`` ``(B, T_m)`` by modality → ``y`` like ``x``,
        ``scores (B, H, N, N)`` with N the sum of the T_m, query by source.

    Raises:
        ValueError: on a width that is no multiple of the heads, or on names that are missing or repeated.

    Example:
        >>> attention = CompositeAttention(8, 2, ("voice", "face"))
        >>> y, scores = attention({"voice": torch.randn(1, 3, 8), "face": torch.randn(1, 4, 8)})
        >>> y["face"].shape, scores.shape
        (torch.Size([1, 4, 8]), torch.Size([1, 2, 7, 7]))
    """

    def __init__(self, dim: int, heads: int, names: Sequence[str], *, dropout: float = 0.0) -> None:
        super().__init__()
        check_positive(dim=dim, heads=heads)
        if dim % heads:
            raise ValueError(f"dim: expected a multiple of heads = {heads}, got {dim}")
        check_names("names", names)
        check_dropout(dropout=dropout)
        self.dim, self.heads, self.names, self.rate = dim, heads, tuple(names), dropout
        subsets = subsets_of(len(names))
        self.containing = [[i for i, s in enumerate(subsets) if m in s] for m in range(len(names))]
        self.project = nn.Linear(dim, 3 * dim)
        self.subsets = nn.ModuleList(nn.Linear(dim, dim) for _ in subsets)
        self.modalities = nn.ModuleList(nn.Linear(dim * len(own), dim) for own in self.containing)
        self.out = nn.Linear(dim, dim)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.dim}, heads={self.heads}, names={self.names}, dropout={self.rate}"

    def forward(
        self,
        x: Mapping[str, Tensor],
        masks: Mapping[str, Tensor | None] | None = None,
        *,
        queries: Mapping[str, Tensor | None] | None = None,
        return_scores: bool = True,
    ) -> CompositeOutput:
        """Attend.

        Args:
            x: steps by modality, in any order.
            masks: True = the step is there; all by default.
            queries: True = the step asks even where it is no source (a step that the sample has and this modality
                lacks); by default the sources, which always ask.
            return_scores: False leaves the scores out, and their memory.

        Returns:
            ``y``: zero at steps that do not ask; ``scores``: before any softmax, zero at pairs that are not there.

        Raises:
            ValueError: on other modalities, or another shape.
        """
        joined, mask, lengths = join(x, masks, self.names, self.dim)
        asks = mask if queries is None else mask | join_masks("queries", queries, x, self.names)
        y, scores = self.attend(joined, mask, lengths, queries=asks, return_scores=return_scores)
        return CompositeOutput(dict(zip(self.names, y.split_with_sizes(lengths, 1), strict=True)), scores)

    def attend(
        self,
        x: Tensor,
        mask: Tensor,
        lengths: Sequence[int],
        *,
        queries: Tensor | None = None,
        return_scores: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend over modalities that are joined already: stacked layers join them once.

        Shape:
            ``x (B, N, D)``, ``mask`` and ``queries`` ``(B, N)`` → ``(B, N, D)`` and ``(B, H, N, N)``.
        """
        # The subset of all modalities contains every step: who finds no source there finds none at all.
        asks = mask if queries is None else (mask | queries) & mask.any(1, keepdim=True)
        query, key, value = (split_heads(p, self.heads) for p in self.project(keep(x, asks)).chunk(3, -1))
        seen = subset_attention(query, key, value, mask, lengths, dropout=self.rate if self.training else 0.0)
        parts = seen.mT.flatten(1, 3).split_with_sizes(lengths, -1)
        y = keep(torch.cat([F.linear(part.mT, *self.merged(m)) for m, part in enumerate(parts)], 1), asks)
        if not return_scores:
            return y, None
        # A product apart: above, padded keys stand for real ones, and scores are overwritten by their exponentials.
        query, key = (keep(p, m[:, None, :, None].expand_as(p)) for p, m in ((query, asks), (key, mask)))
        return y, (query * query.shape[-1] ** -0.5) @ key.mT

    def merged(self, number: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of all linear maps between the subsets of a modality and its output, multiplied out.

        The columns are in the order heads, subsets, features.
        """
        own = cast(list[nn.Linear], [self.subsets[i] for i in self.containing[number]])
        last = cast(nn.Linear, self.modalities[number])
        first, shift = torch.stack([m.weight for m in own]), torch.cat([m.bias for m in own])
        blocks = last.weight.reshape(self.dim, len(own), self.dim).transpose(0, 1) @ first
        columns = blocks.reshape(len(own), self.dim, self.heads, -1).permute(1, 2, 0, 3).flatten(1)
        return self.out.weight @ columns, self.out(last(shift))


def join(
    x: Mapping[str, Tensor], masks: Mapping[str, Tensor | None] | None, names: Sequence[str], dim: int
) -> tuple[Tensor, Tensor, list[int]]:
    """Modalities one after the other in time, with their mask and the steps of each.

    Raises:
        ValueError: on other modalities than ``names``, or another shape.
    """
    _check_names("x", x, names)
    size = x[names[0]].shape[0]
    for name in names:
        check_shape(f"x[{name!r}]", x[name], "B T D", B=size, D=dim)
        if x[name].shape[1] == 0:
            raise ValueError(f"x[{name!r}]: expected at least one step, masked if the modality is absent, got none")
    mask = join_masks("masks", dict.fromkeys(names) if masks is None else masks, x, names)
    return torch.cat([x[n] for n in names], 1), mask, [x[n].shape[1] for n in names]


def join_masks(what: str, masks: Mapping[str, Tensor | None], x: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Masks one after the other, True throughout where there is none.

    Raises:
        ValueError: calling them ``what``, on other modalities than ``names``, or another shape.
    """
    _check_names(what, masks, names)
    return torch.cat([step_mask(f"{what}[{name!r}]", x[name], masks[name]) for name in names], 1)


def _check_names(what: str, given: object, names: Sequence[str]) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{what}: expected a mapping from modality to tensor, got {type(given).__name__}")
    if set(given) != set(names):
        raise ValueError(f"{what}: expected {tuple(names)} (a mask of False for the absent), got {tuple(given)}")


def _without_absent(key: Tensor, mask: Tensor) -> Tensor:
    # A key that is absent is made a copy of one that is there, so that it never sets the maximum: its value is zero
    # and counts as none. This spares the mask a pass over all pairs.
    there = mask[:, None, :, None]
    first = mask.to(torch.uint8).argmax(1)[:, None, None, None].expand(-1, key.shape[1], 1, key.shape[3])
    copy = keep(key.detach().gather(2, first), mask.any(1)[:, None, None, None].expand_as(first))
    return torch.where(there, key, copy)


def _lowest(like: Tensor) -> Tensor:
    # Half of the lowest number: differences of two such are finite.
    return torch.full((), torch.finfo(like.dtype).min / 2, dtype=like.dtype, device=like.device)


def _membership(lengths: Sequence[int], device: torch.device) -> Tensor:
    """For each query and each subset with its modality, which modalities belong: ``(2^(M-1), M, N)``."""
    every = range(len(lengths))
    own = [[[m in s for m in every] for s in subsets_of(len(lengths)) if number in s] for number in every]
    table = torch.tensor(own, device=device)
    return torch.cat([t.unsqueeze(-1).expand(-1, -1, steps) for t, steps in zip(table, lengths, strict=True)], -1)


def _shares(tops: Tensor, member: Tensor) -> Tensor:
    """Factor ``exp(m_b - m_S)`` of each block in each subset, zero outside: ``(B, H, 2^(M-1), M, N)``."""
    tops = torch.where(member, tops.unsqueeze(2), _lowest(tops))
    # The least normal number in place of zero changes nothing, and exponentials that underflow are slow.
    least = math.log(torch.finfo(tops.dtype).tiny) + 1
    return keep((tops - tops.amax(3, keepdim=True)).clamp(min=least).exp(), member.expand_as(tops))


def _weighted(share: Tensor, blocks: Sequence[Tensor]) -> Tensor:
    """Sum of the blocks ``(B, H, d, N)`` by their shares in each subset: ``(B, H, S, d, N)``."""
    factors = share.unsqueeze(4).unbind(3)
    total = factors[0] * blocks[0].unsqueeze(2)
    for factor, block in zip(factors[1:], blocks[1:], strict=True):
        total = torch.addcmul(total, factor, block.unsqueeze(2))
    return total
