"""Controllers against closed loops simulated by hand, on plants made for it and on a real bottleneck."""

import copy
import math

import pytest
import torch
from torch import nn

from mmaffect.latent import GaussianBottleneck, KLController, RecallController


def simulate(kls, *, target, proportional, integral, low, high):
    """The controller in plain numbers, from its definition."""
    accumulated, betas = 0.0, []
    for kl in kls:
        error = kl - target
        accumulated = min(max(accumulated + integral * error, 0.0), high - low)
        betas.append(min(max(proportional / (1 + math.exp(-error)) + accumulated + low, low), high))
    return betas


def drive(controller, kls):
    betas = []
    for kl in kls:
        controller(torch.tensor(kl))
        controller.update()
        betas.append(controller.beta.item())
    return betas


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.1, 0.3)])
def test_it_follows_its_definition(low, high):
    kls = [9.0, 6.0, 5.0, 3.0, 2.0, 1.5, 0.5, 0.1, 2.0, 4.0] * 3
    expected = simulate(kls, target=2.0, proportional=0.05, integral=0.02, low=low, high=high)
    controller = KLController(2.0, proportional=0.05, integral=0.02, min_beta=low, max_beta=high)
    assert controller.beta.item() == pytest.approx(low)
    assert drive(controller, kls) == pytest.approx(expected, rel=1e-5)
    assert min(expected) < max(expected)


@pytest.mark.parametrize("target", [0.7, 2.0, 5.0])
def test_it_holds_a_plant_at_its_target(target):
    """A divergence that follows β with a lag, from 8 nats at 0 to 0.4 at 1."""
    controller, kl = KLController(target, integral=4e-3), 8.0
    for _ in range(1500):
        controller(torch.tensor(kl))
        controller.update()
        kl += 0.05 * (8.0 * math.exp(-3.0 * controller.beta.item()) - kl)
    assert kl == pytest.approx(target, rel=0.01)
    assert controller.beta.item() == pytest.approx(math.log(8.0 / target) / 3.0, rel=0.01)


def test_it_does_not_wind_up():
    """However long the target was out of reach, β turns within a step or two of the divergence crossing it."""
    controller = KLController(2.0, proportional=0.0, integral=0.1)
    assert drive(controller, [50.0] * 100)[-1] == 1.0
    assert drive(controller, [1.0, 1.0]) == pytest.approx([0.9, 0.8])
    assert drive(controller, [0.0] * 100)[-1] == 0.0
    assert drive(controller, [3.0]) == pytest.approx([0.1])


def test_it_holds_a_bottleneck_at_its_target():
    """A small autoencoder that would keep many nats: the divergence settles where it is wanted."""
    torch.manual_seed(0)
    bottleneck, decoder = GaussianBottleneck(4, 2), nn.Linear(2, 4)
    controller = KLController(1.0, integral=0.02, max_beta=10.0)
    optimizer = torch.optim.Adam([*bottleneck.parameters(), *decoder.parameters()], lr=0.05)
    mixing, seen = torch.randn(2, 4), []
    for step in range(300):
        x = torch.randn(64, 2) @ mixing
        out = bottleneck(x)
        loss = (decoder(out.z) - x).square().sum(-1).mean() + controller(out.kl)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        controller.update()
        if step >= 200:
            seen.append(out.kl.item())
    assert sum(seen) / len(seen) == pytest.approx(1.0, abs=0.1)
    assert 0 < controller.beta.item() < 10


def test_a_step_in_pieces_is_one_step():
    whole, cut = KLController(2.0, integral=0.1), KLController(2.0, integral=0.1)
    drive(whole, [5.0])
    for kl in (4.0, 6.0):
        cut(torch.tensor(kl))
    assert cut.beta.item() == 0.0  # all pieces have the same weight
    cut.update()
    assert cut.beta.item() == pytest.approx(whole.beta.item())
    before = cut.beta.item()
    cut.update()  # nothing noted, nothing moved
    assert cut.beta.item() == before


def test_it_weighs_without_a_gradient_and_notes_in_training_only():
    controller = KLController(1.0, min_beta=0.25)
    kl = torch.tensor(3.0, requires_grad=True)
    weighed = controller.eval()(kl)
    weighed.backward()
    assert (weighed.item(), kl.grad.item()) == (0.75, 0.25)
    controller.update()
    assert controller.beta.item() == 0.25
    controller.train()(kl)
    assert not controller.observed.requires_grad
    controller.update()
    assert controller.beta.item() > 0.25


@pytest.mark.parametrize("noted", [False, True])
def test_a_saved_controller_goes_on(noted):
    kls = [5.0, 4.0, 3.0, 1.0]
    straight = KLController(2.0, integral=0.1)
    betas = drive(straight, kls)
    first = KLController(2.0, integral=0.1)
    drive(first, kls[:2])
    if noted:  # saved between the loss and the update
        first(torch.tensor(kls[2]))
    second = KLController(2.0, integral=0.1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    if noted:
        second.update()
        assert second.beta.item() == pytest.approx(betas[2])
        assert drive(second, kls[3:]) == pytest.approx(betas[3:])
    else:
        assert drive(second, kls[2:]) == pytest.approx(betas[2:])


def test_processes_share_the_mean(monkeypatch):
    """All processes move β by the divergence of the whole batch: here the other one has seen 8 nats."""

    def all_reduce(tensor):
        tensor += torch.tensor([8.0, 1.0])

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    controller = KLController(2.0, integral=0.1, proportional=0.0)
    assert drive(controller, [4.0]) == pytest.approx([0.1 * (6.0 - 2.0)])


def test_recall_lowers_and_raises():
    controller = RecallController(fall=0.5, rise=1.5, min_beta=0.1)
    nan, betas = math.nan, []
    for recall in (
        [0.9, 0.0],
        [0.9, 0.0, nan],
        [0.9, 0.0],
        [0.0, 0.0],
        [0.1, nan],
        [0.9, 0.2],
        [1.0],
        [1.0],
        [1e-9] * 9,
    ):
        controller.update(recall)
        betas.append(controller.beta.item())
    expected = [0.5, 0.25, 0.125, 0.1, 0.15, 0.225, 0.3375, 0.50625, 0.759375]
    assert betas == pytest.approx(expected)
    controller.update([1.0])
    assert controller.beta.item() == 1.0  # and no further
    controller.update(torch.tensor([0.0, 1.0]))
    assert controller.beta.item() == 0.5
    again = RecallController()
    again.load_state_dict(controller.state_dict())
    kl = torch.tensor(4.0, requires_grad=True)
    again(kl).backward()
    assert kl.grad.item() == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0.0}, "target: expected a value > 0, got 0.0"),
        ({"integral": 0.0}, "integral: expected a value > 0, got 0.0"),
        ({"proportional": -1.0}, "proportional: expected a value >= 0, got -1.0"),
        ({"min_beta": 1.0}, "min_beta, max_beta: expected 0 <= min_beta < max_beta, got 1.0 and 1.0"),
        ({"min_beta": -0.1}, "min_beta, max_beta: expected 0 <= min_beta < max_beta, got -0.1 and 1.0"),
    ],
)
def test_options_of_the_target_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        KLController(**{"target": 1.0, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fall": 1.0}, r"fall: expected a factor in \(0, 1\), got 1.0"),
        ({"rise": 1.0}, "rise: expected a factor above 1, got 1.0"),
        ({"min_beta": 0.0}, "min_beta, max_beta: expected 0 < min_beta < max_beta, got 0.0 and 1.0"),
    ],
)
def test_options_of_the_recall_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        RecallController(**options)
