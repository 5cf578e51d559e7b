"""A page of text for people: headings, paragraphs and aligned tables, in colour where wanted, as wide as the terminal.

Cells and paragraphs are hostile text: control characters in them are shown and do nothing (page.visible).
"""

from __future__ import annotations

from .page import visible
from .paint import Paint, columns, cut, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LEAST = 24  # columns that the last column of a table should have


class Sheet:
    """Lines under way. paint: colours or none; width: columns of the terminal."""

    def __init__(self, paint: Paint, width: int) -> None:
        self.paint, self.width = paint, width
        self.lines: list[str] = []

    def title(self, name: str, note: str = "") -> None:
        """The heading of a section."""
        if self.lines:
            self.lines.append("")
        head = self.paint(name.upper(), "bold", "cyan")
        rest = cut(visible(note), max(self.width - len(name) - 2, 1))
        self.lines.append(f"{head}  {self.paint.dim(rest)}" if note else head)

    def say(self, text: str, *styles: str) -> None:
        """A paragraph, wrapped."""
        self.lines += [self.paint(line, *styles) for line in wrap(visible(text), self.width, "  ")]

    def table(self, rows: Iterable[Sequence[str]], styles: Sequence[str] = (), *, right: Sequence[int] = ()) -> None:
        """Aligned columns, the last one wrapped; where that leaves it too little room, each row takes two lines.

        styles: of each column, names for Paint, "" for none; right: which columns are figures.
        """
        cells = [[visible(cell) for cell in row] for row in rows]
        if not cells:
            return
        count = len(cells[0])
        wide = [max(columns(row[at]) for row in cells) for at in range(count)]
        rest = self.width - 2 - sum(wide[:-1]) - 2 * (count - 1)
        names = [*styles, *[""] * (count - len(styles))]
        if rest < min(_LEAST, wide[-1]):
            self._stacked(cells, names)
            return
        margin = " " * (self.width - rest)
        for row in cells:
            shown = []
            for at, cell in enumerate(row[:-1]):
                blank = " " * (wide[at] - columns(cell))
                painted = self._styled(cell, names[at])
                shown.append(blank + painted if at in right else painted + blank)
            text = row[-1].lstrip(" ")
            lead = " " * (len(row[-1]) - len(text))  # a tree's branches stand in
            last = wrap(text, rest, lead) or [""]
            first = "  " + "  ".join([*shown, self._styled(last[0], names[-1])])
            self.lines.append(first.rstrip())
            self.lines += [margin + self._styled(line, names[-1]) for line in last[1:]]

    def _stacked(self, cells: list[list[str]], names: Sequence[str]) -> None:
        for row in cells:
            head = wrap("  ".join(cell for cell in row[:-1] if cell.strip()), self.width, "  ", "    ")
            self.lines += [self._styled(line, names[0]) for line in head]
            if row[-1]:
                self.lines += [self._styled(line, names[-1]) for line in wrap(row[-1], self.width, "      ")]

    def _styled(self, text: str, names: str) -> str:
        return self.paint(text, *names.split()) if names else text

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)
