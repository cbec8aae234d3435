"""A corpus as counts of words and labels, and the search for a test split in which they go together otherwise."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mmaffect.ops import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Documents = Sequence[str] | Sequence[Sequence[str]] | Sequence[Sequence[int]]
Pair = tuple[float, int, int]  # gain, row of the rest, row of test
_EXACT = 16  # swaps of groups that are tried at a time
_MOST = 256  # rows or groups of a side that are all paired with each other


class Corpus(NamedTuple):
    """Rows in an order that depends on their content alone.

    Args:
        order: rows of the caller in this order ``(N,)``.
        words: 1 where a document has a word, ``(N, W)``.
        label: classes ``0 … C - 1``; C for rows without a label ``(N,)``.
        group: ``0 … G - 1``, ``(N,)``; None: every row for itself.
        share: of each class among the labelled rows ``(C,)``.
    """

    order: Ints
    words: sparse.csr_array
    label: Ints
    group: Ints | None
    share: Floats


def read_corpus(
    documents: Documents,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    ids: npt.ArrayLike | None,
    min_count: int,
) -> Corpus:
    """Put rows into an order of their own, and count words.

    Raises:
        ValueError: if lengths differ, or labels are not whole numbers.
        InputError: if there are fewer than two classes, or no word is frequent enough.
    """
    given = np.asarray(labels)
    rows = len(documents)
    columns = {"groups": groups, "ids": ids}
    named = {name: np.asarray(c).astype(str) if c is not None else np.full(rows, "") for name, c in columns.items()}
    for name, column in {"labels": given, **named}.items():
        if column.shape != (rows,):
            raise ValueError(f"{name}: expected ({rows},), one for each of the documents, got {column.shape}")
    if given.size and given.dtype.kind not in "biu":  # NaN would be a class of its own
        raise ValueError(f"labels: expected whole numbers, negative = unlabelled, got {given.dtype}")
    classes, label = np.unique(np.where(given < 0, given.max(initial=0) + 1, given), return_inverse=True)
    count = len(classes) - int((given < 0).any())
    if count < 2:
        raise InputError(f"labels: expected at least two classes, got {count}")
    held = [sorted({str(w) for w in (d.lower().split() if isinstance(d, str) else d)}) for d in documents]
    keys = [(int(label[i]), held[i], named["groups"][i], named["ids"][i]) for i in range(rows)]
    order = np.array(sorted(range(rows), key=keys.__getitem__), dtype=np.int64)
    label = label.reshape(-1)[order]
    lengths = [len(held[i]) for i in order]
    _, code = np.unique(np.array([w for i in order for w in held[i]], dtype=object), return_inverse=True)
    at = np.repeat(np.arange(rows), lengths)
    words = sparse.csr_array((np.ones(len(at)), (at, code.reshape(-1))), shape=(rows, int(code.max(initial=-1)) + 1))
    frequent = words[label < count].sum(0) >= min_count
    if not frequent.any():
        raise InputError(f"documents: expected words in at least min_count = {min_count} labelled documents, got none")
    group = None if groups is None else np.unique(named["groups"][order], return_inverse=True)[1].reshape(-1)
    share = np.bincount(label[label < count]) / (label < count).sum()
    return Corpus(order, words[:, frequent], label, group, share)


class MismatchSearch:
    """Local search for a test split of large mismatch.

    Args:
        corpus: the rows.
        smoothing: of the association.
        most: the mismatch not to go beyond.
    """

    def __init__(self, corpus: Corpus, smoothing: float, most: float) -> None:
        self.words, self.label, self.share = corpus.words, corpus.label, corpus.share
        self.smoothing, self.most = smoothing, most
        self.classes = len(corpus.share)
        rows = np.flatnonzero(corpus.label < self.classes)
        ones = np.ones(len(rows))
        self.member = sparse.csr_array((ones, (rows, corpus.label[rows])), shape=(len(corpus.label), self.classes))
        self.total = self._count(np.ones(len(corpus.label), dtype=bool))

    def _count(self, chosen: Flags) -> Floats:
        """Documents of each class with each word, among some: ``(C, W)``."""
        return np.asarray((self.member[chosen].T @ self.words[chosen]).toarray())

    def _surprise(self, rest: Floats) -> Floats:
        """``log P(c) - log p(c | w)`` ``(C, W)`` from the counts of the rest."""
        prior = self.share[:, None]
        return np.asarray(np.log((rest.sum(0) + self.smoothing) * prior) - np.log(rest + self.smoothing * prior))

    def mismatch(self, test: Flags) -> float:
        """The objective."""
        here = self._count(test)
        return float((here * self._surprise(self.total - here)).sum() / max(here.sum(), 1))

    def _gain(self, test: Flags) -> tuple[Floats, Floats]:
        """What the objective gains, up to a factor, by a row of the rest that goes to test; or loses by one's way back.

        Returns:
            For each row ``(N,)``; and for each class and word ``(C, W)`` how much of the gain of a row that comes less
            the loss of one that goes is of a word that both have, which stays where it is.
        """
        here = self._count(test)
        rest = self.total - here
        before = (here * self._surprise(rest)).sum(0)
        value = before.sum() / max(here.sum(), 1)
        by_word = np.zeros((2, *here.shape))
        for label, one in enumerate(np.eye(self.classes)[:, :, None]):
            for side, step in enumerate((one, -one)):
                # A count that would be negative belongs to a word which no row that could make this step has.
                moved = ((here + step) * self._surprise(np.maximum(rest - step, 0))).sum(0)
                by_word[side, label] = (moved - before) * (-1) ** side - value
        come, back = (np.asarray((self.member * (self.words @ table.T)).sum(1)) for table in by_word)
        return np.where(test, back, come), by_word[0] - by_word[1]

    def swap_rows(self, test: Flags) -> Flags:
        """Swap rows of one class between test and the rest as long as the objective rises."""
        value, size = self.mismatch(test), len(test)
        while True:
            gain, common = self._gain(test)
            pairs = [p for label in range(self.classes) for p in self._pairs(test, gain, label)]
            pairs.sort(key=lambda pair: -pair[0])
            size = min(max(size, 1), len(pairs))
            # Many at once, then fewer; at last one pair of each class, with regard to the words that the two share.
            trials = [pairs[: size >> k] for k in range(size.bit_length())]
            for trial in chain(trials, self._best_pairs(test, gain, common)):
                tried = test.copy()
                tried[[pair[1] for pair in trial]] = True
                tried[[pair[2] for pair in trial]] = False
                if value + 1e-12 < (found := self.mismatch(tried)) <= self.most:
                    test, value, size = tried, found, 2 * len(trial)
                    break
            else:
                return test

    def _sides(self, test: Flags, gain: Floats, label: int) -> tuple[Ints, Ints]:
        """Rows of a class in the rest and in test, those to be swapped first first."""
        mine = self.label == label
        comes, goes = np.flatnonzero(mine & ~test), np.flatnonzero(mine & test)
        return comes[np.argsort(-gain[comes], kind="stable")], goes[np.argsort(gain[goes], kind="stable")]

    def _pairs(self, test: Flags, gain: Floats, label: int) -> Iterator[Pair]:
        """The best of the rest with the best of test, the next with the next, while both together gain."""
        for one, other in zip(*map(np.ndarray.tolist, self._sides(test, gain, label)), strict=False):
            if gain[one] <= gain[other]:
                return
            yield float(gain[one] - gain[other]), one, other

    def _best_pairs(self, test: Flags, gain: Floats, common: Floats) -> Iterator[list[Pair]]:
        """The pair of each class that gains most, among the first rows of both sides."""
        for label in range(self.classes):
            comes, goes = (side[:_MOST] for side in self._sides(test, gain, label))
            if len(comes) and len(goes):
                shared = (self.words[comes] * common[label]) @ self.words[goes].T
                rise = gain[comes][:, None] - gain[goes][None, :] - shared.toarray()
                one, other = np.unravel_index(rise.argmax(), rise.shape)
                if rise[one, other] > 0:
                    yield [(float(rise[one, other]), int(comes[one]), int(goes[other]))]

    def swap_groups(self, test: Flags, group: Ints, tolerance: float) -> Flags:
        """Swap two whole groups at a time as long as the objective rises and the class counts stay near."""
        groups = int(group.max()) + 1
        counts = np.zeros((groups, self.classes + 1))
        np.add.at(counts, (group, self.label), 1)
        within = tolerance * counts.sum(0)
        inside = np.zeros(groups, dtype=bool)
        inside[group[test]] = True
        wanted, value = counts[inside].sum(0), self.mismatch(test)
        while True:
            gain = np.bincount(group, self._gain(test)[0], groups)
            comes, goes = np.flatnonzero(~inside), np.flatnonzero(inside)
            comes = comes[np.argsort(-gain[comes], kind="stable")][:_MOST]
            goes = goes[np.argsort(gain[goes], kind="stable")][:_MOST]
            off = counts[inside].sum(0) - wanted + counts[comes][:, None] - counts[goes][None, :]
            allowed = (np.abs(off) <= within).all(-1)
            rise = np.where(allowed, gain[comes][:, None] - gain[goes][None, :], -np.inf)
            moved: set[int] = set()
            for place in np.argsort(-rise, axis=None, kind="stable")[:_EXACT].tolist():
                one, other = int(comes[place // len(goes)]), int(goes[place % len(goes)])
                tried = inside.copy()
                tried[one], tried[other] = True, False
                near = (np.abs(counts[tried].sum(0) - wanted) <= within).all()
                if not near or moved & {one, other}:
                    continue
                if value + 1e-12 < (found := self.mismatch(tried[group])) <= self.most:
                    inside, value = tried, found
                    moved |= {one, other}
            if not moved:
                return inside[group]
            test = inside[group]
