"""doctor: what this machine offers to containers, and what crashes have left, as a table for people or as JSON.

Exit code 0: all is well. 1: something needs attention: what a plain `run` needs is missing, the disk is nearly full, or
something is left over (with --repair: and could not be cleared away). What is missing and only costs a feature does not
count.

--json prints one object, whose names stay as they are:

    {"fine": bool, "unseen": "why nothing was looked for, or empty",
     "features":  [{"name", "group", "title", "status": "ok|limited|missing|unknown", "detail", "costs", "remedy",
                    "needed": bool}],
     "leftovers": [{"kind", "subject", "detail", "action", "hint", "outcome": "found|repaired|left", "why"}]}
"""

from __future__ import annotations

import os

from ..lean import dumps
from .flags import Command, Given
from .output import STDOUT, out, width
from .paint import Paint, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..container.diagnosis import Diagnosis
    from ..container.leftover import Leftover
    from ..container.offers import Feature
    from .main import App

_COLOUR = {"ok": "green", "repaired": "green", "limited": "yellow", "found": "yellow", "unknown": "dim",
           "missing": "yellow", "left": "red"}  # fmt: skip


def doctor(app: App, given: Given) -> int:
    """`doctor`: look, with --repair clear away, and tell."""
    diagnosis: Diagnosis = app.engine.doctor(repair=given["repair"])
    if given["json"]:
        out(dumps(diagnosis.as_dict()) + "\n")
    else:
        out("".join(f"{line}\n" for line in lines(diagnosis, Paint.of(STDOUT), width(), repair=given["repair"])))
    return 0 if diagnosis.fine else 1


def lines(diagnosis: Diagnosis, paint: Paint, columns: int, *, repair: bool) -> Iterator[str]:
    """The table, line by line."""
    group = ""
    margin = max((len(one.title) for one in diagnosis.features), default=0) + 13
    for one in diagnosis.features:
        if one.group != group:
            if group:
                yield ""
            group = one.group
            yield paint.bold(group)
        yield from _feature(one, paint, margin, columns)
    yield ""
    yield paint.bold("Left over from crashes")
    for left in diagnosis.leftovers:
        yield from _leftover(left, paint, columns)
    if diagnosis.unseen:
        yield f"  {paint.dim('unknown')}    {diagnosis.unseen}"
    elif not diagnosis.leftovers:
        yield f"  {paint.green('ok')}         nothing"
    yield ""
    yield from wrap(_verdict(diagnosis, repair), columns)


def _feature(one: Feature, paint: Paint, margin: int, columns: int) -> Iterator[str]:
    colour = "red" if one.needed and one.status == "missing" else _COLOUR[one.status]
    head = f"  {paint(one.status.ljust(9), colour)}  {one.title.ljust(margin - 13)}  "
    yield from _hanging(head, one.detail, margin + 2, columns)
    for word, text in (("costs", one.costs), ("get it", one.remedy)):
        if text:
            yield from _hanging(" " * (margin + 2) + paint.dim(word.ljust(8)), text, margin + 10, columns)


def _leftover(one: Leftover, paint: Paint, columns: int) -> Iterator[str]:
    yield f"  {paint(one.outcome.ljust(9), _COLOUR[one.outcome])}  {one.subject}"
    rows = [("", f"{one.kind}: {one.detail}")]
    if one.outcome == "left":
        rows.append(("because", one.why))
    elif one.action:
        rows.append(("done" if one.outcome == "repaired" else "--repair", one.action))
    if one.hint and one.outcome != "repaired":
        rows.append(("hint", one.hint))
    for word, text in rows:
        head = " " * 13 + (paint.dim(word.ljust(10)) if word else "")
        yield from _hanging(head, text, 23 if word else 13, columns)


def _hanging(head: str, text: str, margin: int, columns: int) -> Iterator[str]:
    """Text beside a head; what does not fit stands below itself."""
    rest = list(wrap(text, max(30, columns - margin))) or [""]
    yield (head + rest[0]).rstrip()
    for line in rest[1:]:
        yield " " * margin + line


def _verdict(diagnosis: Diagnosis, repair: bool) -> str:
    needed = [one.title for one in diagnosis.features if one.needed and one.status == "missing"]
    full = [one.title for one in diagnosis.features if one.status == "limited" and one.name in ("disk-space", "inodes")]
    left = [one for one in diagnosis.leftovers if one.outcome != "repaired"]
    words = []
    if needed:
        words.append(f"A plain run does not work here: {', '.join(needed)} missing.")
    if full:
        words.append(f"Nearly used up: {', '.join(full)}.")
    if left:
        count = f"{len(left)} thing{'' if len(left) == 1 else 's'}"
        curable = not repair and any(one.action for one in left)
        words.append(f"{count} left over{'; clear away with: nanocontainer doctor --repair' if curable else '.'}")
    if not words:
        words.append("All is well." if os.geteuid() == 0 else "Nothing wrong is seen; root sees more.")
    return " ".join(words)


DOCTOR = Command(
    "doctor",
    "[OPTIONS]",
    "Check what this machine offers to containers, what a missing thing costs and how to get it, and what crashes "
    "have left. The exit code is 1 where something needs attention.",
    (
        ("repair", "", "bool", False, "Clear away what crashes have left; never data, nor images"),
        ("json", "", "bool", False, "Print all of it as one JSON object"),
    ),
    doctor,
    most=0,
    examples=(("Clear away what crashes have left", "nanocontainer doctor --repair"),),
)
