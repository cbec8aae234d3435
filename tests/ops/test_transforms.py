"""Which tensors are those of a transform."""

import torch

from mmaffect.ops import is_transformed, under_transform


def seen_by(transform, x):
    found = []

    def ask(y):
        found.append(is_transformed(y))
        return y.square().sum()

    transform(ask)(x)
    return found


def test_tensors_of_transforms_are_known():
    x = torch.ones(3, 2)
    for transform in (torch.func.vmap, torch.func.grad, torch.func.jacrev, torch.func.hessian):
        assert seen_by(transform, x) == [True]


def test_plain_tensors_are_not():
    assert not is_transformed(torch.ones(2), torch.ones(2, requires_grad=True))


def test_one_of_several_is_enough():
    found = []
    plain = torch.ones(2)
    torch.func.vmap(lambda y: found.append((is_transformed(plain, y), is_transformed(plain))) or y)(torch.ones(3))
    assert found == [(True, False)]


def test_batched_gradients_count():
    found = []
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda gradient: found.append(is_transformed(gradient)))
    torch.autograd.grad(y, x, torch.ones(3, 2), is_grads_batched=True)
    assert found == [True]


def test_plain_tensors_may_be_under_a_transform():
    found = []
    plain = torch.ones(2)
    torch.func.grad(lambda y: found.append((is_transformed(plain), under_transform())) or y.sum())(torch.ones(3))
    assert found == [(False, True)]
    assert not under_transform()
