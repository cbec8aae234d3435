"""Which rows form a conversation, and which rows form a sample."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmaffect.data.arrays import Array
from mmaffect.data.spec import SequenceKind


class Layout(NamedTuple):
    """Rows ordered so that each sequence is one block.

    Args:
        order: rows of the file in this order ``(N,)``; rows of a sequence keep their order, and sequences theirs.
        code: the sequence of each ordered row, ``0 … S - 1``, ascending ``(N,)``.
        bounds: first row and the row after the last, of each sequence ``(S, 2)``.
        names: of the sequences ``(S,)``.
    """

    order: Array
    code: Array
    bounds: Array
    names: Array


def lay_out(sequence: Array) -> Layout:
    """Order rows by sequence, in the order of first appearance.

    Example:
        >>> layout = lay_out(np.array(["b", "a", "b"]))
        >>> layout.order.tolist(), layout.bounds.tolist(), layout.names.tolist()
        ([0, 2, 1], [[0, 2], [2, 3]], ['b', 'a'])
    """
    names, first, inverse = np.unique(sequence, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(names))
    code = rank[inverse.reshape(-1)]
    order = np.argsort(code, kind="stable")
    code = code[order]
    ends = np.searchsorted(code, np.arange(len(names) + 1))
    return Layout(order, code, np.stack([ends[:-1], ends[1:]], 1), names[by_appearance])


def number_speakers(layout: Layout, speaker: Array) -> Array:
    """Number who speaks within each sequence, by order of first appearance.

    Args:
        layout: the rows' sequences.
        speaker: who speaks, of each ordered row ``(N,)``.

    Returns:
        int64 array ``(N,)``.

    Example:
        >>> number_speakers(lay_out(np.array([0, 0, 0, 1, 1])), np.array(["M", "F", "M", "F", "F"])).tolist()
        [0, 1, 0, 0, 0]
    """
    _, who = np.unique(speaker, return_inverse=True)
    pair = layout.code * (int(who.max()) + 1) + who.reshape(-1)
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    appearance = np.argsort(np.argsort(first))
    # Pairs appear sequence by sequence, so the place within one is the place overall less that of its first pair.
    sequence_of = layout.code[first]
    start = np.full(len(layout.names), len(first))
    np.minimum.at(start, sequence_of, appearance)
    return np.asarray((appearance - start[sequence_of])[inverse.reshape(-1)], dtype=np.int64)


class Cut(NamedTuple):
    """Samples as rows.

    Args:
        spans: first row and the row after the last ``(S, 2)``.
        row: the row a sample stands for: that of its label; in dialogues the first ``(S,)``.
        unlabelled: how many samples were left out since they have no label.
        empty: how many were left out since no modality is there.
    """

    spans: Tensor
    row: Tensor
    unlabelled: int
    empty: int


def cut_samples(layout: Layout, kind: SequenceKind, context: int, labelled: Tensor, something: Tensor) -> Cut:
    """Cut dialogues, windows or single rows; those without a label or without any modality are left out.

    Args:
        layout: the rows' sequences.
        kind: ``"dialogue"``: one sample a sequence; ``"window"``: one a labelled row, made of the last ``context``
            rows of its sequence up to and with it; ``"single"``: one a labelled row.
        context: steps of a window.
        labelled: bool ``(N,)``.
        something: bool ``(N,)``; True where some modality is there.
    """
    bounds, code = torch.from_numpy(layout.bounds), torch.from_numpy(layout.code)
    rows = torch.arange(len(code))
    if kind == "dialogue":
        spans, rows = bounds, bounds[:, 0]
        has_label = _within(labelled, spans)
    elif kind == "window":
        spans = torch.stack([torch.maximum(bounds[code, 0], rows - context + 1), rows + 1], 1)
        has_label = labelled
    else:
        spans = torch.stack([rows, rows + 1], 1)
        has_label = labelled
    filled = _within(something, spans)
    kept = has_label & filled
    return Cut(spans[kept], rows[kept], int((~has_label).sum()), int((has_label & ~filled).sum()))


def _within(flags: Tensor, spans: Tensor) -> Tensor:
    """Whether any flag is set within each span."""
    before = torch.cat([torch.zeros(1, dtype=torch.int64), flags.long().cumsum(0)])
    return before[spans[:, 1]] > before[spans[:, 0]]
