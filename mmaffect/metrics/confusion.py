"""Who was taken for whom: the confusion matrix, and recall and F1 read off it."""

import torch
from torch import Tensor


def confusion_matrix(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count the pairs of true and predicted class.

    Args:
        predicted: class numbers.
        target: class numbers; every entry counts, so leave unlabelled ones out first.
        classes: their number C.

    Shape:
        ``predicted (N,)``, ``target (N,)`` → ``(C, C)`` int64, **rows are the truth**, columns the prediction.

    Raises:
        ValueError: if the shapes differ or a class lies outside 0 … C - 1.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    if predicted.dim() != 1 or predicted.shape != target.shape:
        raise ValueError(
            f"predicted: expected shape (N,) like target {tuple(target.shape)}, got {tuple(predicted.shape)}"
        )
    found, truth = predicted.detach().cpu().long(), target.detach().cpu().long()
    for name, values in (("predicted", found), ("target", truth)):
        outside = values[(values < 0) | (values >= classes)]
        if outside.numel():
            raise ValueError(f"{name}: expected classes from 0 to {classes - 1}, got {int(outside[0])}")
    return torch.bincount(truth * classes + found, minlength=classes * classes).view(classes, classes)


def recall_by_class(confusion: Tensor) -> Tensor:
    """Share of each class that was found; NaN for a class that does not occur in the targets.

    Shape:
        ``(C, C)`` → ``(C,)``.

    Example:
        >>> recall_by_class(torch.tensor([[1, 3], [0, 0]])).tolist()
        [0.25, nan]
    """
    return confusion.diagonal().double() / confusion.sum(1)


def f1_by_class(confusion: Tensor) -> Tensor:
    """``2 TP / (2 TP + FP + FN)`` of each class against the rest.

    Zero for a class predicted but not there, or there but never found; NaN for one that occurs in neither.

    Shape:
        ``(C, C)`` → ``(C,)``.

    Example:
        >>> f1_by_class(torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]])).tolist()
        [0.666..., 0.666..., nan]
    """
    return 2.0 * confusion.diagonal().double() / (confusion.sum(0) + confusion.sum(1))


def f1_weighted_by_support(confusion: Tensor) -> float:
    """Mean of the classes' F1 weighted by how often each occurs in the targets; NaN if nothing does.

    Example:
        >>> f1_weighted_by_support(torch.tensor([[2, 0], [1, 0]]))
        0.533...
    """
    support = confusion.sum(1).double()
    return float((f1_by_class(confusion).nan_to_num() * support).sum() / support.sum())


def weighted_f1(predicted: Tensor, target: Tensor) -> float:
    """F1 averaged over classes with the weights of the *targets*, as scikit-learn's ``average="weighted"``.

    The order of the arguments matters although each class's F1 is symmetric: the weights are the classes' shares in
    the second argument. MulT's published script for sentiment passes them the other way round and so weighs by
    the model's own predictions, which rewards whatever the model says often; to compare with such figures, and only
    then, call ``weighted_f1(target, predicted)``.

    Args:
        predicted: classes (or bools).
        target: classes (or bools); every entry counts.

    Shape:
        ``predicted (N,)``, ``target (N,)``.

    Returns:
        The score in 0 … 1; NaN for N = 0.

    Raises:
        ValueError: if the shapes differ or a class is negative.

    Example:
        >>> always = torch.tensor([1, 1, 1, 1])
        >>> truth = torch.tensor([1, 1, 0, 0])
        >>> round(weighted_f1(always, truth), 4), round(weighted_f1(truth, always), 4)
        (0.3333, 0.6667)
    """
    both = torch.cat([predicted.flatten().long(), target.flatten().long()]).cpu()
    classes = int(both.max()) + 1 if both.numel() else 1
    return f1_weighted_by_support(confusion_matrix(predicted, target, max(classes, 1)))
