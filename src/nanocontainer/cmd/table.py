"""Tables as docker prints them: columns at least ten wide, three spaces between, the last column ragged.

Scripts cut such output by columns and by header names, so widths and headers are docker's to the letter.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Method:
    """A value of a row that wants arguments, in a template: {{.Label "name"}}. Not part of the row's data."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


def render(rows: list[list[str]]) -> str:
    """Rows of cells, the header first, as lines of aligned columns."""
    if not rows:
        return ""
    count = max(len(row) for row in rows)
    widths = [0] * count
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths[column], len(cell) + 3, 10)
    lines = []
    for row in rows:
        padded = [cell.ljust(widths[column]) for column, cell in enumerate(row[:-1])]
        lines.append("".join([*padded, row[-1], "\n"]))
    return "".join(lines)


def shorten(text: str, most: int) -> str:
    """Text of at most that many characters, the last one an ellipsis where something is missing."""
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def quote(text: str) -> str:
    """A text in double quotes, as Go's strconv.Quote."""
    shown = []
    for character in text:
        if character in '"\\':
            shown.append("\\" + character)
        elif character.isprintable():
            shown.append(character)
        else:
            code = ord(character)
            number = f"\\x{code:02x}" if code < 128 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"
            shown.append({"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, number))
    return f'"{"".join(shown)}"'
