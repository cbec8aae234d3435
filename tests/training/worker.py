"""Processes that tests start: one that trains and may be killed at any moment, one of several that train together."""

import json
import os
import signal
import sys
import traceback
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch

from mmaffect.training import TrainConfig, evaluate, fit, predict, protocol
from mmaffect.training.processes import processes
from tests.training.tiny import WIDTHS, Config, make_dataset, make_system

CONFIG = TrainConfig(epochs=4, batch_size=7, learning_rate=0.05, schedule="cosine", warmup=0.1, clip_norm=0.5)


def train(
    out,
    *,
    config=CONFIG,
    dropout=0.2,
    steered=False,
    seed=3,
    resume=True,
    samples=24,
    sequence="dialogue",
    **options,
):
    """One run, the same for everybody who asks for the same."""
    data = make_dataset(samples, sequence=sequence), make_dataset(12, sequence=sequence, seed=1)
    system = make_system(Config(staged=True, dropout=dropout, steered=steered), spec=data[0].spec)
    made = protocol("random", tuple(WIDTHS), rates=[0.0, 0.4])
    result = fit(system, *data, config, protocol=made, out=out, seed=seed, resume=resume, **options)
    return system, data, result


def die_at(event):
    """Kill this process at the n-th touch of the disk: half-way through a tensor file, before a flush, or a rename."""
    import safetensors.torch

    left = event

    def guarded(function, torn):
        def call(*args):
            nonlocal left
            left -= 1
            if left == 0:
                if torn:
                    function(*args)
                    os.truncate(args[1], os.path.getsize(args[1]) // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args)

        return call

    safetensors.torch.save_file = guarded(safetensors.torch.save_file, torn=True)
    os.fsync = guarded(os.fsync, torn=False)
    os.replace = guarded(os.replace, torn=False)


def count_touches(out):
    """How often a run that nobody disturbs touches the disk."""
    import safetensors.torch

    calls = []
    touched = [(safetensors.torch, "save_file"), (os, "fsync"), (os, "replace")]
    with ExitStack() as stack:
        for module, name in touched:
            stack.enter_context(mock.patch.object(module, name, _counted(getattr(module, name), calls)))
        train(out)
    return len(calls)


def _counted(function, calls):
    def call(*args):
        calls.append(function)
        return function(*args)

    return call


def serve():
    """Fork a training for each line read, so that none of them has to import everything first."""
    with TemporaryDirectory() as folder:
        train(Path(folder) / "run")
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if job["event"]:
                    die_at(job["event"])
                train(Path(job["out"]), checkpoint_steps=job["checkpoint_steps"])
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        print(child, flush=True)
        _, code = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(code), flush=True)


def together(folder):
    """What every process of a parallel run does; each leaves its weights and what it was told of the whole."""
    from safetensors.torch import save_file

    rank = processes().process_index
    for name, config, samples, steered in PARALLEL:
        system, (_, valid), result = train(
            folder / name, config=config, dropout=0.0, samples=samples, steered=steered, checkpoint_steps=2
        )
        found, said = evaluate(system, valid, batch_size=5), predict(system, valid, batch_size=5)
        tensors = {n: t.contiguous() for n, t in system.state_dict().items()}
        tensors |= {"_predictions": found.predictions, "_values": said.values}
        save_file(tensors, folder / f"{name}-{rank}.safetensors")
        told = {"ids": found.ids, "metrics": found.metrics, "history": result.history, "value": result.value}
        told["settled"] = result.settled
        told["betas"] = getattr(system, "spread_betas", None)
        (folder / f"{name}-{rank}.json").write_text(json.dumps(told))


def replace_accumulation(config):
    """The same config in one piece."""
    return replace(config, accumulate=1)


# Name, config, training samples, whether steered: pieces of unequal size, and (21 samples) a last batch with empty
# pieces.
PARALLEL = [
    ("plain", TrainConfig(epochs=3, batch_size=7, learning_rate=0.02), 24, False),
    ("accumulated", TrainConfig(epochs=3, batch_size=5, accumulate=2, learning_rate=0.02), 21, False),
    (
        "steered",
        TrainConfig(
            epochs=3,
            batch_size=5,
            accumulate=2,
            learning_rate=0.02,
            clip_norm=0.1,
            joint_clipping=True,
            sampling="balanced",
        ),
        21,
        True,
    ),
]

if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        together(Path(sys.argv[1]))
    else:
        serve()
