"""The tokenizer of a pretrained model, from a folder on disk."""

import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from mmaffect.data.tokenizer import check_several
from mmaffect.data.vocabulary import Vocabulary, as_vocabulary
from mmaffect.ops import InputError

_MISSING = "expected the extra 'text' (pip install 'mmaffect[text]')"


class SubwordTokenizer:
    """A Hugging Face tokenizer, which its state holds whole: what was fitted with it needs no folder any more.

    Args:
        content: the text of its ``tokenizer.json``.
        vocabulary: its ids.
        max_tokens: longer sentences lose their last tokens; start and end count. None: no limit.

    Raises:
        InputError: if tokenizers is not installed, or ``content`` is no tokenizer.
    """

    def __init__(self, content: str, vocabulary: Vocabulary, *, max_tokens: int | None = None) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise InputError(f"tokenizer: tokenizers cannot be imported; {_MISSING}") from error
        try:
            self._tokenizer = Tokenizer.from_str(content)
        except Exception as error:  # it raises nothing more specific
            raise InputError(f"tokenizer: is not the content of a tokenizer.json: {error}") from error
        ends = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_tokens is not None and max_tokens <= ends:
            raise InputError(f"max_tokens: expected more than the {ends} special ones, got {max_tokens}")
        self._tokenizer.no_padding()
        if max_tokens is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(max_tokens)
        self._content, self._vocabulary, self.max_tokens = content, vocabulary, max_tokens

    @classmethod
    def from_folder(cls, folder: str | PathLike[str], *, max_tokens: int | None = None) -> "SubwordTokenizer":
        """Read the tokenizer of a model from its folder; nothing is downloaded, and no code in it is run.

        Args:
            folder: holds ``tokenizer.json`` or ``vocab.txt``, and ``tokenizer_config.json``.
            max_tokens: see the class; what the model can hold by default.

        Raises:
            InputError: if transformers is not installed, or the folder holds no tokenizer with a word that is unknown
                or masked.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"tokenizer: {folder} is not there; expected a folder with a Hugging Face tokenizer")
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise InputError(f"tokenizer: transformers cannot be imported; {_MISSING}") from error
        try:
            found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
            content = found.backend_tokenizer.to_str()
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"tokenizer: {folder} cannot be read as a Hugging Face tokenizer: {error}") from error
        unknown, mask = found.unk_token_id, found.mask_token_id
        if unknown is None and mask is None:
            raise InputError(f"tokenizer: {folder}: expected one that has an unknown or a mask token, it has neither")
        limit = found.model_max_length
        vocabulary = Vocabulary(
            size=len(found),
            unknown=mask if unknown is None else unknown,
            mask=unknown if mask is None else mask,
            special=tuple(sorted(found.all_special_ids)),
        )
        # A model without a limit states an absurd one.
        return cls(content, vocabulary, max_tokens=limit if max_tokens is None and limit < 10**6 else max_tokens)

    @property
    def vocabulary(self) -> Vocabulary:
        """Its ids."""
        return self._vocabulary

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence, with the special ones that the model was trained with.

        Raises:
            InputError: if one string is given in the place of several.
        """
        check_several(sentences)
        return [found.ids for found in self._tokenizer.encode_batch(list(sentences))]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The token of each id."""
        return [str(self._tokenizer.id_to_token(i)) for i in ids]

    def state_dict(self) -> dict[str, Any]:
        """The tokenizer itself, its ids and its limit."""
        return {
            "kind": "subwords",
            "tokenizer": json.loads(self._content),
            "vocabulary": list(self._vocabulary),
            "max_tokens": self.max_tokens,
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "SubwordTokenizer":
        """Undo ``state_dict``.

        Raises:
            InputError: if it is no such state.
        """
        content, most = state.get("tokenizer"), state.get("max_tokens")
        if not isinstance(content, dict) or not (most is None or type(most) is int):
            raise InputError(f"tokenizer: expected a tokenizer, its ids and a limit, got {sorted(state)}")
        return cls(json.dumps(content), as_vocabulary("tokenizer", state.get("vocabulary", ())), max_tokens=most)
