"""Counterfactual token sequences: keep the words that tell classes apart, mask the rest (CIDer)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmaffect.ops import check_int64, check_mask, check_positive, check_shape


def token_class_counts(
    ids: Tensor, labels: Tensor, mask: Tensor, *, vocabulary: int, classes: int, special: Sequence[int] = ()
) -> Tensor:
    """How often each token occurs in samples of each class; count the training split and nothing else.

    Args:
        ids: tokens, of any tokenizer.
        labels: class of each sample; negative ones (-100) are unknown and left out.
        mask: True = a real token.
        vocabulary: number of tokens V.
        classes: number of classes.
        special: tokens that are not counted: the tokenizer's own, such as the start and the end.

    Shape:
        ``ids (N, T)`` int64, ``labels (N,)`` int64, ``mask (N, T)`` → ``(V, classes)`` int64.

    Raises:
        ValueError: on other shapes or dtypes, or real tokens, labels or special tokens out of range.

    Example:
        >>> ids, mask = torch.tensor([[0, 2, 2], [0, 2, 1]]), torch.tensor([[True] * 3, [True, True, False]])
        >>> token_class_counts(ids, torch.tensor([0, 1]), mask, vocabulary=3, classes=2, special=[0]).tolist()
        [[0, 0], [0, 0], [2, 1]]
    """
    check_shape("ids", ids, "N T")
    check_shape("labels", labels, "N", N=ids.shape[0])
    check_mask("mask", mask, "N T", N=ids.shape[0], T=ids.shape[1])
    check_positive(vocabulary=vocabulary, classes=classes)
    check_int64(ids=ids, labels=labels)
    uncounted = torch.tensor(list(special), dtype=torch.int64, device=ids.device)
    _check_range("special", uncounted, vocabulary)
    counted = mask & (labels >= 0).unsqueeze(1)
    label = labels.unsqueeze(1).expand_as(ids)[counted]
    token = ids[counted]
    _check_range("ids", token, vocabulary)
    _check_range("labels", label, classes)
    counts = torch.bincount(token * classes + label, minlength=vocabulary * classes).view(vocabulary, classes)
    return counts.index_fill(0, uncounted, 0)


def telling_tokens(
    counts: Tensor, *, classes: Sequence[int] | None = None, threshold: float = 0.1, top: int = 100
) -> Tensor:
    r"""Tokens whose use differs between classes, the most frequent first.

    .. math:: \mathrm{CV}_w = \frac{\sigma(n_{w,1}, \dots, n_{w,C})}{\mu(n_{w,1}, \dots, n_{w,C})} \ge \text{threshold}

    with σ the population standard deviation. A token that occurs in none of the chosen classes has no coefficient of
    variation and is not kept; in the published code it inherits the one computed before it.

    Raw counts are the published choice. They also measure how large the classes are: a word spread evenly over 552
    and 679 samples has a CV of 0.103, above the published threshold. Hand over ``counts / counts.sum(0)`` to compare
    shares instead.

    Args:
        counts: of each token in each class, see :func:`token_class_counts`.
        classes: which of them are compared (CIDer: negative and positive, without neutral); all by default.
        threshold: least coefficient of variation.
        top: how many tokens at most. Frequency is the sum over all classes; of equal ones, the smaller id comes first.

    Shape:
        ``counts (V, C)`` → ``(k,)`` int64, k ≤ ``top``.

    Raises:
        ValueError: on another shape, counts that are not finite (such as shares of a class without any token), classes
            out of range, or a ``top`` that is not positive.

    Example:
        >>> telling_tokens(torch.tensor([[9, 9], [5, 1], [0, 8], [0, 0]])).tolist()
        [2, 1]
    """
    check_shape("counts", counts, "V C")
    check_positive(top=top)
    if not bool(counts.isfinite().all()):
        bad = (~counts.isfinite()).any(0).nonzero().flatten().tolist()
        raise ValueError(f"counts: expected finite numbers, got others in classes {bad}")
    chosen = list(range(counts.shape[1])) if classes is None else list(classes)
    outside = [c for c in chosen if not 0 <= c < counts.shape[1]]
    if outside or not chosen:
        raise ValueError(f"classes: expected some of 0 to {counts.shape[1] - 1}, got {chosen}")
    compared = counts[:, chosen].double()
    mean = compared.mean(1)
    # Not divided: a token that occurs nowhere among the chosen classes has no quotient.
    telling = (mean > 0) & (compared.std(1, correction=0) >= threshold * mean)
    found = telling.nonzero().squeeze(1)
    order = counts.sum(1)[found].sort(descending=True, stable=True).indices
    return found[order[:top]]


def mask_tokens(ids: Tensor, mask: Tensor, kept: Tensor, *, special: Sequence[int], mask_id: int) -> Tensor:
    """The counterfactual of each sequence: every real token but the kept and special ones becomes ``mask_id``.

    Apply it to what the model is given: where tokens are missing, to the ids that have them masked already.

    Args:
        ids: tokens.
        mask: True = a real token; others stay as they are.
        kept: tokens to keep, see :func:`telling_tokens`.
        special: the tokenizer's own tokens, kept too.
        mask_id: what the others become. CIDer's paper says [UNK], its code [MASK].

    Shape:
        ``ids (B, T)`` int64, ``mask (B, T)``, ``kept (k,)`` int64 → ``(B, T)`` int64.

    Raises:
        ValueError: on other shapes or dtypes.

    Example:
        >>> ids, mask = torch.tensor([[0, 7, 8, 5]]), torch.tensor([[True, True, True, False]])
        >>> mask_tokens(ids, mask, torch.tensor([8]), special=[0], mask_id=3).tolist()
        [[0, 3, 8, 5]]
    """
    check_shape("ids", ids, "B T")
    check_mask("mask", mask, "B T", B=ids.shape[0], T=ids.shape[1])
    check_shape("kept", kept, "k")
    check_int64(ids=ids, kept=kept)
    stay = torch.cat([kept, torch.tensor(list(special), dtype=torch.int64, device=kept.device)])
    masked = mask & ~torch.isin(ids, stay)
    return torch.where(masked, torch.full_like(ids, mask_id), ids)


def _check_range(name: str, values: Tensor, size: int) -> None:
    if not values.numel():
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= size:
        raise ValueError(f"{name}: expected values from 0 to {size - 1}, got {low} to {high}")
