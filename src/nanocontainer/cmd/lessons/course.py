"""How a lesson goes: text, plan, a thing to try, the check, the attack on the container before and on this one.

Played (`--run`) it asks nothing and does everything itself. With a person it stops where there is something to do.
"""

from __future__ import annotations

import os
import re
import time

from ...errors import NanoError
from ...lean import signals
from ...record import Record
from .. import stepshell, terminal
from ..output import STDIN, STDOUT, out, width
from ..page import visible
from ..paint import Paint, columns, pad, wrap
from .lesson import NAMES
from .stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ...engine import Result
    from ...paths import Paths
    from ...plan.plan import Plan
    from .lesson import Lesson, Seen
    from .texts import Text

_WIDEST = 90  # columns of a line of text: longer ones are hard to read
_MOST = 12  # lines of a command's output
_PATIENCE = 2.0  # seconds
COMMANDS = ("inside", "outside", "do", "check", "again", "help", "quit")


class Left(Exception):
    """The learner has left."""


class Outcome(Record):
    """How a lesson went. open: whether the attack hit without the wall; closed: whether it hit with it. seen: what was
    seen of either."""

    done: bool = False
    open: bool = False
    closed: bool = True
    seen: tuple[tuple[tuple[str, str], ...], ...] = ()

    @property
    def passed(self) -> bool:
        return self.done and self.open and not self.closed


class Course:
    """One lesson, in one language. by_hand: a person does what is to be done."""

    def __init__(self, lesson: Lesson, text: Text, words: dict[str, str], *, by_hand: bool) -> None:
        self.lesson, self.text, self.words, self.by_hand = lesson, text, words, by_hand
        self.paint = Paint.of(STDOUT)
        self.width = min(width(STDOUT), _WIDEST)
        self.stage: Stage

    def go(self, paths: Paths) -> tuple[int, dict[str, Any]]:
        """The lesson, on a play host: exit code, Outcome as data (nothing where the learner has left)."""
        try:
            outcome = self._go(paths)
        except (Left, KeyboardInterrupt):
            self._say("", self.paint.dim(self.words["left"]))
            return (0 if self.by_hand else 128 + signals.SIGINT), {}
        return int(not outcome.passed), outcome.as_dict()

    def _go(self, paths: Paths) -> Outcome:
        self._title()
        self._text(self.text.why)
        manual = wrap(f"man: {', '.join(self.lesson.manual)}", self.width, hang="     ")
        self._say("", *(self.paint.dim(line) for line in manual))
        self._pause()
        stage = self.stage = Stage(paths, self.lesson)
        self._head("plan")
        self._text(self.text.plan)
        self._say(*self._plan(stage.plan(walled=False), stage.plan()))
        self._pause()
        stage.hold()
        self._head("try")
        self._text(self.text.task)
        seen = self._prompts() if self.by_hand else self._done()
        stage.let_go()
        self._head("attack")
        self._text(self.text.attack)
        self._pause()
        opened, closed = self._fight(False), self._fight(True)
        outcome = Outcome(seen.done, opened.done, closed.done, (seen.what, opened.what, closed.what))
        self._head("end")
        self._text(self.text.end)
        mark = self.paint.green(f"✓ {self.words['passed']}")
        self._say("", mark if outcome.passed else self.paint.red(f"✗ {self.words['failed']}"))
        return outcome

    # --- the plan

    def _plan(self, before: Plan, now: Plan) -> list[str]:
        """Its steps: those of earlier lessons, and the new ones."""
        old = list(dict.fromkeys(type(step).__name__ for step in before))
        new = [name for name in dict.fromkeys(type(step).__name__ for step in now) if name not in old]
        spaces = [name for name in _namespaces(now) if name not in _namespaces(before)]
        lists = (("steps", old, "dim"), ("new steps", new, "bold"), ("new namespaces", spaces, "bold"))
        shown = [(self.words[label], names, style) for label, names, style in lists if names]
        room = max(columns(label) for label, _, _ in shown)
        return ["", *(line for label, names, style in shown for line in self._listed(pad(label, room), names, style))]

    def _listed(self, label: str, names: list[str], style: str) -> list[str]:
        margin = f"  {label}  "
        lines = wrap(" ".join(names), self.width, margin, " " * columns(margin))
        first = lines[0].removeprefix(margin)
        rest = (self.paint(line, style) for line in lines[1:])
        return [self.paint.yellow(margin) + self.paint(first, style), *rest]

    # --- the thing to try

    def _done(self) -> Seen:
        """All of it by the program; what is seen then."""
        for side, command in self.lesson.tries:
            self._say("", *self._typed(side, command))
            self._output((self.stage.inside if side == "inside" else self.stage.outside)(command))
        deadline = time.monotonic() + _PATIENCE
        while not self.lesson.check(self.stage).done and time.monotonic() < deadline:
            time.sleep(0.02)  # what was started in the background may need a moment
        return self._check()

    def _tries(self) -> list[str]:
        return [line for side, command in self.lesson.tries for line in self._typed(side, command)]

    def _check(self) -> Seen:
        seen = self.lesson.check(self.stage)
        said = f"✓ {self.words['done']}" if seen.done else f"✗ {self.words['not done']}"
        lines = wrap(said + self._facts(seen), self.width, hang="  ")
        self._say("", *(self.paint(line, "green" if seen.done else "yellow") for line in lines))
        return seen

    def _prompts(self) -> Seen:
        """Until it is done."""
        self._say("", *self._tries(), "", *self._help())
        while True:
            word = self._ask(f"({self.lesson.name}) ")
            fitting = [name for name in COMMANDS if word and name.startswith(word)] or (["check"] if not word else [])
            command = fitting[0] if len(fitting) == 1 else "help"
            try:
                if command == "quit":
                    raise Left
                if command == "inside":
                    self._inside()
                elif command == "outside":
                    self._outside()
                elif command == "again":
                    self._text(self.text.task)
                    self._say("", *self._tries())
                elif command in ("do", "check"):
                    seen = self._done() if command == "do" else self._check()
                    if seen.done:
                        return seen
                else:
                    self._say(*self._help())
            except NanoError as error:
                self._say(self.paint.red(visible(str(error))))

    def _help(self) -> list[str]:
        lines = []
        for name in COMMANDS:
            margin = f"  {pad(name, 9)} "
            first, *rest = wrap(self.words[f"to {name}"], self.width, margin, " " * columns(margin))
            lines += [first.replace(name, self.paint.bold(name), 1), *rest]
        return lines

    def _inside(self) -> None:
        self._say(self.paint.dim(self.words["shell inside"]))
        session: Any = self.stage.engine.exec(
            self.stage.id,
            ("sh", "-c", self.stage.placed("exec sh")),
            env=("PS1=inside# ", "ENV="),
            tty=True,
            stdin=True,
            size=terminal.terminal_size(),
            privileged=self.stage.privileged,
        )
        try:
            terminal.attach(session, stdin=True, tty=True)
        finally:
            session.close()

    def _outside(self) -> None:
        self._say(self.paint.dim(self.words["shell outside"]))

        def become() -> NoReturn:
            os.execve("/bin/sh", ["sh"], {**os.environ, "PS1": "outside# ", "ENV": ""})

        stepshell.run(become)

    # --- the attack

    def _fight(self, walled: bool) -> Seen:
        """The attack, with or without the lesson's wall."""
        self._say("", self.paint(self.words["walled" if walled else "open"], "bold", "yellow"), "")
        lesson = self.lesson
        if lesson.duel:
            typed, result = lesson.duel(self.stage, walled)
        else:
            typed, result = (("inside", lesson.attack),), self.stage.run(lesson.attack, walled=walled)
        for side, command in typed:
            self._say(*self._typed(side, command))
        self._output(result)
        seen = lesson.hit(self.stage, result)
        self.stage.tidy()
        colour = "red" if seen.done else "green"
        lines = wrap(self.words["hit" if seen.done else "missed"] + self._facts(seen), self.width, hang="  ")
        self._say("", *(self.paint(line, colour) for line in lines))
        return seen

    def _facts(self, seen: Seen) -> str:
        """What was seen, in words."""
        said = (f"{self._word(what)} = {self._word(value)}" for what, value in seen.what)
        return self.words["seen"].replace("{}", ", ".join(said))

    def _word(self, text: str) -> str:
        """A word of Seen in the learner's language; an id in what comes from outside is shortened."""
        return self.words.get(f"seen {text}") or re.sub("([0-9a-f]{12})[0-9a-f]{52}", "\\1…", visible(text))

    # --- how it looks

    def _title(self) -> None:
        number = NAMES.index(self.lesson.name) + 1
        start = f"{number}/{len(NAMES)}  {self.lesson.name}  "
        title = wrap(self.text.title, self.width, start, " " * columns(f"{number}/{len(NAMES)}  "))
        rule = "─" * max(map(columns, title))
        self._say("", *(self.paint(line, "bold", "cyan") for line in title), self.paint.cyan(rule), "")

    def _head(self, part: str) -> None:
        self._say("", self.paint(self.words[part], "bold", "magenta"), "")

    def _text(self, text: str) -> None:
        paragraphs = text.split("\n")
        for at, paragraph in enumerate(paragraphs):
            self._say(*self._coded(wrap(paragraph, self.width)), *([""] if at < len(paragraphs) - 1 else []))

    def _coded(self, lines: list[str]) -> list[str]:
        """`code` in a colour."""
        if not self.paint.on:
            return lines
        shown, inside = [], False
        for line in lines:
            parts = line.split("`")
            styled = []
            for at, part in enumerate(parts):
                inside = not inside if at else inside
                styled.append(self.paint.cyan(part) if inside else part)
            shown.append("".join(styled))
        return shown

    def _typed(self, side: str, command: str) -> list[str]:
        """A command as it is typed."""
        margin = f"  {side}{'#' if side == 'inside' else '$'} "
        first, *rest = wrap(command, self.width, margin, "      ")
        shown = first.removeprefix(margin)
        return [self.paint.yellow(margin) + self.paint.bold(shown), *(self.paint.bold(line) for line in rest)]

    def _output(self, result: Result) -> None:
        """What a command has said, shortened in the middle."""
        lines = (result.stdout + result.stderr).decode(errors="replace").splitlines()
        if len(lines) > _MOST:
            more = self.words["more lines"].format(len(lines) - _MOST + 1)
            lines = [*lines[: _MOST // 2], f"… {more} …", *lines[len(lines) - _MOST // 2 + 1 :]]
        bar = self.paint.dim("  │ ")
        for line in lines:
            shown = visible(line.replace("\t", "  ").rstrip())
            room = self.width - 4
            self._say(*(bar + part for part in ([shown] if columns(shown) <= room else wrap(shown, room))))
        if result.exit_code:
            self._say(bar + self.paint.dim(self.words["exit code"].format(result.exit_code)))

    def _pause(self) -> None:
        if self.by_hand:
            self._ask(self.paint.dim(self.words["enter"]), plain=True)

    def _ask(self, prompt: str, *, plain: bool = False) -> str:
        """A line from the terminal. Left where there is none, or at a pause where it says quit."""
        out(prompt if plain else self.paint.bold(prompt))
        line = os.read(STDIN, 4096)
        if not line:
            out("\n")
            raise Left
        word = line.decode(errors="replace").strip().lower()
        if plain and word in ("q", "quit"):
            raise Left
        return word

    def _say(self, *lines: str) -> None:
        out("".join(f"{line}\n" for line in lines))


def _namespaces(plan: Plan) -> list[str]:
    """Kinds that the container has of its own."""
    made: list[str] = list(plan.steps[plan.find("Clone")].as_dict()["namespaces"])
    return [*made, *(["net"] if plan.find("EnterNetworkNamespace") >= 0 else [])]
