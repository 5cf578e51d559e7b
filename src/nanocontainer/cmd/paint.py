"""Text for people: colour where a terminal shows it, and lines that fit its columns.

A terminal counts columns, not characters: Chinese, Japanese and Korean characters and most emoji take two (Unicode's
East Asian Width, UAX #11), combining marks none, and colour codes (SGR, ECMA-48) none. `columns` knows that, and
everything here measures with it.

    paint = Paint.of(STDOUT)
    out(paint.bold("step") + paint.dim("  a note"))     # plain text where no colour is wanted
    for line in wrap(sentence, width()): ...
"""

# ruff: noqa: RUF001 (characters that look like others are meant)

from __future__ import annotations

from .output import colour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_OPEN = {"bold": "1", "dim": "2", "underline": "4", "red": "31", "green": "32", "yellow": "33", "blue": "34",
         "magenta": "35", "cyan": "36"}  # fmt: skip
_NOT_FIRST = frozenset("，。、；：？！）》」』】〕…”’·,.;:?!)]}%")  # no line starts with them
_NOT_LAST = frozenset("（《「『【〔“‘([{")  # and none ends with them


class Paint:
    """Colours, or none. The 16 colours of a terminal only: its owner has chosen how they look, on dark and on light."""

    def __init__(self, on: bool) -> None:
        self.on = on

    @classmethod
    def of(cls, fd: int) -> Paint:
        """As is wanted there: see output.colour."""
        return cls(colour(fd))

    def __call__(self, text: str, *styles: str) -> str:
        """Text in these styles: bold, dim, underline, or a colour's name."""
        if not self.on or not text or not styles:
            return text
        return f"\x1b[{';'.join(_OPEN[style] for style in styles)}m{text}\x1b[0m"

    def bold(self, text: str) -> str:
        return self(text, "bold")

    def dim(self, text: str) -> str:
        return self(text, "dim")

    def red(self, text: str) -> str:
        return self(text, "red")

    def green(self, text: str) -> str:
        return self(text, "green")

    def yellow(self, text: str) -> str:
        return self(text, "yellow")

    def blue(self, text: str) -> str:
        return self(text, "blue")

    def magenta(self, text: str) -> str:
        return self(text, "magenta")

    def cyan(self, text: str) -> str:
        return self(text, "cyan")


def columns(text: str) -> int:
    """How many columns a line of text takes in a terminal."""
    if "\x1b" in text:
        text = plain(text)
    if text.isascii():
        return len(text)
    return sum(map(_wide, text))


def plain(text: str) -> str:
    """Text without its colour codes."""
    first, *others = text.split("\x1b[")
    return first + "".join(part.partition("m")[2] for part in others)


def _wide(character: str) -> int:
    if character < "\u0300":
        return 1
    import unicodedata

    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int) -> str:
    """Text filled up with spaces to that many columns."""
    return text + " " * (width - columns(text))


def cut(text: str, width: int) -> str:
    """Plain text of at most that many columns, the last one an ellipsis where something is missing."""
    if columns(text) <= width:
        return text
    shown, room = "", width - 1
    for character in text:
        room -= _wide(character)
        if room < 0:
            break
        shown += character
    return f"{shown}…" if width > 0 else ""


def wrap(text: str, width: int, margin: str = "", hang: str | None = None) -> list[str]:
    """Plain text in lines of at most that many columns, broken at spaces and between wide characters; a newline in it
    stays one. A word longer than a line is broken anywhere. margin starts each line, or with hang only the first of a
    paragraph and hang the others."""
    lines = []
    hang = margin if hang is None else hang
    for paragraph in text.split("\n"):
        start, line = margin, ""
        for word, gap in _words(paragraph):
            if line and columns(start + line + gap + word) > width:
                lines.append(start + line)
                start, line = hang, ""
            line = line + gap + word if line else word
            while columns(start + line) > width and len(line) > 1:
                fits = _fitting(line, max(width - columns(start), 2))
                lines.append(start + line[:fits])
                start, line = hang, line[fits:]
        lines.append((start + line).rstrip())
    return lines


def _fitting(text: str, width: int) -> int:
    """How many characters of text fit, at least one."""
    for index, character in enumerate(text):
        width -= _wide(character)
        if width < 0:
            return max(index, 1)
    return len(text)


def _words(text: str) -> Iterator[tuple[str, str]]:
    """What a line must not be broken within, each with what joins it to the one before: a space or nothing. A|B may be
    broken behind the bar."""
    for word in text.split():
        gap = " "
        part = ""
        if "|" in word:
            first, *others = word.replace("|", "|\n").split("\n")
            yield first, gap
            yield from ((other, "") for other in others if other)
            continue
        for character in "" if word.isascii() else word:
            either = _wide(character) == 2 or (part and _wide(part[-1]) == 2)
            if part and either and character not in _NOT_FIRST and part[-1] not in _NOT_LAST and _wide(character):
                yield part, gap
                part, gap = "", ""
            part += character
        yield part or word, gap
