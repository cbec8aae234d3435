"""Out of distribution by words: a test split in which words go with other labels than they do in training."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmaffect.data.shift_search import Corpus, Documents, Flags, Floats, Ints, MismatchSearch, read_corpus
from mmaffect.data.split import stratified_group_split
from mmaffect.ops import InputError, check_choice, check_positive

TRAIN, VALID, TEST = 0, 1, 2


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
        ValueError: if lengths differ, labels or splits are not whole numbers, or an option is not positive.
        InputError: if there are fewer than two classes, no word is frequent enough, or no row is in the test split.

    Example:
        >>> texts, labels = ["fine", "fine", "poor", "poor"] * 2, [0, 0, 1, 1] * 2
        >>> round(word_label_mismatch(texts, labels, [0, 0, 0, 0, 2, 2, 2, 2], min_count=1), 3)
        -0.511
        >>> round(word_label_mismatch(texts, labels[:4] + [1, 1, 0, 0], [0, 0, 0, 0, 2, 2, 2, 2], min_count=1), 3)
        1.099
    """
    check_positive(min_count=min_count, smoothing=smoothing)
    corpus = read_corpus(documents, labels, None, None, min_count)
    part = np.asarray(split)
    if part.shape != (len(corpus.label),):
        raise ValueError(f"split: expected ({len(corpus.label)},) as labels, got {part.shape}")
    if part.dtype.kind not in "biu":
        raise ValueError(f"split: expected whole numbers, 2 = test, got {part.dtype}")
    if not (part == TEST).any():
        raise InputError(f"split: expected rows of {TEST}, the test split, got none")
    return MismatchSearch(corpus, smoothing, math.inf).mismatch(part[corpus.order] == TEST)


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
    tolerance: float = 0.01,
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
        ValueError: if lengths or shares do not fit, labels are not whole numbers, or an option is not positive.

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
    corpus = read_corpus(documents, labels, groups, ids, min_count)
    search = MismatchSearch(corpus, smoothing, most)
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


def _quotas(rows: int, share: Floats) -> Ints:
    """Rows of each split, by largest remainder."""
    exact = rows * share
    whole = np.floor(exact + 1e-9).astype(np.int64)
    first = np.argsort(-(exact - whole), kind="stable")[: rows - whole.sum()]
    whole[first] += 1
    return whole


def _random(corpus: Corpus, share: Floats, seed: int, start: int) -> Ints:
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


def _deal_rest(corpus: Corpus, share: Floats, test: Flags, drawn: Ints, seed: int, start: int) -> Ints:
    """Train and valid: at random among what is not test, with the class counts they were drawn with."""
    split = np.full(len(test), TEST)
    rest = np.flatnonzero(~test)
    if corpus.group is not None:
        part = Corpus(rest, corpus.words, corpus.label[rest], corpus.group[rest], corpus.share)
        split[rest] = _random(part, share[:TEST] / share[:TEST].sum(), seed, start)
        return split
    rng = np.random.default_rng([seed, start, 1])
    for label in range(len(corpus.share) + 1):
        mine = rest[corpus.label[rest] == label]
        valid = int(((drawn == VALID) & (corpus.label == label)).sum())
        split[mine] = rng.permutation(np.repeat([TRAIN, VALID], [len(mine) - valid, valid]))
    return split
