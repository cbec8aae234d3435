import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.testing import Case
from mmaffect.testing.change import gates, hide, pad, poison, real, take
from tests.testing.specimens import MASK, PRESENT, case, fusion_case


def labelled():
    inputs = {
        "x": torch.ones(3, 5, 2),
        "who": torch.tensor([[1, 2, 1, 0, 3]]).expand(3, 5),
        "mask": MASK,
        "target": torch.zeros(3, 5, dtype=torch.int64),
        "score": torch.zeros(3, 5),
        "one": torch.zeros(3),
        "table": torch.zeros(3, 3),
        "scalar": torch.tensor(0.5),
    }
    return Case(
        build=lambda: lambda **_: torch.zeros(3),
        inputs=inputs,
        masks={"x": "mask", "who": "mask", "mask": "mask"},
        labels={"target": "mask", "score": "mask", "one": None},
        shared=("table",),
    )


def test_padding_fills_values_with_garbage_masks_with_false_and_targets_with_unlabelled():
    found = labelled()
    padded = pad(found, found.arguments(), 2, 1e6)
    assert padded["x"].shape == (3, 7, 2)
    assert (padded["x"][:, 5:] == 1e6).all()
    assert not padded["mask"][:, 5:].any()
    assert (padded["who"][:, 5:] == 3).all()
    assert (padded["target"][:, 5:] == -100).all()
    assert padded["score"][:, 5:].isnan().all()
    assert padded["one"].shape == (3,)
    assert padded["table"].shape == (3, 3)
    nans = pad(found, found.arguments(), 1, math.nan)
    assert nans["x"][:, 5:].isnan().all()
    assert (nans["who"][:, 5:] == 0).all()


def test_other_arguments_grow_along_the_axes_of_a_mask():
    inputs = {"x": torch.ones(3, 5, 2), "mask": MASK, "weights": torch.ones(3, 2, 5, 5), "who": torch.ones(3, 5).long()}
    along = {"weights": ("mask", (2, 3)), "who": ("mask", (1,))}
    found = Case(build=lambda: abs, inputs=inputs, masks={"x": "mask"}, along=along)
    padded = pad(found, found.arguments(), 2, 1e6)
    assert padded["mask"].shape == padded["who"].shape == (3, 7)
    assert padded["weights"].shape == (3, 2, 7, 7)
    assert (padded["weights"][..., :5, :5] == 1).all()
    assert padded["weights"].sum() == 3 * 2 * (25 + 24 * 1e6)
    assert torch.equal(poison(found, found.arguments(), 1e6)["weights"], inputs["weights"])


def test_only_absent_values_are_poisoned_and_never_targets():
    found = labelled()
    tensors = found.arguments()
    spoilt = poison(found, tensors, math.nan)
    assert torch.equal(spoilt["x"][..., 0].isnan(), ~MASK)
    assert torch.equal(spoilt["who"], torch.where(MASK, tensors["who"], 0))
    assert torch.equal(spoilt["score"], tensors["score"])
    assert torch.equal(spoilt["mask"], MASK)


def test_columns_of_a_table_say_what_is_there():
    found = fusion_case()
    there = real(found, found.arguments())
    assert torch.equal(there["x.text"], PRESENT[:, :1].expand(3, 3))
    assert torch.equal(there["x.audio"], PRESENT[:, 1:].expand(3, 2))


def test_time_and_availability_both_count():
    inputs = {"x": torch.zeros(3, 5, 2), "mask": MASK, "here": torch.tensor([True, False, True])}
    found = Case(build=lambda: abs, inputs=inputs, masks={"x": "mask"}, present={"x": "here"})
    assert torch.equal(real(found, found.arguments())["x"][..., 0], MASK & inputs["here"].unsqueeze(1))


def test_a_hidden_gate_is_false_throughout_the_rows():
    found = fusion_case()
    hidden = hide(found, found.arguments(), gates(found)[1:], torch.tensor([0, 2]))
    assert hidden["present"].tolist() == [[True, False], [True, False], [False, False]]
    whole = hide(case(), case().arguments(), gates(case()), torch.tensor([1]))
    assert whole["mask"].any(1).tolist() == [True, False, True]
    assert case().inputs["mask"].any(1).all()


def test_gates_are_those_of_floating_values_each_once():
    assert [g.mask for g in gates(labelled())] == ["mask"]
    assert len(gates(fusion_case())) == 2
    assert gates(case(hideable=())) == ()


@given(st.permutations(range(3)))
def test_rows_are_taken_of_samples_alone(order):
    found = labelled()
    tensors = found.arguments() | {"one": torch.arange(3.0)}
    taken = take(found, tensors, torch.tensor(order))
    assert taken["one"].tolist() == list(order)
    assert torch.equal(taken["mask"], MASK[list(order)])
    assert taken["table"] is tensors["table"]
    assert taken["scalar"] is tensors["scalar"]


def test_token_ids_are_hidden_where_their_mask_is_named():
    inputs = {"ids": torch.tensor([[1, 2, 1, 0, 3]]).expand(3, 5), "mask": MASK}
    build = {"build": lambda: lambda **_: torch.zeros(3), "inputs": inputs, "masks": {"ids": "mask"}}
    assert gates(Case(**build)) == ()
    assert [gate.mask for gate in gates(Case(**build, hideable=("mask",)))] == ["mask"]
