"""Text to stdout and stderr, straight by write(2): nothing to flush, and any bytes a name can have go through.

sys.stdout would refuse what is not of the locale, and its buffer would have to be flushed before every fork.
"""

from __future__ import annotations

import os

from ..errors import NanoError, reason

STDIN, STDOUT, STDERR = 0, 1, 2


def write(fd: int, data: bytes) -> None:
    """All of data, also where somebody has set the file to not block. BrokenPipeError where nobody reads any more."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            import select

            select.select([], [fd], [])


def out(text: str) -> None:
    """Text to stdout. NanoError where it cannot be written: what was to be done is done by then."""
    try:
        write(STDOUT, _bytes(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NanoError("cannot write the output", *reason(error)) from None


def err(text: str) -> None:
    """Text to stderr. That nobody can read it is no reason to fail."""
    try:
        write(STDERR, _bytes(text))
    except OSError:
        pass


def _bytes(text: str) -> bytes:
    """Text as UTF-8. What was no UTF-8 when it came in leaves as it came; half a UTF-16 pair, which a broken file may
    have, becomes a question mark."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def colour(fd: int) -> bool:
    """Whether colours are wanted there: a terminal, and neither NO_COLOR nor TERM=dumb (https://no-color.org).
    CLICOLOR_FORCE wants them without a terminal too, for `less -R` (https://bixense.com/clicolors)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("CLICOLOR_FORCE", "0") != "0":
        return True
    return os.isatty(fd) and os.environ.get("TERM") != "dumb"


def width(fd: int = STDOUT) -> int:
    """The columns of the terminal: COLUMNS, or what the terminal says, or 80."""
    try:
        return max(20, int(os.environ.get("COLUMNS", "")))
    except ValueError:
        pass
    try:
        return max(20, os.get_terminal_size(fd).columns or 80)
    except OSError:
        return 80
