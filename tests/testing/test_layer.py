import random

import pytest
import torch

from mmaffect.testing import CHECKS, Case, check_all
from tests.testing import specimens
from tests.testing.specimens import case, fusion_case

# What traces a program takes seconds a layer and has its own tests.
QUICK = [name for name in CHECKS if name not in ("compile", "export")]

FAILS = {
    specimens.LongMean: {"padding"},
    specimens.Late: {"padding"},
    specimens.Centred: {"batch_mates", "nothing_left"},
    specimens.NaNSpreads: {"batch_mates"},
    specimens.RowPosition: {"batch_order", "batch_mates"},
    specimens.ProductMask: {"padding", "absent_values"},
    specimens.MaskedLate: {"absent_values"},
    specimens.HiddenGradient: {"absent_values", "gradients"},
    specimens.BatchNormed: {"absent_values"},
    specimens.ZeroIsAbsent: {"zeros"},
    specimens.NothingIsNaN: {"nothing_left"},
    specimens.SingleOnly: {"dtypes", "gradients"},
    specimens.Cancels: {"dtypes", "autocast"},
    specimens.WritesRows: {"autocast"},
    specimens.StraightThrough: {"gradients"},
    specimens.DrawsInEvaluation: {"determinism"},
    specimens.Unregistered: {"state_dict"},
    specimens.Unpicklable: {"pickle"},
    specimens.ForgetsParameter: {"reset"},
    specimens.Silent: {"reset"},
}


def failed(found, only=None):
    try:
        check_all(found, only)
    except AssertionError as error:
        return {line.split(":")[0] for line in str(error).splitlines()[1:]} & set(CHECKS)
    return set()


def test_a_layer_that_keeps_the_contract_passes_all():
    check_all(case())


def test_modalities_by_name_pass_all():
    check_all(fusion_case())


@pytest.mark.parametrize("build", FAILS, ids=lambda build: build.__name__)
def test_each_broken_layer_fails_where_it_is_broken_and_nowhere_else(build):
    assert failed(case(build), QUICK) == FAILS[build]


def test_every_check_catches_something():
    elsewhere = {"subsets", "unlabelled", "empty_labels", "inputs_kept", "compile", "export"}
    assert set().union(*FAILS.values()) | elsewhere == set(CHECKS)


def test_in_place_writing_and_foreign_randomness_are_caught():
    assert "inputs_kept" in failed(case(specimens.InPlace), ["inputs_kept", "pickle"])
    random.seed(0)
    assert failed(case(specimens.Unseeded), ["determinism"]) == {"determinism"}


def test_the_report_has_a_line_for_each_failure_and_chains_the_first():
    with pytest.raises(AssertionError) as caught:
        check_all(case(specimens.ProductMask), ["padding", "zeros", "absent_values"])
    first, *lines = str(caught.value).splitlines()
    assert first == "2 of 3 checks failed"
    assert lines[0].startswith("padding: output 'y' of sample 0 becomes NaN")
    assert lines[1].startswith("absent_values: output 'y'")
    assert isinstance(caught.value.__cause__, AssertionError)


def test_an_error_of_the_layer_is_reported_as_a_failure():
    def fails(x, mask):
        raise RuntimeError("out of order")

    with pytest.raises(AssertionError, match="padding: RuntimeError: out of order"):
        check_all(case(lambda: fails), ["padding"])


def test_exempt_checks_are_left_out():
    check_all(case(specimens.LongMean, exempt={"padding": "a mean over the window, by definition"}), QUICK[:3])
    with pytest.raises(ValueError, match="exempt: 'paddin' is unknown; did you mean 'padding'"):
        check_all(case(exempt={"paddin": "no reason"}))
    with pytest.raises(ValueError, match="only: 'paddin' is unknown"):
        check_all(case(), ["paddin"])


def test_without_masks_the_other_checks_remain():
    check_all(Case(build=lambda: torch.tanh, inputs={"input": torch.randn(3, 4)}), QUICK)
