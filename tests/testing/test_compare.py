import math

import pytest
import torch

from mmaffect.testing.compare import (
    assert_finite,
    assert_same,
    deviation,
    differentiate,
    own_outputs,
    with_rows,
)
from tests.testing.specimens import case


def test_the_sentence_names_output_sample_and_distance():
    reference = {"y": torch.zeros(3, 2), "ok": torch.ones(3)}
    with pytest.raises(AssertionError, match=r"output 'y' of sample 2 changes by 0.5 \(allowed: 1e-08\) when it rains"):
        assert_same(
            case(), reference, {"y": torch.tensor([[0, 0], [0, 0.1], [0.5, 0]]), "ok": torch.ones(3)}, "it rains"
        )
    with pytest.raises(AssertionError, match=r"output 'loss' changes by 1 \("):
        assert_same(case(), {"loss": torch.zeros(())}, {"loss": torch.ones(())}, "it rains")
    with pytest.raises(AssertionError, match="output 'y' of sample 0 becomes NaN or infinite when it rains"):
        assert_same(case(), reference, reference | {"y": torch.full((3, 2), math.nan)}, "it rains")
    with pytest.raises(AssertionError, match=r"changes its shape from \(3, 2\) to \(3, 1\) when it rains"):
        assert_same(case(), reference, reference | {"y": torch.zeros(3, 1)}, "it rains")
    with pytest.raises(AssertionError, match=r"other outputs when it rains: \['ok', 'y'\] became \['ok'\]"):
        assert_same(case(), reference, {"ok": torch.ones(3)}, "it rains")


def test_tolerance_is_relative_to_the_largest_value_and_padding_is_cut():
    reference = {"y": torch.tensor([[1000.0], [0.0]], dtype=torch.float64)}
    assert_same(case(), reference, {"y": torch.cat([reference["y"] + 5e-6, torch.ones(2, 3)], 1)}, "padded")
    with pytest.raises(AssertionError, match="changes by 5e-05"):
        assert_same(case(), reference, {"y": reference["y"] + 5e-5}, "shifted")
    assert_same(case(tolerance=1.0), reference, {"y": reference["y"] + 900}, "shifted")
    assert case(dtype=torch.float32).allowed == 1e-4


def test_deviation_takes_equal_infinities_and_nans_for_equal():
    first = torch.tensor([math.inf, -math.inf, math.nan, 1.0, math.inf, 2.0])
    second = torch.tensor([math.inf, -math.inf, math.nan, math.nan, 1.0, 2.5])
    assert deviation(first, second).tolist() == [0, 0, 0, math.inf, math.inf, 0.5]
    assert deviation(torch.tensor([True, False]), torch.tensor([True, True])).tolist() == [0, 1]


def test_outputs_of_another_length_must_be_said_to_be_shared():
    outputs = {"y": torch.zeros(3, 2), "adjacency": torch.zeros(2, 2), "loss": torch.zeros(())}
    with pytest.raises(
        ValueError, match=r"shared: expected the batch of 3 as first axis of output 'adjacency', got \(2, 2"
    ):
        own_outputs(case(), outputs)
    assert list(own_outputs(case(shared=("adjacency",)), outputs)) == ["y"]


def test_rows_are_put_where_they_belong():
    mixed = with_rows({"y": torch.zeros(3, 1)}, torch.tensor([1]), {"y": torch.ones(1, 1)})
    assert mixed["y"].flatten().tolist() == [0, 1, 0]
    with pytest.raises(AssertionError, match=r"output 'y' has the shape \(1, 2\) for 1 samples and \(3, 1\) for 3"):
        with_rows({"y": torch.zeros(3, 1)}, torch.tensor([1]), {"y": torch.ones(1, 2)})


def test_infinite_outputs_pass_infinite_gradients_do_not():
    assert_finite({"log_p": torch.tensor([0.0, -math.inf])}, "ever")
    with pytest.raises(AssertionError, match="gradient of 'x' is not finite ever, first in row 1"):
        assert_finite({"x": torch.tensor([0.0, -math.inf])}, "ever", what="gradient of")
    with pytest.raises(AssertionError, match=r"output 'loss' is not finite ever$"):
        assert_finite({"loss": torch.tensor(math.nan)}, "ever")


def test_gradients_are_those_of_a_weighted_sum():
    found = case(lambda: lambda x, mask: (x * 3, mask, x.detach()))
    run = differentiate(found, found.module(), found.arguments(torch.float64))
    weights = torch.cos(torch.arange(60, dtype=torch.float64) + 1).reshape(3, 5, 4)
    torch.testing.assert_close(run.inputs["x"], 3 * weights)
    assert run.outputs.keys() == {"0", "1", "2"}
    constant = case(lambda: lambda x, mask: mask)
    assert differentiate(constant, constant.module(), constant.arguments()).inputs == {}
