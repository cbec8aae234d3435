"""A table of a TOML file, read strictly: what is missing, unknown or of another type is said in one sentence."""

import difflib
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, NoReturn

from mmaffect.ops import InputError

Scalar = str | int | float | bool


def near(given: object, known: Iterable[object]) -> str:
    """Offer the nearest known names, then all of them (the first twelve where there are many).

    Example:
        >>> near("adio", ["text", "audio"])
        "did you mean 'audio'? known: text, audio"
    """
    names = [str(k) for k in known]
    close = difflib.get_close_matches(str(given), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    rest = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{hint}known: {', '.join(names[:12]) or 'nothing'}{rest}"


class Table:
    """One table of a TOML file.

    Args:
        file: the file's name, for messages.
        where: the table's dotted name, ``""`` for the top.
        values: what TOML gave.
        known: the keys the table may hold.

    Raises:
        InputError: if ``values`` is no table or holds an unknown key.

    Example:
        >>> table = Table("x.toml", "split", {"aray": "split"}, ("array", "by"))
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: x.toml: split.aray: unknown key; did you mean 'array'? known: array, by
    """

    def __init__(self, file: str, where: str, values: object, known: tuple[str, ...]) -> None:
        self.file, self.where = file, where
        if not isinstance(values, dict):
            raise InputError(f"{file}: {where}: expected a table, got {values!r}")
        self.values: dict[str, Any] = values
        for key in values:
            if key not in known:
                raise InputError(f"{file}: {self.name(key)}: unknown key; {near(key, known)}")

    def name(self, key: str) -> str:
        """Dotted name of a key."""
        return f"{self.where}.{key}" if self.where else key

    def fail(self, key: str, expected: str) -> NoReturn:
        """Raise: the file, the key, what was expected and what was given."""
        given = repr(self.values[key]) if key in self.values else "nothing (the key is missing)"
        raise InputError(f"{self.file}: {self.name(key)}: expected {expected}, got {given}")

    def text(self, key: str) -> str:
        """Read a string that is not empty."""
        value = self.values.get(key)
        return value if isinstance(value, str) and value else self.fail(key, "a string")

    def text_or_none(self, key: str) -> str | None:
        """Read a string, or None where the key is absent."""
        return self.text(key) if key in self.values else None

    def inside(self, key: str, folder: str) -> str:
        """Read a relative path that stays within a folder, which messages call ``folder``."""
        text = self.text(key)
        path = PurePosixPath(text.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in text:
            self.fail(key, f"a relative path inside {folder}")
        return text

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """Read one of several strings."""
        value = self.values.get(key, default)
        if value in options:
            return str(value)
        close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
        return self.fail(key, f"one of {', '.join(options)}{f' (did you mean {close[0]!r}?)' if close else ''}")

    def integer(self, key: str, default: int, least: int) -> int:
        """Read a whole number, at least ``least``."""
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        return self.fail(key, f"a whole number of at least {least}")

    def positive(self, key: str, default: float) -> float:
        """Read a number above zero."""
        value = self.values.get(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
            return float(value)
        return self.fail(key, "a number above 0")

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of different strings; empty where the key is absent."""
        value = self.values.get(key, [])
        if isinstance(value, list) and all(isinstance(v, str) and v for v in value) and len(set(value)) == len(value):
            return tuple(value)
        return self.fail(key, "a list of different strings")

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """Read a list of ``length`` finite numbers."""
        value = self.values.get(key)
        given = value if isinstance(value, list) else []
        usable = [float(v) for v in given if type(v) in (int, float) and abs(v) < float("inf")]
        return tuple(usable) if len(usable) == len(given) == length else self.fail(key, f"a list of {length} numbers")

    def scalars(self, key: str) -> tuple[Scalar, ...]:
        """Read a list of strings, numbers or booleans; empty where the key is absent."""
        value = self.values.get(key, [])
        if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
            return tuple(value)
        return self.fail(key, "a list of strings, numbers or booleans")
