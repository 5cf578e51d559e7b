"""Why a container is as it is: why it has ended, or why it could not be started; and how its limits were met.

An exit code is one number for many causes. What tells them apart is elsewhere: in the state (the signal, an OOM kill,
the text of a failed start), in events.log (who has asked for a signal), in the cgroup's counters, in the image's files
(a missing loader, another machine's program), in the last lines of the log.
"""

from __future__ import annotations

import os

from ..errors import NanoError, NotPermitted
from ..kernel import abi
from ..lean import loads, signals
from ..record import Record
from .command_checkup import Checkup, check_command
from .pressure import pressed_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lifecycle import Lifecycle
    from .spec import Container, Spec, State

_TAIL = 256 << 10  # bytes of events.log that are read, from its end
_LINES = 5  # of the log
_LINE = 300  # characters of each
# what programs mean by it (sysexits.h, bash(1)), where nothing else explains it
_CODES = {
    1: "a general error", 2: "wrong usage, in most programs", 64: "wrong usage (EX_USAGE)",
    69: "a service is not there (EX_UNAVAILABLE)", 77: "permission denied (EX_NOPERM)",
    78: "wrong configuration (EX_CONFIG)", 126: "a command was found and could not be executed, as shells say it",
    127: "a command was not found, as shells and the dynamic loader say it",
}  # fmt: skip
_SIGNALS = {
    "SIGHUP": "its terminal was closed", "SIGINT": "ctrl-c", "SIGQUIT": "ctrl-\\",
    "SIGILL": "it came upon an instruction that this processor does not have: a program for another or newer machine, "
    "or a broken one", "SIGABRT": "it gave up by itself (abort(3)): an assertion, or damaged memory",
    "SIGBUS": "memory behind a file was not there: a file that was cut short, or /dev/shm is full (--shm-size)",
    "SIGFPE": "a division by zero", "SIGSEGV": "it touched memory that is not its own: a bug in the program",
    "SIGPIPE": "it wrote to a pipe that nobody reads", "SIGTERM": "it was asked to end",
    "SIGSYS": "a seccomp filter killed it for a system call", "SIGXCPU": "its limit of processor time (--ulimit cpu)",
    "SIGXFSZ": "its limit of a file's size (--ulimit fsize)",
}  # fmt: skip


class Limit(Record):
    """One limit and how it was met. flag: the flag with its value; met: in words; hint: what to do; bad: it was in the
    way."""

    flag: str
    met: str
    hint: str = ""
    bad: bool = False


class Ending(Record):
    """status: of the container. headline: one sentence; reasons: more, in the order of what matters; hints: what to do.
    signal: name of what ended it. limits: those that were set; log: its last lines."""

    status: str
    headline: str
    reasons: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    exit_code: int = 0
    signal: str = ""
    limits: tuple[Limit, ...] = ()
    log: tuple[str, ...] = ()


def ending(life: Lifecycle, container: Container) -> Ending:
    """Look at a container. NotPermitted without root."""
    if os.geteuid():
        raise NotPermitted("cannot look into containers", "this needs root", "try sudo")
    spec, state = container.spec, container.state
    alive = state.status in ("running", "paused")
    pressed = pressed_of(state.cgroup, state.groups, spec.limits) if alive else state.pressed
    limits = _limits(spec, pressed)
    if alive:
        headline = "It runs." if state.status == "running" else "It is paused: all its processes stand still."
        hints = (f"nanocontainer unpause {spec.name}",) if state.status == "paused" else ()
        return Ending(state.status, headline, (), hints, limits=limits)
    if state.status == "created" or (state.error and not state.finished):
        return _not_started(life, spec, state)
    found = _exited(life, spec, state).replace(limits=limits)
    return found.replace(log=_last_lines(life, spec))


def _not_started(life: Lifecycle, spec: Spec, state: State) -> Ending:
    if not state.error:
        return Ending("created", "It was created and never started.", hints=(f"nanocontainer start {spec.name}",))
    reasons, hints = [], []
    if state.exit_code in (126, 127):
        one = _checkup(life, spec)
        reasons += [one.problem] if one.problem else []
        hints += [one.hint] if one.hint else []
    what = {
        127: "Its command does not exist (127).", 126: "Its command cannot be executed (126).",
        125: "The engine failed (125).",
    }.get(state.exit_code, "It could not be started.")  # fmt: skip
    return Ending(state.status, f"{what} {_sentence(state.error)}", tuple(reasons), tuple(hints), state.exit_code)


def _exited(life: Lifecycle, spec: Spec, state: State) -> Ending:
    code = state.exit_code
    name = _signal_name(state.signal)
    reasons: list[str] = []
    hints: list[str] = []
    lost = state.error in ("keeper lost", "the host was restarted")
    if lost and state.error == "the host was restarted":
        return Ending("exited", "The host was restarted, or lost power, while it ran.", exit_code=code,
                      hints=(f"nanocontainer start {spec.name}",))  # fmt: skip
    if lost:
        why = (
            "The keeper is the process that holds its streams. Somebody sent it SIGKILL, or the host was out of "
            "memory: see `dmesg` on the host."
        )
        headline = "Its keeper was killed, and the kernel killed the container with it."
        return Ending("exited", headline, (why,), (f"nanocontainer start {spec.name}",), code)
    asked = _who_asked(life, spec.id, state)
    if state.oom_killed and (state.signal == 9 or code == 137):
        headline = "It was out of memory: the kernel killed its first process (SIGKILL, 137)."
    elif state.signal:
        headline = f"{name} ended it (exit code {code})."
        meant = _SIGNALS.get(name, "")
        if asked:
            reasons.append(asked)
        elif name == "SIGKILL":
            reasons.append("No command of ours asked for it: a process of the host or of the container did, or the "
                           "kernel (out of memory on the whole host: see `dmesg`).")  # fmt: skip
        elif meant:
            reasons.append(f"{_sentence(meant)}")
        if name == "SIGSYS":
            hints.append(f"`nanocontainer start --why {spec.name}` says which call it was")
    elif code == 0:
        headline = "Its command has done its work and ended by itself: success (0)."
        if asked:
            reasons.append(f"{asked} It ended properly on that.")
    else:
        meant = _CODES.get(code, "")
        if not meant and 128 < code <= 128 + 64:
            meant = f"perhaps a program of its own ended by {_signal_name(code - 128)}: shells say 128 and its number"
        headline = f"Its command ended by itself with exit code {code}{f': {meant}' if meant else ''}."
        if asked:
            reasons.append(asked)
    if state.oom_killed:
        most = _size(spec.limits.memory)
        reasons.append(f"The container's memory limit (-m {most}) was reached, and the kernel killed "
                       f"{_count(state.pressed.get('memory oom_kill', 1), 'process', 'processes')} of it.")  # fmt: skip
        hints.append(f"give it more: -m {_size(2 * spec.limits.memory)}; or let the program use less (its heap, its "
                     "caches, its number of workers)")  # fmt: skip
    if code in (126, 127) and not state.signal:
        one = _checkup(life, spec)
        if one.problem:
            reasons.append(_sentence(one.problem))
            hints += [one.hint] if one.hint else []
    if state.error:
        reasons.append(f"What could not be taken down: {state.error}")
    return Ending("exited", headline, tuple(reasons), tuple(hints), code, name)


def _who_asked(life: Lifecycle, id: str, state: State) -> str:
    """By which command it was asked to end, and whose that was: the last signal that events.log knows of it."""
    last: dict[str, str] = {}
    for action, owner, attributes in _events(life):
        if owner == id and action == "start":
            last = {}
        elif owner == id and action == "kill":
            last = attributes
    if not last:
        return ""
    number = int(last["signal"]) if last.get("signal", "").isdecimal() else 0
    if state.signal and state.signal != number and number not in (15, 9, 2, 3):
        return ""  # a HUP of long ago
    name, by = _signal_name(number), last.get("by", "")
    if by == "attach":
        return f"Whoever was attached passed {name} on to it: ctrl-c, or a signal to that command."
    user = f"user {last.get('user') or last.get('uid', '?')}"
    first = ", after it did not end of the first signal" if by in ("stop", "restart") and number == 9 else ""
    return f"`{by}` sent it {name}{first}: run by {user}, process {last.get('pid', '?')}."


def _events(life: Lifecycle) -> list[tuple[str, str, dict[str, str]]]:
    """(action, id, attributes) of the last events, oldest first. Lines that are no events are left out."""
    try:
        with open(life.paths.events, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - _TAIL, 0))
            data = file.read(_TAIL)
    except OSError:
        return []
    found = []
    for line in data.split(b"\n"):
        try:
            event = loads(line.decode())
            actor = event["Actor"]
            found.append((event["Action"], actor["ID"], {key: str(word) for key, word in actor["Attributes"].items()}))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # half a line, where we begin to read
    return found


def _checkup(life: Lifecycle, spec: Spec) -> Checkup:
    """What is wrong with the command; nothing where the image's files cannot be looked at."""
    try:
        layers = life.images.open_layers(life.images.find(spec.image_id))
        stack = [f"{life.paths.container(spec.id)}/upper", *reversed(layers)]
        mounts = {}
        for mount in spec.mounts:
            source = mount.source if mount.kind == "bind" else f"{life.paths.volumes}/{mount.source}/_data"
            if mount.kind in ("bind", "volume") and os.path.isdir(source):
                mounts[mount.target.rstrip("/")] = source
        return check_command(stack, spec.args, spec.env, spec.cwd, abi.MACHINE, mounts)
    except (NanoError, OSError):
        return Checkup()


def _limits(spec: Spec, pressed: dict[str, int]) -> tuple[Limit, ...]:
    limits, found = spec.limits, []
    if limits.memory:
        peak, reached = pressed.get("memory peak", 0), pressed.get("memory max", 0)
        killed = pressed.get("memory oom_kill", 0)
        met = f"at most {_size(peak)} were used" if peak else "not met"
        if killed:
            met += f"; {_count(killed, 'process was', 'processes were')} killed for want of more"
        elif reached:
            met += f"; the limit was reached {_count(reached, 'time', 'times')}, and memory was freed in time"
        hint = f"-m {_size(2 * limits.memory)}" if killed else ""
        found.append(Limit(f"-m {_size(limits.memory)}", met, hint, bool(killed)))
    if limits.pids > 0:
        refused = pressed.get("pids max", 0)
        met = f"{_count(refused, 'process was', 'processes were')} refused" if refused else "not met"
        hint = f"--pids-limit {2 * limits.pids}" if refused else ""
        found.append(Limit(f"--pids-limit {limits.pids}", met, hint, bool(refused)))
    if limits.cpus or limits.cpu_quota > 0:
        held, time = pressed.get("cpu throttled", 0), pressed.get("cpu throttled_ms", 0)
        met = f"held back in {_count(held, 'period', 'periods')}, {time / 1000:.1f} s together" if held else "not met"
        flag = f"--cpus {limits.cpus:g}" if limits.cpus else f"--cpu-quota {limits.cpu_quota}"
        hint = f"--cpus {2 * limits.cpus:g}" if held and limits.cpus else ""
        found.append(Limit(flag, met, hint, bool(held)))
    return tuple(found)


def _last_lines(life: Lifecycle, spec: Spec) -> tuple[str, ...]:
    if spec.log_driver == "none":
        return ()
    from .logs import read_logs

    try:
        return tuple(line.text.rstrip("\n")[:_LINE] for line in read_logs(life.paths.container(spec.id), tail=_LINES))
    except (NanoError, OSError):
        return ()


def _signal_name(number: int) -> str:
    """SIGTERM for 15; empty for 0."""
    if not number:
        return ""
    others = ("SIGCLD", "SIGIOT", "SIGPOLL", "SIGRTMIN", "SIGRTMAX")  # second names
    for name, value in vars(signals).items():
        if value == number and name.startswith("SIG") and name[3:].isalnum() and name not in others:
            return name
    return f"signal {number}"


def _size(size: int) -> str:
    for unit, amount in (("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10)):
        if size >= amount:
            return f"{size / amount:.4g}{unit}"
    return str(size)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
