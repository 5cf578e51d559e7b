"""--explain=text: the steps for people, as wide as the terminal is.

On a wide terminal there are two columns, the host's and the container's first process's: time runs down, and what
stands on the right happens inside. Elsewhere the inside steps are indented.
"""

from __future__ import annotations

import os
import re

from . import explain_calls
from .output import STDOUT, width
from .page import visible
from .paint import Paint, columns, pad, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.explanation import ExplainedStep, Explanation, ShownCall

WIDE = 150  # columns from which two fit side by side
MOST = 240
READABLE = 110  # columns of running text
_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
COLOURS = {"host": "yellow", "inside": "cyan"}
_LEFT = {"kernel": "leaves an object in the kernel: undone at the end", "disk": "leaves a file: undone at the end"}


def show(explanation: Explanation) -> str:
    """For standard output as it is: its width, and colours where it is a terminal."""
    paint = Paint.of(STDOUT)
    text = render(explanation, room(), paint)
    return text + "".join(f"{paint.dim(line)}\n" for line in _too_long(text.count("\n")))


def room() -> int:
    """How many columns there are: the terminal's, or 100 in a pipe or a file."""
    if os.isatty(STDOUT) or os.environ.get("COLUMNS"):
        return min(width(), MOST)
    return 100


def _too_long(lines: int) -> list[str]:
    """What to do where more was printed than a terminal shows. No pager is started that nobody has asked for."""
    try:
        if lines <= 2 * os.get_terminal_size(STDOUT).lines:
            return []
    except OSError:  # not a terminal
        return []
    hint = f"{lines} lines: --explain=short has one line a step; to turn pages, put  | less  behind the command."
    return wrap(hint, min(room(), READABLE), "* ", "  ")


def render(explanation: Explanation, columns: int, paint: Paint) -> str:
    """Lines of at most that many columns."""
    text = min(columns, READABLE)
    lines = [paint.bold(line) for line in wrap(for_people(explanation.about), text)]
    lines += [""]
    steps = explanation.steps
    if columns >= WIDE and {step.side for step in steps} == {"host", "inside"}:
        lines += _two_columns(steps, columns, paint)
    else:
        for step in steps:
            lines += _one_column(step, columns, paint)
    if explanation.undo:
        then = "Undone, newest first:" if explanation.undo[0].number else "Then taken back, in this order:"
        lines += [*([""] * bool(steps)), *(paint.bold(line) for line in wrap(then, columns)), ""]
        for undo in explanation.undo:
            number = f"{undo.number:3}" if undo.number else "  -"
            lines.append(f"{paint.dim(number)}  {paint(for_people(undo.name), 'bold')}")
            lines += wrap(for_people(undo.sentence), text, _margin(5, columns))
            lines += _calls(undo.calls, _margin(7, columns), columns, paint)
    every = [call for step in steps for call in step.calls] + [call for undo in explanation.undo for call in undo.calls]
    notes = list(explanation.notes)
    if hidden := explain_calls.left_out(every):
        notes.append(f"Left out above: {', '.join(hidden)}. --explain=json and --explain=html have every call.")
    lines += ["", *(paint.dim(line) for note in notes for line in wrap(note, text, "* ", "  "))]
    return "\n".join(lines) + "\n"


def for_people(text: str) -> str:
    """Text in which nothing acts. Ids are cut to their first 12 digits, as everywhere."""
    return _ID.sub(r"\1…", visible(text))


def _margin(wanted: int, columns: int) -> str:
    """Indentation; less of it where there is not much room."""
    return " " * (wanted if columns >= 60 else min(wanted, 2))


def _one_column(step: ExplainedStep, columns: int, paint: Paint) -> list[str]:
    shift = "" if step.side == "host" else "  " if columns < 60 else "    "
    margin = shift + _margin(5, columns)
    lines = [paint.dim(line) for line in wrap(f"── {step.sync} ──", columns, margin)] if step.sync else []
    return lines + _step(step, shift, margin, columns, paint, side=True)


def _two_columns(steps: tuple[ExplainedStep, ...], columns: int, paint: Paint) -> list[str]:
    half = (columns - 3) // 2
    bar = paint.dim("│")
    heads = [paint(word, "bold", COLOURS[side]) for side, word in (("host", "ON THE HOST"), ("inside", "INSIDE"))]
    lines = [f"{pad(heads[0], half)} {bar} {heads[1]}"]
    for step in steps:
        if step.sync:
            said = f"── {step.sync} ──"
            lines.append(f"{pad(paint.dim(said.rjust((half + len(said)) // 2)), half)} {bar}")
        block = _step(step, "", "     ", half, paint, side=False)
        empty = " " * half
        lines += [f"{pad(line, half)} {bar}" if step.side == "host" else f"{empty} {bar} {line}" for line in block]
    return lines


def _step(step: ExplainedStep, shift: str, margin: str, columns: int, paint: Paint, *, side: bool) -> list[str]:
    colour = COLOURS[step.side]
    name = paint(for_people(step.name), "bold", colour)
    head = f"{shift if columns >= 40 else ''}{paint.dim(f'{step.number:3}')}  {name}"
    lines = [head]
    if side and _fits(head, step.side, columns):
        lines = [head := f"{head}  {paint(step.side, colour)}"]
    elif side:
        lines.append(f"{margin}{paint(step.side, colour)}")
    if step.residue in _LEFT:
        said = _LEFT[step.residue]
        if _fits(head, said, columns):
            lines = [f"{head}  {paint.magenta(said)}"]
        else:
            lines += [paint.magenta(line) for line in wrap(said, columns, margin)]
    lines += wrap(for_people(step.sentence), min(columns, READABLE), margin)
    return lines + _calls(step.calls, margin + "  " * (columns >= 60), columns, paint)


def _fits(head: str, said: str, most: int) -> bool:
    return columns(head) + 2 + len(said) <= most


def _calls(calls: tuple[ShownCall, ...], margin: str, columns: int, paint: Paint) -> list[str]:
    lines = []
    for line in explain_calls.lines(calls):
        indent = margin + " " * (len(line) - len(line.lstrip()))
        hang = indent + ("    " if columns >= 60 else "  ")
        call, equals, result = for_people(line.lstrip()).partition(") = ")
        glue = "\0" if columns >= 60 else " "  # not to be broken here
        said = call + (equals + result).replace(" ", glue)
        lines += [paint.dim(part.replace("\0", " ")) for part in wrap(said, columns, indent, hang)]
    return lines
