"""`--step` and `--break-at`: a start that stops before each step, and shows what the last one has changed.

The start waits in the process that would run the step: on the host that is the keeper, inside it is init. Both stand
still, so one can look at them as long as one likes, and go on, leave the step out, or take everything back. Whoever
leaves (ctrl-c, ctrl-d, a closed terminal) takes everything back too.
"""

from __future__ import annotations

import os

from ..errors import InvalidInput
from ..lean import signals
from ..plan.omission import dangers, find_step, needed_by, opening, refuse
from ..plan.telling import ABORT, GO, SKIP, Watch
from . import stepshell, view
from .live import milliseconds, subject
from .output import STDERR, STDIN, err, width
from .page import visible
from .paint import Paint, cut, pad, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.step import Step
    from ..plan.telling import Told
    from .view import View

COMMANDS = {
    "next": "run this step and stop before the next one (enter)",
    "to": "STEP: run up to a step (a name or a number)",
    "continue": "run to the next --break-at, or to the end",
    "skip": "leave this step out; `skip all`: those that need it too; with ! although the host is in danger",
    "abort": "take back all that was done, and end (ctrl-c, ctrl-d)",
    "show": "all that is to be seen outside and inside, not only what has changed",
    "outside": "a shell on the host",
    "inside": "a shell in the namespaces and the root that the container has by now",
    "explain": "what this step does, and what it would mean to leave it out",
    "list": "all steps, and where we are",
    "help": "this list; the beginning of a word is enough",
}
_ENDING = (signals.SIGINT, signals.SIGTERM, signals.SIGHUP)  # at a stop they are an answer: abort
_MOST = 6  # lines of one change
_LABEL = 18  # columns of a value's name


class Stepper(Watch):
    """Asks a person before each step. breaks: steps to stop at (names, numbers); every: stop at all of them."""

    asks = True

    def __init__(self, breaks: tuple[str, ...], *, every: bool, kept: bool) -> None:
        """kept: a container that was not started stays, as after any failed start."""
        super().__init__()
        self.kept = kept
        self.paint = Paint.of(STDERR)
        self.breaks, self.every = breaks, every
        self.stops: set[int] = set()
        self.target = -1  # of `to`
        self.keeper = self.init = 0
        self.seen: dict[str, View] = {"outside": {}, "inside": {}}
        self.times: dict[int, int] = {}  # of steps that were run
        self.left: set[int] = set()  # steps that were left out, and that shall be
        self.aborted = -1
        self.at = -1  # the step that was begun last

    # --- what is heard

    def attend(self) -> None:
        held = [(number, signals.signal(number, signals.default_int_handler)) for number in _ENDING]
        try:
            super().attend()
        finally:
            for number, handler in held:
                signals.signal(number, handler)
        if self.aborted >= 0:
            self._say(self._taken_back())

    def heard(self, told: Told) -> str:
        if told.at == "plan":
            self.keeper = told.pid
            self._begin()
        elif told.at == "born":
            self.init = told.pid
        elif told.at == "after":
            self.times[told.index] = told.time - told.begin
        elif told.at == "failed":
            self._say([self.paint.red(f"step {self._name(told.index)} failed: {told.error.get('why', '')}")])
        elif told.at == "done":
            if self.at < len(self.plan) - 1:
                where = f"step {self.at + 1}, {self._name(self.at)}"
                ended = self._wrap(f"The first process was ended at {where}: the command never ran.")
                self._say([self.paint.red(line) for line in ended])
                return GO
            took = sum(self.times.values())
            self._say([self.paint.green(f"The command runs. {len(self.times) + 1} steps took {milliseconds(took)}.")])
        elif told.at == "before":
            self.at = told.index
            return self._before(told.index)
        return GO

    def _begin(self) -> None:
        for word in self.breaks:
            first = find_step(self.plan, word)
            numbered = word.isascii() and word.isdecimal()
            same = [at for at, step in enumerate(self.plan) if type(step) is type(self.plan.steps[first])]
            self.stops |= {first} if numbered else set(same)
        count, inside = len(self.plan), sum(step.side == "inside" for step in self.plan)
        lines = [
            f"{count} steps: {count - inside} on the host, {inside} inside. Nothing has been done yet.",
            "enter runs a step, `help` shows what else there is.",
        ]
        self._say([self.paint.dim(line) for line in lines])
        self.seen["outside"] = view.outside(self.keeper, self._cgroup())

    def _before(self, index: int) -> str:
        if index in self.left:
            self._say([self.paint.yellow(f"step {index + 1}, {self._name(index)}, is left out")])
            return SKIP
        if not (index in self.stops or index == self.target or (self.every and self.target < 0)):
            return GO
        self.target = -1
        try:
            answer = self._stop(index)
        except (KeyboardInterrupt, EOFError):
            err("\n")
            answer = ABORT
        if answer == ABORT:
            self.aborted = index
        elif answer == SKIP:
            self.left.add(index)
        return answer

    # --- a stop

    def _stop(self, index: int) -> str:
        self._head(index)
        while True:
            word, _, rest = self._ask(index).partition(" ")
            try:
                answer = self._do(word.lower(), rest.strip(), index)
            except InvalidInput as error:
                self._say([self.paint.red(line) for line in self._wrap(str(error))])
                if error.hint and "--" not in error.hint:
                    self._say(self._wrap(error.hint))
                continue
            if answer:
                return answer

    def _ask(self, index: int) -> str:
        """A line from the terminal. Read straight, so that nothing is taken that is meant for the container."""
        err(self.paint.bold(f"({index + 1} {self._name(index)}) "))
        line = os.read(STDIN, 4096)
        if not line:
            raise EOFError
        return line.decode(errors="replace").strip()

    def _do(self, word: str, rest: str, index: int) -> str:
        """Do a command; the answer that lets the start go on, or "" to stay."""
        fitting = [name for name in COMMANDS if name.startswith(word)]
        if word in ("", "go", "n", "s"):
            fitting = ["skip"] if word == "s" and rest else ["next"]
        if word in ("skip!", "quit", "q", "?"):
            fitting = {"skip!": ["skip"], "?": ["help"]}.get(word, ["abort"])
            rest = f"{rest}!" if word == "skip!" else rest
        if len(fitting) != 1:
            known = ", ".join(fitting or COMMANDS)
            raise InvalidInput(f"{word!r} is no command" if not fitting else f"{word!r} is several", known)
        name = fitting[0]
        if name == "next":
            self.every = True
            return GO
        if name == "abort":
            return ABORT
        if name == "continue":
            self.every = False
            return GO
        if name == "to":
            return self._go_to(rest, index)
        if name == "skip":
            return self._skip(rest, index)
        if name == "inside":
            self._inside()
        elif name == "outside":
            pids = {"PID": str(self.init)} if self.init else {}
            stepshell.outside({**pids, "KEEPER": str(self.keeper), "CGROUP": self._cgroup()})
        else:
            lines = {"show": self._show, "list": self._list, "help": self._help, "explain": self._explain}[name]
            self._say(lines(index))
        return ""

    def _go_to(self, word: str, index: int) -> str:
        if not word:
            raise InvalidInput("to: which step?", "a name or a number of `list`")
        at = find_step(self.plan, word)
        if at < index and not word.isdecimal():
            kind = type(self.plan.steps[at])
            at = next((n for n in range(index + 1, len(self.plan)) if type(self.plan.steps[n]) is kind), at)
        if at <= index:
            raise InvalidInput(f"step {at + 1}, {self._name(at)}, is not ahead", "there is no way back but abort")
        self.target, self.every = at, True
        return GO

    def _skip(self, rest: str, index: int) -> str:
        forced, every = rest.endswith("!"), rest.rstrip("!") == "all"
        wanted = {*self.left, index, *(needed_by(self.plan, index) if every else ())}
        if not every and not opening(self.plan.steps[index]).never:
            others = [at for at in needed_by(self.plan, index) if at not in wanted]
            if others and not any(opening(self.plan.steps[at]).never for at in others):
                names = ", ".join(dict.fromkeys(self._name(at) for at in others))
                what = f"{self._name(index)} cannot be left out alone"
                raise InvalidInput(what, f"needed by {names}", "`skip all` leaves them out too")
        if not forced and (risky := dangers(self.plan, wanted)):
            word = "skip all!" if every else "skip!"
            raise InvalidInput("this endangers the host", "; ".join(risky.values()), f"to do it all the same: {word}")
        refuse(self.plan, wanted, forced=True)
        self.left |= wanted
        self._say(self._wrap(opening(self.plan.steps[index]).opens))
        return SKIP

    def _inside(self) -> None:
        if not self.init:
            raise InvalidInput("there is no inside yet", "it begins with step Clone")
        if _is_zombie(self.init):
            raise InvalidInput("there is no inside any more", "its first process has ended")
        stepshell.inside(self.init)

    # --- what is shown

    def _head(self, index: int) -> None:
        step = self.plan.steps[index]
        colour = "yellow" if step.side == "host" else "cyan"
        side = "on the host" if step.side == "host" else "inside"
        number = self.paint.dim(f"{index + 1}/{len(self.plan)} {side}")
        title = f"{self.paint(self._name(index), colour, 'bold')}  {cut(subject(step), 50)}"
        self._say([*self._changes(), "", f"{number}  {title}".rstrip(), *self._wrap(_sentence(step), "  ")])

    def _look(self) -> dict[str, View]:
        return {
            "outside": view.outside(self.keeper, self._cgroup()),
            "inside": view.inside(self.init) if self.init else {},
        }

    def _changes(self) -> list[str]:
        """What is different since the last stop."""
        now, lines = self._look(), []
        for side, colour in (("outside", "yellow"), ("inside", "cyan")):
            if side == "inside" and self.init and not self.seen["inside"]:
                lines += self._all("inside", now["inside"])  # the first look
            else:
                for name, gone, come in view.changes(self.seen[side], now[side]):
                    label = f"  {self.paint(pad(side, 8), colour)}{pad(name, _LABEL)}"
                    lines += self._change(label, gone, come, now[side][name])
        self.seen = now
        return lines

    def _change(self, label: str, gone: list[str], come: list[str], now: list[str]) -> list[str]:
        if len(now) <= 1 and len(gone) <= 1:
            before = f"{gone[0]} → " if gone else ""
            before = before if len(before) < 40 else f"{before[:30]}… → "
            return [label + self.paint.dim(before) + self.paint.bold(self._room(now[0] if now else "nothing"))]
        marks = [(f"- {line}", "red") for line in gone] + [(f"+ {line}", "green") for line in come]
        more = len(marks) - _MOST
        if more > 1:
            marks = [*marks[: _MOST - 1], (f"and {more + 1} more: {len(now)} in all", "dim")]
        margin = " " * (10 + _LABEL)
        starts = [label, *[margin] * (len(marks) - 1)]
        return [start + self.paint(self._room(text), style) for start, (text, style) in zip(starts, marks, strict=True)]

    def _room(self, text: str) -> str:
        """A value in the room that is left, its long names shortened."""
        at = self.plan.find("AttachRootfs")
        if at >= 0:
            text = text.replace(str(self.plan.steps[at].as_dict()["place"]), "(root)")
        if id := self._cgroup().rpartition("/")[2]:
            text = text.replace(id, id[:12])
        return cut(visible(text), max(width(STDERR) - 10 - _LABEL, 20))

    def _all(self, side: str, found: View) -> list[str]:
        colour = "yellow" if side == "outside" else "cyan"
        lines = []
        for name, values in found.items():
            label = f"  {self.paint(pad(side, 8), colour)}{pad(name, _LABEL)}"
            shown = values if len(values) <= _MOST else [f"{len(values)}, the last:", *values[-3:]]
            for at, value in enumerate(shown or ["nothing"]):
                lines.append((" " * (10 + _LABEL) if at else label) + self._room(value))
        return lines

    def _show(self, index: int) -> list[str]:
        now = self._look()
        inside = self._all("inside", now["inside"])
        return [*self._all("outside", now["outside"]), *(inside or ["  inside  nothing yet: it begins with Clone"])]

    def _list(self, index: int) -> list[str]:
        lines = []
        for at, step in enumerate(self.plan):
            mark = "→" if at == index else "✗" if at in self.left else "✓" if at in self.times else " "
            stop = "●" if at in self.stops else " "
            took = milliseconds(self.times[at]) if at in self.times else ""
            margin = "" if step.side == "host" else "    "
            text = f"{at + 1:3} {stop}{mark} {margin}{type(step).__name__}  {subject(step)}"
            line = f"{pad(cut(text, 60), 60)} {took:>8}".rstrip()
            lines.append(self.paint.bold(line) if at == index else line)
        return lines

    def _help(self, index: int) -> list[str]:
        lines = []
        for name, what in COMMANDS.items():
            first, *rest = self._wrap(what, f"  {pad(name, 9)} ", " " * 12)
            lines += [first.replace(name, self.paint.bold(name), 1), *rest]
        return lines

    def _explain(self, index: int) -> list[str]:
        step = self.plan.steps[index]
        found = opening(step)
        without = f"It cannot be left out: {found.never}." if found.never else f"Without it: {found.opens}"
        lines = [*self._wrap(step.explain(), "  "), *self._wrap(without, "  ")]
        if found.danger:
            danger = self._wrap(f"The host would be in danger: {found.danger}.", "  ")
            lines += [self.paint.red(line) for line in danger]
        return lines

    # --- an end

    def _taken_back(self) -> list[str]:
        """What was undone, and whether it is gone."""
        done = [at for at in reversed(range(len(self.plan))) if at in self.times]
        undone = [at for at in done if self.plan.steps[at].residue != "init"]
        lines = [self.paint.bold(f"Aborted before step {self.aborted + 1}, {self._name(self.aborted)}.")]
        if undone:
            named = ", ".join(f"{self._name(at)} {subject(self.plan.steps[at])}".strip() for at in undone)
            lines += self._wrap(f"Undone, the last first: {named}.", hang="  ")
        if self.init:
            lines += self._wrap(
                f"Gone with its process {self.init}: its namespaces, all {self._count(done)} steps inside them, and "
                "what was mounted there.",
                hang="  ",
            )
        if not done:
            lines.append("Nothing had been done.")
        if self.kept:
            lines += self._wrap("The container stays, not started: see ps -a. With --rm nothing would be left.")
        own = self.plan.find("MakeCgroup") >= 0  # exec's is the container's
        left = [path for path in (self._cgroup(),) if own and path and os.path.isdir(path)]
        if self.init and os.path.isdir(f"/proc/{self.init}") and not _is_zombie(self.init):
            left.append(f"process {self.init}")
        lines += [self.paint.red(f"Still there: {what}") for what in left]
        return lines

    def _count(self, done: list[int]) -> int:
        return sum(self.plan.steps[at].side == "inside" for at in done)

    def _name(self, index: int) -> str:
        return type(self.plan.steps[index]).__name__

    def _cgroup(self) -> str:
        at = max(self.plan.find("MakeCgroup"), self.plan.find("OpenCgroup"))
        return str(self.plan.steps[at].as_dict()["path"]) if at >= 0 else ""

    def _wrap(self, text: str, margin: str = "", hang: str | None = None) -> list[str]:
        return wrap(text, width(STDERR), margin, hang)

    def _say(self, lines: list[str]) -> None:
        err("".join(f"{line}\n" for line in lines))


def _sentence(step: Step) -> str:
    """The first paragraph of a step's docstring: one sentence for a learner."""
    return " ".join((type(step).__doc__ or "").split("\n\n")[0].split())


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
