"""Task losses against PyTorch's on the labelled rows alone."""

import pytest
import torch
import torch.nn.functional as F

from mmaffect.losses import task_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_class_equals_cross_entropy(smoothing, weighted):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(2, 5, 3, generator=generator), torch.randint(3, (2, 5), generator=generator)
    targets[0, :2] = -100
    weights = (1.0, 2.0, 5.0) if weighted else None
    loss = task_loss(logits, targets, "class", class_weights=weights, label_smoothing=smoothing)
    expected = (
        F.cross_entropy(
            logits.flatten(0, 1),
            targets.flatten(),
            weight=weights and torch.tensor(weights),
            label_smoothing=smoothing,
            reduction="sum",
        )
        / (targets != -100).sum()
    )
    torch.testing.assert_close(loss, expected)


def test_multilabel_and_score():
    generator = torch.Generator().manual_seed(0)
    out, labels = torch.randn(6, 3, generator=generator), (torch.rand(6, 3, generator=generator) > 0.5).float()
    torch.testing.assert_close(task_loss(out, labels, "multilabel"), F.binary_cross_entropy_with_logits(out, labels))
    scores = torch.randn(6, 3, generator=generator)
    scores[0, 1] = torch.nan
    known = ~scores.isnan()
    torch.testing.assert_close(task_loss(out, scores, "score"), (out - scores)[known].abs().mean())


@pytest.mark.parametrize("kind", ["class", "score"])
def test_invalid_and_unlabelled_rows_never_matter(kind):
    out = torch.full((2, 3, 2), torch.nan) if kind == "class" else torch.full((2, 3), torch.nan)
    out[0, 0] = 0.5
    out.requires_grad_()
    targets = (
        torch.tensor([[1, -100, 0], [0, 1, 1]]) if kind == "class" else torch.tensor([[1.0, torch.nan, 0], [0, 1, 1]])
    )
    valid = torch.tensor([[True, True, False], [False] * 3])
    loss = task_loss(out, targets, kind, valid=valid)
    loss.backward()
    torch.testing.assert_close(loss.item(), 0.5 if kind == "score" else 0.6931472)
    assert out.grad[0, 0].abs().sum() > 0
    assert (out.grad[1] == 0).all()


def test_valid_by_sample_with_several_scores():
    out, targets = torch.zeros(2, 3), torch.tensor([[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]])
    assert task_loss(out, targets, "score", valid=torch.tensor([True, False])).item() == 2


@pytest.mark.parametrize("kind", ["class", "score"])
def test_nothing_labelled_is_zero(kind):
    out = torch.zeros((2, 3) if kind == "class" else (2,), requires_grad=True)
    targets = torch.full((2,), -100) if kind == "class" else torch.full((2,), torch.nan)
    loss = task_loss(out, targets, kind, class_weights=(1.0, 1.0, 1.0) if kind == "class" else None)
    loss.backward()
    assert loss.item() == 0
    assert (out.grad == 0).all()


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"targets: expected shape \(2,\) for 'class', got \(3,\)"):
        task_loss(torch.zeros(2, 4), torch.zeros(3, dtype=torch.long), "class")
    with pytest.raises(ValueError, match="kind: 'clas' is unknown; did you mean 'class'"):
        task_loss(torch.zeros(2, 4), torch.zeros(2, dtype=torch.long), "clas")


def test_parts_of_a_batch_add_up_though_classes_are_weighed():
    logits, targets = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 0, 1])
    whole = task_loss(logits, targets, "class", class_weights=(0.5, 1.5))
    halves = [task_loss(logits[i : i + 2], targets[i : i + 2], "class", class_weights=(0.5, 1.5)) for i in (0, 2)]
    torch.testing.assert_close(whole, sum(halves) / 2)


def test_multilabel_takes_integers_and_minus_100():
    out = torch.ones(2, 2)
    holes = torch.tensor([[1, -100], [0, 1]])
    nans = torch.tensor([[1, torch.nan], [0, 1]])
    torch.testing.assert_close(task_loss(out, holes, "multilabel"), task_loss(out, nans, "multilabel"))


def test_float16_does_not_overflow():
    logits = torch.zeros(70_000, 2, dtype=torch.float16)
    loss = task_loss(logits, torch.zeros(70_000, dtype=torch.long), "class")
    torch.testing.assert_close(loss.item(), 0.6931472)
