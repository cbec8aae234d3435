"""Runs side by side, and the sentence that says where they part."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.testing.case import Case


class Gradients(NamedTuple):
    """Outputs of a run, and the gradients of one scalar made of all of them."""

    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor]
    parameters: dict[str, Tensor]


def deviation(reference: Tensor, other: Tensor) -> Tensor:
    """Elementwise distance; zero where both hold the same infinity or NaN, infinite where only one does."""
    if not reference.is_floating_point():
        return (reference != other).double()
    same = (reference == other) | (reference.isnan() & other.isnan())
    distance = torch.where(same, torch.zeros_like(reference), (reference - other).abs())
    return distance.nan_to_num(nan=torch.inf, posinf=torch.inf).double()


def assert_same(
    case: Case, reference: Mapping[str, Tensor], other: Mapping[str, Tensor], change: str, *, what: str = "output"
) -> None:
    """Raise unless every tensor of ``other`` equals that of ``reference`` within the case's tolerance.

    Args:
        case: knows the tolerance, and which tensors belong to samples.
        reference: tensors by name.
        other: tensors by name; longer axes are cut to the reference (more padding).
        change: what was done between the two, for the message.
        what: what the tensors are.

    Raises:
        AssertionError: naming the tensor, the sample that deviates most, by how much, and what was done.
    """
    if reference.keys() != other.keys():
        raise AssertionError(f"other {what}s when {change}: {sorted(reference)} became {sorted(other)}")
    for name, expected in reference.items():
        given = other[name]
        if given.dim() != expected.dim() or any(g < e for g, e in zip(given.shape, expected.shape, strict=True)):
            raise AssertionError(
                f"{what} {name!r} changes its shape from {tuple(expected.shape)} to {tuple(given.shape)} when {change}"
            )
        given = given[tuple(slice(size) for size in expected.shape)]
        if expected.numel() == 0:
            continue
        gap = deviation(expected, given)
        size = expected.abs().nan_to_num(posinf=0.0).max().item() if expected.is_floating_point() else 0.0
        limit = case.allowed * max(1.0, size)
        worst = gap.max().item()
        if worst > limit:
            place = ""
            if what == "output" and not case.is_shared(name, expected):
                place = f" of sample {int(gap.flatten(1).amax(1).argmax() if gap.dim() > 1 else gap.argmax())}"
            by = "becomes NaN or infinite" if worst == torch.inf else f"changes by {worst:.2g} (allowed: {limit:.1g})"
            raise AssertionError(f"{what} {name!r}{place} {by} when {change}")


def own_outputs(case: Case, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those outputs of the whole batch that belong to samples.

    Raises:
        ValueError: if an output has another first axis than the batch and is not said to be shared.
    """
    own = {n: t for n, t in outputs.items() if not case.is_shared(n, t)}
    for name, out in own.items():
        if out.shape[0] != case.size:
            raise ValueError(
                f"shared: expected the batch of {case.size} as first axis of output {name!r}, got {tuple(out.shape)}; "
                f"name it in shared if it belongs to the batch as a whole"
            )
    return own


def with_rows(reference: Mapping[str, Tensor], rows: Tensor, other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``reference`` with its samples ``rows`` (int64) replaced by all of ``other``: keeps the samples' numbers.

    Raises:
        AssertionError: if an output of ``other`` has another shape.
    """
    mixed = {}
    for name, expected in reference.items():
        at = rows.to(expected.device)
        if other[name].shape != (len(rows), *expected.shape[1:]):
            raise AssertionError(
                f"output {name!r} has the shape {tuple(other[name].shape)} for {len(rows)} samples "
                f"and {tuple(expected.shape)} for {len(expected)}"
            )
        mixed[name] = expected.index_copy(0, at, other[name])
    return mixed


def assert_finite(tensors: Mapping[str, Tensor], when: str, *, what: str = "output") -> None:
    """Raise if a tensor holds NaN, or, among gradients, infinity; the message names it and the first sample.

    Infinite outputs pass: log-probabilities of what is impossible are.
    """
    for name, tensor in tensors.items():
        bad = ~tensor.isfinite() if what != "output" else tensor.isnan()
        if bad.any():
            where = f", first in row {int(bad.nonzero()[0, 0])}" if bad.dim() else ""
            raise AssertionError(f"{what} {name!r} is not finite {when}{where}")


def differentiate(case: Case, layer: nn.Module, tensors: Mapping[str, Tensor]) -> Gradients:
    """Run, and differentiate a fixed weighted sum of all floating outputs.

    Inputs are those floating tensors that are no targets; what the outputs do not depend on has the gradient zero.
    """
    floating = {n: t for n, t in tensors.items() if t.is_floating_point() and n not in case.labels}
    leaves = {n: t.detach().clone().requires_grad_() for n, t in floating.items()}
    outputs = case.run(layer, {**tensors, **leaves})
    parameters = {n: p for n, p in layer.named_parameters() if p.requires_grad}
    total = [weighted(out) for out in outputs.values() if out.is_floating_point() and out.requires_grad]
    outputs = {n: out.detach() for n, out in outputs.items()}
    wanted = [*leaves.values(), *parameters.values()]
    if not total or not wanted:
        return Gradients(outputs, {}, {})
    found = torch.autograd.grad(torch.stack(total).sum(), wanted, allow_unused=True)
    grads = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]
    split = len(leaves)
    return Gradients(
        outputs, dict(zip(leaves, grads[:split], strict=True)), dict(zip(parameters, grads[split:], strict=True))
    )


def weighted(out: Tensor) -> Tensor:
    """A sum with fixed uneven weights, in float64: no symmetry of a layer (softmax, LayerNorm) cancels in it."""
    weights = torch.cos(torch.arange(out.numel(), dtype=torch.float64, device=out.device) + 1).reshape(out.shape)
    return (out.double() * weights).sum()
