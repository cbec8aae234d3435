"""Writing a figure: whole or not at all."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mmaffect.ops import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Without the date, the same figure gives the same file.
_METADATA: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def save(figure: "Figure", path: str | os.PathLike[str], *, dpi: float = 200.0) -> Path:
    """Write a figure as PNG, PDF or SVG, by the suffix.

    At any moment the path holds the old content or the new, whole. The same figure gives the same bytes. PDFs carry
    their fonts as TrueType, which publishers ask for.

    Args:
        figure: from any function of this room, or any other matplotlib figure.
        path: where to; its folder exists.
        dpi: pixels per inch (PNG).

    Returns:
        The path.

    Raises:
        InputError: (a ValueError) on another suffix, a folder that does not exist, or a path that is a folder.

    Example:
        >>> save(None, "attention.jpg")
        Traceback (most recent call last):
        ...
        mmaffect.ops.checks.InputError: path: expected a name that ends in .pdf, .png or .svg, got 'attention.jpg'
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise InputError(f"path: expected a name that ends in .pdf, .png or .svg, got {path.name!r}")
    if not path.parent.is_dir():
        raise InputError(f"path: expected a folder that exists, got {str(path.parent)!r}")
    if path.is_dir():
        raise InputError(f"path: expected a file, got the folder {str(path)!r}")
    from matplotlib import rc_context

    # Hidden, beside its place (a rename is atomic only within a file system), of a name no other writer has.
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file, rc_context({"pdf.fonttype": 42, "svg.hashsalt": "mmaffect"}):
            figure.savefig(file, format=suffix[1:], dpi=dpi, metadata=_METADATA[suffix])
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
