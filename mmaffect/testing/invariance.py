"""What must not matter: padding, the other samples, their order, and whatever is stored where nothing is."""

import torch
from torch import Tensor

from mmaffect.testing.case import Case
from mmaffect.testing.change import pad, per_sample, poison, real, take
from mmaffect.testing.compare import Gradients, assert_finite, assert_same, differentiate, own_outputs, with_rows

_GARBAGE = (float("nan"), 1e6)


def check_padding(case: Case) -> None:
    """More padding changes nothing, whatever it holds.

    Every masked time axis grows by 3 steps of NaN, then by 5 of 1e6; noise is held fixed for each step.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the output, the sample and the deviation.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    reference = case.run(layer, tensors, steady=True)
    assert_finite(reference, "before anything is padded")
    for extra, filler in zip((3, 5), _GARBAGE, strict=True):
        padded = case.run(layer, pad(case, tensors, extra, filler), steady=True)
        assert_same(case, reference, padded, f"{extra} steps of padding that hold {filler:g} are added")


def check_batch_order(case: Case) -> None:
    """Samples in another order give their outputs in that order, and the same shared outputs.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the output, the sample (in the new order) and the deviation.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    rows = torch.arange(case.size).roll(1)
    reference = case.run(layer, tensors, steady=True)
    moved = case.run(layer, take(case, tensors, rows), steady=True)
    own = own_outputs(case, reference)
    expected = {n: t[rows.to(t.device)] if n in own else t for n, t in reference.items()}
    assert_same(case, expected, moved, "the samples are put in another order")


def check_batch_mates(case: Case) -> None:
    """A sample's output is its own: the same alone, and the same beside samples full of garbage.

    Shared outputs are only asked to be free of NaN for one sample, as the last batch of an epoch may have.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the output, the sample and the deviation.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    own = own_outputs(case, case.run(layer, tensors, steady=True))
    for number in range(case.size):
        row = torch.tensor([number])
        alone = case.run(layer, take(case, tensors, row), steady=True)
        assert_finite(alone, f"when sample {number} is alone")
        assert_same(case, own, with_rows(own, row, alone), "it is alone, without the rest of the batch")
    for filler in _GARBAGE if own else ():
        for half in (0, 1):
            kept = torch.arange(half, case.size, 2)
            mixed = case.run(layer, _spoil(case, tensors, torch.arange(1 - half, case.size, 2), filler), steady=True)
            given = {n: mixed[n][kept.to(t.device)] for n, t in own.items()}
            assert_same(case, own, with_rows(own, kept, given), f"other samples hold {filler:g}")


def check_absent_values(case: Case) -> None:
    """Values where a mask is False do not matter: not to outputs, gradients, or running statistics.

    They are set to NaN and to 1e6, in evaluation and in training mode (under one seed). Gradients there must be
    exactly zero, those of the parameters finite and the same.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the output, value or parameter, and the deviation.
    """
    tensors = case.arguments(case.dtype)
    for train in (False, True):
        reference, statistics = _differentiate(case, tensors, train=train)
        mode = "in training mode" if train else "in evaluation mode"
        assert_finite(reference.outputs, mode)
        assert_finite(reference.parameters, mode, what="gradient of parameter")
        assert_finite(reference.inputs, mode, what="gradient of")
        _assert_no_gradient(case, tensors, reference, mode)
        for filler in _GARBAGE if real(case, tensors) else ():
            spoilt, other_statistics = _differentiate(case, poison(case, tensors, filler), train=train)
            change = f"absent values hold {filler:g}, {mode}"
            assert_same(case, reference.outputs, spoilt.outputs, change)
            _assert_no_gradient(case, tensors, spoilt, f"when {change}")
            assert_same(case, reference.inputs, spoilt.inputs, change, what="gradient of")
            assert_same(case, reference.parameters, spoilt.parameters, change, what="gradient of parameter")
            assert_same(case, statistics, other_statistics, change, what="buffer")


def check_zeros(case: Case) -> None:
    """A zero that is there is a value like any other: outputs do not jump when it becomes next to nothing.

    A layer that takes zeros for absence treats 0 and 1e-25 differently. Tried on the first step, and throughout.

    Args:
        case: what is checked.

    Raises:
        AssertionError: naming the value, the output, the sample and the deviation.
    """
    layer, tensors = case.module(), case.arguments(case.dtype)
    small = 1e-25 if case.dtype == torch.float64 else 1e-18
    for name, there in real(case, tensors).items():
        x = tensors[name]
        if not x.is_floating_point():
            continue
        spots = {"throughout": there}
        if name in case.time:
            spots["at the first step"] = there.clone()
            spots["at the first step"][:, 1:] = False
        for where, spot in spots.items():
            # One batch under one seed: its noise is the same.
            changed = [tensors | {name: torch.where(spot, torch.full_like(x, v), x)} for v in (0.0, small)]
            zero, little = (case.run(layer, given) for given in changed)
            assert_same(case, zero, little, f"{name!r}, present and zero {where}, becomes {small:g}")


def _differentiate(case: Case, tensors: dict[str, Tensor], *, train: bool) -> tuple[Gradients, dict[str, Tensor]]:
    # A new layer each time: training moves running statistics.
    layer = case.module(train=train)
    return differentiate(case, layer, tensors), dict(layer.named_buffers())


def _assert_no_gradient(case: Case, tensors: dict[str, Tensor], run: Gradients, when: str) -> None:
    for name, there in real(case, tensors).items():
        gradient = run.inputs.get(name)
        if gradient is None:
            continue
        leak = torch.where(there, torch.zeros_like(gradient), gradient)
        if not (leak == 0).all():
            rows = (leak != 0).flatten(1).any(1).nonzero()
            raise AssertionError(
                f"gradient of {name!r} reaches absent values of sample {int(rows[0, 0])} {when}: "
                f"expected exactly 0, got up to {leak.abs().max().item():.2g}"
            )


def _spoil(case: Case, tensors: dict[str, Tensor], rows: Tensor, filler: float) -> dict[str, Tensor]:
    """All floating values of ``rows`` (int64) replaced."""
    spoilt = dict(tensors)
    for name, x in tensors.items():
        if per_sample(case, name, x) and x.is_floating_point():
            spoilt[name] = x.index_fill(0, rows.to(x.device), filler)
    return spoilt
