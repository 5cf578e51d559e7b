"""Recording refusals: of a start or an exec from its first instruction on, or of a running container for a while.

A start is asked before each step (plan/telling.py). When it is about to become the user's command, the watching process
forks a tracer, which attaches to it (kernel/ptrace.py) and looks until it has ended. The tracer is a process of its
own: whoever watches has a terminal to serve, and wait(2) for a thousand stops a second is no poll loop. It has a
session of its own, so that keys of the terminal mean the container and not it. When it is killed, all runs on.

    command ──fork──▶ tracer      "r", or an error in JSON; at the end the recording in JSON
"""

from __future__ import annotations

import os

from ..errors import Conflict, NanoError, NotRunning
from ..kernel import caps, seccomp
from ..kernel.facts import Facts, facts
from ..kernel.filters import actions
from ..kernel.ptrace import ABIS, Tracer
from ..lean import dumps, loads, signals
from ..plan.telling import GO, Watch
from .anatomy_security import device_rules
from .confinement import security_words
from .denials import About
from .recorder import Recorder, Recording

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from ..plan.telling import Told
    from .lifecycle import Lifecycle
    from .spec import Container, Spec

_READY = b"r"
_GROUPS = ("MakeCgroup", "OpenCgroup", "MakeCgroup1", "OpenCgroup1")


class Recorded(Watch):
    """A Watch that records refusals of what is started. way: "run" or "exec". Afterwards: id and
    spec of the container, and result()."""

    asks = True

    def __init__(self, life: Lifecycle, way: str) -> None:
        super().__init__()
        self.life, self.way = life, way
        self.id = ""
        self.spec: Spec | None = None
        self._tracer = 0
        self._read = -1

    def heard(self, told: Told) -> str:
        if told.at == "before" and type(self.plan.steps[told.index]).__name__ == "Exec":
            groups = [step.path for step in self.plan if type(step).__name__ in _GROUPS]  # type: ignore[attr-defined]
            main = next(at for at, step in enumerate(self.plan) if type(step).__name__ in ("MakeCgroup", "OpenCgroup"))
            self.id = self.plan.steps[main].path.rpartition("/")[2]  # type: ignore[attr-defined]
            self.spec = self.life.store.spec(self.id)
            self._fork(told.pid, groups)
        return GO

    def _fork(self, pid: int, groups: Sequence[str]) -> None:
        self._read, write = os.pipe()
        self._tracer = os.fork()
        if self._tracer == 0:
            _trace(self.life, self.id, self.way, pid, groups, write)
        os.close(write)
        word = os.read(self._read, 65536)
        if word != _READY:
            self.forget()
            raise NanoError.from_dict(loads(word.decode())) if word else NanoError("the tracer was killed")

    def result(self) -> Recording | None:
        """Wait for the end of all that is traced: what was seen. None where nothing was started, or where the tracer
        was killed."""
        parts = []
        while self._read >= 0 and (part := os.read(self._read, 65536)):
            parts.append(part)
        self.forget()
        if self._tracer:
            os.waitpid(self._tracer, 0)
            self._tracer = 0
        return Recording.from_dict(loads(b"".join(parts).decode())) if parts else None

    def forget(self) -> None:
        """Do not wait: the recording goes on, and is kept with the container."""
        if self._read >= 0:
            os.close(self._read)
        self._read = -1


def _trace(life: Lifecycle, id: str, way: str, pid: int, groups: Sequence[str], write: int) -> NoReturn:
    """The tracer's whole life."""
    try:
        write = _leave_the_caller(write)
        life.kernel.set_name("nano-why")
        life.kernel.set_command_line(f"nanocontainer why {id[:12]}")
        try:
            recorder = recorder_of(life, id, way, groups, root=pid)
            tracer = Tracer(recorder)
            recorder.tracer = tracer
            tracer.seize(pid)
        except NanoError as error:
            os.write(write, dumps(error.as_dict()).encode())
            os._exit(1)
        os.write(write, _READY)
        tracer.run()
        rest = memoryview(dumps(recorder.record(end=True).as_dict()).encode())
        while rest:
            rest = rest[os.write(write, rest) :]
    except BrokenPipeError:
        pass  # nobody waits for it any more
    finally:
        os._exit(0)


def _leave_the_caller(write: int) -> int:
    """A session of our own, no file of the caller's, default signals; the pipe as file 3."""
    os.setsid()
    os.chdir("/")
    for number in (signals.SIGINT, signals.SIGTERM, signals.SIGHUP, signals.SIGQUIT):
        signals.signal(number, signals.SIG_DFL)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.dup2(write, 3, inheritable=False)
    os.closerange(4, 1 << 20)
    return 3


def recorder_of(
    life: Lifecycle, id: str, way: str, groups: Sequence[str], *, root: int = 0, begun: bool = False
) -> Recorder:
    """Who records what this container is refused."""
    spec = life.store.spec(id)
    words = security_words(spec)
    confined = words.get("seccomp") != "unconfined" and not spec.privileged
    hidden = () if spec.privileged or words.get("systempaths") == "unconfined" else facts(life.paths, life.boot).masked
    return Recorder(
        life.kernel, way, life.paths.container(id), root=root, groups=groups, masked=hidden,
        own=int(confined) + _own_filters(), begun=begun,
    )  # fmt: skip


def _own_filters() -> int:
    """The seccomp filters under which we live ourselves, and so all that we start."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters:")), 0)


def watch(life: Lifecycle, container: Container, seconds: float) -> Recording:
    """Look at all processes of a running container for so many seconds. NotRunning, Conflict where it is paused."""
    spec, state = container.spec, container.state
    if state.status == "paused":
        raise Conflict(f"container {spec.name} is paused", "its processes do nothing", f"unpause {spec.name}")
    if state.status != "running":
        hint = f"`nanocontainer why {spec.name}` says why it ended; record its next life: start --why {spec.name}"
        raise NotRunning(f"cannot watch container {spec.name}", "it is not running", hint)
    recorder = recorder_of(life, spec.id, "watch", (state.cgroup, *state.groups), root=state.pid, begun=True)
    tracer = recorder.tracer = Tracer(recorder)
    try:
        tracer.seize_all((state.cgroup,))
    except BaseException:
        tracer.release()
        raise
    if not tracer.run(seconds):
        recorder.save(end=True)
    return recorder.record(end=True)


def about(life: Lifecycle, spec: Spec) -> About:
    """What is to be known of a container to judge what it was refused."""
    host = facts(life.paths, life.boot)
    words = security_words(spec)
    confined = words.get("seccomp") != "unconfined" and not spec.privileged
    opened = spec.privileged or words.get("systempaths") == "unconfined"
    profile = words.get("seccomp") or "default"
    return About(
        spec,
        keep=caps.granted(spec.cap_add, spec.cap_drop, spec.privileged, host.last_cap, host.capabilities),
        masked=() if opened else host.masked,
        protected=() if opened else host.read_only,
        profile=profile if confined else "unconfined",
        passes=_Profile(profile, host, f"{life.paths.run}/cache/seccomp"),
        rules=device_rules(spec),
        device_name=_device_name,
    )


class _Profile:
    """Whether a profile lets a call pass, for any set of capabilities."""

    def __init__(self, profile: str, host: Facts, cache: str) -> None:
        self.profile, self.host, self.cache = profile, host, cache
        self._programs: dict[int, bytes] = {}

    def __call__(self, machine: str, call: str, args: Sequence[int], capabilities: int) -> bool:
        from ..kernel.sysnames import numbers

        if capabilities not in self._programs:
            host = self.host
            try:
                self._programs[capabilities] = seccomp.program(self.profile, host.machine, capabilities, host.release)
            except NanoError:
                return False  # its file is not there any more
        arch = next((arch for arch, name in ABIS.items() if name == machine), 0)
        number = numbers(machine).get(call) if arch else None
        if number is None:
            return False
        said = actions(self._programs[capabilities], number, arch, tuple(args))
        return all(action & 0xFFFF0000 in (0x7FFF0000, 0x7FFC0000) for action in said)


def _device_name(device: str) -> str:
    """What the host calls a device "b 8:0": /dev/sda; empty where it has none (sysfs(5))."""
    kind, _, numbers = device.partition(" ")
    try:
        with open(f"/sys/dev/{'block' if kind == 'b' else 'char'}/{numbers}/uevent", encoding="utf-8") as lines:
            name = next((line.partition("=")[2].strip() for line in lines if line.startswith("DEVNAME=")), "")
    except OSError:
        return ""
    return f"/dev/{name}" if name and os.path.exists(f"/dev/{name}") else ""
