import json
import os
import pickle

import pytest
import torch
from torch import nn

from mmaffect.ops import InputError
from mmaffect.training.checkpoint import (
    is_temporary,
    load_weights,
    read_checkpoint,
    system_tensors,
    temporary,
    write_checkpoint,
    write_json,
)


def test_tensors_and_state_come_back(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "whole": base,
        "row": base[1],
        "transposed": base.T,
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "also empty": torch.zeros(0, 3),
        "bits": torch.tensor([True, False]),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "parameter": nn.Parameter(torch.ones(2)),
    }
    state = {"best": {"value": float("nan")}, "sums": {"kl": 0.1}, "name": "é"}
    write_checkpoint(tmp_path / "x.safetensors", tensors, state)
    back = read_checkpoint(tmp_path / "x.safetensors")
    assert back.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back.tensors[name], tensor.detach())
        assert back.tensors[name].dtype == tensor.dtype
    assert json.dumps(back.state) == json.dumps(state)
    assert os.listdir(tmp_path) == ["x.safetensors"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.out = nn.Linear(8, 50, bias=False)
        self.out.weight = self.embed.weight


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    torch.manual_seed(0)
    system, other = Tied(), Tied()
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, system_tensors(system), {"epoch": 1})
    assert path.stat().st_size < 1.5 * 50 * 8 * 4
    assert load_weights(other, path) == {"epoch": 1}
    assert torch.equal(other.embed.weight, system.embed.weight)
    assert other.out.weight is other.embed.weight


def test_nothing_that_executes_is_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "x.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="is not a checkpoint of this library"):
        read_checkpoint(path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(InputError, match="is not a checkpoint of this library"):
        read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_torn_foreign_and_absent_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    with pytest.raises(InputError, match="there is no file"):
        read_checkpoint(path)
    write_checkpoint(path, {"a": torch.ones(100)}, {})
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match="is not a checkpoint of this library"):
        read_checkpoint(path)
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(InputError, match="is not a checkpoint of this library"):
        read_checkpoint(path)


def test_weights_of_another_architecture_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, nn.Linear(2, 3).state_dict(), {})
    with pytest.raises(InputError, match=r"does not fit the system: .*size mismatch for weight"):
        load_weights(nn.Linear(2, 4), path)


def test_state_that_is_no_tensor_is_refused():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"count": 3}

        def set_extra_state(self, state):
            pass

    with pytest.raises(ValueError, match="expected tensors in its state dict, got dict at '_extra_state'"):
        system_tensors(Extra(1, 1))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert is_temporary(temporary(path))
    assert not is_temporary(path)
