"""Filling with means, against NumPy's."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.recovery import MeanFill

WIDTHS = {"a.1": 3, "b": 2}


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 7))
def test_means_are_of_the_observed_in_whatever_batches_they_come(seed, count, size):
    generator = torch.Generator().manual_seed(seed)
    values = {n: 1e3 + torch.randn(count, w, generator=generator) for n, w in WIDTHS.items()}
    masks = {n: torch.rand(count, generator=generator) < 0.6 for n in WIDTHS}
    fill = MeanFill(WIDTHS)
    for start in range(0, count, size):
        part = slice(start, start + size)
        fill.fit({n: v[part] for n, v in values.items()}, {n: m[part] for n, m in masks.items()})
    for name, mean in fill.means.items():
        seen = values[name].numpy()[masks[name].numpy()].astype(np.float64)
        expected = seen.mean(0) if len(seen) else np.zeros(WIDTHS[name])
        np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-6)


def test_a_single_row_without_an_axis_for_it():
    fill, row = MeanFill({"a": 2}), {"a": torch.tensor([1.0, 3.0])}
    fill.fit(row, {"a": torch.tensor(True)})
    fill.fit({"a": 3 * row["a"]}, {"a": torch.tensor(True)})
    fill.fit({"a": torch.full((2,), torch.nan)}, {"a": torch.tensor(False)})
    assert fill.means["a"].tolist() == [2.0, 6.0]


def test_fills_what_is_wanted_and_nothing_else():
    fill = MeanFill(WIDTHS)
    fill.fit(
        {"a.1": torch.tensor([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]), "b": torch.full((2, 2), torch.nan)},
        {"a.1": torch.tensor([True, True]), "b": torch.tensor([False, False])},
    )
    nan = torch.full((2, 2, 3), torch.nan)
    x = {"a.1": torch.where(torch.tensor([True, False, False, False]).view(2, 2, 1), 9.0, nan), "b": nan[..., :2]}
    seen = {"a.1": torch.tensor([[True, False], [False, False]]), "b": torch.zeros(2, 2, dtype=torch.bool)}
    wanted = {"a.1": torch.tensor([[False, True], [False, False]]), "b": torch.ones(2, 2, dtype=torch.bool)}
    filled = fill(x, seen, wanted)
    assert filled["a.1"].tolist() == [[[9.0] * 3, [2.0, 3.0, 4.0]], [[0.0] * 3] * 2]
    assert not filled["b"].any()  # never seen: its mean is zero


def test_state_is_saved():
    fill = MeanFill(WIDTHS)
    fill.fit({n: torch.ones(2, w) for n, w in WIDTHS.items()}, {n: torch.ones(2, dtype=torch.bool) for n in WIDTHS})
    other = MeanFill(WIDTHS)
    other.load_state_dict(fill.state_dict())
    other.fit(
        {n: torch.full((2, w), 4.0) for n, w in WIDTHS.items()}, {n: torch.ones(2, dtype=torch.bool) for n in WIDTHS}
    )
    assert other.means["b"].tolist() == [2.5, 2.5]


def test_refuses():
    with pytest.raises(ValueError, match="at least one modality"):
        MeanFill({})
    with pytest.raises(ValueError, match="widths"):
        MeanFill({"a": 0})
    fill = MeanFill(WIDTHS)
    values = {n: torch.ones(2, w) for n, w in WIDTHS.items()}
    there = {n: torch.ones(2, dtype=torch.bool) for n in WIDTHS}
    with pytest.raises(ValueError, match=r"wanted: expected the modalities"):
        fill(values, there, {"b": there["b"]})
    with pytest.raises(ValueError, match=r"observed\['b'\]: expected shape \(2\)"):
        fill.fit(values, there | {"b": torch.ones(3, dtype=torch.bool)})
