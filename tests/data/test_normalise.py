import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from mmaffect.data import Normaliser
from mmaffect.data.normalise import group_statistics, standardise
from mmaffect.ops import InputError


@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(1, 4))
def test_statistics_agree_with_numpy_whatever_stands_where_not_valid(seed, rows, groups):
    rng = np.random.default_rng(seed)
    x = rng.normal(100, 5, (rows, 3)).astype(np.float32)
    valid, group = rng.random((rows, 3)) < 0.7, rng.integers(0, groups, rows)
    spoiled = torch.tensor(np.where(valid, x, rng.choice([np.nan, np.inf, 1e6], x.shape)).astype(np.float32))
    found = group_statistics(spoiled, torch.tensor(valid), torch.tensor(group), groups)
    for g in range(groups):
        for column in range(3):
            mine = x[(group == g) & valid[:, column], column].astype(np.float64)
            assert found.number[g, column] == len(mine)
            np.testing.assert_allclose(found.mean[g, column], mine.mean() if len(mine) else 0.0, rtol=1e-12)
            spread = mine.std() if len(set(mine)) > 1 else 1.0
            np.testing.assert_allclose(found.sd[g, column], spread, rtol=1e-9)


def test_training_statistics_agree_with_a_standard_scaler():
    x = np.random.default_rng(0).normal(3, 2, (50, 4)).astype(np.float32)
    found = group_statistics(torch.tensor(x), torch.ones(50, 4, dtype=torch.bool), torch.zeros(50, dtype=torch.long), 1)
    ours = standardise(torch.tensor(x), torch.ones(50, 4, dtype=torch.bool), found.mean[0], found.sd[0], 10.0)
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(x.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8, -3e-5])
def test_a_constant_column_has_sd_one(value):
    x = torch.full((7, 1), value)
    found = group_statistics(x, torch.ones(7, 1, dtype=torch.bool), torch.zeros(7, dtype=torch.long), 1)
    assert found.sd.item() == 1.0
    assert standardise(x, torch.ones(7, 1, dtype=torch.bool), found.mean[0], found.sd[0], 10.0).abs().max() < 1e-6


def test_values_are_held_within_the_clip_and_zero_where_not_valid():
    x, valid = torch.tensor([[1e6], [-1e6], [float("nan")]]), torch.tensor([[True], [True], [False]])
    assert standardise(x, valid, torch.zeros(1), torch.ones(1), 3.0).tolist() == [[3.0], [-3.0], [0.0]]


def test_groups_have_statistics_of_their_own_and_small_ones_those_of_training():
    normaliser = Normaliser({"a": torch.tensor([10.0])}, {"a": torch.tensor([2.0])}, 10.0)
    x = torch.tensor([[0.0], [2.0], [14.0], [7.0], [100.0]])
    valid = torch.tensor([[True], [True], [True], [True], [False]])
    out = normaliser.apply("a", x, valid, torch.tensor([0, 0, 1, 2, 2]))
    # Group 0 has mean 1 and sd 1; groups 1 and 2 have one value each: (14 - 10) / 2 and (7 - 10) / 2.
    assert out.flatten().tolist() == [-1.0, 1.0, 2.0, -1.5, 0.0]


def test_a_modality_without_statistics_is_left_as_it_is():
    x, valid = torch.tensor([[5.0], [float("inf")]]), torch.tensor([[True], [False]])
    assert Normaliser({}, {}, 10.0).apply("a", x, valid).tolist() == [[5.0], [0.0]]


def test_the_state_survives_a_file_that_is_read_without_code():
    normaliser = Normaliser({"a.b": torch.randn(3).double()}, {"a.b": torch.rand(3).double() + 0.1}, 7.0)
    buffer = io.BytesIO()
    torch.save(normaliser.state_dict(), buffer)
    buffer.seek(0)
    read = Normaliser.from_state_dict(torch.load(buffer, weights_only=True))
    assert read.clip == 7.0
    torch.testing.assert_close(read.mean, normaliser.mean, rtol=0, atol=0)
    torch.testing.assert_close(read.sd, normaliser.sd, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sd.a": None}, r"normaliser: expected 'clip' and a mean and sd of each modality, got \['clip', 'mean.a'\]"),
        ({"clip": None}, "normaliser: expected 'clip'"),
        ({"sd.a": torch.zeros(2)}, "normaliser: 'a': expected finite means and positive sds"),
        ({"mean.a": torch.full((2,), float("nan"))}, "normaliser: 'a': expected finite means"),
        ({"sd.a": torch.ones(3)}, "normaliser: 'a': .* of one shape"),
    ],
)
def test_a_damaged_state_is_refused(change, message):
    state = {"clip": 10.0, "mean.a": torch.zeros(2), "sd.a": torch.ones(2)} | change
    with pytest.raises(InputError, match=message):
        Normaliser.from_state_dict({k: v for k, v in state.items() if v is not None})
