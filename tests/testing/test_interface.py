from itertools import product

import pytest
import torch

from mmaffect.data import DataSpec, collate
from mmaffect.testing import check_interface, check_refusal
from mmaffect.testing.interface import stage_starts
from tests.testing import systems

SPEC = DataSpec({"text": 4, "audio": 2}, "class", ("sad", "happy"), "window", speakers=2, confounders=2)
KINDS = [
    DataSpec({"text": 4, "audio": 2}, target, names, sequence)
    for target, names, sequence in product(
        ("class", "multilabel", "score"), (("a", "b"),), ("dialogue", "window", "single")
    )
] + [DataSpec({"text": 4}, "score", ("a",), sequence) for sequence in ("dialogue", "window", "single")]


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: f"{spec.target}-{spec.sequence}-{spec.outputs}")
def test_every_kind_of_prediction_is_known(spec):
    check_interface(systems.Means, spec)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (systems.OutOfShape, r"interface: expected a forward of shape \(4, 2\), got \(4,\)"),
        (
            systems.VectorTerm,
            r"expected loss term 'task' of stage 'first' as a scalar, got torch.float32 of shape \(2,\)",
        ),
        (systems.NoTerms, r"expected the loss of stage 'first' as a dict of named terms, got tensor"),
        (systems.NoRepresentation, "interface: NoRepresentation has no represent"),
    ],
)
def test_what_does_not_fit_is_named(build, message):
    with pytest.raises(AssertionError, match=message):
        check_interface(build, SPEC)


def test_a_forward_that_is_no_tensor_is_named():
    class Tuple(systems.Means):
        def forward(self, batch):
            return super().forward(batch), None

    with pytest.raises(AssertionError, match=r"expected a forward of shape \(4, 2\), got tuple"):
        check_interface(Tuple, SPEC)


def test_a_system_without_stages_has_one():
    assert [(s.stage, s.epochs) for s in stage_starts(systems.Means(SPEC))] == [("first", 4), ("second", 2)]
    assert [(s.stage, s.epoch, s.fraction) for s in stage_starts(torch.nn.Identity())] == [("train", 0, 0.0)]


@pytest.mark.parametrize("spec", [SPEC, *KINDS], ids=lambda spec: f"{spec.target}-{spec.sequence}-{spec.speakers}")
def test_a_sample_with_nothing_is_refused_by_collate(spec):
    check_refusal(spec)


def test_a_collate_that_lets_nothing_in_is_caught():
    def lenient(samples):
        return collate(samples[:1])

    with pytest.raises(AssertionError, match="refusal: a sample without any modality is accepted"):
        check_refusal(SPEC, lenient)
