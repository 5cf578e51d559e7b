"""A trace as a picture: one self-contained SVG file, with the timeline of a typical run and its longest parts.

Above, the flame: three lanes (the command, the host's steps, those inside) on one scale, so that one sees who works
when, and who waits. Below, the parts that take most, in the order in which they happen, each with its bar where it lies
in time and its median. 480 units wide with letters of 11 and more: on a phone that is a line of normal small print.
Colours are light and dark by the reader's setting, as on our pages (page.py). Every name is escaped.
"""

from __future__ import annotations

from .live import milliseconds
from .trace import BETWEEN, quantile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .trace import Row, Traces

_WIDTH, _MARGIN = 480, 12
_LANES = ("command", "host", "inside")
_LANE, _GAP = 34, 6  # height of a lane, and between two
_ROW = 19
_LETTER = 7.2  # width of a bold character of 11 units in a wide face (DejaVu Sans), with room to spare
_NAMES = 168  # width of the names below
_SHARE = 0.008  # of the whole, from which a part has a row of its own

_STYLE = (
    "svg{--ink:#1c2430;--soft:#566072;--edge:#dddad2;--paper:#fff;--command:#6b5fa8;--host:#c98a1b;--inside:#1d8797;"
    "--on:#fff}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6e9ee;--soft:#a3adbb;--edge:#343d4a;--paper:#1c222c;"
    "--command:#a79be0;--host:#f0b866;--inside:#6fd0dd;--on:#14181f}}"
    "text{font:11px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:var(--ink)}"
    ".t{font-size:15px;font-weight:600}.s{fill:var(--soft)}.n{text-anchor:end}.on{fill:var(--on);font-weight:600}"
    ".command{fill:var(--command)}.host{fill:var(--host)}.inside{fill:var(--inside)}.between{fill:var(--soft)}"
    ".w{fill:var(--edge)}.l{stroke:var(--edge)}"
)


def svg(traces: Traces) -> str:
    """The picture, a text of UTF-8."""
    rows = traces.rows
    starts, whole = _starts(rows)
    shown = [(row, start) for row, start in zip(rows, starts, strict=True) if row.median >= whole * _SHARE]
    rest = [row for row in rows if row.median < whole * _SHARE]
    parts: list[str] = []
    y = _head(parts, traces)
    y = _flame(parts, rows, starts, whole, y)
    y = _waterfall(parts, shown, whole, y + 22)
    if rest:
        took = milliseconds(sum(row.median for row in rest))
        parts.append(_text(_MARGIN, y + 12, f"and {len(rest)} shorter parts", "s"))
        parts.append(_text(_WIDTH - _MARGIN, y + 12, took, "s n"))
        y += _ROW
    y = _foot(parts, traces, y + 10)
    title = _escaped(f"nanocontainer run {' '.join(traces.words)}: where the time of a start goes")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y:g}" width="100%" '
        f'style="max-width:{_WIDTH * 1.7:g}px;display:block;margin:auto" role="img" aria-label="{title}">'
        f"<title>{title}</title><style>{_STYLE}</style>"
        f'<rect width="{_WIDTH}" height="{y:g}" rx="10" fill="var(--paper)"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _starts(rows: Sequence[Row]) -> tuple[list[int], int]:
    """Where each part begins when all take their median, one after the other; and the end of the last."""
    at, starts = 0, []
    for row in rows:
        starts.append(at)
        at += row.median
    return starts, max(at, 1)


def _head(parts: list[str], traces: Traces) -> float:
    words = " ".join(traces.words)
    most = int((_WIDTH - 2 * _MARGIN) / 8.2) - 4
    parts.append(_text(_MARGIN, 26, f"run {words if len(words) <= most else words[: most - 1] + '…'}", "t"))
    low, high = quantile(traces.totals, 0.1), quantile(traces.totals, 0.9)
    count = len(traces.totals)
    said = (
        f"{milliseconds(quantile(traces.totals, 0.5))} until it has come and gone, the median of {count} "
        f"run{'s' if count > 1 else ''} ({milliseconds(low)} to {milliseconds(high)})"
    )
    parts.append(_text(_MARGIN, 44, said, "s"))
    return 58


def _flame(parts: list[str], rows: Sequence[Row], starts: Sequence[int], whole: int, y: float) -> float:
    """The lanes. What a part is called stands in it where there is room; pointing at it says it always."""
    tops = {who: y + 13 + at * (_LANE + _GAP + 13) for at, who in enumerate(_LANES)}
    for who, top in tops.items():
        took = sum(row.median for row in rows if row.who == who)
        parts.append(_text(_MARGIN, top - 3, f"{_names(who)}: {milliseconds(took)}", who))
        lane = _WIDTH - 2 * _MARGIN
        parts.append(f'<rect class="w" x="{_MARGIN}" y="{top:g}" width="{lane}" height="{_LANE}" rx="4"/>')
    scale = (_WIDTH - 2 * _MARGIN) / whole
    for row, start in zip(rows, starts, strict=True):
        if row.who not in tops or not row.median:
            continue
        x, wide = _MARGIN + start * scale, row.median * scale
        tip = _escaped(f"{row.label}: {milliseconds(row.median)}")
        drawn = max(wide - (0.6 if wide > 2 else 0), 0.35)
        top = tops[row.who]
        parts.append(
            f'<rect class="{row.who}" x="{x:.2f}" y="{top:g}" width="{drawn:.2f}" height="{_LANE}" '
            f'rx="{min(2, drawn / 3):.2g}"><title>{tip}</title></rect>'
        )
        if wide >= len(row.label) * _LETTER + 10:
            parts.append(_text(x + 5, top + _LANE / 2 + 4, row.label, "on"))
    end = tops[_LANES[-1]] + _LANE
    _axis(parts, whole, scale, end)
    return end + 16


def _axis(parts: list[str], whole: int, scale: float, y: float) -> None:
    step = next(unit for unit in _ticks() if whole / unit <= 8)
    for at in range(0, whole, step):
        x = _MARGIN + at * scale
        parts.append(f'<line class="l" x1="{x:.1f}" y1="{y:g}" x2="{x:.1f}" y2="{y + 4:g}"/>')
        if x < _WIDTH - _MARGIN - 40 or at == 0:
            parts.append(_text(x, y + 15, f"{at / 1e6:g} ms", "s"))


def _ticks() -> Sequence[int]:
    return [digit * 10**power for power in range(3, 14) for digit in (1, 2, 5)]


def _waterfall(parts: list[str], shown: Sequence[tuple[Row, int]], whole: int, y: float) -> float:
    left, right = _MARGIN + _NAMES, _WIDTH - _MARGIN - 56
    scale = (right - left) / whole
    for row, start in shown:
        parts.append(_text(_MARGIN, y + 12, _name_of(row), row.who))
        x, wide = left + start * scale, max(row.median * scale, 1.5)
        parts.append(f'<rect class="{row.who}" x="{x:.2f}" y="{y + 3:g}" width="{wide:.2f}" height="11" rx="2"/>')
        parts.append(_text(_WIDTH - _MARGIN, y + 12, milliseconds(row.median), "n"))
        y += _ROW
    return y


def _name_of(row: Row) -> str:
    if row.label == BETWEEN:
        return f"before step {row.index + 1}"
    return f"{row.index + 1} {row.label}" if row.index >= 0 else row.label


def _foot(parts: list[str], traces: Traces, y: float) -> float:
    plain = quantile(traces.unwatched, 0.5)
    said = f"Each part with its median. Unwatched, a run took {milliseconds(plain)}."
    parts.append(_text(_MARGIN, y + 10, said, "s"))
    return y + 22


def _names(who: str) -> str:
    return {"command": "the command, before and after", "host": "steps on the host", "inside": "steps inside"}[who]


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """For text and attributes of XML: markup is shown, what XML cannot have (control characters) is not."""
    text = "".join(character if character.isprintable() else "�" for character in text)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text
