"""The losses, put through the library's contract."""

import pytest
import torch

from mmaffect.losses import (
    class_mean_hinge,
    cosine_distillation,
    focal_cross_entropy,
    masked_reconstruction,
    score_map_distillation,
    task_loss,
)
from mmaffect.testing import Case, check_all

MASK = torch.tensor([[True] * 4, [True, True, False, False], [True, False, True, False]])


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["class", "multilabel", "score"])
def test_task_loss(kind):
    targets = tensor(3, 4, 2).sign().clamp(min=0) if kind != "class" else torch.arange(12).view(3, 4) % 2
    check_all(
        Case(
            build=lambda: task_loss,
            inputs={"prediction": tensor(3, 4, 2), "targets": targets, "kind": kind, "valid": MASK},
            masks={"prediction": "valid"},
            labels={"targets": "valid"},
            exempt={"batch_mates": "a mean over the batch"},
        )
    )


def test_focal_cross_entropy():
    check_all(
        Case(
            build=lambda: focal_cross_entropy,
            inputs={
                "logits": tensor(3, 4, 2),
                "targets": torch.arange(12).view(3, 4) % 2,
                "valid": MASK,
                "gamma": 1.5,
                "label_smoothing": 0.1,
                "class_weights": (1.0, 2.0),
            },
            masks={"logits": "valid"},
            labels={"targets": "valid"},
            exempt={"batch_mates": "a mean over the batch"},
        )
    )


@pytest.mark.parametrize("kind", ["mse", "smooth_l1"])
def test_masked_reconstruction(kind):
    check_all(
        Case(
            build=lambda: masked_reconstruction,
            inputs={
                "reconstructed": {"a": tensor(3, 4, 2)},
                "truth": {"a": tensor(3, 4, 2, seed=1)},
                "masks": {"a": MASK},
                "kind": kind,
            },
            masks={"reconstructed": "masks", "truth": "masks"},
            exempt={"batch_mates": "a mean over the batch"},
        )
    )


def test_class_mean_hinge():
    check_all(
        Case(
            build=lambda: class_mean_hinge,
            inputs={"latents": tensor(6, 3), "labels": torch.tensor([0, 1, 1, 0, 2, -100]), "classes": 3},
            labels={"labels": None},
            exempt={"batch_mates": "samples are each other's witnesses"},
        )
    )


def test_cosine_distillation():
    check_all(
        Case(
            build=lambda: cosine_distillation,
            inputs={"student": tensor(3, 4, 2), "teacher": tensor(3, 4, 2, seed=1), "mask": MASK},
            masks={"student": "mask", "teacher": "mask"},
            exempt={
                "batch_mates": "a mean over the batch",
                "gradients": "the teacher has none; see its own test",
                "zeros": "a state of zero has no direction, and one however small has",
            },
        )
    )


def test_score_map_distillation():
    check_all(
        Case(
            build=lambda: score_map_distillation,
            inputs={"student": tensor(3, 2, 4, 4), "teacher": tensor(3, 2, 4, 4, seed=1), "sources": MASK},
            along={"student": ("sources", (2, 3)), "teacher": ("sources", (2, 3))},
            exempt={"batch_mates": "a mean over the batch", "gradients": "the teacher has none; see its own test"},
        )
    )
