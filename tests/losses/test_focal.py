"""Focal loss against loops over rows and classes, and against the figures its paper states."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmaffect.losses import focal_cross_entropy, task_loss


def rows(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 5, 3, generator=generator, dtype=dtype)
    targets = torch.randint(3, (2, 5), generator=generator)
    targets[0, :2] = -100
    return logits, targets


def by_hand(logits, targets, gamma, smoothing, weights):
    total, count = 0.0, 0
    for row, target in zip(logits.flatten(0, -2).tolist(), targets.flatten().tolist(), strict=True):
        if target == -100:
            continue
        count += 1
        norm = sum(math.exp(value) for value in row)
        for c, value in enumerate(row):
            p = math.exp(value) / norm
            share = (1 - smoothing) * (c == target) + smoothing / len(row)
            total += weights[c] * share * (1 - p) ** gamma * -math.log(p)
    return total / count


@given(
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    weights=st.sampled_from([None, (1.0, 2.0, 5.0), (0.0, 1.0, 1.0)]),
    seed=st.integers(0, 20),
)
def test_equals_the_sum_over_rows_and_classes(gamma, smoothing, weights, seed):
    logits, targets = rows(seed)
    loss = focal_cross_entropy(logits, targets, gamma=gamma, label_smoothing=smoothing, class_weights=weights)
    expected = by_hand(logits, targets, gamma, smoothing, weights or (1.0, 1.0, 1.0))
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 5.0)])
def test_gamma_zero_is_the_task_s_cross_entropy(smoothing, weights):
    logits, targets = rows()
    valid = torch.tensor([[True] * 5, [True, False, True, True, False]])
    options = {"label_smoothing": smoothing, "class_weights": weights, "valid": valid}
    plain = task_loss(logits, targets, "class", **options)
    assert torch.equal(focal_cross_entropy(logits, targets, gamma=0.0, **options), plain)
    # Nothing jumps there, either.
    torch.testing.assert_close(focal_cross_entropy(logits, targets, gamma=1e-9, **options), plain)


def test_gamma_zero_is_that_to_the_last_bit():
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        logits, targets = torch.randn(37, 7, generator=generator), torch.randint(7, (37,), generator=generator)
        options = {"label_smoothing": 0.1, "class_weights": (1 + torch.rand(7, generator=generator)).tolist()}
        plain = task_loss(logits, targets, "class", **options)
        assert torch.equal(focal_cross_entropy(logits, targets, gamma=0.0, **options), plain)


@pytest.mark.parametrize(("p", "times"), [(0.9, 100), (0.5, 4)])
def test_what_is_easy_weighs_as_little_as_the_paper_says(p, times):
    """Lin et al., section 3.2, for γ = 2."""
    logits, target = torch.tensor([[math.log(p), math.log(1 - p)]]).double(), torch.tensor([0])
    plain = task_loss(logits, target, "class")
    torch.testing.assert_close(focal_cross_entropy(logits, target, gamma=2.0) * times, plain)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients(gamma, smoothing):
    logits, targets = rows()
    assert torch.autograd.gradcheck(
        lambda x: focal_cross_entropy(
            x, targets, gamma=gamma, label_smoothing=smoothing, class_weights=(1.0, 2.0, 5.0)
        ),
        logits.requires_grad_(),
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_certainty_is_finite(gamma):
    """A row that is surely right, one surely wrong, and a class that is ruled out."""
    logits = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0], [1.0, 0.0, -torch.inf]], requires_grad=True)
    loss = focal_cross_entropy(logits, torch.tensor([0, 0, 0]), gamma=gamma)
    loss.backward()
    p = math.exp(1.0) / (math.exp(1.0) + 1.0)
    assert loss.item() == pytest.approx((200.0 + (1 - p) ** gamma * -math.log(p)) / 3)
    assert logits.grad.isfinite().all()
    assert not logits.grad[0].any()
    assert logits.grad[1].tolist() == pytest.approx([-1 / 3, 1 / 3, 0.0], abs=1e-6)


def test_smoothing_still_restrains_a_confident_row():
    """Its gradient pulls the logit of the true class back; one factor over all classes would have let it go."""
    logits = torch.tensor([[12.0, 0.0, 0.0]], requires_grad=True)
    focal_cross_entropy(logits, torch.tensor([0]), gamma=2.0, label_smoothing=0.1).backward()
    assert logits.grad[0, 0].item() > 0.05


def test_invalid_and_unlabelled_rows_never_matter():
    out = torch.full((2, 3, 2), torch.nan)
    out[0, 0] = 0.5
    out.requires_grad_()
    targets = torch.tensor([[1, -100, 0], [0, 1, 1]])
    valid = torch.tensor([[True, True, False], [False] * 3])
    loss = focal_cross_entropy(out, targets, label_smoothing=0.1, valid=valid)
    loss.backward()
    assert loss.item() == pytest.approx(0.6931472 / 4)
    assert out.grad[0, 0].any()
    assert not out.grad[0, 1:].any()
    assert not out.grad[1].any()


def test_nothing_labelled_is_zero():
    out = torch.zeros(2, 3, requires_grad=True)
    loss = focal_cross_entropy(out, torch.full((2,), -100), label_smoothing=0.1)
    loss.backward()
    assert loss.item() == 0
    assert (out.grad == 0).all()


def test_parts_of_a_batch_add_up_though_classes_are_weighed():
    logits, targets = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1])
    whole = focal_cross_entropy(logits, targets, class_weights=(0.5, 1.5))
    halves = [focal_cross_entropy(logits[i : i + 2], targets[i : i + 2], class_weights=(0.5, 1.5)) for i in (0, 2)]
    torch.testing.assert_close(whole, sum(halves) / 2)


def test_float16_is_computed_in_float32():
    logits = torch.zeros(70_000, 2, dtype=torch.float16)
    loss = focal_cross_entropy(logits, torch.zeros(70_000, dtype=torch.long))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.6931472 / 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "gamma: expected a finite value >= 0, got -1.0"),
        ({"gamma": math.inf}, "gamma: expected a finite value >= 0, got inf"),
        ({"label_smoothing": 1.0}, r"label_smoothing: expected a share in \[0, 1\), got 1.0"),
        ({"class_weights": (1.0, 2.0)}, "class_weights: expected 3 values, got 2"),
        ({"targets": torch.zeros(3, dtype=torch.long)}, r"targets: expected shape \(2,\) for 'class', got \(3,\)"),
    ],
)
def test_errors_name_the_argument(options, message):
    given = {"logits": torch.zeros(2, 3), "targets": torch.zeros(2, dtype=torch.long), **options}
    with pytest.raises(ValueError, match=message):
        focal_cross_entropy(**given)
