import pytest
import torch
from torch import nn

from mmaffect.ops import InputError
from mmaffect.training.checkpoint import draft_checkpoint, read_checkpoint, temporary
from mmaffect.training.store import Position, Store, load_optimizer, optimizer_tensors


def trained(steps=3, seed=0):
    torch.manual_seed(seed)
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": [layer.weight]}, {"params": [layer.bias], "lr": 0.5}], lr=0.1)
    for _ in range(steps):
        step(layer, optimizer)
    return layer, optimizer, {p: n for n, p in layer.named_parameters()}


def step(layer, optimizer):
    optimizer.zero_grad()
    layer(torch.ones(1, 2)).square().sum().backward()
    optimizer.step()


def test_an_optimiser_goes_on_as_if_nothing_had_happened(tmp_path):
    layer, optimizer, names = trained()
    position = Position(stage=1, epoch=2, step=3, best={"value": 0.1, "epoch": 1})
    Store(tmp_path).save(position, layer, optimizer, names, improved=True)
    other, fresh, other_names = trained(0, seed=9)
    found, tensors = Store(tmp_path).load(other)
    load_optimizer(fresh, tensors, other_names)
    assert found == position
    for _ in range(3):
        step(layer, optimizer)
        step(other, fresh)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)


def test_optimiser_state_is_flat_and_named():
    _, optimizer, names = trained()
    assert set(optimizer_tensors(optimizer, names)) == {
        f"{key}/{name}" for key in ("step", "exp_avg", "exp_avg_sq") for name in ("weight", "bias")
    }


def test_a_stage_begins_without_an_optimiser(tmp_path):
    layer, optimizer, names = trained()
    Store(tmp_path).save(Position(stage=1), layer, optimizer, names, improved=False)
    assert Store(tmp_path).load(layer)[1] == {}
    assert not (tmp_path / "best.safetensors").exists()


def test_nothing_to_load(tmp_path):
    assert Store(tmp_path).load(nn.Linear(2, 2)) is None
    layer, optimizer, names = trained()
    Store(tmp_path).save(Position(), layer, optimizer, names, improved=False)
    with pytest.raises(InputError, match=r"resume: .*last\.safetensors does not fit the system: .* size mismatch"):
        Store(tmp_path).load(nn.Linear(3, 2))


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_draft_is_named_if_the_checkpoint_knows_of_it(tmp_path, value):
    layer, optimizer, names = trained()
    store, best = Store(tmp_path), {"epoch": 4, "value": value}
    store.save(Position(best=best), layer, optimizer, names, improved=False)
    draft_checkpoint(store.best, layer.state_dict(), best)
    store.settle_best(store.load(layer)[0])
    assert read_checkpoint(store.best).state["epoch"] == 4
    assert not temporary(store.best).exists()


def test_other_drafts_are_forgotten(tmp_path):
    layer, optimizer, names = trained()
    store, best = Store(tmp_path), {"epoch": 4, "value": 0.5}
    store.save(Position(best=best), layer, optimizer, names, improved=True)
    draft_checkpoint(store.best, layer.state_dict(), {"epoch": 5, "value": 0.6})
    store.settle_best(Position(best=best))
    assert read_checkpoint(store.best).state == best
    temporary(store.best).write_bytes(b"torn")
    store.settle_best(Position(best=best))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["best.safetensors", "last.safetensors"]
