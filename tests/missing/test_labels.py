import math

import pytest
import torch
from scipy.stats import chi2_contingency, chisquare

from mmaffect.missing import label_dependent, random_rate

RATES = torch.tensor([[0.0, 0.5, 0.9], [0.6, 0.6, 0.6], [2 / 3, 2 / 3, 2 / 3], [1.0, 0.2, 0.3]], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_each_class_is_missing_at_its_rates():
    n = 10_000
    labels = torch.arange(4).repeat(n)
    kept = label_dependent(labels, RATES, seeded())
    assert kept.shape == (4 * n, 3)
    assert kept.dtype == torch.bool
    assert kept.any(1).all()
    for c, rates in enumerate(RATES):
        missing = (~kept[labels == c]).double().mean(0)
        assert ((missing - rates).abs() <= 4.5 * (rates * (1 - rates) / n).sqrt()).all()
    assert (kept[labels == 2].sum(1) == 1).all()


def test_availability_tells_the_class_only_if_rates_differ():
    labels = torch.randint(2, (20_000,), generator=seeded(1))
    same = label_dependent(labels, torch.tensor([[0.3, 0.5], [0.3, 0.5]]), seeded(2))
    other = label_dependent(labels, torch.tensor([[0.3, 0.5], [0.5, 0.3]]), seeded(2))

    def pvalue(kept):
        code = kept[:, 0].long() + 2 * kept[:, 1].long() - 1
        return chi2_contingency(torch.bincount(3 * labels + code, minlength=6).reshape(2, 3).numpy()).pvalue

    assert pvalue(same) > 1e-4
    assert pvalue(other) < 1e-10


def test_two_modalities_by_hand():
    # P(both) = c1 + c2 - 1, the rest follows from the marginals: there is only one law for M = 2.
    n = 60_000
    kept = label_dependent(torch.zeros(n, dtype=torch.int64), torch.tensor([[0.3, 0.45]]), seeded(3))
    seen = [kept.all(1).sum(), (kept[:, 0] & ~kept[:, 1]).sum(), (~kept[:, 0] & kept[:, 1]).sum()]
    assert chisquare(seen, [n * 0.25, n * 0.45, n * 0.3]).pvalue > 1e-4


def test_equal_rates_are_random_rate():
    labels = torch.tensor([0, 1, 0, 1]).repeat(50)
    by_label = label_dependent(labels, torch.full((2, 3), 0.4, dtype=torch.float64), seeded(4))
    assert torch.equal(by_label, random_rate(200, 3, 0.4, seeded(4)))


def test_seeded_and_row_by_row():
    labels = torch.tensor([0, 1, 3, 3])
    first = label_dependent(labels, RATES, seeded(5))
    assert torch.equal(first, label_dependent(labels, RATES, seeded(5)))
    changed = label_dependent(torch.tensor([0, 1, 3, 0]), RATES, seeded(5))
    assert torch.equal(first[:3], changed[:3])
    assert label_dependent(torch.zeros(0, dtype=torch.int64), RATES).shape == (0, 3)


def test_bound_in_single_precision():
    kept = label_dependent(torch.zeros(1000, dtype=torch.int64), torch.full((1, 3), 2 / 3), seeded(6))
    assert (kept.sum(1) == 1).all()
    expected = 1000 / 3
    assert (kept.sum(0) - expected).abs().max() < 4.5 * math.sqrt(1000 * 2 / 9)


@pytest.mark.parametrize("labels", [torch.tensor([0, 4]), torch.tensor([-100, 0]), torch.tensor([0.0, 1.0])])
def test_refuses_labels_without_rates(labels):
    with pytest.raises(ValueError, match=r"labels: expected integers in 0 … 3 \(one row of rates a class\), got torch"):
        label_dependent(labels, RATES)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_refuses_rates_outside_the_unit_interval(rate):
    with pytest.raises(ValueError, match=r"rates: expected values in \[0, 1\], got"):
        label_dependent(torch.tensor([0]), torch.tensor([[0.0, rate]]))


def test_refuses_a_class_that_keeps_less_than_one():
    with pytest.raises(ValueError, match=r"rates: expected every class to keep at least one .* for class 1"):
        label_dependent(torch.tensor([0]), torch.tensor([[0.0, 0.0], [0.7, 0.5]]))


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"labels: expected shape \(N\), got \(2, 1\)"):
        label_dependent(torch.zeros(2, 1, dtype=torch.int64), RATES)
    with pytest.raises(ValueError, match=r"rates: expected shape \(C, M\), got \(3,\)"):
        label_dependent(torch.tensor([0]), RATES[0])
