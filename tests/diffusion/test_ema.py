"""The running average against its sum written out, and in the company it keeps."""

import copy
import io

import pytest
import torch
from torch import nn

from mmaffect.diffusion import EMA


def history(layer, average, values):
    for value in values:
        nn.init.constant_(layer.weight, value)
        average.update()


@pytest.mark.parametrize("warmup", [False, True])
def test_average_is_the_geometric_sum(warmup):
    layer = nn.Linear(2, 3, bias=False).double()
    nn.init.constant_(layer.weight, 5.0)
    average = EMA(layer, decay=0.4, warmup=warmup)
    values = [float(v) for v in torch.randn(12, generator=torch.Generator().manual_seed(0))]
    history(layer, average, values)
    # Every value with its share times the decays that came after; TensorFlow's (1 + k) / (10 + k), k updates before.
    decays = [min(0.4, (1 + k) / (10 + k)) if warmup else 0.4 for k in range(12)]
    expected, left = 0.0, 1.0
    for value, decay in zip(reversed(values), reversed(decays), strict=True):
        expected += left * (1 - decay) * value
        left *= decay
    expected += left * 5.0
    torch.testing.assert_close(
        average.module.weight, torch.full((3, 2), expected, dtype=torch.float64), rtol=1e-6, atol=0
    )
    assert average.updates.item() == 12


def test_after_the_warm_up_a_slow_average_moves_as_without():
    """A share of 1e-5, whose complement float32 would hold to two digits only."""
    moved = []
    for warmup in (False, True):
        layer = nn.Linear(1, 1, bias=False).double()
        average = EMA(layer, decay=0.99999, warmup=warmup)
        average.updates.fill_(10_000_000)
        nn.init.zeros_(average.module.weight)
        nn.init.ones_(layer.weight)
        average.update()
        moved.append(average.module.weight.item())
    assert moved[1] == pytest.approx(moved[0], rel=1e-6)


def test_the_warm_up_ends_at_the_decay():
    layer = nn.Linear(1, 1, bias=False)
    average = EMA(layer, decay=0.4, warmup=True)
    average.updates.fill_(10_000)
    nn.init.zeros_(average.module.weight)
    nn.init.ones_(layer.weight)
    average.update()
    assert average.module.weight.item() == pytest.approx(0.6)


def test_buffers_are_copied():
    layer = nn.BatchNorm1d(2)
    average = EMA(layer, decay=0.9)
    layer.train()(torch.randn(8, 2))
    average.update()
    assert torch.equal(average.module.running_mean, layer.running_mean)
    assert average.module.num_batches_tracked.item() == 1
    layer(torch.randn(8, 2))
    assert average.module.num_batches_tracked.item() == 1


def test_the_average_is_apart_from_what_it_follows():
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    average = EMA(layer, decay=0.5)
    nn.init.zeros_(layer.weight)
    assert torch.equal(average.module.weight, before)
    average.update()
    torch.testing.assert_close(average.module.weight, before / 2)
    assert not layer.weight.any()
    assert layer.weight.requires_grad
    assert not any(p.requires_grad for p in average.parameters())
    assert {id(p) for p in average.parameters()}.isdisjoint(id(p) for p in layer.parameters())
    assert set(average.state_dict()) == {"module.weight", "module.bias", "updates"}


def test_the_average_stays_in_evaluation_mode():
    layer = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9))
    average = EMA(layer)
    system = nn.ModuleList([layer, average]).train()
    assert layer.training
    assert not any(m.training for m in average.modules())
    x = torch.ones(1, 2)
    assert torch.equal(average(x), system[0][0](x))


class System(nn.Module):
    """As a user assembles it: the network and its average side by side."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)
        self.average = EMA(self.net, decay=0.8, warmup=True)

    def forward(self, x):
        return self.net(x)


def train(system, steps, seed=0):
    optimiser = torch.optim.SGD(system.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimiser.zero_grad()
        system(torch.randn(4, 2, generator=generator)).square().mean().backward()
        optimiser.step()
        getattr(system, "module", system).average.update()


def test_a_run_broken_and_resumed_is_a_run_unbroken():
    torch.manual_seed(0)
    whole = System()
    first = copy.deepcopy(whole)
    train(whole, 3)
    train(whole, 4, seed=1)
    train(first, 3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = System()
    second.load_state_dict(torch.load(file, weights_only=True))
    train(second, 4, seed=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert second.average.updates.item() == 7


def test_a_copied_system_follows_its_own_network():
    system = System()
    other = copy.deepcopy(system)
    train(other, 2)
    assert system.average.updates.item() == 0
    assert not torch.equal(other.average.module.weight, system.average.module.weight)
    weight = other.net.weight.detach().clone()
    for _ in range(200):
        other.average.update()
    torch.testing.assert_close(other.average.module.weight, weight)


def test_it_moves_with_its_system():
    system = System().double()
    train_input = torch.randn(1, 2).double()
    system.average.update()
    assert system.average(train_input).dtype == torch.float64
    assert system.average.updates.dtype == torch.int64


def test_distributed_training(tmp_path):
    torch.manual_seed(0)
    plain = System()
    wrapped = copy.deepcopy(plain)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        train(nn.parallel.DistributedDataParallel(wrapped), 5)
    finally:
        torch.distributed.destroy_process_group()
    train(plain, 5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(wrapped.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay: expected a share from 0 to below 1, got {decay}"):
        EMA(nn.Linear(1, 1), decay=decay)
