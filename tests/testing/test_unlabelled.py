import math

import pytest
import torch
import torch.nn.functional as F

from mmaffect.losses import task_loss
from mmaffect.testing import Case, check_empty_labels, check_unlabelled
from tests.testing.specimens import MASK


def loss_case(function, **inputs):
    torch.manual_seed(0)
    given = {"x": torch.randn(3, 5, 4), "mask": MASK, "target": torch.tensor([1, -100, 3])} | inputs
    return Case(build=lambda: function, inputs=given, masks={"x": "mask"}, labels={"target": None})


def _logits(x, mask):
    return torch.where(mask.unsqueeze(-1), x, 0.0).sum(1) + torch.arange(4)


def right(x, mask, target):
    return task_loss(_logits(x, mask), target, "class", valid=mask.any(1))


def mean_of_none(x, mask, target):
    return F.cross_entropy(_logits(x, mask), target)


def learns_from_nothing(x, mask, target):
    return task_loss(_logits(x, mask), target, "class")


def test_a_loss_that_leaves_out_what_is_unlabelled_passes():
    check_unlabelled(loss_case(right))
    check_empty_labels(loss_case(right))
    scores = torch.tensor([[0.5, 1.0, 2.0, math.nan, 0.0]]).expand(3, 5)

    def by_step(x, mask, target):
        return task_loss(torch.where(mask, x.sum(-1), 0.0), target, "score", valid=mask)

    check_unlabelled(loss_case(by_step, target=scores))
    check_empty_labels(loss_case(by_step, target=scores))


def test_the_mean_over_no_label_is_caught():
    with pytest.raises(AssertionError, match="output 'output' is not finite when nothing is labelled"):
        check_unlabelled(loss_case(mean_of_none))


def test_learning_from_a_sample_with_nothing_is_caught():
    check_unlabelled(loss_case(learns_from_nothing))
    with pytest.raises(AssertionError, match="when sample 0, which has nothing left, has another label in 'target'"):
        check_empty_labels(loss_case(learns_from_nothing))


def test_the_first_sample_with_a_label_is_tried_whatever_the_labels():
    for targets in ([-100, 2, 2], [-100, 0, -100], [-100, -100, 3]):
        with pytest.raises(AssertionError, match=f"when sample {1 + (targets[1] == -100)}, which has nothing left"):
            check_empty_labels(loss_case(learns_from_nothing, target=torch.tensor(targets)))
    with pytest.raises(ValueError, match="target: expected at least one labelled sample, got none"):
        check_empty_labels(loss_case(right, target=torch.full((3,), -100)))


def test_without_labels_or_masks_there_is_nothing_to_check():
    bare = Case(build=lambda: torch.exp, inputs={"input": torch.zeros(2, 3)})
    check_unlabelled(bare)
    check_empty_labels(bare)
