import pytest

from mmaffect.ops import InputError
from mmaffect.training.processes import accelerator, processes


def test_alone_is_one_process():
    assert processes().num_processes == 1
    assert accelerator().num_processes == 1
    assert accelerator().mixed_precision == "no"


def test_processes_that_did_not_join_are_refused(monkeypatch):
    processes()  # alone, and for good
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="processes: 4 were launched together, but accelerate sees 1"):
        processes()
