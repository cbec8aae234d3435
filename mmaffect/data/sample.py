"""One sample, unpadded: what a dataset yields and a batch is made of."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One sample: a dialogue, a window of turns, or a clip.

    Args:
        inputs: values by modality; zero steps where a modality is absent altogether.
        masks: bool by modality; True where the modality is really there.
        target: as in ``MultimodalBatch``, without the batch dimension.
        steps: all True, one a step of the shared time; None where each modality has a time axis of its own.
        id: its name.
        index: its row in the dataset at hand.
        speaker: who speaks at each step, numbered within the conversation from 0.
        confounder: code of an observed confounder: a scalar, or one a step.
        by_step: whether ``target`` and ``confounder`` hold an entry a step (dialogues) or one for the sample.

    Shape:
        ``inputs[m] (T_m, D_m)``, or int64 ``(T_m,)`` where m is token ids; ``masks[m] (T_m,)``;
        ``target ()``, ``(T,)``, ``(C,)`` or ``(T, C)``; ``steps (T,)``; ``speaker (T,)``;
        ``confounder ()`` or ``(T,)``.
    """

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    target: Tensor
    steps: Tensor | None
    id: str
    index: int
    speaker: Tensor | None = None
    confounder: Tensor | None = None
    by_step: bool = False
