import pytest
import torch

from mmaffect.testing import (
    Case,
    check_absent_values,
    check_batch_mates,
    check_batch_order,
    check_padding,
    check_zeros,
)
from tests.testing import specimens
from tests.testing.specimens import MASK, case, fusion_case

CHECKS = (check_padding, check_batch_order, check_batch_mates, check_absent_values, check_zeros)


@pytest.mark.parametrize("check", CHECKS)
def test_layers_that_keep_the_contract_pass(check):
    check(case())
    check(case(dtype=torch.float32))
    check(fusion_case())


@pytest.mark.parametrize(
    ("check", "build", "message"),
    [
        (check_padding, specimens.LongMean, "output 'pooled' of sample . changes by .* when 3 steps of padding"),
        (
            check_padding,
            specimens.ProductMask,
            "output 'y' of sample 0 becomes NaN or infinite when 3 steps .* hold nan",
        ),
        (check_padding, specimens.Late, "output 'pooled' of sample"),
        (check_batch_order, specimens.RowPosition, r"output 'pooled' of sample 0 changes by 2 .* in another order"),
        (check_batch_mates, specimens.RowPosition, "output 'pooled' of sample 1 changes by 1 .* when it is alone"),
        (check_batch_mates, specimens.Centred, "output 'pooled' of sample 0 .* when it is alone"),
        (check_batch_mates, specimens.NaNSpreads, "output 'pooled' of sample 0 becomes NaN .* other samples hold nan"),
        (check_absent_values, specimens.ProductMask, "output 'y' .* when absent values hold nan, in evaluation mode"),
        (
            check_absent_values,
            specimens.HiddenGradient,
            "gradient of 'x' reaches absent values of sample 0 .* exactly 0",
        ),
        (check_absent_values, specimens.MaskedLate, "gradient of parameter 'linear.weight' becomes NaN"),
        (check_absent_values, specimens.BatchNormed, "in training mode"),
        (check_zeros, specimens.ZeroIsAbsent, "when 'x', present and zero throughout, becomes 1e-25"),
    ],
)
def test_broken_layers_are_caught(check, build, message):
    with pytest.raises(AssertionError, match=message):
        check(case(build))


def test_a_late_leak_would_not_show_without_jitter():
    check_padding(case(specimens.Late, jitter=0.0))


def test_running_statistics_must_not_see_what_is_absent():
    class Norm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(specimens.DIM)

        def forward(self, x, mask):
            self.norm(x.transpose(1, 2))
            return torch.where(mask, x.sum(-1), 0)

    with pytest.raises(AssertionError, match=r"buffer 'norm.running_mean' becomes NaN"):
        check_absent_values(case(Norm))


def test_noise_is_held_fixed_for_each_sample():
    class Noisy(specimens.Encoder):
        def pool(self, y, mask):
            return super().pool(y + torch.randn_like(y), mask)

    for check in (check_padding, check_batch_order, check_batch_mates):
        check(case(Noisy, stochastic=True))


def test_a_scalar_loss_knows_neither_order_nor_padding():
    inputs = {"x": torch.randn(3, 5, 2), "target": torch.zeros(3, 5), "mask": MASK}

    def squared(x, target, mask):
        return torch.where(mask, x.sum(-1) - target.nan_to_num(), 0.0).square().sum() / mask.sum()

    def weighted(x, target, mask):
        return (torch.where(mask, x.sum(-1), 0.0).sum(1) * torch.arange(len(x))).sum()

    def loss(function):
        return Case(build=lambda: function, inputs=inputs, masks={"x": "mask"}, labels={"target": "mask"})

    for check in CHECKS:
        check(loss(squared))
    with pytest.raises(AssertionError, match=r"output 'output' changes by .* in another order"):
        check_batch_order(loss(weighted))
    with pytest.raises(AssertionError, match=r"output 'output' becomes NaN .* when 3 steps of padding"):
        check_padding(loss(lambda x, target, mask: x[mask].sum() + target.sum()))


def test_a_value_without_a_batch_axis_is_shared():
    inputs = {"x": torch.randn(3, 3, 2), "mask": MASK[:, 2:], "table": torch.randn(3, 3)}

    def mix(x, mask, table):
        return torch.where(mask.unsqueeze(-1), x, 0.0).sum(1) * table.sum()

    check_batch_mates(Case(build=lambda: mix, inputs=inputs, masks={"x": "mask"}, shared=("table",)))
    with pytest.raises(AssertionError, match="when it is alone"):
        check_batch_mates(Case(build=lambda: mix, inputs=inputs, masks={"x": "mask"}))
