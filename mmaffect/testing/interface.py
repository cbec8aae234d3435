"""What a system must offer, and what must never reach it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmaffect.data import DataSpec, Sample
from mmaffect.data import collate as default_collate
from mmaffect.testing.batches import missing_pair, random_batch
from mmaffect.testing.case import seeded


class LossProgress(NamedTuple):
    """Where the training stands, as a loss is told it: the fields of ``mmaffect.training.Progress``."""

    stage: str
    epoch: int
    epochs: int
    fraction: float


def stage_starts(system: object) -> list[LossProgress]:
    """The start of each stage of a system; of one stage called ``"train"`` where it has none.

    Args:
        system: may have ``stages``, each with ``name`` and ``epochs``.
    """
    stages = [(s.name, s.epochs) for s in getattr(system, "stages", ())] or [("train", 1)]
    return [LossProgress(name, 0, epochs, 0.0) for name, epochs in stages]


def check_interface(
    build: Callable[[DataSpec], nn.Module],
    spec: DataSpec,
    *,
    lengths: Sequence[int] = (5, 3, 1, 4),
    seed: int = 0,
) -> None:
    """A system has ``represent``, ``head``, ``forward`` and ``loss``, and they give what the specification says.

    Args:
        build: makes the system for a specification.
        spec: what it is built for.
        lengths: steps of each sample; see :func:`random_batch`.
        seed: of data, parameters and noise.

    Raises:
        AssertionError: naming what is lacking, the shape of the forward, or the loss term that is no scalar.
    """
    complete, observed = missing_pair(spec, lengths, seed)
    with seeded(seed):
        system: Any = build(spec).eval()
        for name in ("represent", "head", "loss"):
            if not callable(getattr(system, name, None)):
                raise AssertionError(f"interface: {type(system).__name__} has no {name}")
        system.represent(observed)
        output = system(observed)
        steps = tuple(observed.masks[spec.names[0]].shape) if spec.sequence == "dialogue" else (len(lengths),)
        expected = steps if spec.target == "score" and spec.outputs == 1 else (*steps, spec.outputs)
        if not isinstance(output, Tensor) or tuple(output.shape) != expected:
            given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise AssertionError(f"interface: expected a forward of shape {expected}, got {given}")
        for progress in stage_starts(system):
            for other in (complete, None):
                _check_terms(system.loss(observed, other, progress), progress.stage)


def check_refusal(spec: DataSpec, collate: Callable[[list[Sample]], object] = default_collate) -> None:
    """A sample with no modality at all is refused where data enter.

    Args:
        spec: kind of data.
        collate: makes a batch of samples; the library's by default.

    Raises:
        AssertionError: if a batch is made of it.
    """
    with seeded(0):
        batch = random_batch(spec, (2, 2))
    by_step = spec.sequence == "dialogue"
    samples = [
        Sample(
            inputs={n: x[row] for n, x in batch.inputs.items()},
            masks={n: m[row] & (row == 0) for n, m in batch.masks.items()},
            target=batch.targets[row],
            steps=None if batch.steps is None else batch.steps[row],
            id=batch.id[row],
            index=row,
            speaker=None if batch.speaker is None else batch.speaker[row],
            confounder=None if batch.confounder is None else batch.confounder[row],
            by_step=by_step,
        )
        for row in range(2)
    ]
    try:
        collate(samples)
    except ValueError:
        return
    raise AssertionError("refusal: a sample without any modality is accepted: expected collate to raise ValueError")


def _check_terms(terms: object, stage: str) -> None:
    if not isinstance(terms, dict) or not terms:
        raise AssertionError(f"interface: expected the loss of stage {stage!r} as a dict of named terms, got {terms!r}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.dim() != 0 or not term.is_floating_point():
            given = f"{term.dtype} of shape {tuple(term.shape)}" if isinstance(term, Tensor) else repr(term)
            raise AssertionError(f"interface: expected loss term {name!r} of stage {stage!r} as a scalar, got {given}")
