"""compare: the isolation of two containers, of a container and the host, or of any two processes, row by row."""

from __future__ import annotations

from ..errors import InvalidInput
from .flags import Command, Given
from .output import STDOUT, out, width
from .page import chip, join, page, section, table, tag, visible
from .paint import Paint, pad, wrap
from .sheet import Sheet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.comparison import Comparison, Row
    from .main import App

FORMATS = ("text", "json", "html")
_COLOURS = {"same": "dim", "different": "yellow", "A weaker": "red", "B weaker": "red"}


def compare(app: App, given: Given) -> int:
    """`compare A B`."""
    form = given["format"]
    if form not in FORMATS:
        raise InvalidInput("invalid --format", f"{form!r} is not one of {', '.join(FORMATS)}")
    found = app.engine.compare(*given.args, filters=given["filters"])
    rows = tuple(row for row in found.rows if row.verdict != "same" or not given["weaker"])
    if form == "json":
        import json

        data = {**found.replace(rows=rows).as_dict(), "summary": found.summary}
        out(json.dumps(data, ensure_ascii=True, indent=2) + "\n")
    elif form == "html":
        out(html(found, rows))
    else:
        out(text(found, rows, Paint.of(STDOUT), width()))
    return 0


def text(found: Comparison, rows: tuple[Row, ...], paint: Paint, width: int) -> str:
    """A table where there is room for one, a paragraph for each row where there is not."""
    sheet = Sheet(paint, width)
    sheet.title("isolation", f"A is {found.a} (process {found.a_pid}), B is {found.b} (process {found.b_pid})")
    if width >= 100:
        _table(sheet, found, rows)
    else:
        for row in rows:
            _paragraph(sheet, found, row)
    sheet.lines += ["", *(paint.bold(line) for line in wrap(visible(found.summary), width))]
    return sheet.text()


def _table(sheet: Sheet, found: Comparison, rows: tuple[Row, ...]) -> None:
    """Four columns, each wrapped: subject, A, B, verdict."""
    paint = sheet.paint
    room = sheet.width - 2 - 3 * 2
    wide = [int(room * part) for part in (0.2, 0.2, 0.2)]
    wide.append(room - sum(wide))
    heads = ("", f"A: {found.a}", f"B: {found.b}", "verdict")
    cells = [wrap(visible(head), size)[0] for head, size in zip(heads, wide, strict=True)]
    sheet.lines.append(
        "  " + "  ".join(paint.dim(pad(cell, size)) for cell, size in zip(cells, wide, strict=True)).rstrip()
    )
    for row in rows:
        last = verdict_words(found, row) + (f": {row.why}" if row.why else "")
        columns = [
            wrap(visible(words), size) for words, size in zip((row.subject, row.a, row.b, last), wide, strict=True)
        ]
        for at in range(max(map(len, columns))):
            parts = [(column[at] if at < len(column) else "") for column in columns]
            styles = ["bold", "", "", _COLOURS[row.verdict]]
            shown = [
                (paint(part, style) if style else part) + pad(part, size)[len(part) :]
                for part, size, style in zip(parts, wide, styles, strict=True)
            ]
            sheet.lines.append(("  " + "  ".join(shown)).rstrip())


def _paragraph(sheet: Sheet, found: Comparison, row: Row) -> None:
    for line in wrap(visible(f"{row.subject}: {verdict_words(found, row)}"), sheet.width):
        sheet.lines.append(sheet.paint(line, "bold", _COLOURS[row.verdict]))
    sheet.say(f"A: {row.a} · B: {row.b}" if row.a != row.b else f"both: {row.a}")
    if row.why:
        sheet.say(row.why, "dim")


def verdict_words(found: Comparison, row: Row) -> str:
    """The verdict with the side's name: "web weaker"."""
    return {"A weaker": f"{found.a} weaker", "B weaker": f"{found.b} weaker"}.get(row.verdict, row.verdict)


def html(found: Comparison, shown: tuple[Row, ...]) -> str:
    """A page, whole in one file."""
    kinds = {"same": "", "different": "warn", "A weaker": "bad", "B weaker": "bad"}
    rows = [
        (
            tag("strong", row.subject), row.a, row.b,
            join([chip(verdict_words(found, row), kinds[row.verdict]), tag("div", row.why, cls="soft")]),
        )
        for row in shown
    ]  # fmt: skip
    head = ("Subject", f"A: {found.a}", f"B: {found.b}", "Verdict")
    weaker = found.count("A weaker") + found.count("B weaker")
    card = tag("div", found.summary, cls=f"card {'warn' if weaker else 'good'}")
    lead = f"A is {found.a}, process {found.a_pid}; B is {found.b}, process {found.b_pid}."
    foot = tag("code", f"nanocontainer compare --format html {found.a} {found.b}")
    body = join([card, section("What each of them has", table(head, rows))])
    return page(f"Isolation of {found.a} and {found.b}", body, lead=lead, foot=foot)


COMPARE = Command(
    "compare",
    "[OPTIONS] A B",
    "Compare how two sides are isolated: what they share, what differs, which is weaker and why. A side is a running "
    "container, `host`, or `pid:NUMBER`: any process, also docker's or podman's.",
    (
        ("filters", "", "bool", False, "Read their seccomp filters too: each is stopped for a moment (ptrace)"),
        ("format", "f", "string", "text", "text, json, or html: a page, whole in one file"),
        ("weaker", "w", "bool", False, "Leave out what is the same"),
    ),
    compare,
    least=2,
    most=2,
    examples=(
        ("Two containers", "nanocontainer compare web db"),
        ("What separates a container from the host", "nanocontainer compare web host"),
        ("A container of docker's", "nanocontainer compare --filters web pid:$(docker inspect -f '{{.State.Pid}}' db)"),
    ),
)
