"""--explain=short: the first look at a plan: one line a step, a screen or two, no system calls.

What a step does is said by its sentence up to the first reason (plan/explanation.py, `clause`). Time runs down; what
happens inside is indented, and a line stands wherever the other side goes on, so that one sees who waits for whom.
"""

from __future__ import annotations

import re

from .explain_text import COLOURS, READABLE, for_people, room
from .output import STDOUT
from .paint import Paint, columns, cut, pad, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..plan.explanation import ExplainedStep, Explanation

ROOMY = 72  # columns from which a step's name and what it does stand on one line
_SIDES = {"host": "on the host", "inside": "inside the new process"}
MARK = "●"
_PATH = re.compile(r"/[^\s,:;()']{20,}")
_HEADS = (24, 5)  # characters that are left of a long path's beginning, where there is little room and very little


def show(explanation: Explanation) -> str:
    """For standard output as it is."""
    return render(explanation, room(), Paint.of(STDOUT))


def render(explanation: Explanation, width: int, paint: Paint) -> str:
    """Lines of at most that many columns."""
    from ..plan.explanation import NOTES, clause

    text = min(width, READABLE)
    lines = [paint.bold(line) for line in wrap(for_people(explanation.about), text)]
    names = [step.name for step in explanation.steps] + [undo.name for undo in explanation.undo]
    longest = max(map(len, names), default=0)

    def line(number: int, mark: str, shift: str, name: str, sentence: str, colour: str) -> Iterator[str]:
        head = f"{paint.dim(f'{number or chr(45):>3}')} {paint.magenta(mark)} {shift}"
        named = paint(for_people(name), "bold", *([colour] if colour else []))
        said = for_people(clause(sentence))
        if width >= ROOMY:
            head += pad(named, longest + 2)
            yield head + _fitted(said, width - columns(head))
        else:
            yield head + named
            yield from (paint.dim(part) for part in wrap(shortened(said), width, " " * columns(head)))

    lines.append("")
    before = ""
    sides = {step.side for step in explanation.steps}
    for step in explanation.steps:
        shift = "  " if step.side == "inside" else ""
        if step.side != before and len(sides) > 1:
            lines += [paint.dim(said) for said in wrap(f"── {_turn(step)} ──", width, f"      {shift}")]
        before = step.side
        mark = MARK if step.residue in ("kernel", "disk") else " "
        lines += line(step.number, mark, shift, step.name, step.sentence, COLOURS[step.side])
    lines += [""] * bool(explanation.steps)
    if explanation.undo and explanation.undo[0].number:
        said = f"{MARK} outlives the container: undone when it ends, newest first: {_numbers(explanation)}."
        lines += wrap(said, text, "", "  ")
    elif explanation.undo:
        lines.append(paint.bold("Then taken back, in this order:"))
        for undo in explanation.undo:
            lines += line(0, " ", "", undo.name, undo.sentence, "")
        lines.append("")
    own = (note for note in explanation.notes if note not in NOTES)
    lines += [paint.dim(said) for note in own for said in wrap(for_people(note), text, "* ", "  ")]
    more = "This is the short form: --explain has the system calls of each step, and the manual pages."
    return "\n".join([*lines, *(paint.dim(said) for said in wrap(more, text))]) + "\n"


def _turn(step: ExplainedStep) -> str:
    """Who goes on from this step."""
    return f"{_SIDES[step.side]}, which waits for {_other(step.sync)}" if step.sync else _SIDES[step.side]


def _other(sync: str) -> str:
    waited = sync.rpartition(" ")[2]
    return "the host" if waited == "host" else "what is inside"


def _numbers(explanation: Explanation) -> str:
    return ", ".join(str(undo.number) for undo in explanation.undo)


def _fitted(said: str, width: int) -> str:
    """A clause in that many columns: long paths lose their middle first, then the last words are left out."""
    for head in _HEADS:
        if columns(said) > width:
            said = shortened(said, head)
    if columns(said) <= width:
        return said
    shown = cut(said, max(width, 1))
    for end in (", ", " "):
        whole = shown.rpartition(end)[0]
        if columns(whole) > width * 2 // 3:
            return f"{whole.rstrip(',')}…"
    return shown


def shortened(said: str, most: int = _HEADS[-1]) -> str:
    """A text whose long paths are beginning/…/end. most: characters of such a beginning."""

    def short(path: re.Match[str]) -> str:
        *above, last = path[0].split("/")
        head = above.pop(0)
        while above and len(head) + len(above[0]) < most:
            head += f"/{above.pop(0)}"
        return f"{head}/…/{last}" if above else path[0]

    return _PATH.sub(short, said)
