"""Text in: token ids become vectors before any system sees them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from examples.wrap import Wrapper
from mmaffect.data import DataSpec, MultimodalBatch, MultimodalDataset
from mmaffect.encoders import PretrainedText, TokenEmbedding
from mmaffect.ops import InputError

_CHUNK = 64
# CIDer's, for its BERT; biases and normalisations do not decay.
_PRETRAINED_RATE, _PRETRAINED_DECAY = 5e-5, 1e-3


@dataclass(frozen=True)
class TextConfig:
    """What turns token ids into vectors.

    Args:
        encoder: ``"embedding"``, a learned vector a token; or ``"pretrained"``, a transformer from a folder.
        width: of the embedding's vectors.
        folder: of the pretrained transformer: the one that the recipe's tokenizer belongs to.
        trainable: fine-tune the pretrained one; False keeps it as it is.
        learning_rate: of the encoder; by default that of the rest for an embedding, and 5e-5 for a pretrained one.
        weight_decay: of the encoder, but for biases and normalisations; by default that of the rest for an embedding,
            and 0.001 for a pretrained one.
    """

    encoder: Literal["embedding", "pretrained"] = "embedding"
    width: int = 64
    folder: str = ""
    trainable: bool = True
    learning_rate: float | None = None
    weight_decay: float | None = None


class ReadsText(Wrapper):
    """Any system, on data some of whose modalities are token ids.

    The system is built for vectors, and is given nothing else. A token that is missing is a step that is missing. The
    loss's complete batch is read like the observed one, with gradient: a system that rebuilds it must not let the
    truth learn to be easily rebuilt, and detaches it.

    What the system's ``prepare`` is shown are vectors too, as they are before training.

    Args:
        system_class: such as ``examples.systems.carn.System``.
        config: of the system.
        spec: of the data, with tokens.
        text: of the encoders.

    Raises:
        InputError: if there are no tokens, or a pretrained encoder has not the vocabulary of the data or cannot be
            read.
        ValueError: if the config does not fit the data, or the system has a ``settle``, to which the validation split
            could not be shown: its conditions hide tokens.
    """

    def __init__(self, system_class: type[nn.Module], config: Any, spec: DataSpec, text: TextConfig) -> None:
        if not spec.tokens:
            raise InputError(f"spec: expected token ids among the modalities {spec.names}, got vectors alone")
        encoders = {name: build_encoder(name, spec.modalities[name], text) for name in spec.tokens}
        widths = {name: encoders[name].width if name in encoders else width for name, width in spec.modalities.items()}
        super().__init__(system_class(config, replace(spec, modalities=widths, tokens={})))
        if hasattr(self.system, "settle"):
            raise ValueError(f"system_class: expected a system without settle, got {system_class.__name__}")
        self.spec, self.text = spec, text
        self.names = tuple(encoders)
        # A list, since a ModuleDict refuses names with a dot and some others.
        self.encoders = nn.ModuleList(encoders.values())

    def change(self, batch: MultimodalBatch) -> MultimodalBatch:
        """Vectors in the place of the token ids: ``(B, T)`` → ``(B, T, width)``."""
        read = {
            n: encoder(batch.inputs[n], batch.masks[n]) for n, encoder in zip(self.names, self.encoders, strict=True)
        }
        return replace(batch, inputs={name: read.get(name, x) for name, x in batch.inputs.items()})

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The system's, and the encoders' apart from them."""
        own = getattr(self.system, "parameter_groups", None)
        groups = own() if own else [{"name": "system", "params": list(self.system.parameters())}]
        return [*groups, *self._text_groups()]

    def _text_groups(self) -> list[dict[str, Any]]:
        rate, decay = self.text.learning_rate, self.text.weight_decay
        if self.text.encoder == "pretrained":
            rate = _PRETRAINED_RATE if rate is None else rate
            decay = _PRETRAINED_DECAY if decay is None else decay
        options = {} if rate is None else {"lr": rate}
        decaying = [p for p in self.encoders.parameters() if p.dim() > 1]
        others = [p for p in self.encoders.parameters() if p.dim() <= 1]
        return [
            {"name": "text", "params": decaying, **options, **({} if decay is None else {"weight_decay": decay})},
            {"name": "text without decay", "params": others, **options, "weight_decay": 0.0},
        ]

    def __getattr__(self, name: str) -> Any:
        """As any wrapper; and ``prepare``, where the system has it."""
        return self._prepare if name == "prepare" and hasattr(self.system, "prepare") else super().__getattr__(name)

    def _prepare(self, train: MultimodalDataset) -> None:
        self.system.prepare(self.read(train))

    @torch.no_grad()
    def read(self, dataset: MultimodalDataset) -> MultimodalDataset:
        """The dataset with vectors in the place of its token ids."""
        device = next(self.parameters()).device
        values: dict[str, Tensor] = {}
        for name in self.names:
            values[name] = torch.zeros(len(dataset.values[name]), self.system.spec.modalities[name])
        for start in range(0, len(dataset), _CHUNK):
            rows = range(start, min(start + _CHUNK, len(dataset)))
            inputs = self.change(dataset.collate([dataset[i] for i in rows]).to(device)).inputs
            for name in self.names:
                for row, (first, last) in enumerate(dataset.spans[name][start : start + _CHUNK].tolist()):
                    values[name][first:last] = inputs[name][row, : last - first].to(values[name])
        return MultimodalDataset(
            self.system.spec,
            values={**dataset.values, **values},
            observed=dataset.observed,
            spans=dataset.spans,
            targets=dataset.targets,
            ids=dataset.ids,
            confounder=dataset.confounder,
            groups=dataset.groups,
        )


def build_encoder(name: str, size: int, text: TextConfig) -> TokenEmbedding | PretrainedText:
    """The encoder of a modality of ``size`` tokens.

    Raises:
        InputError: if a pretrained one is asked for without its folder, or knows fewer tokens.
    """
    if text.encoder == "embedding":
        return TokenEmbedding(size, text.width)
    if not text.folder:
        raise InputError("--text.folder: expected the folder of the pretrained encoder, got nothing")
    encoder = PretrainedText(text.folder, trainable=text.trainable)
    known = encoder.model.get_input_embeddings().num_embeddings
    if known < size:
        raise InputError(
            f"--text.folder: {text.folder} knows {known} tokens, modality {name!r} has {size}; expected the model "
            "that the recipe's tokenizer belongs to"
        )
    return encoder
