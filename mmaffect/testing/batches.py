"""Random batches of every kind a data specification allows."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmaffect.data import DataSpec, MultimodalBatch, Sample, collate
from mmaffect.missing import random_rate
from mmaffect.ops import check_positive


def random_batch(
    spec: DataSpec,
    lengths: Sequence[int] = (5, 3, 1, 4),
    *,
    absent: float = 0.0,
    unlabelled: float = 0.0,
    generator: torch.Generator | None = None,
) -> MultimodalBatch:
    """Normal values, uniform labels, speakers and confounders, as they would come out of ``collate``.

    Args:
        spec: names, widths, kind of target and of sequence.
        lengths: steps of each sample. For ``"single"`` each modality has a time axis of its own: the lengths go
            round by one sample a modality.
        absent: share of modalities that are absent, at least one being left: of turns in dialogues, of samples
            elsewhere (see ``mmaffect.missing.random_rate``).
        unlabelled: share of targets without a label.
        generator: where the randomness comes from.

    Shape:
        ``inputs[m] (B, T_m, D_m)``; targets by the spec's kinds, as in ``MultimodalBatch``, without an axis
        for a single score.

    Raises:
        ValueError: on lengths below 1, or shares out of range.

    Example:
        >>> spec = DataSpec({"text": 4, "audio": 2}, "class", ("sad", "happy"), "dialogue", speakers=2)
        >>> batch = random_batch(spec, (2, 3), generator=torch.Generator().manual_seed(0))
        >>> {name: tuple(x.shape) for name, x in batch.inputs.items()}
        {'text': (2, 3, 4), 'audio': (2, 3, 2)}
        >>> batch.targets.shape, batch.speaker.shape
        (torch.Size([2, 3]), torch.Size([2, 3]))
    """
    check_positive(lengths=min(lengths, default=0))
    if not 0 <= unlabelled <= 1:
        raise ValueError(f"unlabelled: expected a share in [0, 1], got {unlabelled}")
    batch = collate([_sample(spec, lengths, row, generator) for row in range(len(lengths))])
    targets = batch.targets
    lost = torch.rand(targets.shape, generator=generator) < unlabelled
    blank = torch.full_like(targets, float("nan") if targets.is_floating_point() else -100)
    batch = replace(batch, targets=torch.where(lost, blank, targets))
    leading = batch.targets.shape[:2] if spec.sequence == "dialogue" else batch.targets.shape[:1]
    available = random_rate(leading.numel(), len(spec.names), absent, generator)
    return batch.drop(available.reshape(*leading, -1))


def missing_pair(spec: DataSpec, lengths: Sequence[int], seed: int) -> tuple[MultimodalBatch, MultimodalBatch]:
    """A complete and an observed batch; in both every modality is there somewhere and absent somewhere.

    Turns of dialogues, or samples, lack a modality in turn, already in the complete batch; the observed one lacks
    another, never all. A quarter of the targets is unlabelled; the samples have no ``id``.

    Args:
        spec: names, widths, kind of target and of sequence.
        lengths: steps of each sample; see :func:`random_batch`.
        seed: of values and labels.

    Returns:
        Complete, observed.
    """
    batch = random_batch(spec, lengths, unlabelled=0.25, generator=torch.Generator().manual_seed(seed))
    leading = batch.targets.shape[:2] if spec.sequence == "dialogue" else batch.targets.shape[:1]
    count = len(spec.names)
    # In turn, one modality is lacking or none is; never all.
    turn = torch.arange(leading.numel()).reshape(leading).unsqueeze(-1) % (count + 1)
    first = (torch.arange(count) != turn) | (count == 1)
    both = first & (torch.arange(count) != (turn + 1) % (count + 1))
    both = torch.where(both.any(-1, keepdim=True), both, first)
    complete = replace(batch.drop(first), id=())
    return complete, complete.drop(both)


def _sample(spec: DataSpec, lengths: Sequence[int], row: int, generator: torch.Generator | None) -> Sample:
    shared = spec.sequence != "single"
    steps = [lengths[row if shared else (row + number) % len(lengths)] for number in range(len(spec.names))]
    inputs = {
        name: torch.randn(size, width, generator=generator)
        for (name, width), size in zip(spec.modalities.items(), steps, strict=True)
    }
    by_step = spec.sequence == "dialogue"
    leading = (lengths[row],) if by_step else ()

    def whole(count: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randint(count, shape, generator=generator)

    labels = leading if spec.target == "score" and spec.outputs == 1 else (*leading, spec.outputs)
    if spec.target == "class":
        target = whole(spec.outputs, leading)
    elif spec.target == "multilabel":
        target = whole(2, labels).float()
    else:
        target = torch.randn(labels, generator=generator)
    return Sample(
        inputs=inputs,
        masks={name: torch.ones(len(x), dtype=torch.bool) for name, x in inputs.items()},
        target=target,
        steps=torch.ones(lengths[row], dtype=torch.bool) if shared else None,
        id=f"sample{row}",
        index=row,
        speaker=whole(spec.speakers, (lengths[row],)) if shared and spec.speakers else None,
        confounder=whole(spec.confounders, leading) if spec.confounders else None,
        by_step=by_step,
    )
