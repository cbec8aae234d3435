"""Translate one modality into another and back: what survives the round trip belongs to both."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmaffect.encoders import RecurrentEncoder
from mmaffect.ops import check_mask, check_modalities, check_positive, check_shape, keep, masked_mean, masked_softmax


class CyclicTranslation(NamedTuple):
    """What a cyclic translation yields."""

    joint: Tensor
    """the joint representation, a state a source step ``(B, T, 2H)``"""
    translated: dict[str, Tensor]
    """of each modality but the source ``(B, T_m, D_m)``"""
    source: Tensor
    """the source, translated there and back ``(B, T, D)``"""


class CyclicTranslator(nn.Module):
    r"""Multimodal cyclic translation (MCTN: Pham et al., 2019, eqs. 3-10).

    .. math::
        J = \mathrm{enc}(x_S), \quad \hat x_T = \mathrm{dec}(J), \quad
        \hat x_S = \mathrm{dec}(\mathrm{enc}(\hat x_T)), \qquad
        J' = \mathrm{enc}'(J), \quad \hat x_{T'} = \mathrm{dec}'(J'), \dots

    Source and first target are translated into each other by one encoder and one decoder with additive attention
    (Bahdanau et al., 2015); every further modality is translated from the joint representation before it, which
    makes the next. The last is the joint representation to predict from, and is made from the source alone: see
    :meth:`represent`. Losses are the caller's: :func:`~mmaffect.losses.masked_reconstruction` of ``translated`` and
    of the source, under whatever mask says where the truth is known.

    A decoder reads its own last output, and where ``forced`` says so the true value of that step instead: the step
    before, of the modality that it decodes, never the step it is to tell. (In the code that the field runs,
    teacher forcing gives both directions the target, also the one that ends in the source.)

    The recurrences are GRUs, where the paper has LSTMs. Where modalities differ in width, the papers' code pads them to
    one; here each has its own linear map into and out of the recurrences that they share.

    Args:
        widths: of each modality by name, in this order: the source, the target of the cycle, further targets.
        hidden: width H of the recurrences.

    Shape:
        ``values[m] (B, T_m, D_m)``, ``masks[m]``, ``forced[m] (B, T_m)`` → see :class:`CyclicTranslation`.

    Raises:
        ValueError: on less than two modalities, or sizes that are not positive.

    Example:
        >>> translator = CyclicTranslator({"words": 6, "face": 4, "voice": 3}, hidden=8)
        >>> values = {"words": torch.randn(2, 5, 6)}
        >>> masks = {name: torch.ones(2, 5, dtype=torch.bool) for name in ("words", "face", "voice")}
        >>> joint, translated, back = translator(values, masks)
        >>> joint.shape, translated["voice"].shape, back.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 5, 3]), torch.Size([2, 5, 6]))
    """

    def __init__(self, widths: Mapping[str, int], *, hidden: int = 32) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths: expected a source and at least one target, got {tuple(widths)}")
        check_positive(widths=min(widths.values()), hidden=hidden)
        self.widths, self.hidden = dict(widths), hidden
        hops = len(widths) - 2
        self.enter = nn.ModuleList(nn.Linear(width, hidden) for width in widths.values())
        self.leave = nn.ModuleList(nn.Linear(3 * hidden, width) for width in widths.values())
        sizes = [hidden] + [2 * hidden] * hops
        self.encoders = nn.ModuleList(RecurrentEncoder(size, hidden, bidirectional=True) for size in sizes)
        self.decoders = nn.ModuleList(_AttentiveDecoder(hidden) for _ in range(1 + hops))

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.widths}, hidden={self.hidden}"

    def represent(self, source: Tensor, mask: Tensor) -> Tensor:
        """The joint representation alone, for which nothing is decoded.

        Args:
            source: the modality translated from.
            mask: True = a real step.

        Shape:
            ``(B, T, D)``, ``(B, T)`` → ``(B, T, 2H)``.

        Raises:
            ValueError: on another shape.
        """
        return self._joints(source, mask)[-1]

    def forward(
        self,
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        *,
        forced: Mapping[str, Tensor] | None = None,
    ) -> CyclicTranslation:
        """Translate, there and back and on.

        Args:
            values: the source; of other modalities what ``forced`` reads.
            masks: of every modality; True = a real step of the source, a step to be decoded of the others.
            forced: by modality, the source among them; True = the true value of this step is read at the next one.
                Where a truth is absent it must be False. None by default: decoders read what they said.

        Returns:
            Zero at masked steps, and where the source has no step at all.

        Raises:
            ValueError: on other names or shapes.
        """
        names, forced = tuple(self.widths), {} if forced is None else forced
        check_modalities("masks", masks, names)
        if not {names[0], *forced} <= set(values) <= set(names):
            raise ValueError(
                f"values: expected the source {names[0]!r} and what is forced, {tuple(forced)}, "
                f"among {names}, got {tuple(values)}"
            )
        source, mask = values[names[0]], masks[names[0]]
        joints = self._joints(source, mask)
        translated = {}
        for hop, name in enumerate(names[1:]):
            translated[name] = self._decode(hop, hop + 1, joints[hop], mask, values, masks, forced)
        there = masks[names[1]]
        memory = self.encoders[0](self.enter[1](translated[names[1]]), there)
        back = keep(self._decode(0, 0, memory, there, values, masks, forced), mask)
        return CyclicTranslation(joints[-1], translated, back)

    def _joints(self, source: Tensor, mask: Tensor) -> list[Tensor]:
        check_shape("source", source, "B T D", D=next(iter(self.widths.values())))
        check_mask("mask", mask, "B T", B=source.shape[0], T=source.shape[1])
        joints = [self.encoders[0](self.enter[0](keep(source, mask)), mask)]
        for encode in self.encoders[1:]:
            joints.append(encode(joints[-1], mask))
        return joints

    def _decode(
        self,
        hop: int,
        number: int,
        memory: Tensor,
        memory_mask: Tensor,
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        forced: Mapping[str, Tensor],
    ) -> Tensor:
        """Modality ``number`` from a memory, by the decoder of this hop."""
        name, width = list(self.widths.items())[number]
        steps = masks[name]
        check_mask(f"masks[{name!r}]", steps, "B T", B=memory.shape[0])
        teacher, told = None, None
        if name in forced:
            teacher, told = values[name], forced[name]
            sizes = {"B": steps.shape[0], "T": steps.shape[1]}
            check_shape(f"values[{name!r}]", teacher, "B T D", **sizes, D=width)
            check_mask(f"forced[{name!r}]", told, "B T", **sizes)
        told_by = self.decoders[hop]
        return told_by(memory, memory_mask, steps, self.enter[number], self.leave[number], teacher, told)


class _AttentiveDecoder(nn.Module):
    """A GRU that looks back over a memory by additive attention at each step (Bahdanau et al., 2015, A.1.2)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.begin = nn.Linear(2 * hidden, hidden)
        self.key = nn.Linear(2 * hidden, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.cell = nn.GRUCell(3 * hidden, hidden)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.hidden}"

    def forward(
        self,
        memory: Tensor,
        memory_mask: Tensor,
        steps: Tensor,
        enter: nn.Linear,
        leave: nn.Linear,
        teacher: Tensor | None,
        forced: Tensor | None,
    ) -> Tensor:
        """Decode step by step: ``memory (B, S, 2H)`` → ``(B, T, D)``; the state passes over what is no step."""
        keys = self.key(memory)
        state = torch.tanh(self.begin(masked_mean(memory, memory_mask)))
        read = torch.zeros_like(state)
        steps = steps & memory_mask.any(1, keepdim=True)
        told = []
        for t in range(steps.shape[1]):
            scores = self.score(torch.tanh(keys + self.query(state).unsqueeze(1))).squeeze(-1)
            context = (masked_softmax(scores, memory_mask).unsqueeze(1) @ memory).squeeze(1)
            here = steps[:, t, None]
            state = torch.where(here, self.cell(torch.cat([read, context], dim=-1), state), state)
            value = keep(leave(torch.cat([state, context], dim=-1)), steps[:, t])
            told.append(value)
            if teacher is not None and forced is not None:
                value = torch.where(forced[:, t, None], teacher[:, t], value)
            read = torch.where(here, enter(keep(value, steps[:, t])), read)
        return torch.stack(told, dim=1) if told else memory.new_zeros(len(memory), 0, leave.out_features)
