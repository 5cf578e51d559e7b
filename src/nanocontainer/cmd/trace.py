"""`trace`: where the time of a start goes, from the moment somebody asks for it until the command has come and gone.

A start is run several times, as fresh processes like a user's, each told step by step (plan/telling.py, traced.py). The
timeline of one run has no holes: each phase and step begins where the one before has ended, and what lies between two
steps is a row of its own. So the rows add up to what the user waits. Runs that nobody watches alternate with those that
are: the difference is what watching costs.
"""

from __future__ import annotations

import os
import time

from ..errors import InvalidInput, NanoError
from ..paths import read_file
from ..plan.telling import Watch
from ..record import Record
from . import runflags
from .flags import Command, Given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..engine import Engine
    from ..plan.plan import Plan
    from .flags import Table
    from .main import App

FORMATS = ("table", "svg", "chrome", "json")
_FIRST = (  # the phases before the first step: label, who, the mark that ends it
    ("start Python", "command", "begin"),
    ("load the program", "command", "loaded"),
    ("read the flags", "command", "launch"),
    ("load the steps", "command", "ready"),
    ("find the image, fork", "command", "keeper"),
    ("claim and plan", "host", "plan"),
)
_LAST = (
    ("tell the caller", "command", "started"),
    ("command, taking down", "command", "ended"),
    ("exit", "command", "exit"),
)
BETWEEN = "between steps"
_LAUNCHER = (  # what the command's launcher does, wherever that is installed
    "import sys; sys.path.insert(0, {!r}); from nanocontainer.bundle import install; install(); "
    "from nanocontainer.cmd.main import entry; entry()"
)


class Span(Record):
    """A part of one run: what, who (command, host, inside, between), when since the beginning and how long, in
    nanoseconds. index: of the step, -1 for a phase."""

    label: str
    who: str
    begin: int
    took: int
    index: int = -1


class Row(Record):
    """The same part of all runs. times: nanoseconds, of each run; begin: its median beginning."""

    label: str
    who: str
    begin: int
    times: tuple[int, ...]
    index: int = -1

    @property
    def median(self) -> int:
        return quantile(self.times, 0.5)

    @property
    def mean(self) -> float:
        return sum(self.times) / len(self.times)


class Traces(Record):
    """All runs of one command line. totals: of the watched runs; unwatched: of those nobody watched. runs: their
    spans. rows: parts of the runs, in order."""

    words: tuple[str, ...]
    totals: tuple[int, ...]
    unwatched: tuple[int, ...]
    runs: tuple[tuple[Span, ...], ...]
    rows: tuple[Row, ...]

    def typical(self) -> tuple[Span, ...]:
        """The run whose total is the median."""
        middle = sorted(self.totals)[(len(self.totals) - 1) // 2]
        return self.runs[self.totals.index(middle)]


def quantile(values: Sequence[int], part: float) -> int:
    """The value below which that part of all lies, between neighbours in proportion."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


class _Ear(Watch):
    """Hears one run of a program: the moments of its marks, and of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: dict[str, int] = {}
        self.steps: dict[int, tuple[int, int]] = {}
        self.born = -1

    def hear(self) -> None:
        """All that is said, until the last process that could has let go."""
        last = 0
        while told := self.receive():
            if told.at == "mark":
                self.marks[told.name] = told.time
            elif told.at in ("plan", "done"):
                self.marks[told.at] = told.time
            elif told.at == "before":
                last = max(last, told.index)
                self.steps.setdefault(told.index, (told.time, 0))
            elif told.at == "born":
                self.born = told.index
                self.steps[told.index] = (told.begin, told.time)  # init goes on from here, and the host waits for it
            elif told.at == "after" and told.index != self.born:
                self.steps[told.index] = (told.begin, told.time)
        if "done" in self.marks:  # the last step has ended when the host saw it become the command
            self.steps[last] = (self.steps[last][0], self.marks["done"])
        self.sock.close()


def measure(words: Sequence[str], runs: int, env: dict[str, str], give_up: Callable[[int], None]) -> Traces:
    """Run `run WORDS` so many times, watched and unwatched in turn, after one of each that warms up. NanoError where a
    run fails. env: the environment of the runs. give_up: ends, at ctrl-c, what the run with this pid has started; may
    be called again."""
    from ..container import planner  # noqa: F401 (so that the steps are known)

    here = os.path.dirname(os.path.abspath(__file__))
    source = os.path.dirname(os.path.dirname(here))
    launcher = _LAUNCHER.format(source)
    told: list[tuple[Span, ...]] = []
    totals: list[int] = []
    unwatched: list[int] = []
    kinds: list[str] = []
    for turn in range(runs + 1):
        took = _once([_python(), "-IS", "-c", launcher, "run", *words], env, None, give_up)[1]
        ear = _Ear()
        begin, whole = _once([_python(), "-IS", f"{here}/traced.py", "3", "run", *words], env, ear, give_up)
        ear.marks["exit"] = begin + whole
        if "done" not in ear.marks:
            raise NanoError("cannot trace", "the run did not tell of its end", "try the same with run --explain=live")
        if turn == 0:
            continue
        names = [type(step).__name__ for step in ear.plan]
        if kinds and names != kinds:
            raise NanoError("cannot trace", "the steps were not the same in each run")
        kinds = names
        told.append(spans(ear.plan, ear.marks, ear.steps, begin))
        totals.append(whole)
        unwatched.append(took)
    return Traces(tuple(words), tuple(totals), tuple(unwatched), tuple(told), rows(told))


def spans(plan: Plan, marks: dict[str, int], steps: dict[int, tuple[int, int]], begin: int) -> tuple[Span, ...]:
    """One run as a line without holes, from begin to its exit."""
    found: list[Span] = []
    at = begin

    def until(moment: int, label: str, who: str, index: int = -1) -> None:
        nonlocal at
        moment = max(moment, at)
        found.append(Span(label, who, at - begin, moment - at, index))
        at = moment

    for label, who, mark in _FIRST:
        until(marks[mark], label, who)
    for index in sorted(steps):
        started, ended = steps[index]
        until(started, BETWEEN, "between", index)
        until(ended, type(plan.steps[index]).__name__, plan.steps[index].side, index)
    for label, who, mark in _LAST:
        until(marks[mark], label, who)
    return tuple(found)


def rows(runs: Sequence[tuple[Span, ...]]) -> tuple[Row, ...]:
    """The same parts of all runs together."""
    return tuple(
        Row(
            parts[0].label,
            parts[0].who,
            quantile([part.begin for part in parts], 0.5),
            tuple(part.took for part in parts),
            parts[0].index,
        )
        for parts in zip(*runs, strict=True)
    )


def _once(
    argv: list[str], env: dict[str, str], ear: _Ear | None, give_up: Callable[[int], None]
) -> tuple[int, int]:
    """A program from its start to its end: (when, how long), in nanoseconds. Its output is dropped, its errors kept."""
    errors = os.memfd_create("errors", os.MFD_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    if ear:
        actions.append((os.POSIX_SPAWN_DUP2, ear.far.fileno(), 3))
    begin = time.monotonic_ns()
    pid = os.posix_spawn(argv[0], argv, env, file_actions=actions)
    try:
        if ear:
            ear.far.close()
            ear.hear()
        _, status = os.waitpid(pid, 0)
    except KeyboardInterrupt:
        while os.waitpid(pid, os.WNOHANG) == (0, 0):  # it got the key as well, but its command may not mind it
            give_up(pid)
            time.sleep(0.02)
        raise
    end = time.monotonic_ns()
    code = os.waitstatus_to_exitcode(status)
    said = os.pread(errors, 4096, 0).decode(errors="replace").strip()
    os.close(errors)
    os.close(null)
    if code in (125, 126, 127):
        first, _, rest = said.removeprefix("Error: ").partition("\nHint: ")
        raise NanoError("cannot trace", first or f"the run has ended with code {code}", rest)
    return begin, end - begin


def _python() -> str:
    import sys

    return sys.executable


def _end(engine: Engine, run: int) -> None:
    """Remove the container of a `run`: its keeper is a child of that process."""
    try:
        children = read_file(f"/proc/{run}/task/{run}/children").split()
    except OSError:
        return  # it has ended
    for container in engine.containers():
        if str(container.state.keeper) in children:
            engine.remove(container.id, force=True)


def trace(app: App, given: Given) -> int:
    """`trace`: runs a start several times, and prints or writes where its time went."""
    from .process import check_root

    form = given["format"] or "table"
    if form not in FORMATS:
        raise InvalidInput(f"invalid --format {form!r}", f"the formats are {', '.join(FORMATS)}")
    if given["runs"] < 1:
        raise InvalidInput("invalid --runs", "at least one run is needed")
    check_root("cannot trace a start")
    app.engine.image(given.args[0])  # made or missed before anything is measured
    words = _words(given)
    env = {**os.environ, "NANOCONTAINER_ROOT": app.engine.paths.state, "NANOCONTAINER_RUNROOT": app.engine.paths.run}
    env.setdefault("NANOCONTAINER_LINGER", "5")  # the bridge stays from one run to the next, as in everyday use
    traces = measure(words, given["runs"], env, lambda run: _end(app.engine, run))
    if form == "svg":
        from .chart import svg as draw
    else:
        from . import tracetext

        draw = {"table": tracetext.table, "chrome": tracetext.chrome, "json": tracetext.as_json}[form]
    text = draw(traces)
    if not given["output"]:
        from .output import out

        out(text)
        return 0
    try:
        with open(given["output"], "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise NanoError(f"cannot write {given['output']}", error.strerror or str(error)) from None
    return 0


_OURS = ("runs", "format", "output")


def _words(given: Given) -> tuple[str, ...]:
    """The words of the run: its flags as they were given, --rm, the image and the command."""
    words = [] if "rm" in given else ["--rm"]
    for name in given.named:
        if name in _OURS:
            continue
        value = given[name]
        items = value if isinstance(value, list) else [value]
        words += [f"--{name}={str(item).lower() if isinstance(item, bool) else item}" for item in items]
    return (*words, *given.args)


_FLAGS: Table = (
    ("runs", "n", "int", 10, "How often the start is run"),
    ("format", "", "string", "table", "table, svg (a flame chart), chrome (Trace Event JSON, for Perfetto), json"),
    ("output", "o", "string", "", "Write to this file"),
    "Flags of run",
    *runflags.CONTAINER,
    *runflags.WITHOUT,
)

TRACE = Command(
    "trace",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Run a start several times and show where its time goes: each step on the host and inside, and all that is not a "
    "step. The flags are those of run; choose a command that ends by itself.",
    _FLAGS,
    trace,
    least=1,
    interspersed=False,
    examples=(
        ("Where the time of a start goes", "nanocontainer trace tiny true"),
        ("A picture of it", "nanocontainer trace -n 20 --format svg -o start.svg tiny true"),
        ("For Perfetto or chrome://tracing", "nanocontainer trace --format chrome -o start.json -m 64m tiny true"),
    ),
)
