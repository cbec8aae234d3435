"""Keep a checkpoint of this version: python tests/checkpoints/make_checkpoint.py SYSTEM.

Run once for each system when it first ships, and commit the folder: later versions must still read it and
predict the same.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from examples.cell import Candidate, build, run_cell
from examples.sources import load_source
from examples.systems import restore_config, system_module
from mmaffect import __version__
from mmaffect.testing import random_batch
from mmaffect.training import TrainConfig, load_weights, protocol

HERE = Path(__file__).parent
SMALL = {
    "affect_diff": {"hidden": 8, "heads": 2, "layers": 1, "feed_forward": 8, "prior_width": 8, "kernels": (1, 3)},
    "carn": {"hidden": 8, "heads": 2},
    "cider": {"hidden": 8, "heads": 2, "layers": 1},
    "gru": {"hidden": 6},
    "imder": {
        "hidden": 8,
        "heads": 2,
        "layers": 1,
        "memory_layers": 1,
        "network": "fast",
        "network_width": 8,
        "evaluations": 3,
        "training_evaluations": 2,
        "refinement_width": 16,
        "refinement_blocks": 1,
    },
    "linear": {},
    "transformer": {"hidden": 8, "heads": 2, "layers": 1},
}


def main(name: str) -> None:
    source = load_source(HERE / "world.toml", None)
    config = restore_config(name, SMALL[name])
    epochs = max(2, len(system_module(name).System(config, source.train.spec).stages))
    candidate = Candidate(name, name, config, TrainConfig(epochs=epochs))
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        run_cell(candidate, source, protocol("fixed", source.train.spec.names), seed=0, out=run)
        kept = HERE / f"{name}-{__version__}"
        kept.mkdir(exist_ok=True)
        for file in ("config.json", "best.safetensors"):
            shutil.copy(run / file, kept / file)
    system = build(candidate, source, 0).eval()
    load_weights(system, kept / "best.safetensors")
    batch = random_batch(source.train.spec, absent=0.3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = system(batch)
    (kept / "output.json").write_text(json.dumps(output[batch.observed("dialogue")].tolist()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
