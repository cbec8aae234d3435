"""Training a system: the one function a script calls."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmaffect.data import MultimodalDataset
from mmaffect.ops import InputError
from mmaffect.training.checkpoint import system_tensors, write_json
from mmaffect.training.config import Stage, TrainConfig, plan
from mmaffect.training.journal import read_rows
from mmaffect.training.measure import choose_monitor
from mmaffect.training.processes import accelerator
from mmaffect.training.protocol import Protocol
from mmaffect.training.run_directory import RESULT, check_directory, describe_system, plain, start_directory
from mmaffect.training.step import parameter_groups
from mmaffect.training.trainer import Trainer

_DEFAULT_EPOCHS = 50


@dataclass(frozen=True)
class FitResult:
    """What a training came to.

    Args:
        out: the run directory.
        monitor: metric that selected the weights.
        value: of the monitor at its best, in validation.
        stage: stage of the best epoch, always the last.
        epoch: the best epoch within it, from 0.
        epochs: epochs trained, all stages together.
        stopped_early: whether patience ran out.
        history: the rows of the log.
        settled: what the system's ``settle`` returned; None if it has none.
    """

    out: Path
    monitor: str
    value: float
    stage: str
    epoch: int
    epochs: int
    stopped_early: bool
    history: tuple[dict[str, Any], ...]
    settled: dict[str, Any] | None = None


def fit(
    system: nn.Module,
    train: MultimodalDataset,
    valid: MultimodalDataset,
    config: TrainConfig,
    *,
    protocol: Protocol,
    out: str | os.PathLike[str],
    seed: int = 0,
    resume: bool = False,
    description: Mapping[str, Any] | None = None,
    progress_bar: bool = False,
    checkpoint_steps: int | None = None,
) -> FitResult:
    """Train a system through its stages and leave in it the weights that were best on the validation set.

    On one process, or on many with the script unchanged (``accelerate launch``, ``torchrun``; all see the same file
    system). The run is a function of the arguments: order, masks and torch's random state are derived from ``seed``
    and the place of the step, so a run that was killed and resumed ends in the same weights as one that was not (on
    hardware that computes the same twice), as long as a system keeps all its state in its state dict. The caller's
    random state is left as it was.

    A batch is cut over processes and accumulation into pieces. A system's loss is taken as a mean over the labels of
    its piece and weighted by their number, so supervised terms do not depend on the cut; terms that compare the
    samples of a piece with each other (contrastive, batch statistics) see fewer at once.

    Labels of turns or samples that the condition left with nothing are hidden from the loss: it must be finite on a
    batch without any label.

    What a system takes from data by other means than gradients has two places. ``prepare(train)`` is called once with
    the training split (in the truly missing regime without what is hidden), before the first step of a fresh run;
    ``settle(valid, protocol)`` once with the validation split, after the best weights were loaded, and may return plain
    values to be recorded. Both run on every process, in evaluation mode, without gradient, and with torch's seed
    derived from ``seed``. They move values of buffers (or parameters) that are in the state dict from the start, in
    their shapes: so what was prepared is in every checkpoint, and a resumed run takes it from there; what was settled
    is written into best.safetensors, whole or not at all.

    Args:
        system: with ``loss(observed, complete, progress)`` and, optionally, ``stages`` (a tuple of `Stage`),
            ``parameter_groups()`` (a list of dicts with ``params``, and ``lr``, ``weight_decay``, ``name`` if they
            differ), ``after_step()``, called after each step of the optimiser (for an EMA), not where fp16's loss
            scaling left one out, and ``after_validation(metrics)``, called with the validation metrics of each epoch,
            averaged over conditions; what its ``report()`` returns, plain values, stands under ``"system"`` in the
            epoch's row of the log; ``prepare(train)`` and ``settle(valid, protocol)``, see above.
        train: samples to learn from.
        valid: samples to select by: weights, and when to stop.
        config: hyper-parameters.
        protocol: conditions of training and validation. Validation is the mean of the monitor over the protocol's
            evaluation conditions; in a stage without missing data, on complete batches.
        out: run directory: config.json, log.jsonl, tensorboard/, last.safetensors, best.safetensors, result.json.
        seed: of the whole run (not of the system's initial weights, which are as given).
        resume: go on with the run in ``out``, if there is one; it must have been started with the same config,
            protocol, data, seed, system and description.
        description: what else config.json shall record: the recipe's text, command line options.
        progress_bar: show one.
        checkpoint_steps: checkpoint every so many steps besides every epoch.

    Returns:
        The best epoch and the history.

    Raises:
        InputError: before anything is written, if datasets, protocol and system do not fit together, ``out`` is not
            empty (without ``resume``) or holds another run (with it).
        FloatingPointError: if a loss or a gradient is not finite; it names stage, epoch, step and term.
    """
    _check(system, train, valid, protocol, seed, checkpoint_steps)
    monitor = choose_monitor(train.spec, config.monitor)
    listed = getattr(system, "stages", None) or (Stage("train", config.epochs or _DEFAULT_EPOCHS),)
    stages = plan(tuple(listed), config.epochs)
    parameter_groups(system, config)
    system_tensors(system)
    out = Path(out)
    recorded = plain(
        {
            "system": describe_system(system),
            "train": config,
            "stages": stages,
            "protocol": protocol.describe(),
            "seed": seed,
            "spec": train.spec,
            "data": {"train": train.fingerprint, "valid": valid.fingerprint},
            "description": dict(description or {}),
        }
    )
    goes_on = check_directory(out, recorded, resume=resume)
    workers = accelerator()
    system.to(workers.device)
    trainer = Trainer(
        system,
        train,
        valid,
        stages=stages,
        config=config,
        protocol=protocol,
        monitor=monitor,
        out=out,
        seed=seed,
        accelerator=workers,
        checkpoint_steps=checkpoint_steps,
        progress_bar=progress_bar,
    )
    if not (goes_on and trainer.resume()):
        trainer.prepare()
    workers.wait_for_everyone()  # all have looked before the first one writes
    if workers.is_main_process and not goes_on:
        start_directory(out, recorded)
    devices = [workers.device] if workers.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        settled = trainer.run()
    return _conclude(trainer, monitor, settled)


def _conclude(trainer: Trainer, monitor: str, settled: dict[str, Any] | None) -> FitResult:
    best, rows = trainer.position.best, read_rows(trainer.out)
    if best is None:
        raise RuntimeError("fit: the last stage ended without a validation")
    result = FitResult(
        out=trainer.out,
        monitor=monitor,
        value=best["value"],
        stage=best["stage"],
        epoch=best["epoch"],
        epochs=len(rows),
        stopped_early=len(rows) < sum(s.epochs for s in trainer.stages),
        history=tuple(rows),
        settled=settled,
    )
    if trainer.accelerator.is_main_process:
        summary = {"monitor": monitor, "best": best, "epochs": result.epochs, "stopped_early": result.stopped_early}
        if settled is not None:
            summary["settled"] = settled
        write_json(trainer.out / RESULT, plain({**summary, "valid": rows[best["row"]]["valid"]}))
    return result


def _check(
    system: nn.Module,
    train: MultimodalDataset,
    valid: MultimodalDataset,
    protocol: Protocol,
    seed: int,
    checkpoint_steps: int | None,
) -> None:
    if not callable(getattr(system, "loss", None)):
        raise InputError(f"system: expected a method loss(observed, complete, progress) in {type(system).__name__}")
    for name, dataset in (("train", train), ("valid", valid)):
        if len(dataset) == 0:
            raise InputError(f"{name}: expected at least one sample, got none")
    if train.spec != valid.spec or train.spec.names != valid.spec.names:
        raise InputError(f"valid: expected the spec of train, {train.spec}, got {valid.spec}")
    for condition in (protocol.train, *protocol.evaluation):
        names = getattr(condition, "names", train.spec.names)
        if names != train.spec.names:
            raise InputError(f"protocol: is for modalities {names}, the data have {train.spec.names}")
        check = getattr(condition, "check", None)
        if callable(check):
            check(train.spec)
    if seed < 0:
        raise ValueError(f"seed: expected a value >= 0, got {seed}")
    if checkpoint_steps is not None and checkpoint_steps < 1:
        raise ValueError(f"checkpoint_steps: expected None or at least 1, got {checkpoint_steps}")
