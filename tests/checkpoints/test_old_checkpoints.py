"""Checkpoints of earlier versions still load and still predict what they did."""

import json
from pathlib import Path

import pytest
import torch

from examples.predict import restore
from mmaffect.testing import random_batch

KEPT = sorted(path.parent for path in Path(__file__).parent.glob("*/best.safetensors"))


def test_every_system_has_one():
    kept = {path.name.rpartition("-")[0] for path in KEPT}
    assert kept == {"affect_diff", "carn", "cider", "gru", "imder", "linear", "transformer"}


@pytest.mark.parametrize("run", KEPT, ids=lambda path: path.name)
def test_it_loads_and_predicts_the_same(run):
    system, spec, _ = restore(run)
    batch = random_batch(spec, absent=0.3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = system(batch)[batch.observed("dialogue")]
    expected = torch.tensor(json.loads((run / "output.json").read_text(encoding="utf-8")))
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-4)
