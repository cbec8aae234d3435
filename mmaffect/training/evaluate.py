"""Measuring a system on a dataset, on one process or many."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmaffect.data import DataSpec, MultimodalBatch
from mmaffect.data.dataset import MultimodalDataset
from mmaffect.ops import InputError
from mmaffect.training.conditions import Change, Complete, Condition
from mmaffect.training.measure import labelled, measure
from mmaffect.training.order import derive

EVALUATION_SEED = 1111


@dataclass(frozen=True)
class Evaluation:
    """What a system said of a dataset, and how good that is.

    A row is what a label belongs to: a turn of a dialogue, else a sample; in the order of the dataset.

    Args:
        predictions: what the system's forward returns: logits or scores.
        targets: as in the dataset; -100 or NaN where unlabelled.
        ids: the sample's name, one a row; turns of a dialogue carry their number: ``"dialogue#3"``.
        present: which modality was observed.
        counted: rows that entered the metrics: something was observed and there is a label.
        excluded: how many rows were left with nothing observed.
        metrics: by name; see `measure`.

    Shape:
        ``predictions (R, C)``, or ``(R,)`` for one score; ``targets (R, ...)``; ``present (R, M)``; ``counted (R,)``.
    """

    predictions: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    present: Tensor
    counted: Tensor
    excluded: int
    metrics: dict[str, float]


def evaluate(
    system: nn.Module,
    dataset: MultimodalDataset,
    *,
    condition: Condition | None = None,
    batch_size: int = 64,
    seed: int = EVALUATION_SEED,
) -> Evaluation:
    """Predict a whole dataset under a condition and measure it.

    In evaluation mode and without gradient; the modes of all modules, and torch's random state, are as before
    afterwards. Under several processes (``accelerate launch``, ``torchrun``) each predicts a share, every sample once,
    and all get the whole; so all must call it. The system computes where its parameters are.

    Args:
        system: as trained by `fit`; its forward takes a batch.
        dataset: with labels, at least some.
        condition: what is hidden or corrupted; nothing by default.
        batch_size: samples of one forward pass.
        seed: of the condition's draws, and of what the system itself draws. The default is the one `fit` validates
            with: results of different systems and training seeds are under the same masks.

    Returns:
        Predictions, targets, names and metrics; rows left with nothing observed are counted in ``excluded`` and
        enter no metric.

    Raises:
        InputError: if the dataset is empty, or no labelled row with something observed is left.
        ValueError: if the system's output does not fit the dataset.
    """
    predictions, targets, ids, present = predict_rows(
        system, dataset, (condition or Complete()).bind(dataset, derive(seed, "condition")), batch_size, seed
    )
    return assemble(dataset.spec, predictions, targets, ids, present)


def assemble(spec: DataSpec, predictions: Tensor, targets: Tensor, ids: tuple[str, ...], present: Tensor) -> Evaluation:
    """An `Evaluation` of given rows; also what pools the rows of several folds.

    Raises:
        InputError: if no labelled row with something observed is left.
    """
    observed = present.any(1)
    counted = observed & labelled(spec, targets)
    if not counted.any():
        raise InputError(
            f"dataset: nothing to measure; of {len(ids)} rows {int(observed.sum())} have something observed and "
            f"{int(labelled(spec, targets).sum())} a label, none both"
        )
    metrics = measure(spec, predictions[counted], targets[counted])
    return Evaluation(predictions, targets, ids, present, counted, int((~observed).sum()), metrics)


def predict_rows(
    system: nn.Module, dataset: MultimodalDataset, change: Change, batch_size: int, seed: int
) -> tuple[Tensor, Tensor, tuple[str, ...], Tensor]:
    """Predictions, targets, names and presence of every row of a dataset, in its order, on the CPU."""
    if len(dataset) == 0:
        raise InputError("dataset: expected at least one sample, got none")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    from accelerate import PartialState

    processes = PartialState()
    device = next((p.device for p in system.parameters()), torch.device("cpu"))
    chunks = torch.arange(len(dataset)).split(batch_size)  # type: ignore[no-untyped-call]
    mine = range(processes.process_index, len(chunks), processes.num_processes)
    done: list[tuple[int, Any]] = []
    with evaluating(system, device), torch.inference_mode():
        for number in mine:
            batch = change(dataset.collate([dataset[i] for i in chunks[number].tolist()]))
            torch.manual_seed(derive(seed, "system", number))
            output = system(batch.to(device))
            done.append((number, _flatten(dataset.spec, batch, output.float().cpu())))
    if processes.num_processes > 1:
        from accelerate.utils import gather_object

        done = gather_object(done)
    rows = [row for _, row in sorted(done, key=lambda pair: pair[0])]
    predictions, targets, present = (torch.cat([row[k] for row in rows]).clone() for k in (0, 1, 3))
    return predictions, targets, tuple(name for row in rows for name in row[2]), present


@contextmanager
def evaluating(system: nn.Module, device: torch.device) -> Iterator[None]:
    """Evaluation mode within; the mode of every module and torch's random state are given back."""
    modes = {module: module.training for module in system.modules()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        system.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def _flatten(spec: DataSpec, batch: MultimodalBatch, output: Tensor) -> tuple[Tensor, Tensor, tuple[str, ...], Tensor]:
    """The rows of a batch: real turns of dialogues, samples elsewhere."""
    dialogue = spec.sequence == "dialogue" and batch.steps is not None
    wanted = tuple(batch.steps.shape) if dialogue and batch.steps is not None else (batch.size,)
    if spec.outputs > 1 or spec.target != "score":
        wanted = (*wanted, spec.outputs)
    if tuple(output.shape) != wanted:
        raise ValueError(f"system: expected an output of shape {wanted}, got {tuple(output.shape)}")
    if not dialogue or batch.steps is None:
        return output, batch.targets, batch.id, batch.present
    steps = batch.steps
    numbers = [n for row in steps for n in row.nonzero().flatten().tolist()]
    counts = steps.sum(1).tolist()
    names = [name for name, count in zip(batch.id, counts, strict=True) for _ in range(count)]
    present = torch.stack(list(batch.masks.values()), dim=-1)
    ids = tuple(f"{name}#{number}" for name, number in zip(names, numbers, strict=True))
    return output[steps], batch.targets[steps], ids, present[steps]
