"""What the example scripts share as commands: an error of the user's is a paragraph and exit code 2, no traceback."""

import sys
import textwrap
from collections.abc import Callable

from mmaffect.ops import InputError


def run_command(main: Callable[[list[str]], None]) -> None:
    """Call ``main`` with the command line's arguments; report an :class:`InputError` and leave with code 2."""
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(textwrap.fill(f"error: {error}", 100, break_long_words=False, break_on_hyphens=False), file=sys.stderr)
        sys.exit(2)
