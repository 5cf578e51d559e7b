"""The list in words: what `run --explain` prints. Needs no root: nothing is executed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan import Plan


def as_text(plan: Plan, width: int = 100) -> str:
    """Numbered steps, host's at the left margin, inside ones indented; sync points as lines between them."""
    lines = []
    previous = "host"
    for number, step in enumerate(plan, 1):
        if step.side != previous and number > 1 and type(plan.steps[number - 2]).__name__ != "Clone":
            word = f"{previous} waits for {step.side}" if step.side == "inside" else "sync"
            lines.append(f"        ┈┈ {word} ┈┈")
        previous = step.side
        margin = "" if step.side == "host" else "    "
        mark = "" if step.residue == "init" else f" [{step.residue}: undone at the end]"
        head = f"{number:3}  {step.side:6}  {margin}{type(step).__name__}{mark}"
        lines.append(head)
        lines += _wrapped(step.explain(), 13 + len(margin), width)
    return "\n".join(lines)


def _wrapped(text: str, margin: int, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and margin + len(line) + 1 + len(word) > width:
            lines.append(" " * margin + line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, " " * margin + line] if line else lines
