"""One emotion of several: accuracy, balanced accuracy, F1 and ranking, with absent classes handled in the open."""

import math

import torch
from torch import Tensor

from mmaffect.metrics.confusion import confusion_matrix, f1_by_class, f1_weighted_by_support, recall_by_class
from mmaffect.metrics.labelled import labelled_classes
from mmaffect.metrics.ranking import auroc


def emotion_metrics(logits: Tensor, target: Tensor) -> dict[str, float | list[float]]:
    """Figures of a classifier over C emotions.

    ======================  ==========================================================================================
    ``accuracy``            share that is right; IEMOCAP's "WA" (weighted accuracy: weighted by the classes' shares)
    ``balanced_accuracy``   mean recall over the classes that **occur in the targets**; IEMOCAP's "UA". Not MOSEI's
                            "weighted accuracy": for that see :func:`mmaffect.metrics.multilabel_metrics`
    ``macro_f1``            mean F1 over the classes that occur in the targets **or among the predictions**
                            (scikit-learn's default): a class predicted but not there counts as zero
    ``weighted_f1``         F1 weighted by the classes' shares in the targets
    ``auroc``               one class against the rest, by its log-probability; mean over the classes that have a
                            positive and a negative sample; NaN if none has
    ``log_loss``            mean of −log p(true class) in nats; infinite where that class was ruled out
    ``per_class_recall``    C values; NaN for a class that does not occur in the targets
    ``per_class_f1``        C values; NaN for a class in neither targets nor predictions, else 0 if never right
    ``per_class_auroc``     C values; NaN where not defined
    ``per_class_support``   how often each class occurs in the targets
    ======================  ==========================================================================================

    Args:
        logits: unnormalised scores; equal ones go to the lower class.
        target: classes from 0 to C − 1; -100 = unlabelled (padding, other emotions), left out.

    Shape:
        ``logits (N, C)`` or ``(B, T, C)`` with ``target (N,)`` or ``(B, T)``.

    Returns:
        Floats, and lists of C floats for the ``per_class`` figures.

    Raises:
        ValueError: as :func:`mmaffect.metrics.labelled.labelled_classes`, also if nothing is labelled.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
        >>> figures = emotion_metrics(logits, torch.tensor([0, 1, 1, -100]))
        >>> figures["balanced_accuracy"], figures["per_class_recall"], figures["auroc"]
        (0.75, [1.0, 0.5, nan], 1.0)
    """
    scores, truth = labelled_classes(logits, target)
    classes = scores.shape[1]
    table = confusion_matrix(scores.argmax(1), truth, classes)
    recall, f1 = recall_by_class(table), f1_by_class(table)
    log_probs = scores.log_softmax(1)
    areas = [auroc(log_probs[:, c], truth == c) for c in range(classes)]
    defined = [area for area in areas if not math.isnan(area)]
    return {
        "accuracy": float(table.diagonal().sum() / table.sum().double()),
        "balanced_accuracy": float(recall.nanmean()),
        "macro_f1": float(f1.nanmean()),
        "weighted_f1": f1_weighted_by_support(table),
        "auroc": sum(defined) / len(defined) if defined else float("nan"),
        "log_loss": -float(log_probs[torch.arange(len(truth)), truth].mean()),
        "per_class_recall": recall.tolist(),
        "per_class_f1": f1.tolist(),
        "per_class_auroc": areas,
        "per_class_support": table.sum(1).double().tolist(),
    }
