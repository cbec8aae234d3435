import pytest
import torch
from torch import nn

from mmaffect.data import MultimodalBatch
from mmaffect.ops import InputError
from mmaffect.training import Progress, TrainConfig
from mmaffect.training.step import (
    LossModule,
    check_finite,
    clip_gradients,
    hide_labels,
    make_optimizer,
    parameter_groups,
)
from tests.training.tiny import make_dataset, make_spec, make_system

PROGRESS = Progress("s", 0, 1, 0.0)


class Says(nn.Module):
    def __init__(self, terms):
        super().__init__()
        self.terms = terms

    def loss(self, observed, complete, progress):
        return self.terms


def batch():
    dataset = make_dataset(3)
    return dataset.collate([dataset[i] for i in range(3)])


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (torch.ones(()), r"loss: expected a dict of named terms, got Tensor"),
        ({}, r"loss: expected a dict of named terms, got dict"),
        ({"kl": torch.ones(2)}, r"loss: expected a scalar tensor for the term 'kl', got \(2,\)"),
        ({"kl": 1.0}, r"loss: expected a scalar tensor for the term 'kl', got float"),
    ],
)
def test_a_loss_is_named_scalars(terms, message):
    with pytest.raises(ValueError, match=message):
        LossModule(Says(terms), "no")(batch(), None, PROGRESS)


def test_precision_is_lowered_inside_and_given_back():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def loss(self, observed, complete, progress):
            value = self.layer(observed.inputs["text"])
            self.seen = value.dtype
            return {"task": value.square().mean()}

    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        system = Linear()
        terms = LossModule(system, precision)(batch(), None, PROGRESS)
        assert system.seen == dtype
        assert terms["task"].dtype == torch.float32


def test_labels_of_turns_with_nothing_are_hidden():
    mask = torch.tensor([[True, False, True], [False, True, False]])
    for targets, unlabelled in ((torch.ones(2, 3).long(), -100), (torch.ones(2, 3), None), (torch.ones(2, 3, 2), None)):
        made = MultimodalBatch(
            {"text": torch.zeros(2, 3, 1)}, {"text": mask}, targets, torch.ones_like(mask), ("a", "b"), torch.arange(2)
        )
        hidden = hide_labels(make_spec("dialogue"), made).targets
        gone = hidden.isnan() if unlabelled is None else hidden == unlabelled
        assert torch.equal(gone, (~mask).reshape(2, 3, *[1] * (targets.dim() - 2)).expand_as(targets))
        assert (hidden[~gone] == 1).all()


def test_labels_of_samples_with_nothing_are_hidden():
    mask = torch.tensor([[True, False], [False, False]])
    made = MultimodalBatch(
        {"text": torch.zeros(2, 2, 1)}, {"text": mask}, torch.ones(2, 4), None, ("a", "b"), torch.arange(2)
    )
    assert hide_labels(make_spec("window"), made).targets.isnan().all(1).tolist() == [False, True]


def test_groups_default_to_all_trainable_parameters():
    system = make_system()
    system.head.requires_grad_(False)
    (group,) = parameter_groups(system, TrainConfig(learning_rate=0.5, weight_decay=0.1))
    assert (group["name"], group["lr"], group["weight_decay"]) == ("all", 0.5, 0.1)
    assert set(group["params"]) == set(system.project.parameters())
    with pytest.raises(InputError, match="system: Tiny has no trainable parameter"):
        parameter_groups(system.requires_grad_(False), TrainConfig())


def test_groups_keep_what_they_say():
    system = make_system()
    system.parameter_groups = lambda: [
        {"params": list(system.head.parameters()), "lr": 0.1, "name": "head"},
        {"params": system.project.parameters(), "weight_decay": 0.2},
    ]
    optimizer = make_optimizer(system, TrainConfig(learning_rate=0.5, weight_decay=0.3, optimizer="adam"))
    assert type(optimizer) is torch.optim.Adam
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ("head", 0.1, 0.3),
        ("group 1", 0.5, 0.2),
    ]
    system.parameter_groups = lambda: [{"params": [nn.Parameter(torch.ones(1))], "name": "stray"}]
    with pytest.raises(ValueError, match="parameter_groups: 'stray' holds a parameter that is not in the system"):
        parameter_groups(system, TrainConfig())


def test_each_group_is_clipped_by_its_own_norm():
    one, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    one.grad, other.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    optimizer = torch.optim.SGD([{"params": [one], "name": "a"}, {"params": [other], "name": "b"}], lr=1.0)
    clip_gradients(optimizer, 1.0, "here")
    torch.testing.assert_close(one.grad, torch.tensor([0.6, 0.8]))
    assert other.grad.tolist() == pytest.approx([0.3, 0.4])
    clip_gradients(optimizer, None, "here")
    torch.testing.assert_close(one.grad, torch.tensor([0.6, 0.8]))
    other.grad[0] = torch.nan
    with pytest.raises(FloatingPointError, match="gradient: its norm in group 'b' is nan at here"):
        clip_gradients(optimizer, None, "here")


def test_all_groups_are_clipped_by_their_common_norm():
    one, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    one.grad, other.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 12.0])  # together 13
    optimizer = torch.optim.SGD([{"params": [one], "name": "a"}, {"params": [other], "name": "b"}], lr=1.0)
    clip_gradients(optimizer, 20.0, "here", joint=True)
    assert one.grad.tolist() == [3.0, 4.0]
    clip_gradients(optimizer, 1.3, "here", joint=True)
    torch.testing.assert_close(one.grad, torch.tensor([0.3, 0.4]))
    torch.testing.assert_close(other.grad, torch.tensor([0.0, 1.2]))
    other.grad[0] = torch.inf
    with pytest.raises(FloatingPointError, match="gradient: its norm in all groups together is inf at here"):
        clip_gradients(optimizer, 1.0, "here", joint=True)


def test_the_term_that_is_not_finite_is_named():
    check_finite({"task": torch.ones(())}, "there", ["a"])
    terms = {"task": torch.ones(()), "kl": torch.tensor(torch.inf)}
    with pytest.raises(FloatingPointError, match="loss: 'kl' is inf at there; samples a, b, c, d, e …"):
        check_finite(terms, "there", list("abcdef"))
