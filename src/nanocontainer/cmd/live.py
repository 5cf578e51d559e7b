"""`--explain=live`: each step on stderr as it happens, with its time; then the container runs as ever.

The two sides of a start stand side by side: what is done on the host at the left, what is done inside at the right.
"""

from __future__ import annotations

import os

from ..plan.telling import Watch
from .output import STDERR, err, width
from .page import visible
from .paint import Paint, columns, cut, pad, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.step import Step
    from ..plan.telling import Told

NARROW = 72  # columns below which the two sides stand in one
_TIMES = 21  # columns of the two times and what is between them


def subject(step: Step) -> str:
    """What a step is about, in a word or two: the first text of its data, a path's end. Empty where it has none."""
    for value in step.as_dict().values():
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return visible(" ".join(value))
        if isinstance(value, str) and value:
            long = len(value) > 32 and "/" in value[1:]
            return visible(f"…/{value.rstrip('/').rpartition('/')[2]}" if long else value)
        if isinstance(value, dict) and value:
            return visible(" ".join(value))
    return ""


def milliseconds(nanoseconds: int) -> str:
    """Right in 8 columns: "65 µs", "1.30 ms", "2.31 s"."""
    if nanoseconds < 999_500:
        return f"{round(nanoseconds / 1000)} µs"
    if nanoseconds < 9_999_500_000:
        text = f"{nanoseconds / 1e6:.2f}" if nanoseconds < 99_995_000 else f"{nanoseconds / 1e6:.0f}"
        return f"{text} ms"
    return f"{nanoseconds / 1e9:.1f} s"


class Live(Watch):
    """Prints what it hears. on_terminal: a step that takes its time is shown before it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.paint, self.width = Paint.of(STDERR), width(STDERR)
        self.on_terminal = os.isatty(STDERR)
        self.start = self.first = 0
        self.spent = {"host": 0, "inside": 0}
        self.count = 0
        self.open = -1  # the step whose line is begun and not ended
        self.last: Told | None = None  # the last step, while it runs
        self.cloned = -1

    def heard(self, told: Told) -> None:
        at = told.at
        self.start = self.start or told.time
        if at == "plan":
            self._head()
        elif at == "before":
            self.first = self.first or told.time
            if told.index == len(self.plan) - 1:
                self.last = told  # nobody is there to say that it has ended: "done" does
            if self.on_terminal:
                self._line(told, "", begun=True)
        elif at in ("after", "born"):
            if self._step(told).side == "host" and told.index == self.cloned:
                return  # both sides say that it has ended
            if type(self._step(told)).__name__ == "Clone":
                self.cloned = told.index
            self._ended(told)
        elif at == "failed":
            self._line(told, milliseconds(told.time - told.begin), visible(f"  failed: {told.error.get('why', '')}"))
        elif at == "done":
            if self.last:
                self._ended(self.last.replace(begin=self.last.time, time=told.time))
                self.last = None
            else:
                lead = "\n" if self.open >= 0 else ""
                err(f"{lead}{self.paint.red('the first process was ended: the command never ran')}\n")
                self.open = -1
            self._foot(told)

    def attend(self) -> None:
        try:
            super().attend()
        finally:
            if self.open >= 0:
                err("\n")
            elif self.last:
                self._line(self.last, "")  # it did not become the command

    def _ended(self, told: Told) -> None:
        took = told.time - told.begin
        self.count += 1
        self.spent[self._step(told).side] += took
        self._line(told, milliseconds(took))

    def _step(self, told: Told) -> Step:
        return self.plan.steps[told.index]

    def _head(self) -> None:
        dim = self.paint.dim
        if self.width < NARROW:
            err(dim(f"{'at':>9}  {'took':>8}  step") + "\n")
        else:
            err(dim(f"{'at':>9}  {'took':>8}  {pad('host', self._column())}inside") + "\n")

    def _column(self) -> int:
        return max((self.width - _TIMES) // 2, 24)

    def _line(self, told: Told, took: str, note: str = "", *, begun: bool = False) -> None:
        step = self._step(told)
        name = type(step).__name__
        colour = "yellow" if step.side == "host" else "cyan"
        begin = (told.begin if told.begin else told.time) - self.start
        times = f"{begin / 1e6:6.1f} ms  {'…' if begun else took:>8}  "
        if self.width < NARROW:
            margin, room = f"{step.side:6} ", self.width - _TIMES - 7
        else:
            margin = " " * (self._column() if step.side == "inside" else 0)
            room = self._column() if step.side == "host" else self.width - _TIMES - len(margin)
        if name == "Clone" and not note:
            note = f"  → {', '.join(step.as_dict()['namespaces']) or 'no new namespaces'}"
        else:
            note = note or f"  {subject(step)}"
        rest = cut(note.rstrip(), max(room - columns(name) - 1, 0))
        text = self.paint.dim(times) + margin + self.paint(name, colour) + self.paint.dim(rest)
        lead = "\r\x1b[K" if self.open >= 0 and self.open == told.index else "\n" if self.open >= 0 else ""
        self.open = told.index if begun else -1
        err(lead + text + ("" if begun else "\n"))

    def _foot(self, told: Told) -> None:
        whole = told.time - self.start
        host, inside = self.spent["host"], self.spent["inside"]
        before = self.first - self.start
        between = max(whole - before - host - inside, 0)
        parts = (
            (before, "before the first (claims, plan)"), (host, "on the host"), (inside, "inside"),
            (between, "between the steps"),
        )  # fmt: skip
        said = f"{self.count} steps in {milliseconds(whole)}: "
        said += ", ".join(f"{milliseconds(time)} {where}" for time, where in parts)
        err("".join(f"{self.paint.dim(line)}\n" for line in wrap(said, self.width)))
