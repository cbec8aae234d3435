"""What must work: any of the values alone, and a sample that has none."""

from itertools import combinations

import torch

from mmaffect.testing.case import Case, Gate
from mmaffect.testing.change import gates, hide
from mmaffect.testing.compare import assert_finite, assert_same, differentiate, own_outputs, with_rows


def check_subsets(case: Case) -> None:
    """Every subset of the masked values is enough: outputs and gradients stay finite when the others are hidden.

    All subsets of up to four masks; of more, each mask alone and each left out.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming what was left, and the output, value or parameter that is not finite.
    """
    tensors, everyone = case.arguments(case.dtype), torch.arange(case.size)
    for left in _subsets(gates(case)):
        gone = tuple(g for g in gates(case) if g not in left)
        run = differentiate(case, case.module(), hide(case, tensors, gone, everyone))
        when = f"when only {', '.join(_name(g) for g in left)} {'is' if len(left) == 1 else 'are'} left"
        assert_finite(run.outputs, when)
        assert_finite(run.parameters, when, what="gradient of parameter")
        assert_finite(run.inputs, when, what="gradient of")


def check_nothing_left(case: Case) -> None:
    """A sample with nothing left gives no NaN, has no gradient of NaN, and disturbs no other sample.

    Data are refused where they enter if a sample has nothing at all; but a step of a dialogue may be empty, and what
    a layer is handed may be a step.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the output, value or parameter that is not finite or changes.
    """
    if not gates(case):
        return
    layer, tensors = case.module(), case.arguments(case.dtype)
    hidden = hide(case, tensors, gates(case), torch.tensor([0]))
    when = "when sample 0 has nothing left"
    run = differentiate(case, case.module(), hidden)
    assert_finite(run.outputs, when)
    assert_finite(run.parameters, when, what="gradient of parameter")
    assert_finite(run.inputs, when, what="gradient of")
    reference, other = case.run(layer, tensors, steady=True), case.run(layer, hidden, steady=True)
    own, others = own_outputs(case, reference), torch.arange(1, case.size)
    given = with_rows(own, others, {n: other[n][others.to(t.device)] for n, t in own.items()})
    assert_same(case, own, given, "sample 0 has nothing left")


def _subsets(given: tuple[Gate, ...]) -> list[tuple[Gate, ...]]:
    sizes = range(1, len(given) + 1) if len(given) <= 4 else sorted({1, len(given) - 1})
    return [subset for size in sizes for subset in combinations(given, size)]


def _name(gate: Gate) -> str:
    return gate.mask if gate.column is None else f"{gate.mask}[:, {gate.column}]"
