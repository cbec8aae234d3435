"""Every message names the argument, what was given and what was expected."""

import pytest
import torch
from torch import nn

from mmaffect.ops import (
    InputError,
    check_choice,
    check_dropout,
    check_int64,
    check_mask,
    check_modalities,
    check_names,
    check_positive,
    check_shape,
)


def test_shapes():
    check_shape("x", torch.zeros(2, 3, 4), "B T D", D=4)
    check_shape("x", torch.zeros(2, 3), "B 3")
    with pytest.raises(ValueError, match=r"x: expected shape \(B, T, D\), got \(2, 3\)"):
        check_shape("x", torch.zeros(2, 3), "B T D")
    with pytest.raises(ValueError, match=r"x: expected shape \(B, 3\), got \(2, 4\)"):
        check_shape("x", torch.zeros(2, 4), "B 3")


def test_choices_offer_the_nearest():
    check_choice("kind", "a", ["a", "b"])
    with pytest.raises(InputError, match=r"kind: 'textt' is unknown; did you mean 'text'.* Known: audio, text"):
        check_choice("kind", "textt", ["text", "audio"])
    with pytest.raises(InputError, match="kind: 'zzz' is unknown; Known: audio, text"):
        check_choice("kind", "zzz", ["text", "audio"])


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_positive(value):
    with pytest.raises(ValueError, match="dim: expected a value > 0"):
        check_positive(dim=value)


def test_a_mask_is_bool_and_of_its_shape():
    check_mask("mask", torch.ones(2, 3, dtype=torch.bool), "B T", B=2, T=3)
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) with B = 2, T = 3, got \(2, 3, 1\)"):
        check_mask("mask", torch.ones(2, 3, 1, dtype=torch.bool), "B T", B=2, T=3)
    for dtype in (torch.int64, torch.uint8, torch.float32):
        with pytest.raises(ValueError, match=f"mask: expected bool, True = is there, got {dtype}"):
            check_mask("mask", torch.ones(2, 3, dtype=dtype), "B T")


def test_integers_and_shares():
    check_int64(ids=torch.tensor([1]))
    with pytest.raises(ValueError, match=r"ids: expected an int64 tensor, got torch\.int32"):
        check_int64(labels=torch.tensor([1]), ids=torch.tensor([1], dtype=torch.int32))
    check_dropout(dropout=0.0, other=1.0)
    with pytest.raises(ValueError, match=r"other: expected a share from 0 to 1, got -0\.1"):
        check_dropout(dropout=0.0, other=-0.1)


@pytest.mark.parametrize("names", [("a", "b"), ["text"], {"a": 3, "b": 4}, ("text 1", "Ωmega")])
def test_names_that_may_be(names):
    check_names("names", names)
    nn.ModuleDict({name: nn.Identity() for name in names})


@pytest.mark.parametrize("names", [(), "ab", ("a", "a"), {}])
def test_names_are_a_list_each_once(names):
    with pytest.raises(ValueError, match=r"^modalities: expected a list of modalities, at least one"):
        check_names("modalities", names)


@pytest.mark.parametrize("name", ["face.left", "", "values", "training", 3])
def test_names_a_module_cannot_keep(name):
    with pytest.raises(ValueError, match=f"^names: expected names of modalities without a dot, .* got {name!r}$"):
        check_names("names", ["a", name])
    with pytest.raises((KeyError, TypeError)):
        nn.ModuleDict({name: nn.Identity()})


def test_the_expected_modalities_in_any_order():
    check_modalities("masks", {"b": 0, "a": 1}, ("a", "b"))
    with pytest.raises(ValueError, match=r"^masks: expected the modalities \('a', 'b'\), got \('a', 'c'\)$"):
        check_modalities("masks", ["a", "c"], ("a", "b"))
