import pytest
import torch

from mmaffect.missing.draws import check_rate, rounding, uniform


def test_uniform_is_double_precision_and_seeded():
    first, second = (uniform(3, 4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.dtype == torch.float64
    assert torch.equal(first, second)
    assert ((first >= 0) & (first < 1)).all()
    torch.manual_seed(7)
    third = uniform(2, generator=None)
    torch.manual_seed(7)
    assert torch.equal(uniform(2, generator=None, device=torch.device("cpu")), third)


def test_rates_become_tensors():
    like = torch.zeros((), dtype=torch.float64)
    assert check_rate("rate", 0.25, 3, like).tolist() == [0.25]
    assert check_rate("rate", torch.tensor(0.25), 3, like).tolist() == [0.25]
    given = check_rate("rate", torch.tensor([0, 1]), 2, like)
    assert given.tolist() == [0.0, 1.0]
    assert given.dtype == torch.float64


def test_rounding_above_the_bound_is_taken_back():
    like = torch.zeros((), dtype=torch.float64)
    third = torch.tensor(2 / 3)
    assert third.double() > 2 / 3
    assert check_rate("rate", third, 1, like, most=2 / 3).item() == 2 / 3
    with pytest.raises(ValueError, match=r"got 0\.6666667"):
        check_rate("rate", float(third), 1, like, most=2 / 3)
    assert rounding(0.5) < 1e-15 < rounding(third) < 1e-6


@pytest.mark.parametrize("level", [-1.0, float("inf"), float("nan")])
def test_a_level_without_bound_is_finite(level):
    with pytest.raises(ValueError, match="level: expected a finite level >= 0, got"):
        check_rate("level", level, 1, torch.zeros(()), most=float("inf"))
    assert check_rate("level", 1e6, 1, torch.zeros(()), most=float("inf")).item() == 1e6


def test_messages_name_the_first_wrong_value_and_the_reason():
    with pytest.raises(ValueError, match=r"share: expected 0 <= share <= 0.5 \(half\), got 0.75"):
        check_rate("share", torch.tensor([0.5, 0.75]), 2, torch.zeros(()), most=0.5, why=" (half)")
    with pytest.raises(ValueError, match=r"share: expected a number or a tensor of shape \(2,\), got shape \(3,\)"):
        check_rate("share", torch.zeros(3), 2, torch.zeros(()))
