"""Numbers: dtypes, autocast, gradients against finite differences, determinism, arguments left alone."""

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError, gradcheck

from mmaffect.testing.case import Case, seeded
from mmaffect.testing.compare import assert_finite, deviation, differentiate
from mmaffect.testing.tree import flatten


def check_dtypes(case: Case) -> None:
    """float64, float32 and bfloat16 run, keep their dtype, stay finite, and bfloat16 is near float32.

    Each in evaluation mode, with gradients. Shared outputs (penalties, losses) may be of a wider dtype.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the dtype and the output.
    """
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        layer, tensors = case.module(dtype), case.arguments(dtype)
        run = differentiate(case, layer, tensors)
        assert_finite(run.outputs, f"in {dtype}")
        assert_finite(run.parameters, f"in {dtype}", what="gradient of parameter")
        for name, out in run.outputs.items():
            if out.is_floating_point() and out.dtype != dtype and not case.is_shared(name, out):
                raise AssertionError(f"output {name!r} is of {out.dtype} when parameters and inputs are of {dtype}")
    # The same rounded parameters and inputs: what is left is the rounding inside the layer.
    wide = case.run(layer.float(), {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    _assert_near(case, wide, run.outputs, "in bfloat16")


def check_autocast(case: Case) -> None:
    """Under autocast to bfloat16 a float32 layer runs, stays finite, and stays near float32.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the output, value or parameter.
    """
    layer, tensors = case.module(torch.float32), case.arguments(torch.float32)
    device = next(iter(tensors.values())).device.type
    wide = case.run(layer, tensors)
    with torch.autocast(device, dtype=torch.bfloat16):
        run = differentiate(case, layer, tensors)
    assert_finite(run.outputs, "under autocast")
    assert_finite(run.parameters, "under autocast", what="gradient of parameter")
    assert_finite(run.inputs, "under autocast", what="gradient of")
    _assert_near(case, wide, run.outputs, "under autocast")


def check_gradients(case: Case) -> None:
    """Gradients of inputs and parameters agree with finite differences in float64 (``torch.autograd.gradcheck``).

    Exempt a layer that stops or replaces gradients on purpose (straight-through estimators).

    Args:
        case: what is checked.

    Raises:
        AssertionError: with gradcheck's report.
    """
    layer, tensors = case.module(torch.float64), case.arguments(torch.float64)
    inputs = {n: t.requires_grad_() for n, t in tensors.items() if t.is_floating_point() and n not in case.labels}
    parameters = {n: p for n, p in layer.named_parameters() if p.requires_grad}
    names = [*inputs, *parameters]
    shell = _Run(case, layer)
    smooth = [n for n, out in shell(tensors).items() if out.is_floating_point() and out.requires_grad]
    if not names or not smooth:
        return

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, values, strict=True))
        state = {f"layer.{n}": given[n] for n in parameters}
        found = torch.func.functional_call(shell, state, ({**tensors, **{n: given[n] for n in inputs}},))
        return tuple(found[n] for n in smooth)

    try:
        gradcheck(outputs, (*inputs.values(), *parameters.values()), fast_mode=True)
    except GradcheckError as error:
        raise AssertionError(f"gradients differ from finite differences: {error}") from error


def check_determinism(case: Case) -> None:
    """One seed gives one result, bit by bit; and in evaluation mode no seed is needed at all.

    Two layers built under one seed are equal and, under one seed, so are their outputs in training mode. In
    evaluation mode outputs are equal under any seed, unless the case is ``stochastic``.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the parameter or output.
    """
    tensors = case.arguments(case.dtype)
    for train in (False, True):
        layers = [case.module(train=train) for _ in range(2)]
        first, second = (flatten(layer.state_dict()) for layer in layers)
        _assert_equal(first, second, "parameter", "two layers are built under one seed")
        first, second = (case.run(layer, tensors) for layer in layers)
        mode = "training" if train else "evaluation"
        _assert_equal(first, second, "output", f"run twice under one seed in {mode} mode")
    if not case.stochastic:
        layer = case.module()
        with seeded(0):
            first = case.flat(layer, tensors)
        with seeded(1):
            second = case.flat(layer, tensors)
        _assert_equal(first, second, "output", "another seed is set in evaluation mode: pass a generator, or noise")


def check_inputs_kept(case: Case) -> None:
    """Arguments are as they were after a call: nothing is written in place.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the argument.
    """
    for train in (False, True):
        tensors = case.arguments(case.dtype)
        given = {n: t.clone() for n, t in tensors.items()}
        case.run(case.module(train=train), given)
        _assert_equal(tensors, given, "argument", "the layer is called: it writes in place")


class _Run(nn.Module):
    """A case's call as a module, so that parameters can be handed in."""

    def __init__(self, case: Case, layer: nn.Module) -> None:
        super().__init__()
        self.case, self.layer = case, layer

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.case.run(self.layer, tensors)


def _assert_near(case: Case, wide: dict[str, Tensor], narrow: dict[str, Tensor], when: str) -> None:
    for name, expected in wide.items():
        if not expected.is_floating_point():
            continue
        finite = expected.isfinite()
        expected, given = expected[finite].double(), narrow[name][finite].double()
        limit = case.half_tolerance * max(expected.norm().item(), 1e-3)
        distance = (expected - given).norm().item()
        if not distance <= limit:
            raise AssertionError(
                f"output {name!r} {when} is {distance:.2g} away from float32 (Euclidean norm; allowed: {limit:.2g})"
            )


def _assert_equal(first: dict[str, Tensor], second: dict[str, Tensor], what: str, when: str) -> None:
    if first.keys() != second.keys():
        raise AssertionError(f"other {what}s when {when}: {sorted(first)} became {sorted(second)}")
    for name, expected in first.items():
        if expected.shape != second[name].shape or (deviation(expected, second[name]) != 0).any():
            raise AssertionError(f"{what} {name!r} differs when {when}")
