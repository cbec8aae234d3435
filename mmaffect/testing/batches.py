"""Random batches and datasets of every kind a data specification allows."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmaffect.data import DataSpec, MultimodalBatch, MultimodalDataset, Sample, Vocabulary, collate
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
    """Normal values, uniform tokens, labels, speakers and confounders, as they would come out of ``collate``.

    Args:
        spec: names, widths, kind of target and of sequence.
        lengths: steps of each sample. For ``"single"`` each modality has a time axis of its own: the lengths go
            round by one sample a modality.
        absent: share of modalities that are absent, at least one being left: of turns in dialogues, of samples
            elsewhere (see ``mmaffect.missing.random_rate``).
        unlabelled: share of targets without a label.
        generator: where the randomness comes from.

    Shape:
        ``inputs[m] (B, T_m, D_m)`` or ``(B, T_m)`` of token ids; targets by the spec's kinds, as in
        ``MultimodalBatch``, without an axis for a single score.

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


def random_dataset(
    spec: DataSpec, lengths: Sequence[int] = (5, 3, 1, 4), *, generator: torch.Generator | None = None
) -> MultimodalDataset:
    """A dataset of the samples that :func:`random_batch` makes a batch of, with everything present and labelled.

    Args:
        spec: names, widths, kind of target and of sequence.
        lengths: steps of each sample; see :func:`random_batch`.
        generator: where the randomness comes from.

    Raises:
        ValueError: on lengths below 1.

    Example:
        >>> words = Vocabulary(9, unknown=1, mask=2, special=(0, 1, 2, 3, 4))
        >>> spec = DataSpec({"text": 9, "audio": 2}, "class", ("sad", "happy"), "single", tokens={"text": words})
        >>> data = random_dataset(spec, (4, 3), generator=torch.Generator().manual_seed(0))
        >>> data[0].inputs["text"].tolist(), data.protected("text").tolist()
        ([3, 8, 6, 4], [[True, False, False, True], [True, False, True, False]])
    """
    check_positive(lengths=min(lengths, default=0))
    samples = [_sample(spec, lengths, row, generator) for row in range(len(lengths))]

    def spans(name: str) -> Tensor:
        ends = torch.tensor([len(s.inputs[name]) for s in samples]).cumsum(0)
        return torch.stack([torch.cat([ends.new_zeros(1), ends[:-1]]), ends], 1)

    def column(field: str, by_step: bool) -> Tensor | None:
        found = [getattr(s, field) for s in samples]
        return None if found[0] is None else torch.cat(found) if by_step else torch.stack(found)

    by_step = spec.sequence == "dialogue"
    targets = column("target", by_step)
    assert targets is not None  # every sample has one
    return MultimodalDataset(
        spec,
        values={n: torch.cat([s.inputs[n] for s in samples]) for n in spec.names},
        observed={n: torch.cat([s.masks[n] for s in samples]) for n in spec.names},
        spans={n: spans(n) for n in spec.names} if spec.sequence == "single" else spans(spec.names[0]),
        targets=targets,
        ids=[s.id for s in samples],
        speaker=column("speaker", True),
        confounder=column("confounder", by_step),
    )


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
        name: _tokens(spec.tokens[name], size, generator)
        if name in spec.tokens
        else torch.randn(size, width, generator=generator)
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


def _tokens(vocabulary: Vocabulary, size: int, generator: torch.Generator | None) -> Tensor:
    """Words, between start and end if there are such and room for a word."""
    words = torch.tensor([i for i in range(vocabulary.size) if i not in vocabulary.special])
    ids = words[torch.randint(len(words), (size,), generator=generator)]
    ends = [i for i in vocabulary.protected if i != 0]
    if len(ends) == 2 and size > 2:
        ids[0], ids[-1] = ends
    return ids
