"""Targets that are not there, or that nothing could predict."""

import torch

from mmaffect.testing.case import Case
from mmaffect.testing.change import gates, hide
from mmaffect.testing.compare import assert_finite, assert_same, differentiate
from mmaffect.testing.noise import steady_noise


def check_unlabelled(case: Case) -> None:
    """A batch without any label gives finite losses and gradients: what is unlabelled is left out.

    Args:
        case: what is checked; trivial without ``labels``.

    Raises:
        AssertionError: naming the output, value or parameter that is not finite.
    """
    tensors = case.arguments(case.dtype)
    blank = {n: torch.full_like(tensors[n], case.unlabelled(tensors[n])) for n in case.labels}
    run = differentiate(case, case.module(), tensors | blank)
    when = "when nothing is labelled"
    assert_finite(run.outputs, when)
    assert_finite(run.parameters, when, what="gradient of parameter")
    assert_finite(run.inputs, when, what="gradient of")


def check_empty_labels(case: Case) -> None:
    """The label of a sample with nothing left does not matter: there is nothing to learn it from.

    Args:
        case: what is checked; trivial without ``labels`` or masks.

    Raises:
        AssertionError: naming the output and the deviation.
    """
    if not gates(case):
        return
    layer = case.module()
    tensors = hide(case, case.arguments(case.dtype), gates(case), torch.tensor([0]))
    other = dict(tensors)
    for name in case.labels:
        targets = tensors[name]
        there = ~targets.isnan() if targets.is_floating_point() else targets != case.unlabelled(targets)
        low, high = targets[there].min(), targets[there].max()
        other[name] = targets.clone()
        other[name][0] = torch.where(targets == high, low, high)[0].where(there[0], targets[0])
    with steady_noise():
        reference, given = case.run(layer, tensors), case.run(layer, other)
    assert_same(case, reference, given, "sample 0, which has nothing left, has another label")
