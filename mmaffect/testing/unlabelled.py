"""Targets that are not there, or that nothing could predict."""

import torch

from mmaffect.testing.case import Case
from mmaffect.testing.change import gates, hide
from mmaffect.testing.compare import assert_finite, assert_same, differentiate


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
        ValueError: if no sample has a label.
    """
    if not gates(case):
        return
    layer, tensors = case.module(), case.arguments(case.dtype)
    for name in case.labels:
        targets = tensors[name]
        there = targets != case.unlabelled(targets) if not targets.is_floating_point() else ~targets.isnan()
        if not there.any():
            raise ValueError(f"{name}: expected at least one labelled sample, got none")
        row = there.nonzero()[:1, 0]
        low, high = targets[there].min(), targets[there].max()
        # Where all labels are the same, the other one is 0, or 1: there are two classes at least.
        low = torch.where(low == high, (high == 0).to(low.dtype), low)
        other = torch.where(there, torch.where(targets == high, low, high), targets)
        hidden = hide(case, tensors, gates(case), row)
        changed = hidden | {name: targets.index_copy(0, row, other[row])}
        reference, given = case.run(layer, hidden, steady=True), case.run(layer, changed, steady=True)
        change = f"sample {int(row)}, which has nothing left, has another label in {name!r}"
        assert_same(case, reference, given, change)
