import pytest

from mmaffect.data import DataSpec
from mmaffect.testing import CHECKS, check_all, check_system, system_cases
from tests.testing import systems

QUICK = [name for name in CHECKS if name not in ("compile", "export")]
SPEC = DataSpec({"text": 4, "audio": 2}, "class", ("sad", "happy"), "window", speakers=2, confounders=2)
KINDS = [
    DataSpec({"text": 4, "audio": 2, "video": 3}, "class", ("a", "b", "c"), "dialogue", speakers=2, confounders=2),
    DataSpec({"text": 4, "audio": 2}, "score", ("a",), "dialogue"),
    DataSpec({"text": 4, "audio": 2}, "multilabel", ("a", "b"), "window", speakers=3),
    DataSpec({"text": 4}, "score", ("valence", "activation"), "single"),
]


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: f"{spec.target}-{spec.sequence}-{len(spec.names)}")
def test_a_system_that_keeps_the_contract_passes(spec):
    check_system(systems.Means, spec, only=QUICK)


def test_its_forward_compiles_and_exports():
    check_all(system_cases(systems.Means, KINDS[0])["forward"], ["compile", "export"])


def test_there_is_a_case_for_each_stage_and_regime():
    cases = system_cases(systems.Means, SPEC)
    assert list(cases) == [
        "forward",
        "loss of first, simulated",
        "loss of first, truly missing",
        "loss of second, simulated",
        "loss of second, truly missing",
    ]
    assert set(cases["loss of first, simulated"].inputs) == {"observed", "complete"}
    assert set(cases["loss of first, truly missing"].inputs) == {"observed"}
    assert all("exempt" not in case.exempt for case in cases.values())
    layer = cases["forward"].module()
    terms = cases["loss of second, truly missing"]
    assert set(terms.run(layer, terms.arguments(terms.dtype))) == {"task", "imagine"}


@pytest.mark.parametrize(
    ("build", "only", "message"),
    [
        (
            systems.ReadsAbsent,
            "absent_values",
            r"(?s)forward: .*absent_values: output 'output' of sample . becomes NaN",
        ),
        (
            systems.LearnsFromAbsent,
            "absent_values",
            "loss of second, truly missing: .*\nabsent_values: output 'imagine'",
        ),
        (systems.LearnsInStageOne, "absent_values", "^loss of first, truly missing: 1 of 1 checks failed\n.*'task'"),
        (systems.LearnsFromNothing, "empty_labels", "loss of first, truly missing: .*\nempty_labels: output 'task'"),
        (
            systems.LearnsUnlabelled,
            "unlabelled",
            "loss of first, simulated: .*\nunlabelled: output 'task' is not finite",
        ),
        (systems.NeedsAll, "subsets", r"not finite when only batch.masks.text is left"),
        (systems.Couples, "batch_mates", "^forward: 1 of 1 checks failed\nbatch_mates: output 'output' of sample"),
        (systems.OutOfShape, "padding", "interface: expected a forward of shape"),
    ],
)
def test_broken_systems_are_caught(build, only, message):
    with pytest.raises(AssertionError, match=message):
        check_system(build, SPEC, only=[only])


def test_a_leak_in_one_loss_is_reported_for_that_loss_alone():
    with pytest.raises(AssertionError) as caught:
        check_system(systems.LearnsInStageOne, SPEC, only=["absent_values", "padding"])
    assert str(caught.value).count("checks failed") == 1


def test_exemptions_reach_every_case():
    reason = {"absent_values": "shown elsewhere", "padding": "shown elsewhere"}
    check_system(systems.LearnsInStageOne, SPEC, only=["absent_values"], exempt=reason)
    with pytest.raises(ValueError, match="exempt: 'absent' is unknown"):
        check_system(systems.Means, SPEC, only=["padding"], exempt={"absent": "no such check"})
