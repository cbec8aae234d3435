"""The batch: what every layer, system, loss and metric is handed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from mmaffect.data.spec import SequenceKind
from mmaffect.ops import check_choice, keep, masked_mean


@dataclass(frozen=True)
class MultimodalBatch:
    """Samples of several modalities, padded, with masks that say what is really there.

    Absent values are stored as zero, but zero never means absent: only the masks do.

    Args:
        inputs: values by modality, in a fixed order.
        masks: bool by modality; True where the modality is really there at that step.
        targets: class (int64, -100 = unlabelled), multi-label (float 0/1) or score (float, NaN = unlabelled).
        steps: True at the real steps of the time axis that all modalities share (dialogues and windows);
            None where every modality has a time axis of its own.
        id: the samples' names, one a sample (dialogues: one a dialogue).
        index: the samples' rows in the dataset: a key for seeded patterns and for banks.
        speaker: who speaks at each step, numbered within the conversation from 0; None where unknown.
        confounder: an observed discrete confounder; None where there is none.

    Shape:
        ``inputs[m] (B, T_m, D_m)``, or int64 ``(B, T_m)`` where m is token ids (see ``DataSpec.tokens``);
        ``masks[m] (B, T_m)``; ``targets (B,)``, ``(B, T)``, ``(B, C)`` or ``(B, T, C)``; ``steps (B, T)``;
        ``index (B,)``; ``speaker (B, T)``; ``confounder (B,)`` or ``(B, T)``.

    Example:
        >>> batch = MultimodalBatch(
        ...     inputs={"text": torch.ones(2, 3, 4), "audio": torch.ones(2, 3, 2)},
        ...     masks={"text": torch.ones(2, 3, dtype=torch.bool), "audio": torch.ones(2, 3, dtype=torch.bool)},
        ...     targets=torch.tensor([0, 1]), steps=None, id=("a", "b"), index=torch.arange(2))
        >>> batch.present.tolist()
        [[True, True], [True, True]]
        >>> batch.drop(torch.tensor([[True, False], [True, True]])).present.tolist()
        [[True, False], [True, True]]
    """

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    targets: Tensor
    steps: Tensor | None
    id: tuple[str, ...]
    index: Tensor
    speaker: Tensor | None = None
    confounder: Tensor | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Modality names in order."""
        return tuple(self.inputs)

    @property
    def present(self) -> Tensor:
        """Which modality has at least one step: bool ``(B, M)``."""
        return torch.stack([mask.any(1) for mask in self.masks.values()], dim=1)

    def observed(self, sequence: SequenceKind) -> Tensor:
        """Where something is there to predict from: what is left with nothing enters no loss and no metric.

        Args:
            sequence: kind of sequence, as in ``DataSpec``.

        Shape:
            → bool ``(B, T)`` for a dialogue, else ``(B,)``.
        """
        if sequence == "dialogue":
            return torch.stack(list(self.masks.values())).any(0)
        return self.present.any(1)

    @property
    def size(self) -> int:
        """Number of samples B."""
        return int(self.index.shape[0])

    def drop(self, available: Tensor | Mapping[str, Tensor]) -> "MultimodalBatch":
        """Hide what is not available: its mask becomes False and its values zero.

        Args:
            available: bool; by sample ``(B, M)``, by step ``(B, T, M)``, or masks by modality ``(B, T_m)``
                (modalities not named stay as they are).

        Returns:
            A new batch; what was absent already stays absent.

        Raises:
            ValueError: on an unknown modality name or another shape.
        """
        if isinstance(available, Mapping):
            for name in available:
                check_choice("available", name, self.names)
            by_name = dict(available)
        else:
            if (
                available.dtype != torch.bool
                or available.dim() not in (2, 3)
                or available.shape[-1] != len(self.inputs)
            ):
                raise ValueError(
                    f"available: expected bool of shape (B, M) or (B, T, M) with M = {len(self.inputs)}, "
                    f"got {available.dtype} of shape {tuple(available.shape)}"
                )
            columns = available.unbind(-1)
            by_name = {n: c if c.dim() == 2 else c[:, None] for n, c in zip(self.names, columns, strict=True)}
        masks = {n: m & by_name[n] if n in by_name else m for n, m in self.masks.items()}
        inputs = {n: keep(x, masks[n]) if n in by_name else x for n, x in self.inputs.items()}
        return replace(self, inputs=inputs, masks=masks)

    def pooled(self) -> "MultimodalBatch":
        """Each modality's mean over its own steps, as one step that all share; shared time is left as it is.

        Shape:
            ``inputs[m] (B, T_m, D_m)`` → ``(B, 1, D_m)``; ``steps`` → ``(B, 1)``.

        Raises:
            ValueError: if a modality is token ids, which have no mean.
        """
        if self.steps is not None:
            return self
        for name, x in self.inputs.items():
            if x.dim() == 2:
                raise ValueError(f"inputs[{name!r}]: token ids have no mean; expected vectors (B, T, D)")
        inputs = {name: masked_mean(x, self.masks[name]).unsqueeze(1) for name, x in self.inputs.items()}
        masks = {name: mask.any(1, keepdim=True) for name, mask in self.masks.items()}
        return replace(self, inputs=inputs, masks=masks, steps=self.present.any(1, keepdim=True))

    def to(self, *args: Any, **kwargs: Any) -> "MultimodalBatch":
        """Move or cast as ``Tensor.to`` does; only floating-point tensors change their dtype."""

        def move(value: Any) -> Any:
            if isinstance(value, Tensor):
                if value.is_floating_point():
                    return value.to(*args, **kwargs)
                # Never by way of another dtype: half precision cannot tell ids above 2048 apart.
                device = value.new_empty(0).to(*args, **kwargs).device
                return value.to(device, non_blocking=kwargs.get("non_blocking", False))
            if isinstance(value, dict):
                return {k: move(v) for k, v in value.items()}
            return value

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})


torch.export.register_dataclass(MultimodalBatch, serialized_type_name="mmaffect.data.MultimodalBatch")
