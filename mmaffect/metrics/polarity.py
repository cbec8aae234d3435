"""Negative, neutral, positive as classes: the field's two ways of making two classes of three."""

from torch import Tensor

from mmaffect.metrics.confusion import weighted_f1
from mmaffect.metrics.labelled import labelled_classes


def polarity_metrics(logits: Tensor, target: Tensor) -> dict[str, float]:
    """Two- and three-class figures of a classifier over negative (0), neutral (1) and positive (2).

    "Has0" and "Non0" mean different things in different toolkits, so each has its own suffix:

    ====================  ============================================  ============================================
    ..                    truth                                         prediction
    ====================  ============================================  ============================================
    ``acc3``, ``f1_3``    the three classes                             argmax over the three
    ``*_has0_mmsa``       neutral joins the **negative**                argmax over columns 0 and 2
    ``*_has0_cider``      neutral joins the **positive**                argmax over columns 0 and 2
    ``*_non0_mmsa``       neutral dropped, numbered **{0, 2}**          argmax over columns 0 and 2, **{0, 1}**
    ``*_non0_cider``      neutral dropped                               argmax over the three: neutral counts wrong
    ``*_non0``            neutral dropped                               argmax over columns 0 and 2
    ====================  ============================================  ============================================

    ``*_non0_mmsa`` compares numbers of two codes, so a positive sample can never be right: a perfect predictor
    scores the share of negatives (0.47 where 47 of 100 are). It is here to compare with published figures only;
    ``*_non0`` is what it means to measure.

    Args:
        logits: scores of the three classes in this order.
        target: classes 0, 1, 2; -100 = unlabelled (left out).

    Shape:
        ``logits (N, 3)`` or ``(B, T, 3)`` with ``target (N,)`` or ``(B, T)``.

    Returns:
        Floats by name, F1 weighted by the truth's shares; the ``non0`` figures are NaN if every truth is neutral.

    Raises:
        ValueError: if there are not three classes, or as :func:`mmaffect.metrics.labelled.labelled_classes`.

    Example:
        >>> import torch
        >>> perfect = 9.0 * torch.eye(3)[torch.tensor([0, 1, 2, 2])]
        >>> figures = polarity_metrics(perfect, torch.tensor([0, 1, 2, 2]))
        >>> round(figures["acc2_non0_mmsa"], 4), figures["acc2_non0_cider"], figures["acc2_non0"]
        (0.3333, 1.0, 1.0)
    """
    if logits.shape[-1] != 3:
        raise ValueError(f"logits: expected 3 classes on the last axis, got shape {tuple(logits.shape)}")
    scores, truth = labelled_classes(logits, target)
    of_three = scores.argmax(1)
    of_two = scores[:, [0, 2]].argmax(1)  # 0 = negative, 1 = positive
    polar = truth != 1
    pairs = {
        ("acc3", "f1_3"): (of_three, truth),
        ("acc2_has0_mmsa", "f1_has0_mmsa"): (of_two, truth > 1),
        ("acc2_has0_cider", "f1_has0_cider"): (of_two, truth >= 1),
        ("acc2_non0_mmsa", "f1_non0_mmsa"): (of_two[polar], truth[polar]),
        ("acc2_non0_cider", "f1_non0_cider"): (of_three[polar], truth[polar]),
        ("acc2_non0", "f1_non0"): (2 * of_two[polar], truth[polar]),
    }
    figures: dict[str, float] = {}
    for (accuracy, f1), (found, true) in pairs.items():
        figures[accuracy] = float((found == true).double().mean())
        figures[f1] = weighted_f1(found, true)
    return figures
