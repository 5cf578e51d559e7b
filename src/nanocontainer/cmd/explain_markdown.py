"""--explain=markdown: an explanation as a document (CommonMark), for a repository or a wiki."""

from __future__ import annotations

from . import explain_calls
from .page import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.explanation import Explanation, ShownCall

_SIDES = {"host": "on the host", "inside": "inside"}
_LEFT = {
    "kernel": " It leaves an object in the kernel, which is undone at the end.",
    "disk": " It leaves a file, which is undone at the end.",
}


def show(explanation: Explanation) -> str:
    """The whole document."""
    parts = [f"# nanocontainer {_plain(explanation.command)}, step by step", _plain(explanation.about)]
    for step in explanation.steps:
        if step.sync:
            parts.append(f"*{step.sync}*")
        parts.append(f"## {step.number}. {_plain(step.name)} ({_SIDES[step.side]})")
        parts.append(_plain(step.sentence) + _LEFT.get(step.residue, ""))
        parts.append(_calls(step.calls))
        if step.manual:
            parts.append(f"Manual: {', '.join(f'`{page}`' for page in step.manual)}")
    if explanation.undo:
        parts.append("## Undone, newest first")
        for undo in explanation.undo:
            number = f"{undo.number}. " if undo.number else ""
            parts += [f"### {number}{_plain(undo.name)}", _plain(undo.sentence), _calls(undo.calls)]
    parts.append("## Notes")
    parts.append("\n".join(f"- {_plain(note)}" for note in explanation.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(text: str) -> str:
    """Text in which nothing is markup, whatever the names in it are."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>#|$" else character for character in visible(text))


def _calls(calls: tuple[ShownCall, ...]) -> str:
    lines = [visible(line) for line in explain_calls.lines(calls)]
    if not lines:
        return ""
    longest = max((len(run) for line in lines for run in line.split("`") if not run), default=0)
    fence = "`" * max(3, longest + 3 if any("```" in line for line in lines) else 3)
    return "\n".join([f"{fence}c", *lines, fence])
