"""From sentences to token ids: what a tokenizer offers, and the one that needs nothing but the training split."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from mmaffect.data.vocabulary import Vocabulary
from mmaffect.ops import InputError, check_positive


class Tokenizer(Protocol):
    """What every tokenizer offers."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its ids."""

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence, start and end included if it has such."""

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The token of each id, as text."""

    def state_dict(self) -> dict[str, Any]:
        """All that restores it, as JSON holds it."""


def split_words(sentence: str) -> list[str]:
    """Words of a sentence in lower case: letters, digits and what is joined to them by an apostrophe.

    Punctuation is left out. Languages that are written without spaces need a tokenizer of their own.

    Example:
        >>> split_words("I DIDN’T like it -- at all!")
        ['i', "didn't", 'like', 'it', 'at', 'all']
    """
    text = unicodedata.normalize("NFC", sentence).lower().replace("\u2019", "'")
    return re.findall(r"\w+(?:'\w+)*", text)


def check_several(sentences: Iterable[str]) -> None:
    """Raise if one string is given in the place of several, whose letters would be read as sentences."""
    if isinstance(sentences, str):
        raise InputError(f"sentences: expected several strings, got one: {sentences[:20]!r}")


class WordTokenizer:
    """One id a word, for the words it was given; all others are one unknown word.

    Ids 0 to 4 are padding, unknown, mask, start and end; the words follow in order. An empty sentence is start and end.

    Args:
        words: in lower case, all different; most frequent first.
        max_tokens: longer sentences lose their last words; start and end count. None: no limit.

    Raises:
        InputError: if words are repeated or empty, or there is no room for a word between start and end.

    Example:
        >>> tokenizer = WordTokenizer(["a", "fine", "film"])
        >>> tokenizer.encode(["A very fine film", ""])
        [[3, 5, 1, 6, 7, 4], [3, 4]]
        >>> tokenizer.decode([3, 5, 1, 6, 7, 4])
        ['[START]', 'a', '[UNKNOWN]', 'fine', 'film', '[END]']
        >>> tokenizer.vocabulary
        Vocabulary(size=8, unknown=1, mask=2, special=(0, 1, 2, 3, 4))
    """

    special = ("[PADDING]", "[UNKNOWN]", "[MASK]", "[START]", "[END]")

    def __init__(self, words: Sequence[str], *, max_tokens: int | None = None) -> None:
        self.words = tuple(words)
        if not all(isinstance(word, str) and word for word in self.words) or len(set(self.words)) < len(self.words):
            raise InputError("words: expected different strings")
        if max_tokens is not None and max_tokens < 3:
            raise InputError(f"max_tokens: expected at least 3 (start, a word, end), got {max_tokens}")
        self.max_tokens = max_tokens
        self._ids = {word: code for code, word in enumerate(self.words, len(self.special))}

    @classmethod
    def fit(cls, sentences: Iterable[str], *, min_count: int = 2, max_tokens: int | None = None) -> "WordTokenizer":
        """Learn the words of a training split.

        Args:
            sentences: of the training split and of nothing else.
            min_count: rarer words are unknown. With 1 none is, and what the unknown word means is never learned.
            max_tokens: see the class.

        Raises:
            InputError: if no word is frequent enough, or one string is given in the place of several.

        Example:
            >>> WordTokenizer.fit(["a film", "the film", "the end"]).words
            ('film', 'the')
        """
        check_positive(min_count=min_count)
        check_several(sentences)
        counts = Counter(word for sentence in sentences for word in split_words(sentence))
        found = [(-count, word) for word, count in counts.items() if count >= min_count]
        if not found:
            raise InputError(f"tokenizer: expected words that occur at least {min_count} times in the training split")
        return cls([word for _, word in sorted(found)], max_tokens=max_tokens)

    @property
    def vocabulary(self) -> Vocabulary:
        """Its ids."""
        reserved = len(self.special)
        return Vocabulary(reserved + len(self.words), unknown=1, mask=2, special=tuple(range(reserved)))

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence, between start and end.

        Raises:
            InputError: if one string is given in the place of several.
        """
        check_several(sentences)
        room = None if self.max_tokens is None else self.max_tokens - 2
        return [[3, *(self._ids.get(word, 1) for word in split_words(s)[:room]), 4] for s in sentences]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The word of each id; special ones in brackets."""
        names = (*self.special, *self.words)
        return [names[i] for i in ids]

    def state_dict(self) -> dict[str, Any]:
        """Its words and its limit."""
        return {"kind": "words", "words": list(self.words), "max_tokens": self.max_tokens}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "WordTokenizer":
        """Undo ``state_dict``.

        Raises:
            InputError: if it is no such state.
        """
        words, most = state.get("words"), state.get("max_tokens")
        if not isinstance(words, list) or not (most is None or type(most) is int):
            raise InputError(f"tokenizer: expected a list of words and a limit, got {sorted(state)}")
        return cls(words, max_tokens=most)
