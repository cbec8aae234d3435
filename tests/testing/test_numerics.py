import pytest
import torch

from mmaffect.testing import (
    Case,
    check_autocast,
    check_determinism,
    check_dtypes,
    check_gradients,
    check_inputs_kept,
)
from tests.testing import specimens
from tests.testing.specimens import MASK, case, fusion_case


@pytest.mark.parametrize("check", [check_dtypes, check_autocast, check_gradients, check_determinism, check_inputs_kept])
def test_layers_that_keep_the_contract_pass(check):
    check(case())
    check(fusion_case())
    check(case(lambda: lambda x, mask: mask.sum(1)))


@pytest.mark.parametrize(
    ("check", "build", "message"),
    [
        (check_dtypes, specimens.SingleOnly, r"output 'pooled' is of torch.float32 when .* are of torch.float64"),
        (
            check_dtypes,
            specimens.Cancels,
            r"output 'y' in bfloat16 is .* away from float32 \(Euclidean norm; allowed: ",
        ),
        (check_autocast, specimens.Cancels, r"output 'y' under autocast is .* away from float32"),
        (check_gradients, specimens.StraightThrough, r"gradients differ from finite differences: .*Jacobian"),
        (check_determinism, specimens.Unseeded, "output 'pooled' differs when run twice under one seed in evaluation"),
        (check_determinism, specimens.UnseededParameters, "parameter 'scale' differs when two layers are built"),
        (check_determinism, specimens.DrawsInEvaluation, "output 'pooled' differs when another seed is set"),
        (check_inputs_kept, specimens.InPlace, "argument 'x' differs when the layer is called: it writes in place"),
    ],
)
def test_broken_layers_are_caught(check, build, message):
    with pytest.raises(AssertionError, match=message):
        check(case(build))


def test_an_error_of_the_layer_comes_through():
    with pytest.raises(RuntimeError, match="dtype"):
        check_autocast(case(specimens.WritesRows))


def test_a_loss_may_draw_and_may_be_of_a_wider_dtype():
    check_determinism(case(specimens.DrawsInEvaluation, stochastic=True))
    check_dtypes(case(lambda: lambda x, mask: torch.where(mask, x.sum(-1), 0.0).float().sum()))


def test_a_nan_in_half_precision_is_caught():
    def overflows(x, mask):
        big = torch.where(mask, x.sum(-1).abs() * 1e38, 0.0).sum(1) if x.dtype == torch.bfloat16 else x.sum((1, 2))
        return big - big

    with pytest.raises(AssertionError, match=r"output 'output' is not finite in torch.bfloat16"):
        check_dtypes(case(lambda: lambda x, mask: overflows(x * 10, mask)))


def test_the_right_gradient_of_a_wrong_parameter_is_caught():
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight):
            return weight.clone()

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    class Layer(specimens.Encoder):
        def pool(self, y, mask):
            return super().pool(y, mask) * Doubled.apply(self.scale)

    with pytest.raises(AssertionError, match="gradients differ"):
        check_gradients(case(Layer))


def test_targets_are_constants_of_a_gradient_check():
    inputs = {"x": torch.randn(3, 5), "mask": MASK, "target": torch.randn(3, 5)}

    def loss(x, mask, target):
        return torch.where(mask, (x - target.detach()) ** 2, 0.0).sum()

    check_gradients(Case(build=lambda: loss, inputs=inputs, masks={"x": "mask"}, labels={"target": "mask"}))
    with pytest.raises(AssertionError, match="gradients differ"):
        check_gradients(Case(build=lambda: loss, inputs=inputs, masks={"x": "mask", "target": "mask"}))
