"""Modalities side by side and apart again."""

import pytest
import torch

from mmaffect.recovery.slots import check_slots, fill_wanted, join_slots, split_slots

WIDTHS = {"a": 2, "b": 1}


def test_join_and_split_go_by_the_order_fixed_once():
    values = {"b": torch.tensor([[9.0], [torch.nan]]), "a": torch.tensor([[1.0, 2.0], [3.0, 4.0]])}
    masks = {"b": torch.tensor([True, False]), "a": torch.tensor([True, True])}
    joined = join_slots(WIDTHS, values, masks)
    assert joined.tolist() == [[1.0, 2.0, 9.0], [3.0, 4.0, 0.0]]
    apart = split_slots(WIDTHS, joined)
    assert list(apart) == ["a", "b"]
    assert apart["b"].tolist() == [[9.0], [0.0]]


def test_fill_wanted_with_draws():
    values = {"a": torch.tensor([[1.0], [torch.nan], [torch.nan]])}
    seen, wanted = torch.tensor([True, False, False]), torch.tensor([False, True, False])
    draws = torch.tensor([5.0, 6.0])[:, None, None].expand(2, 3, 1)
    filled = fill_wanted(values, {"a": seen}, {"a": wanted}, {"a": draws})["a"]
    assert filled[..., 0].tolist() == [[1.0, 5.0, 0.0], [1.0, 6.0, 0.0]]
    filled = fill_wanted(values, {"a": seen}, {"a": torch.ones(3, dtype=torch.bool)}, {"a": draws[0]})["a"]
    assert filled[:, 0].tolist() == [5.0] * 3  # what is wanted is recovered, though it is observed


def test_refuses():
    with pytest.raises(ValueError, match=r"x: expected the modalities \('a', 'b'\), got \('a',\)"):
        check_slots("x", WIDTHS, {"a": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match=r"x\['b'\]: expected shape \(3, 1\), got \(4, 1\)"):
        check_slots("x", WIDTHS, {"a": torch.zeros(3, 2), "b": torch.zeros(4, 1)})
