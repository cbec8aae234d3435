"""Measuring a system on a dataset, on one process or many."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.data import DataSpec, MultimodalBatch, MultimodalDataset
from mmaffect.ops import InputError
from mmaffect.training.conditions import Change, Complete, Condition
from mmaffect.training.measure import labelled, measure
from mmaffect.training.order import derive
from mmaffect.training.processes import processes

EVALUATION_SEED = 1111


class Rows(NamedTuple):
    """What a system said, row by row; see `Evaluation` for the fields."""

    predictions: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    present: Tensor
    filled: Tensor


@dataclass(frozen=True)
class Evaluation:
    """What a system said of a dataset, and how good that is.

    A row is what a label belongs to: a turn of a dialogue, else a sample; in the order of the dataset.

    Args:
        predictions: what the system's forward returns: logits or scores.
        targets: as in the dataset; -100 or NaN where unlabelled.
        ids: the sample's name, one a row; for turns of a dialogue the dataset's, or ``"dialogue#3"``.
        present: which modality was observed.
        counted: rows that entered the metrics: something was observed, or they were filled, and there is a label.
        filled: rows that a condition left with nothing and that a prior was given for: they hold it as prediction.
        excluded: how many rows were left with nothing observed, and not filled.
        metrics: by name; see `measure`.

    Shape:
        ``predictions (R, C)``, or ``(R,)`` for one score; ``targets (R, ...)``; ``present (R, M)``; ``counted``,
        ``filled (R,)``.
    """

    predictions: Tensor
    targets: Tensor
    ids: tuple[str, ...]
    present: Tensor
    counted: Tensor
    filled: Tensor
    excluded: int
    metrics: dict[str, float]


def evaluate(
    system: nn.Module,
    dataset: MultimodalDataset,
    *,
    condition: Condition | None = None,
    batch_size: int = 64,
    seed: int = EVALUATION_SEED,
    prior: Tensor | None = None,
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
        prior: prediction ``(C,)`` of rows that the condition leaves with nothing, such as `prior_prediction` gives;
            None excludes them. Rows that the data themselves have nothing of are excluded in any case.

    Returns:
        Predictions, targets, names and metrics; rows left with nothing observed, and not filled, are counted in
        ``excluded`` and enter no metric.

    Raises:
        InputError: if the dataset is empty, or no labelled row with something observed is left.
        ValueError: if the system's output does not fit the dataset.
    """
    chosen = condition or Complete()
    return evaluate_all(system, dataset, [chosen], batch_size=batch_size, seed=seed, prior=prior)[chosen.name]


def evaluate_all(
    system: nn.Module,
    dataset: MultimodalDataset,
    conditions: Sequence[Condition],
    *,
    batch_size: int = 64,
    seed: int = EVALUATION_SEED,
    prior: Tensor | None = None,
) -> dict[str, Evaluation]:
    """Measure a dataset under several conditions in one pass over it: the same as `evaluate` under each.

    Args:
        system: as trained by `fit`.
        dataset: with labels, at least some.
        conditions: of different names, such as ``protocol(...).evaluation``.
        batch_size: samples of one forward pass.
        seed: as in `evaluate`.
        prior: as in `evaluate`.

    Returns:
        Evaluations by name of the condition, in order.

    Raises:
        InputError: as `evaluate`.
        ValueError: as `evaluate`; or if there is no condition, two share a name, or the prior has another shape.
    """
    names = [condition.name for condition in conditions]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"conditions: expected at least one, of different names, got {names}")
    if prior is not None and prior.shape != (dataset.spec.outputs,):
        raise ValueError(f"prior: expected ({dataset.spec.outputs},), one for each output, got {tuple(prior.shape)}")
    changes = [bind(condition, dataset, seed) for condition in conditions]
    found = predict_rows(system, dataset, changes, batch_size, seed, prior)
    return {name: assemble(dataset.spec, rows) for name, rows in zip(names, found, strict=True)}


def bind(condition: Condition | None, dataset: MultimodalDataset, seed: int) -> Change:
    """Bind a condition (complete by default) for evaluation: by the seed and nothing else."""
    return (condition or Complete()).bind(dataset, derive(seed, "condition"))


def assemble(spec: DataSpec, rows: Rows) -> Evaluation:
    """Measure rows that were predicted; also those of several folds together.

    Raises:
        InputError: if no labelled row with something observed is left.
    """
    predictions, targets, ids, present, filled = rows
    observed = present.any(1) | filled
    counted = observed & labelled(spec, targets)
    if not counted.any():
        raise InputError(
            f"dataset: nothing to measure; of {len(ids)} rows {int(observed.sum())} have something observed and "
            f"{int(labelled(spec, targets).sum())} a label, none both"
        )
    metrics = measure(spec, predictions[counted], targets[counted])
    return Evaluation(predictions, targets, ids, present, counted, filled, int((~observed).sum()), metrics)


def predict_rows(
    system: nn.Module,
    dataset: MultimodalDataset,
    changes: Sequence[Change],
    batch_size: int,
    seed: int,
    prior: Tensor | None = None,
) -> list[Rows]:
    """Run a system over a dataset under each change: every row, in its order, on the CPU.

    With a prior, rows that a change leaves with nothing hold it instead of what the system says.

    The batches are made once and changed once for each: making them costs more than many a system.
    """
    if len(dataset) == 0:
        raise InputError("dataset: expected at least one sample, got none")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    workers = processes()
    device = next((p.device for p in system.parameters()), torch.device("cpu"))
    chunks = torch.arange(len(dataset)).split(batch_size)  # type: ignore[no-untyped-call]
    mine = range(workers.process_index, len(chunks), workers.num_processes)
    done: list[tuple[int, list[Rows]]] = []
    with evaluating(system, device), torch.inference_mode():
        for number in mine:
            complete = dataset.collate([dataset[i] for i in chunks[number].tolist()])
            there = _present(dataset, complete).any(1)
            rows = []
            for change in changes:
                batch = change(complete)
                torch.manual_seed(derive(seed, "system", number))
                output = system(batch.to(device)).cpu()
                output = output if output.dtype == torch.float64 else output.float()
                rows.append(_fill(_flatten(dataset, batch, output), there, prior))
            done.append((number, rows))
    if workers.num_processes > 1:
        from accelerate.utils import gather_object

        done = gather_object(done)
    ordered = [rows for _, rows in sorted(done, key=lambda pair: pair[0])]
    return [join(parts) for parts in zip(*ordered, strict=True)]


def join(parts: Sequence[Rows]) -> Rows:
    """Rows one after another."""
    return Rows(
        # A clone outside of inference mode is an ordinary tensor again.
        torch.cat([part.predictions for part in parts]).clone(),
        torch.cat([part.targets for part in parts]).clone(),
        tuple(name for part in parts for name in part.ids),
        torch.cat([part.present for part in parts]).clone(),
        torch.cat([part.filled for part in parts]).clone(),
    )


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


def _fill(rows: Rows, there: Tensor, prior: Tensor | None) -> Rows:
    """Put a prior in the place of predictions from nothing, where there was something before the change."""
    if prior is None:
        return rows
    emptied = there & ~rows.present.any(1)
    filled = emptied.reshape(-1, *[1] * (rows.predictions.dim() - 1))
    given = prior.to(rows.predictions).reshape(rows.predictions.shape[1:])
    return rows._replace(predictions=torch.where(filled, given, rows.predictions), filled=emptied)


def _flatten(dataset: MultimodalDataset, batch: MultimodalBatch, output: Tensor) -> Rows:
    """The rows of a batch: real turns of dialogues, samples elsewhere."""
    spec, steps = dataset.spec, batch.steps if dataset.spec.sequence == "dialogue" else None
    wanted = (batch.size,) if steps is None else tuple(steps.shape)
    if spec.outputs > 1 or spec.target != "score":
        wanted = (*wanted, spec.outputs)
    if tuple(output.shape) != wanted:
        raise ValueError(f"system: expected an output of shape {wanted}, got {tuple(output.shape)}")
    present = _present(dataset, batch)
    filled = torch.zeros(len(present), dtype=torch.bool)
    if steps is None:
        return Rows(output, batch.targets, batch.id, present, filled)
    counts = steps.sum(1).tolist()
    names = [name for i, count in zip(batch.index.tolist(), counts, strict=True) for name in _names(dataset, i, count)]
    return Rows(output[steps], batch.targets[steps], tuple(names), present, filled)


def _present(dataset: MultimodalDataset, batch: MultimodalBatch) -> Tensor:
    """Which modality is there, by row: bool ``(R, M)``."""
    if dataset.spec.sequence != "dialogue" or batch.steps is None:
        return batch.present
    return torch.stack(list(batch.masks.values()), dim=-1)[batch.steps]


def _names(dataset: MultimodalDataset, index: int, count: int) -> tuple[str, ...]:
    """Names of the turns of a dialogue: the dataset's, or the dialogue's with their number."""
    if dataset.row_ids is not None:
        return dataset.step_ids(index)
    return tuple(f"{dataset.ids[index]}#{turn}" for turn in range(count))
