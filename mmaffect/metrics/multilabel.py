"""Any of several emotions: figures per label and over labels, with MOSEI's "weighted accuracy" under its own name."""

import torch
from torch import Tensor

from mmaffect.metrics.labelled import UNLABELLED
from mmaffect.metrics.ranking import auroc


def multilabel_metrics(logits: Tensor, target: Tensor, *, threshold: float = 0.5) -> dict[str, float | list[float]]:
    """Figures of C yes-or-no answers, one logit each (of two logits a label pass yes minus no).

    With TP, FP, TN, FN counted per label:

    =============================  ===================================================================================
    ``mosei_weighted_accuracy``    ``½ (TP/(TP+FN) + TN/(TN+FP))``, what MOSEI papers call weighted accuracy: it is
                                   the balanced accuracy of one label, not IEMOCAP's WA. NaN for a label that is
                                   always or never true
    ``mosei_weighted_f1``          F1 of "yes" and of "no", weighted by their shares in the truth: the F1 printed
                                   beside it, high wherever the label is rare
    ``macro_f1``, ``micro_f1``     F1 of "yes", mean over labels and from the pooled counts; a label with no yes, true
                                   or predicted, is NaN and left out, one falsely predicted counts as zero
    ``auroc``                      ranking by the logit; NaN for a label that is always or never true
    ``accuracy``                   share of right answers
    ``subset_accuracy``            share of samples right in all labels, among those with all labels known (else NaN)
    ``per_label_*``                C values: accuracy, f1, auroc, mosei_weighted_accuracy, mosei_weighted_f1
    =============================  ===================================================================================

    Figures without ``per_label`` are means over the labels for which they are defined, except ``micro_f1``.
    ``accuracy`` too: it differs from the share of all known entries only if labels are unequally often known.

    Args:
        logits: one score a label.
        target: 0 or 1 (or bool); NaN or -100 = unlabelled, entry by entry.
        threshold: answer yes above this probability (strictly).

    Shape:
        ``logits (N, C)`` or ``(B, T, C)``, ``target`` of the same shape.

    Returns:
        Floats, and lists of C floats for the ``per_label`` figures.

    Raises:
        ValueError: if the shapes differ or have no axis of labels, a target is something else, nothing is labelled,
            a labelled entry's logit is NaN, or ``threshold`` is not within (0, 1).

    Example:
        >>> logits = torch.tensor([[2.0, -1.0], [-2.0, -1.0], [1.0, -1.0]])
        >>> figures = multilabel_metrics(logits, torch.tensor([[1, 0], [0, 1], [0, 0]]))
        >>> figures["per_label_mosei_weighted_accuracy"], figures["micro_f1"]
        ([0.75, 0.5], 0.5)
    """
    if not 0.0 < threshold < 1.0:
        raise ValueError(f"threshold: expected a probability within (0, 1), got {threshold}")
    score, yes, known = _entries(logits, target)
    said = score > torch.logit(torch.tensor(threshold, dtype=torch.float64))
    right = (said == yes) & known
    tp, tn = (right & yes).sum(0).double(), (right & ~yes).sum(0).double()
    fp, fn = (known & said & ~yes).sum(0).double(), (known & ~said & yes).sum(0).double()
    total = tp + tn + fp + fn
    f1 = 2.0 * tp / (2.0 * tp + fp + fn)
    f1_no = 2.0 * tn / (2.0 * tn + fp + fn)
    per_label = {
        "accuracy": (tp + tn) / total,
        "f1": f1,
        "auroc": torch.tensor(
            [auroc(score[k, c], yes[k, c]) for c, k in enumerate(known.unbind(1))], dtype=torch.float64
        ),
        "mosei_weighted_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2.0,
        "mosei_weighted_f1": (f1.nan_to_num() * (tp + fn) + f1_no.nan_to_num() * (tn + fp)) / total,
    }
    complete = known.all(1)
    return {
        **{("macro_f1" if name == "f1" else name): float(values.nanmean()) for name, values in per_label.items()},
        "micro_f1": float(2.0 * tp.sum() / (2.0 * tp + fp + fn).sum()),
        "subset_accuracy": float(right[complete].all(1).double().mean()),
        **{f"per_label_{name}": values.tolist() for name, values in per_label.items()},
    }


def _entries(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if logits.dim() < 2 or logits.shape != target.shape:
        raise ValueError(
            f"logits: expected shape (N, C) or (B, T, C) like target {tuple(target.shape)}, got {tuple(logits.shape)}"
        )
    score = logits.detach().cpu().double().reshape(-1, logits.shape[-1])
    truth = target.detach().cpu().double().reshape(score.shape)
    known = ~truth.isnan() & (truth != UNLABELLED)
    if not bool(known.any()):
        raise ValueError(f"target: expected at least one labelled entry, got none among {known.numel()}")
    other = truth[known & (truth != 0) & (truth != 1)]
    if other.numel():
        raise ValueError(f"target: expected 0 or 1, NaN or -100 where unlabelled, got {float(other[0])}")
    bad = int((known & score.isnan()).sum())
    if bad:
        raise ValueError(f"logits: expected no NaN where target is labelled, got {bad}")
    return score, truth == 1, known
