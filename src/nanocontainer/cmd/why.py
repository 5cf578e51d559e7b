"""why: why a container has ended, and what the kernel has denied it; in words, with the flag that would allow it."""

from __future__ import annotations

from ..errors import InvalidInput
from .flags import Command, Given
from .output import STDERR, STDOUT, err, out, width
from .page import visible
from .paint import Paint, wrap
from .sheet import Sheet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.denials import Finding
    from ..container.ending import Ending
    from ..container.why import Why
    from ..plan.telling import Watch
    from .main import App

_SECONDS = 10.0
_LONGEST = 24 * 3600.0
_WAYS = {"run": "--why of its start", "exec": "exec --why", "watch": "why --watch"}


def why(app: App, given: Given) -> int:
    """`why CONTAINER`."""
    form = given["format"]
    if form not in ("text", "json"):
        raise InvalidInput("invalid --format", f"{form!r} is not text or json")
    ref = given.args[-1]
    if len(given.args) == 2 and not given["watch"]:
        raise InvalidInput("why takes one container", f"{given.args[0]!r} and {ref!r} are two words")
    if given["watch"]:
        seconds = _seconds(given.args[0] if len(given.args) == 2 else given["watch"])
        if form == "text":
            err(f"Watching for {seconds:g} seconds; ctrl-c ends it sooner. The container is slower meanwhile.\n")
        found = app.engine.watch_denials(ref, seconds)
    else:
        found = app.engine.why(ref)
    if form == "json" or given["json"]:
        import json

        out(json.dumps(found.as_dict(), ensure_ascii=True, indent=2) + "\n")
    else:
        out(text(found, Paint.of(STDOUT), width(), all=given["all"]))
    return 0


def report(app: App, watch: Watch | None) -> None:
    """At the end of a run, start or exec with --why: what was refused, on stderr."""
    from ..container.recording import Recorded
    from ..container.why import judged

    assert isinstance(watch, Recorded)
    recording = watch.result()
    if watch.spec is None:
        return  # it was not started
    if recording is None:
        err("why: nothing can be said: the tracer was killed\n")
        return
    found = judged(app.engine.life, watch.spec, (recording,))
    err(text(found, Paint.of(STDERR), width(STDERR), all=False))


def _seconds(text: str) -> float:
    """--watch: seconds, or a duration such as 1m30s."""
    from .flags import read_duration, read_float

    try:
        seconds = read_float(text)
    except ValueError:
        try:
            seconds = read_duration(text)
        except ValueError:
            raise InvalidInput("invalid --watch", f"{text!r} is no time", "for example 10, 1.5 or 2m") from None
    if not 0 < seconds <= _LONGEST:
        raise InvalidInput("invalid --watch", "it must be more than 0 seconds and at most a day")
    return seconds


def text(found: Why, paint: Paint, width: int, *, all: bool) -> str:
    """For people. all: also what no wall of the container's refused, and what programs are made for."""
    sheet = Sheet(paint, width)
    if found.ending:
        _ending(sheet, found, found.ending)
    _denials(sheet, found, all=all)
    if found.egress:
        from .egress import refusals

        refusals(sheet, found.egress)
    if found.ending and found.ending.log:
        sheet.title("last lines", f"of its log; all of it: nanocontainer logs {found.name}")
        for line in found.ending.log:
            sheet.say(line)
    return sheet.text()


def _ending(sheet: Sheet, found: Why, ending: Ending) -> None:
    sheet.title("why", f"{found.name} · {found.image} · {ending.status}")
    bad = ending.status == "exited" and ending.exit_code != 0
    sheet.say(ending.headline, "bold", *(("red",) if bad else ()))
    for reason in ending.reasons:
        sheet.say(reason)
    for hint in ending.hints:
        _labelled(sheet, "try", hint, "green")
    if ending.limits:
        sheet.title("limits")
        rows = [(one.flag, one.met + (f" → {one.hint}" if one.hint else "")) for one in ending.limits]
        sheet.table(rows, ("bold", ""))


def _denials(sheet: Sheet, found: Why, *, all: bool) -> None:
    shown = [one for one in found.findings if all or not (one.harmless or one.cause == "kernel")]
    left = len(found.findings) - len(shown)
    sheet.title("denied")
    if found.sources:
        sheet.say(_sources(found), "dim")
    if not found.sources:
        name = found.name
        sheet.say("Not recorded. To see what the kernel refuses it, and why:")
        ways = [("run --why, start --why, exec --why", "from the beginning")]
        if found.ending and found.ending.status == "running":
            ways.insert(0, (f"nanocontainer why --watch 10 {name}", "for ten seconds from now"))
        sheet.table(ways, ("green", "dim"))
        return
    if not shown:
        sheet.say("Nothing that a wall of the container's has refused." if left else "Nothing was refused.")
    for number, one in enumerate(shown, 1):
        _finding(sheet, number, one)
    if left:
        show = ": --all shows them" if found.ending else ""
        sheet.say(f"{left} more that no wall of the container's refused, or that programs are made for{show}", "dim")
    if more := sum(one.more for one in found.sources):
        sheet.say(f"and {more} refusals of other kinds, which were not kept", "dim")


def _sources(found: Why) -> str:
    from ..clock import rfc3339

    parts = []
    for one in found.sources:
        when = rfc3339(one.begin)[:19].replace("T", " ")
        calls = f"{one.calls} system calls" if one.end else "under way, or its tracer was killed"
        parts.append(f"Recorded by {_WAYS.get(one.way, one.way)}, {when} UTC: {calls}")
    return "\n".join(parts)


def _finding(sheet: Sheet, number: int, one: Finding) -> None:
    times = f" ({one.count} times)" if one.count > 1 else ""
    answer = "" if one.error in ("masked", "not raised") else f": {one.error}"
    head = visible(f"{one.what}{answer}{times}")
    margin = f"{number:>3} "
    sheet.lines += [
        sheet.paint.bold(line) for line in wrap(head, sheet.width, margin, " " * len(margin))
    ]
    _labelled(sheet, "by", f"{one.cause}: {one.why}" if one.cause not in one.why else one.why, "yellow")
    if one.flags:
        _labelled(sheet, "allow", " ".join(one.flags), "green")
    if one.cost:
        _labelled(sheet, "cost", one.cost, "red")
    if one.instead:
        _labelled(sheet, "safer" if one.flags else "try", one.instead, "cyan")


def _labelled(sheet: Sheet, label: str, words: str, colour: str) -> None:
    """A paragraph behind a label in colour."""
    lines = wrap(visible(words), max(sheet.width - 11, 20))
    sheet.lines.append(f"    {sheet.paint(label, colour)}{' ' * (7 - len(label))}{lines[0]}")
    sheet.lines += [f"{' ' * 11}{line}" for line in lines[1:]]


WHY = Command(
    "why",
    "[OPTIONS] CONTAINER",
    "Say why a container has ended: its exit code in words, out of memory, who stopped it, a missing loader or "
    "library, a program for another machine. And what it was denied and by what (seccomp, a capability, a device "
    "rule, a read-only or masked path, a limit, the network), with the flag that would allow it and what that costs "
    "in safety. Where --allow-out limits what it may reach: what it has tried to reach."
    "\n\n"
    "Denials are recorded on demand, because that slows a container down: run --why, start --why and exec --why look "
    "from the beginning, why --watch for a while from now. Each system call is looked at (ptrace(2)) and takes some "
    "25 to 50 microseconds longer, as under strace: a program that computes is as fast as ever, one that starts many "
    "programs takes 2 to 3 times as long, one that does nothing but tiny reads and writes 30 to 50 times. Nothing "
    "else changes; gdb and strace inside fail meanwhile. What netlink sockets answer (ip, nft) is not looked at.",
    (
        ("watch", "", "optional", f"{_SECONDS:g}", "Look at all its processes from now on, for so many seconds"),
        ("all", "a", "bool", False, "Also what no wall refused, and what programs are made for"),
        ("format", "f", "string", "text", "text or json"),
        ("json", "", "bool", False, "The same as --format json"),
    ),
    why,
    least=1,
    most=2,  # the seconds of --watch
    examples=(
        ("Why has it ended?", "nanocontainer why web"),
        ("What is refused while it runs?", "nanocontainer run --rm --why debian mount -t tmpfs none /mnt"),
        ("The same of a container that runs, for half a minute", "nanocontainer why --watch 30 web"),
        ("The flags that would allow it all", "nanocontainer why --json web | jq -r '.findings[].flags[]' | sort -u"),
    ),
)
