import pytest
import torch
from torch import nn

from mmaffect.testing import Case
from mmaffect.testing.case import Gate, seeded
from tests.testing.specimens import DIM, MASK, PRESENT, Encoder, case, fusion_case

X = torch.zeros(*MASK.shape, DIM)


def _build(**options):
    given = {"build": Encoder, "inputs": {"x": X, "mask": MASK}, "masks": {"x": "mask"}} | options
    return Case(**given)


def test_pairs_of_tensors_mappings_and_tables():
    assert case().time == {"x": Gate("mask")}
    assert fusion_case().available == {"x.text": Gate("present", 0), "x.audio": Gate("present", 1)}
    both = _build(inputs={"x": {"a": X, "b": X}, "m": {"b": MASK, "a": MASK}}, masks={"x": "m"})
    assert both.time == {"x.a": Gate("m.a"), "x.b": Gate("m.b")}
    stacked = _build(inputs={"x": torch.zeros(3, 2, DIM), "present": PRESENT}, masks={}, present={"x": "present"})
    assert stacked.available == {"x": Gate("present")}


def test_parameters_are_drawn_from_the_seed_and_jittered():
    def norm():
        return nn.LayerNorm(DIM)

    first = case(norm).module().weight
    assert torch.equal(first, case(norm).module().weight)
    assert not torch.equal(first, case(norm, seed=1).module().weight)
    assert (first != 1).all()
    assert (case(norm, jitter=0.0).module().weight == 1).all()
    assert first.dtype == torch.float64
    assert not case(norm).module().training
    assert case(norm).module(train=True).training


def test_a_plain_function_is_a_layer():
    found = _build(build=lambda: lambda x, mask: x.sum(-1) + mask)
    assert found.run(found.module(), found.arguments()).keys() == {"output"}


def test_masked_steps_of_an_aligned_output_are_set_aside():
    plain = _build(build=lambda: lambda x, mask: (x + 1, (x + 1).mT))
    aligned = _build(build=lambda: lambda x, mask: (x + 1, (x + 1).mT), aligned={"0": "mask", "1": ("mask", 2)})
    assert all((t == 1).all() for t in plain.run(plain.module(), plain.arguments()).values())
    outputs = aligned.run(aligned.module(), aligned.arguments())
    assert torch.equal(outputs["0"][..., 0] == 1, MASK)
    assert torch.equal(outputs["1"][:, 0] == 1, MASK)


def test_global_generators_are_left_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(5):
        torch.rand(7)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": {"x": "maks"}}, "masks: 'maks' is unknown; did you mean 'mask'"),
        ({"masks": {"y": "mask"}}, "masks: 'y' is unknown"),
        ({"aligned": {"y": "maks"}}, "aligned: 'maks' is unknown"),
        ({"hideable": ("maks",)}, "hideable: 'maks' is unknown"),
        ({"along": {"y": ("mask", (1,))}}, "along: 'y' is unknown"),
        ({"along": {"x": ("maks", (1,))}}, "along: 'maks' is unknown"),
        ({"along": {"x": ("mask", (1, 2))}}, r"along: expected 5 steps on the axes \(1, 2\) of 'x', got \[5, 4\]"),
        ({"labels": {"target": None}}, "labels: 'target' is unknown"),
        ({"inputs": {"x": X, "mask": MASK.float()}}, "mask: expected a mask of bool for 'x', got torch.float32"),
        (
            {"inputs": {"x": X, "mask": MASK | True}},
            "mask: expected a mask with True and False, .*, got True throughout",
        ),
        ({"inputs": {"x": X, "mask": MASK & False}}, "got False throughout"),
        (
            {"inputs": {"x": X[:, :4], "mask": MASK}},
            r"mask: expected the shape \(3, 4\) of 'x' \(B, T, ...\), got \(3, 5\)",
        ),
        ({"inputs": {"x": X[:1], "mask": MASK[:1]}}, "inputs: expected a batch of at least 2 samples, got 1"),
        ({"inputs": {"n": 3}, "masks": {}}, "inputs: expected at least one tensor with a batch axis, got none"),
    ],
)
def test_a_case_that_could_check_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _build(**options)


def test_a_layer_without_tensors_is_refused():
    empty = _build(build=lambda: lambda x, mask: None)
    with pytest.raises(ValueError, match="build: expected a layer that gives tensors, it gave none"):
        empty.run(empty.module(), empty.arguments())


def test_an_unknown_aligned_output_is_refused():
    unknown = case(aligned={"z": "mask"})
    with pytest.raises(ValueError, match="aligned: 'z' is unknown"):
        unknown.run(unknown.module(), unknown.arguments(torch.float64))
