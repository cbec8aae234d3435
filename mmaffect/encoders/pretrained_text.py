"""Token ids to vectors in context: a pretrained transformer from a folder on disk."""

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmaffect.ops import InputError, check_int64, check_mask, check_shape, keep


class PretrainedText(nn.Module):
    """The last hidden states of a Hugging Face encoder, such as BERT (Devlin et al., 2019), fine-tuned or frozen.

    The model is read from a folder and from nowhere else: nothing is downloaded, no code that lies in the folder is
    run, and weights are read from safetensors only. It needs the extra ``text``. A token that is missing within a
    sentence keeps its place: it is neither attended to nor given a state. The published CIDer attends to an [UNK]
    instead, and reads padding too.

    What summarises a sentence on top of the states (BERT's pooler) is left out, since it would never be trained.

    Args:
        folder: holds ``config.json`` and ``model.safetensors`` (or several, with their index).
        trainable: fine-tune it; else its weights are fixed and its dropout is off, in training too.

    Shape:
        ``ids (B, T)`` int64, ``mask (B, T)`` → ``(B, T, width)``.

    Raises:
        InputError: if transformers is not installed, or the folder holds no such model.

    Example:
        >>> PretrainedText("no/such/folder")
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: folder: no/such/folder is not there; expected a folder with config.json ...
    """

    def __init__(self, folder: str | PathLike[str], *, trainable: bool = True) -> None:
        super().__init__()
        self.trainable = trainable
        self.model = _load(Path(folder)).requires_grad_(trainable)
        self.width = int(self.model.config.hidden_size)
        limit = getattr(self.model.config, "max_position_embeddings", None)
        self.longest = limit if isinstance(limit, int) and limit > 0 else None
        self.train(self.training)

    def extra_repr(self) -> str:
        """Arguments shown by ``print``."""
        return f"{self.model.config.model_type}, width={self.width}, trainable={self.trainable}"

    def train(self, mode: bool = True) -> "PretrainedText":
        """Switch dropout on or off; that of a frozen model stays off."""
        super().train(mode)
        self.model.train(mode and self.trainable)
        return self

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode; zero at tokens that are not there, whatever id they hold.

        Args:
            ids: tokens of the tokenizer that belongs to the model.
            mask: True = a real token.

        Raises:
            ValueError: on another shape or dtype, or more tokens than the model has positions.
        """
        check_shape("ids", ids, "B T")
        check_mask("mask", mask, "B T", B=ids.shape[0], T=ids.shape[1])
        check_int64(ids=ids)
        if self.longest is not None and ids.shape[1] > self.longest:
            raise ValueError(f"ids: expected at most {self.longest} tokens, the model's positions, got {ids.shape[1]}")
        # A softmax over nothing is not defined: where nothing is real, the first place is attended to and unused.
        first = torch.arange(ids.shape[1], device=ids.device) == 0
        attended = mask | (first & ~mask.any(1, keepdim=True))
        states: Tensor = self.model(input_ids=keep(ids, mask), attention_mask=attended.long()).last_hidden_state
        return keep(states, mask)


def _load(folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        lack = "has no config.json" if folder.is_dir() else "is not there"
        raise InputError(f"folder: {folder} {lack}; expected a folder with config.json and model.safetensors")
    try:
        from transformers import AutoConfig, AutoModel
        from transformers.utils import logging
    except ImportError as error:
        raise InputError(
            "PretrainedText: transformers cannot be imported; expected the extra 'text' (pip install 'mmaffect[text]')"
        ) from error
    local = {"local_files_only": True, "trust_remote_code": False}
    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        if config.is_encoder_decoder:
            raise InputError(
                f"folder: {folder}: expected an encoder such as BERT, got {config.model_type}, which decodes"
            )
        model = AutoModel.from_pretrained(folder, config=config, use_safetensors=True, **local).float()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"folder: {folder} cannot be read as a model in safetensors: {error}") from error
    finally:
        if bar:
            logging.enable_progress_bar()
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = None
    return model
