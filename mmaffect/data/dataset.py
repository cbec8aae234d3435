"""Datasets: samples of unequal length cut as views from flat arrays, without padding and without copies."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmaffect.data.batch import MultimodalBatch
from mmaffect.data.collate import collate
from mmaffect.data.sample import Sample
from mmaffect.data.spec import DataSpec
from mmaffect.ops import check_choice, keep, lengths_to_mask


class MultimodalDataset(Dataset[Sample]):
    """Map-style dataset over flat arrays: sample ``i`` is the rows ``spans[m][i, 0] : spans[m][i, 1]`` of modality m.

    In ``"dialogue"`` and ``"window"`` all modalities share one time axis, so one ``spans`` tensor serves all, and
    windows overlap in the arrays they are cut from; in ``"single"`` each modality has spans of its own.

    Args:
        spec: names, widths, kinds.
        values: rows of each modality, finite where observed; token ids where ``spec.tokens`` names it.
        observed: bool; True where the modality is really there.
        spans: first row and the row after the last: one tensor (shared time) or one a modality (``"single"``).
        targets: one a row in ``"dialogue"``, else one a sample.
        ids: names of the samples.
        row_ids: names of the rows of the shared time, if they have any.
        speaker: who speaks at each row of the shared time, numbered within the conversation.
        confounder: codes, one a row in ``"dialogue"``, else one a sample.
        groups: what a sample belongs to, by name of the grouping (for folds and for tests by group).

    Shape:
        ``values[m] (R_m, D_m)``, or int64 ``(R_m,)`` of token ids; ``observed[m] (R_m,)``; ``spans (N, 2)``;
        ``targets (R, ...)`` or ``(N, ...)``; ``speaker (R,)``; ``confounder (R,)`` or ``(N,)``.

    Raises:
        ValueError: if names, widths or lengths do not fit together.

    Example:
        >>> data = MultimodalDataset(
        ...     DataSpec({"text": 2}, "class", ("sad", "happy"), "window"),
        ...     values={"text": torch.arange(6.0).reshape(3, 2)}, observed={"text": torch.ones(3, dtype=torch.bool)},
        ...     spans=torch.tensor([[0, 1], [0, 2], [1, 3]]), targets=torch.tensor([0, 1, 1]), ids=("a", "b", "c"))
        >>> data[2].inputs["text"].tolist(), data.max_steps
        ([[2.0, 3.0], [4.0, 5.0]], 2)
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        spec: DataSpec,
        *,
        values: Mapping[str, Tensor],
        observed: Mapping[str, Tensor],
        spans: Tensor | Mapping[str, Tensor],
        targets: Tensor,
        ids: Sequence[str],
        row_ids: Sequence[str] | None = None,
        speaker: Tensor | None = None,
        confounder: Tensor | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.spec = spec
        self.shared = spec.sequence != "single"
        self.values = {name: values[name] for name in spec.names} if set(values) == set(spec.names) else {}
        if not self.values or set(observed) != set(spec.names):
            raise ValueError(f"values, observed: expected {spec.names}, got {tuple(values)}, {tuple(observed)}")
        self.observed = {name: observed[name] for name in spec.names}
        if isinstance(spans, Tensor) != self.shared:
            raise ValueError(f"spans: expected {'one tensor' if self.shared else 'a tensor a modality'}, got {spans!r}")
        self.spans = {name: spans if isinstance(spans, Tensor) else spans[name] for name in spec.names}
        self.targets = targets
        self.ids = tuple(ids)
        self.row_ids = None if row_ids is None else tuple(row_ids)
        self.speaker = speaker
        self.confounder = confounder
        self.groups = {name: tuple(column) for name, column in (groups or {}).items()}
        self._check()

    def _check(self) -> None:
        count = len(self.ids)
        for name, width in self.spec.modalities.items():
            value, mask, span = self.values[name], self.observed[name], self.spans[name]
            if name in self.spec.tokens:
                _check_tokens(name, value, mask, width)
            elif value.dim() != 2 or value.shape[1] != width or mask.shape != value.shape[:1]:
                raise ValueError(
                    f"values[{name!r}]: expected (R, {width}) with a mask (R,), "
                    f"got {tuple(value.shape)}, {tuple(mask.shape)}"
                )
            if span.shape != (count, 2):
                raise ValueError(f"spans[{name!r}]: expected ({count}, 2), got {tuple(span.shape)}")
            if count and (span.min() < 0 or span.max() > len(value) or (span[:, 1] < span[:, 0]).any()):
                raise ValueError(f"spans[{name!r}]: expected 0 <= start <= stop <= {len(value)}")
        rows = len(next(iter(self.values.values())))
        if self.shared and any(len(value) != rows for value in self.values.values()):
            sizes = {name: len(value) for name, value in self.values.items()}
            raise ValueError(f"values: expected equally many rows where time is shared, got {sizes}")
        entries = rows if self.spec.sequence == "dialogue" else count
        wanted = {"targets": entries, "confounder": entries, "speaker": rows}
        for field, size in wanted.items():
            column = getattr(self, field)
            if column is not None and len(column) != size:
                raise ValueError(f"{field}: expected {size} entries, got {len(column)}")
        if self.speaker is not None and not self.shared:
            raise ValueError("speaker: expected None in 'single', where no time axis is shared")
        if self.row_ids is not None and len(self.row_ids) != rows:
            raise ValueError(f"row_ids: expected {rows} names, got {len(self.row_ids)}")
        for name, column in self.groups.items():
            if len(column) != count:
                raise ValueError(f"groups[{name!r}]: expected {count} entries, got {len(column)}")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Cut one sample: views, no copies."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} samples")
        index %= len(self)
        cut = {name: slice(*span[index].tolist()) for name, span in self.spans.items()}
        shared = cut[self.spec.names[0]]
        at = shared if self.spec.sequence == "dialogue" else index
        return Sample(
            inputs={name: self.values[name][rows] for name, rows in cut.items()},
            masks={name: self.observed[name][rows] for name, rows in cut.items()},
            target=self.targets[at],
            steps=torch.ones(shared.stop - shared.start, dtype=torch.bool) if self.shared else None,
            id=self.ids[index],
            index=index,
            speaker=None if self.speaker is None else self.speaker[shared],
            confounder=None if self.confounder is None else self.confounder[at],
            by_step=self.spec.sequence == "dialogue",
        )

    def step_ids(self, index: int) -> tuple[str, ...]:
        """Names of the steps a prediction is made for: every turn of a dialogue, else the sample itself."""
        if self.spec.sequence != "dialogue" or self.row_ids is None:
            return (self.ids[index],)
        start, stop = self.spans[self.spec.names[0]][index].tolist()
        return self.row_ids[start:stop]

    @property
    def lengths(self) -> dict[str, Tensor]:
        """Steps of each sample by modality, ``(N,)``."""
        return {name: span[:, 1] - span[:, 0] for name, span in self.spans.items()}

    @property
    def max_steps(self) -> int:
        """Longest time axis: the shared one, or the longest of any modality in ``"single"``."""
        return max((int(length.max()) for length in self.lengths.values() if len(length)), default=0)

    def protected(self, name: str) -> Tensor:
        """Steps that no protocol of missing data hides while something of their modality is left: start and end.

        Where nothing else is left, the modality is absent, start and end included.

        Args:
            name: of the modality; of vectors every step may go missing.

        Shape:
            → bool ``(N, T_m)``, with ``T_m`` the longest of ``lengths[name]``.

        Raises:
            ValueError: on an unknown name.
        """
        check_choice("name", name, self.spec.names)
        real = lengths_to_mask(self.lengths[name])
        if name not in self.spec.tokens:
            return torch.zeros_like(real)
        special = torch.tensor(self.spec.tokens[name].protected, dtype=torch.int64)
        guarded = torch.isin(self.values[name], special) & self.observed[name]
        at = self.spans[name][:, :1] + torch.arange(real.shape[1])
        return real & guarded[torch.where(real, at, 0)] if len(guarded) else real

    def subset(self, indices: Sequence[int] | Tensor) -> "MultimodalDataset":
        """Some of the samples, numbered anew from 0; the flat arrays are shared.

        Args:
            indices: rows of this dataset; each at most once or several times (a bootstrap draw).
        """
        rows = torch.as_tensor(indices, dtype=torch.int64)
        outside = rows[(rows < 0) | (rows >= len(self))]
        if len(outside):
            raise ValueError(f"indices: expected rows of 0 … {len(self) - 1}, got {outside[0].item()}")
        dialogue = self.spec.sequence == "dialogue"
        spans = {name: span[rows] for name, span in self.spans.items()}
        picked = rows.tolist()
        return MultimodalDataset(
            self.spec,
            values=self.values,
            observed=self.observed,
            spans=spans[self.spec.names[0]] if self.shared else spans,
            targets=self.targets if dialogue else self.targets[rows],
            ids=[self.ids[i] for i in picked],
            row_ids=self.row_ids,
            speaker=self.speaker,
            confounder=self.confounder if dialogue or self.confounder is None else self.confounder[rows],
            groups={name: [column[i] for i in picked] for name, column in self.groups.items()},
        )

    def batch(self) -> MultimodalBatch:
        """All samples in one batch: for small data and for methods that fit in closed form."""
        return collate([self[i] for i in range(len(self))])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, values, masks, targets and groups of these samples, in order.

        It depends on the samples alone, not on what else lies in the flat arrays they are cut from.
        """
        digest = hashlib.sha256(repr((dict(self.spec.modalities), self.spec, self.ids, self.groups)).encode())
        if self.spec.tokens:
            digest.update(repr(dict(self.spec.tokens)).encode())

        def add(tensor: Tensor | None) -> None:
            if tensor is None:
                digest.update(b"none")
            else:
                array = np.ascontiguousarray(tensor.numpy())
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(array.data)

        for name in self.spec.names:
            used, spans = _used(self.spans[name], len(self.values[name]))
            add(keep(self.values[name][used], self.observed[name][used]))
            add(self.observed[name][used])
            add(spans)
        shared, _ = _used(self.spans[self.spec.names[0]], len(self.values[self.spec.names[0]]))
        by_row = self.spec.sequence == "dialogue"
        add(self.targets[shared] if by_row else self.targets)
        add(self.speaker[shared] if self.speaker is not None else None)
        add(self.confounder[shared] if by_row and self.confounder is not None else self.confounder)
        return digest.hexdigest()


def _check_tokens(name: str, ids: Tensor, observed: Tensor, size: int) -> None:
    if ids.dim() != 1 or ids.dtype != torch.int64 or observed.shape != ids.shape:
        raise ValueError(
            f"values[{name!r}]: expected token ids int64 (R,) with a mask (R,), "
            f"got {ids.dtype} {tuple(ids.shape)}, {tuple(observed.shape)}"
        )
    outside = ids[observed & ((ids < 0) | (ids >= size))]
    if len(outside):
        raise ValueError(f"values[{name!r}]: expected token ids of 0 … {size - 1}, got {outside[0].item()}")


def _used(spans: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Which of ``rows`` some span covers, and the spans renumbered to those rows alone."""
    depth = torch.zeros(rows + 1, dtype=torch.int64)
    full = spans[spans[:, 1] > spans[:, 0]]
    depth.index_add_(0, full[:, 0], torch.ones(len(full), dtype=torch.int64))
    depth.index_add_(0, full[:, 1], -torch.ones(len(full), dtype=torch.int64))
    used = depth.cumsum(0)[:rows] > 0
    before = torch.cat([torch.zeros(1, dtype=torch.int64), used.long().cumsum(0)])
    return used, before[spans]
