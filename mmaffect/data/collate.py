"""From samples to a batch: padding, and the one place where values are checked."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmaffect.data.batch import MultimodalBatch
from mmaffect.data.sample import Sample
from mmaffect.ops import InputError, keep


def collate(samples: Sequence[Sample]) -> MultimodalBatch:
    """Pad samples into a batch: values with zero, masks with False, targets with -100 (classes) or NaN.

    Values that are not observed become zero whatever they were. A modality may be absent from a sample: zero steps,
    or a mask that is False throughout. Every time axis is at least one step long, so that a modality nobody in the
    batch has still has a shape.

    Args:
        samples: at least one; of the same modalities, widths and kind.

    Raises:
        InputError: naming the sample, if it has no modality at all, if an observed value is NaN or infinite, or a
            token id negative, if modalities, widths or kinds differ between samples, or if shared time is not shared.

    Example:
        >>> def sample(id, length):
        ...     return Sample({"text": torch.ones(length, 2)}, {"text": torch.ones(length, dtype=torch.bool)},
        ...                   torch.tensor(1), None, id, 0)
        >>> collate([sample("a", 1), sample("b", 3)]).masks["text"].tolist()
        [[True, False, False], [True, True, True]]
    """
    if not samples:
        raise InputError("samples: expected at least one, got none")
    first = samples[0]
    for sample in samples:
        _check(sample, first)
    steps = None if first.steps is None else _pad([s.steps for s in samples if s.steps is not None], False, 1)
    size = 1 if steps is None else steps.shape[1]
    masks = {name: _pad([s.masks[name] for s in samples], False, size) for name in first.inputs}
    inputs = {name: keep(_pad([s.inputs[name] for s in samples], 0, size), masks[name]) for name in first.inputs}
    _check_values(samples, inputs, masks)

    targets = [s.target for s in samples]
    fill = float("nan") if first.target.is_floating_point() else -100
    confounder = [s.confounder for s in samples if s.confounder is not None]
    return MultimodalBatch(
        inputs=inputs,
        masks=masks,
        targets=_pad(targets, fill, size) if first.by_step else torch.stack(targets),
        steps=steps,
        id=tuple(s.id for s in samples),
        index=torch.tensor([s.index for s in samples]),
        speaker=None if first.speaker is None else _pad([s.speaker for s in samples if s.speaker is not None], 0, size),
        confounder=None if not confounder else _pad(confounder, 0, size) if first.by_step else torch.stack(confounder),
    )


def _pad(rows: Sequence[Tensor], fill: float, least: int) -> Tensor:
    """Stack along a new first dimension, padded behind to the longest, and to ``least`` steps."""
    padded = pad_sequence(list(rows), batch_first=True, padding_value=fill)
    short = least - padded.shape[1]
    if short <= 0:
        return padded
    return torch.cat([padded, padded.new_full((len(padded), short, *padded.shape[2:]), fill)], dim=1)


def _check(sample: Sample, first: Sample) -> None:
    """Raise unless ``sample`` can stand in a batch beside ``first``."""
    given, wanted = sample.inputs.keys(), first.inputs.keys()
    if given != wanted or sample.masks.keys() != wanted:
        differ = sorted((given ^ wanted) | (sample.masks.keys() ^ wanted))
        raise InputError(
            f"sample {sample.id!r}: expected the modalities {tuple(wanted)} of sample {first.id!r} in inputs and "
            f"masks, got {tuple(given)} and {tuple(sample.masks)}; these differ: {', '.join(differ)}"
        )
    for name, value in sample.inputs.items():
        mask, like = sample.masks[name], first.inputs[name]
        tokens = like.dim() == 1 and like.dtype == torch.int64
        fits = value.shape[1:] == like.shape[1:] and (value.dtype == torch.int64 if tokens else value.dim() == 2)
        if not fits or mask.shape != value.shape[:1] or mask.dtype != torch.bool:
            width = like.shape[1] if like.dim() == 2 else "D"
            expected = "token ids int64 (T,)" if tokens else f"values (T, {width})"
            raise InputError(
                f"sample {sample.id!r}: modality {name!r}: expected {expected} and a bool mask (T,), "
                f"got {tuple(value.shape)} and {mask.dtype} {tuple(mask.shape)}"
            )
        if sample.steps is not None and len(value) not in (0, len(sample.steps)):
            raise InputError(
                f"sample {sample.id!r}: modality {name!r}: expected the {len(sample.steps)} steps that all modalities "
                f"share (or none, where it is absent), got {len(value)}"
            )
    for field in ("steps", "speaker", "confounder"):
        if (getattr(sample, field) is None) != (getattr(first, field) is None):
            raise InputError(f"sample {sample.id!r}: {field}: expected in every sample of a batch or in none")
    trailing = slice(1, None) if first.by_step else slice(None)
    alike = sample.target.shape[trailing] == first.target.shape[trailing] and sample.target.dtype == first.target.dtype
    if sample.by_step != first.by_step or not alike:
        raise InputError(
            f"sample {sample.id!r}: target: expected one like that of sample {first.id!r}, {first.target.dtype} "
            f"{tuple(first.target.shape)}, got {sample.target.dtype} {tuple(sample.target.shape)}"
        )
    along = {"speaker": sample.speaker}
    if sample.by_step:
        along |= {"target": sample.target, "confounder": sample.confounder}
    for field, column in along.items():
        if column is not None and (sample.steps is None or column.shape[:1] != sample.steps.shape):
            raise InputError(f"sample {sample.id!r}: {field}: expected one entry a step, got {tuple(column.shape)}")


def _check_values(samples: Sequence[Sample], inputs: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
    """Raise unless every sample has something, and all that is observed is finite."""
    has = torch.stack([mask.any(1) for mask in masks.values()]).any(0)
    if not has.all():
        sample = samples[int((~has).nonzero()[0])]
        raise InputError(
            f"sample {sample.id!r}: expected at least one modality at one step, got none of {', '.join(sample.inputs)}"
        )
    for name, value in inputs.items():
        if value.dim() == 2 and (value < 0).any():
            row = int((value < 0).any(1).nonzero()[0])
            raise InputError(
                f"sample {samples[row].id!r}: modality {name!r}: expected token ids of at least 0, "
                f"got {int(value[row].min())}"
            )
        finite = torch.isfinite(value).flatten(1).all(1)
        if not finite.all():
            row = int((~finite).nonzero()[0])
            count = int((~torch.isfinite(value[row])).sum())
            raise InputError(
                f"sample {samples[row].id!r}: modality {name!r}: expected finite values at observed steps, "
                f"got {count} that are NaN or infinite"
            )
