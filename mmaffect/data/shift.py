"""Out of distribution by words: a test split in which words go with other labels than they do in training."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from mmaffect.data.split import stratified_group_split
from mmaffect.ops import InputError, check_choice, check_positive

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Documents = Sequence[str] | Sequence[Sequence[str]] | Sequence[Sequence[int]]
TRAIN, VALID, TEST = 0, 1, 2
_EXACT = 16  # swaps of groups that are tried exactly before a search ends
_MOST = 256  # groups of a side that are paired


def word_label_mismatch(
    documents: Documents,
    labels: npt.ArrayLike,
    split: npt.ArrayLike,
    *,
    min_count: int = 5,
    smoothing: float = 1.0,
) -> float:
    """How far the words of the test split contradict what the same words say of labels in the other splits.

    Over all pairs of a word w and the label c of a test document that holds it, the mean of

        log P(c) - log p(c | w),    p(c | w) = (n[c, w] + smoothing · P(c)) / (n[w] + smoothing)

    where n counts the other splits' documents and P(c) is the share of c in the whole corpus: the negative pointwise
    mutual information, in nats a word. Below zero, words carry over; zero, they say nothing of the test split; above
    zero, they mislead. A word is counted once a document.

    Args:
        documents: of each row: a text (its lower-cased words, cut at spaces), or a list of words or of token ids.
        labels: class of each row; negative = unlabelled, which is not looked at.
        split: 2 = test; anything else = what it is compared with.
        min_count: words in fewer labelled documents are not looked at.
        smoothing: how many documents of the corpus's class shares are added to each word's own.

    Shape:
        ``labels (N,)``, ``split (N,)``.

    Raises:
        ValueError: if lengths differ, or an option is not positive.
        InputError: if there are fewer than two classes, or no word is frequent enough.

    Example:
        >>> texts, labels = ["fine", "fine", "poor", "poor"] * 2, [0, 0, 1, 1] * 2
        >>> round(word_label_mismatch(texts, labels, [0, 0, 0, 0, 2, 2, 2, 2], min_count=1), 3)
        -0.511
        >>> round(word_label_mismatch(texts, labels[:4] + [1, 1, 0, 0], [0, 0, 0, 0, 2, 2, 2, 2], min_count=1), 3)
        1.099
    """
    check_positive(min_count=min_count, smoothing=smoothing)
    corpus = _corpus(documents, labels, None, None, min_count)
    part = np.asarray(split)
    if part.shape != (len(corpus.label),):
        raise ValueError(f"split: expected ({len(corpus.label)},) as labels, got {part.shape}")
    return _Search(corpus, smoothing, math.inf).mismatch(part[corpus.order] == TEST)


def word_shift_split(
    documents: Documents,
    labels: npt.ArrayLike,
    shares: Sequence[float] = (0.7, 0.15, 0.15),
    *,
    kind: Literal["ood", "iid"] = "ood",
    groups: npt.ArrayLike | None = None,
    ids: npt.ArrayLike | None = None,
    seed: int = 0,
    min_count: int = 5,
    smoothing: float = 1.0,
    most: float = math.inf,
    restarts: int = 4,
    tolerance: float = 0.02,
) -> Ints:
    """Split a corpus so that what words say of labels in training misleads in the test split; or split it at random.

    ``"ood"`` starts from random splits and maximises `word_label_mismatch`: documents of the same class change places
    between the test split and the rest, many at a time at first, those which the objective's gradient puts first; a
    change stands if the objective itself rises, else half as many are tried. Then the rest is dealt out to train and
    valid at random: **valid is distributed like train**, so that nothing is selected on the shifted distribution.
    ``"iid"`` is the first random split that such a search starts from.

    In both kinds each class has the same number of rows in each split (that of its shares, by largest remainder): class
    priors do not shift. The OOD sets of Sun et al. 2022 ("Counterfactual Reasoning for Out-of-distribution Multimodal
    Sentiment Analysis", CLUE) that CIDer is measured on come without the script that made them. Theirs keep the IID
    sizes too, but not the class counts; so figures on them and on these splits are not to be compared.

    With ``groups`` whole groups change places, two at a time. Then counts cannot be met exactly: the rows of a class in
    test are as many as in the IID split, but for at most ``tolerance`` of the class.

    Args:
        documents: of each row: a text (its lower-cased words, cut at spaces), or a list of words or of token ids.
        labels: class of each row; negative = unlabelled: dealt out by the shares, never looked at.
        shares: of train, valid and test; positive, sum 1.
        kind: ``"ood"`` or ``"iid"``.
        groups: name of each row's group (video, speaker), which stays whole; None: every row for itself.
        ids: names of the rows. The split depends on each row's words, label, group and name, not on the order of
            rows; rows alike in all of these are told apart by their order.
        seed: of the random splits; the same seed gives the same split.
        min_count: words in fewer labelled documents are not looked at.
        smoothing: see `word_label_mismatch`; less gives rare words more weight.
        most: the mismatch not to go beyond. The largest there is is harsh: what words say is then mostly wrong.
        restarts: random splits to start from; the best result is kept.
        tolerance: with ``groups``, see above.

    Shape:
        ``labels (N,)``, ``groups (N,)``, ``ids (N,)`` → ``(N,)``.

    Returns:
        0 = train, 1 = valid, 2 = test.

    Raises:
        InputError: if a split would be empty, there are fewer than two classes or too few groups, or no word is
            frequent enough.
        ValueError: if lengths or shares do not fit, or an option is not positive.

    Example:
        >>> texts, labels = ["good", "good", "good", "bad", "bad", "bad"] * 20, [1, 1, 0, 0, 0, 1] * 20
        >>> for kind in ("iid", "ood"):
        ...     split = word_shift_split(texts, labels, kind=kind)
        ...     print(kind, np.bincount(split).tolist(), round(word_label_mismatch(texts, labels, split), 2))
        iid [84, 18, 18] -0.01
        ood [84, 18, 18] 0.82
    """
    check_choice("kind", kind, ("ood", "iid"))
    check_positive(min_count=min_count, smoothing=smoothing, restarts=restarts, tolerance=tolerance)
    share = np.asarray(shares, dtype=np.float64)
    if share.shape != (3,) or (share <= 0).any() or abs(share.sum() - 1) > 1e-6:
        raise ValueError(f"shares: expected three positive shares that sum to 1, got {tuple(shares)}")
    corpus = _corpus(documents, labels, groups, ids, min_count)
    search = _Search(corpus, smoothing, most)
    found, best = _random(corpus, share, seed, 0), -np.inf
    starts = range(restarts if kind == "ood" else 0)
    for start in starts:
        drawn = _random(corpus, share, seed, start)
        if corpus.group is None:
            test = search.swap_rows(drawn == TEST)
        else:
            test = search.swap_groups(drawn == TEST, corpus.group, tolerance)
        value = search.mismatch(test)
        if value > best:
            found, best = _deal_rest(corpus, share, test, drawn, seed, start), value
    result = np.empty_like(found)
    result[corpus.order] = found
    return result


class _Corpus(NamedTuple):
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


def _corpus(
    documents: Documents,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    ids: npt.ArrayLike | None,
    min_count: int,
) -> _Corpus:
    given = np.asarray(labels)
    rows = len(documents)
    columns = {"groups": groups, "ids": ids}
    named = {name: np.asarray(c).astype(str) if c is not None else np.full(rows, "") for name, c in columns.items()}
    for name, column in {"labels": given, **named}.items():
        if column.shape != (rows,):
            raise ValueError(f"{name}: expected ({rows},), one for each of the documents, got {column.shape}")
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
    return _Corpus(order, words[:, frequent], label, group, share)


def _quotas(rows: int, share: Floats) -> Ints:
    """Rows of each split, by largest remainder."""
    exact = rows * share
    whole = np.floor(exact + 1e-9).astype(np.int64)
    first = np.argsort(-(exact - whole), kind="stable")[: rows - whole.sum()]
    whole[first] += 1
    return whole


def _random(corpus: _Corpus, share: Floats, seed: int, start: int) -> Ints:
    """A random split: within classes, or of groups with classes balanced."""
    if corpus.group is not None:
        known = np.where(corpus.label == len(corpus.share), -1, corpus.label)
        drawn = np.random.SeedSequence([seed, start]).generate_state(1)[0]
        return stratified_group_split(known, corpus.group, share.tolist(), int(drawn))
    rng = np.random.default_rng([seed, start])
    split = np.empty(len(corpus.label), dtype=np.int64)
    for label in range(len(corpus.share) + 1):
        mine = np.flatnonzero(corpus.label == label)
        split[mine] = rng.permutation(np.repeat([TRAIN, VALID, TEST], _quotas(len(mine), share)))
    if (np.bincount(split, minlength=3) == 0).any():
        raise InputError(f"documents: expected enough for three splits of shares {share.tolist()}, got {len(split)}")
    return split


def _deal_rest(corpus: _Corpus, share: Floats, test: Flags, drawn: Ints, seed: int, start: int) -> Ints:
    """Train and valid: at random among what is not test, with the class counts they were drawn with."""
    split = np.full(len(test), TEST)
    rest = np.flatnonzero(~test)
    if corpus.group is not None:
        part = _Corpus(rest, corpus.words, corpus.label[rest], corpus.group[rest], corpus.share)
        split[rest] = _random(part, share[:TEST] / share[:TEST].sum(), seed, start)
        return split
    rng = np.random.default_rng([seed, start, 1])
    for label in range(len(corpus.share) + 1):
        mine = rest[corpus.label[rest] == label]
        valid = int(((drawn == VALID) & (corpus.label == label)).sum())
        split[mine] = rng.permutation(np.repeat([TRAIN, VALID], [len(mine) - valid, valid]))
    return split


class _Search:
    """Local search for a test split of large mismatch.

    Args:
        corpus: the rows.
        smoothing: of the association.
        most: the mismatch not to go beyond.
    """

    def __init__(self, corpus: _Corpus, smoothing: float, most: float) -> None:
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

    def _gain(self, test: Flags) -> Floats:
        """First-order gain, up to a factor, of each row that goes from the rest to test; minus that of the way back."""
        here = self._count(test)
        rest = self.total - here
        surprise = self._surprise(rest)
        value = (here * surprise).sum() / max(here.sum(), 1)
        away = here / (rest + self.smoothing * self.share[:, None]) - here.sum(0) / (rest.sum(0) + self.smoothing)
        by_word = surprise - value + away
        return np.asarray((self.member * (self.words @ by_word.T)).sum(1))

    def swap_rows(self, test: Flags) -> Flags:
        """Swap rows of one class between test and the rest as long as the objective rises."""
        value, size = self.mismatch(test), len(test)
        while size >= 1:
            gain = self._gain(test)
            pairs = [p for label in range(self.classes) for p in self._pairs(test, gain, label)]
            pairs.sort(key=lambda pair: -pair[0])
            size = min(size, len(pairs))
            while size >= 1:
                tried = test.copy()
                tried[[pair[1] for pair in pairs[:size]]] = True
                tried[[pair[2] for pair in pairs[:size]]] = False
                if value + 1e-12 < (found := self.mismatch(tried)) <= self.most:
                    test, value, size = tried, found, 2 * size
                    break
                size //= 2
        return test

    def _pairs(self, test: Flags, gain: Floats, label: int) -> Iterator[tuple[float, int, int]]:
        """Gain, row of the rest and row of test: the best with the best, the next with the next."""
        mine = self.label == label
        comes, goes = np.flatnonzero(mine & ~test), np.flatnonzero(mine & test)
        comes, goes = comes[np.argsort(-gain[comes], kind="stable")], goes[np.argsort(gain[goes], kind="stable")]
        for one, other in zip(comes.tolist(), goes.tolist(), strict=False):
            if gain[one] <= gain[other]:
                return
            yield float(gain[one] - gain[other]), one, other

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
            gain = np.bincount(group, self._gain(test), groups)
            comes, goes = np.flatnonzero(~inside), np.flatnonzero(inside)
            comes = comes[np.argsort(-gain[comes], kind="stable")][:_MOST]
            goes = goes[np.argsort(gain[goes], kind="stable")][:_MOST]
            off = counts[inside].sum(0) - wanted + counts[comes][:, None] - counts[goes][None, :]
            allowed = (np.abs(off) <= within).all(-1)
            rise = np.where(allowed, gain[comes][:, None] - gain[goes][None, :], -np.inf)
            for place in np.argsort(-rise, axis=None, kind="stable")[:_EXACT]:
                one, other = np.unravel_index(place, rise.shape)
                if not np.isfinite(rise[one, other]):
                    continue
                tried = inside.copy()
                tried[comes[one]], tried[goes[other]] = True, False
                if value + 1e-12 < (found := self.mismatch(tried[group])) <= self.most:
                    inside, value = tried, found
                    break
            else:
                return inside[group]
