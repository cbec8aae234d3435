"""What a system must know of a tokenizer: how many ids there are, and which are no words."""

from collections.abc import Sequence
from typing import NamedTuple

from mmaffect.ops import InputError


class Vocabulary(NamedTuple):
    """The ids of a token modality.

    Padding, and a token that is missing, is stored as id 0 under a mask that is False; only the mask says so.

    Args:
        size: number of ids; they are ``0 … size - 1``.
        unknown: the id of a word that the tokenizer does not know.
        mask: the id that stands for a word which was taken away.
        special: ids that are no words and are never counted: padding, unknown, mask, start, end.

    Example:
        >>> Vocabulary(size=9, unknown=1, mask=2, special=(0, 1, 2, 3, 4)).protected
        (0, 3, 4)
    """

    size: int
    unknown: int
    mask: int
    special: tuple[int, ...]

    @property
    def protected(self) -> tuple[int, ...]:
        """Special ids that no protocol of missing data hides: start and end (and padding, which nobody sees).

        Unknown and mask stand where a word was, and go missing as words do.
        """
        return tuple(i for i in self.special if i not in (self.unknown, self.mask))


def as_vocabulary(name: str, value: Sequence[object]) -> Vocabulary:
    """A vocabulary, or the list that JSON makes of one, checked.

    Args:
        name: of the modality, for messages.
        value: a ``Vocabulary``, or its fields in order.

    Raises:
        InputError: if there are other fields, no id at all, or an id out of range.

    Example:
        >>> as_vocabulary("text", [9, 1, 2, [0, 1, 2]])
        Vocabulary(size=9, unknown=1, mask=2, special=(0, 1, 2))
    """
    given = [*value[:3], *value[3]] if len(value) == 4 and isinstance(value[3], Sequence) else []
    numbers = [i for i in given if type(i) is int]
    if len(numbers) < 3 or len(numbers) < len(given):
        raise InputError(f"tokens[{name!r}]: expected size, unknown, mask and a list of special ids, got {value!r}")
    size, unknown, mask, *special = numbers
    vocabulary = Vocabulary(size, unknown, mask, tuple(special))
    outside = [i for i in (unknown, mask, *special) if not 0 <= i < size]
    if outside:
        raise InputError(f"tokens[{name!r}]: expected ids of 0 … {size - 1}, got {outside[0]}")
    return vocabulary
