"""A running container is watched: streams, log, attached clients, and at the end its exit code.

This is the long part of a keeper's life, and it should cost little. A keeper is a fork of a command that has loaded the
whole engine, 5.6 MB of its own; the loop alone needs 3.2. So a keeper that has nothing to do
some seconds after the start executes itself anew (execve(2)) with the loop alone (resume.py). The process
stays the same one: its lock (fcntl(2): record locks are kept), its child, the child's death signal
(PR_SET_PDEATHSIG(2const)) and the open files it passes on. Containers that end before that never pay for it.

execve(2) has no way back: an interpreter that cannot load the loop, because the sources have moved or are just being
replaced, would end, and the container with it. So a child does the same first, up to the point where it would touch
something; where it fails the keeper goes on as it is, for good.
"""

from __future__ import annotations

import os
import select
import sys
import time

from .. import bundle
from ..lean import dumps, exit_code, loads, signals, sockets
from ..paths import Paths, read_file, write_file
from ..record import Record
from .jsonlog import JsonLog, open_log
from .spec import State
from .streams import Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .attach import Client
    from .lifecycle import Lifecycle

AFTER = 2.0  # seconds until a keeper makes itself small
AGAIN = 5.0  # seconds until it looks again, when it was busy
LAST_WORD = "exit"  # beside keeper.lock: the exit code, where it could not be written into the state
_REHEARSAL = 10.0  # seconds it may take
_PROGRAM = f"{os.path.dirname(os.path.abspath(__file__))}/resume.py"


class Held(Record):
    """What a keeper holds of its container: numbers that mean the same after execve(2). Open files, -1 for none."""

    id: str
    state: str
    run: str
    pid: int
    pidfd: int
    lock: int
    listener: int
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1
    tty: int = -1
    log: int = -1
    stdin_once: bool = False
    ports: dict[str, int] = {}  # sockets that hold ports of the host, by slot; changes while it runs
    log_driver: str = ""
    log_options: dict[str, str] = {}

    @property
    def files(self) -> set[int]:
        named = {self.pidfd, self.lock, self.listener, self.stdin, self.stdout, self.stderr, self.tty, self.log}
        return {*named, *self.ports.values()} - {-1}


def watch(held: Held, log: JsonLog | None, *, life: Lifecycle | None = None, clients: tuple[Client, ...] = ()) -> None:
    """Until the container has ended and is taken down, and all who are attached know its code.

    life: the engine, if it is loaded; then this keeper still has to make itself small.
    """
    shrink = _Shrinking(held, log) if life else None
    streams = Streams(
        pidfd=held.pidfd,
        signal=lambda number: _pass_on(held, number),
        stdin=held.stdin,
        stdout=held.stdout,
        stderr=held.stderr,
        tty=held.tty,
        log=log,
        listener=sockets.socket(fileno=held.listener),
        clients=clients,
        stdin_once=held.stdin_once,
        timeouts=shrink.due if shrink else lambda: None,
        held=held.ports,
    )
    if shrink:
        shrink.streams = streams
    streams.run()
    _, status = os.waitpid(held.pid, 0)
    code = exit_code(status)
    try:
        if log:
            log.close()
        for fd in held.ports.values():  # before their claims are released: the next container must be able to bind them
            os.close(fd)
        if life is None:
            bundle.install()  # many modules at once
            from .lifecycle import Lifecycle
            from .locks import adopt

            life = Lifecycle(Paths(held.state, held.run))
            adopt(life.paths, held.id)
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        life.ended(held.id, code, signal=ended_by)
    except BaseException:
        _leave_to_others(held, code)
        raise
    finally:
        streams.finish(code)


def _pass_on(held: Held, number: int) -> None:
    """A signal that an attached client has asked for. It is written down: it may be why the container ends."""
    from .events import emit

    signals.pidfd_send_signal(held.pidfd, number)
    emit(Paths(held.state, held.run), "container", "kill", held.id, signal=str(number), by="attach")


def _leave_to_others(held: Held, code: int) -> None:
    """It could not be taken down, for a full disk, or because the engine is not there any more to be loaded. The next
    command sweeps; what only we know is written down: a container that runs and has no keeper has ended so."""
    paths = Paths(held.state, held.run)
    path = f"{paths.container(held.id)}/state.json"
    try:
        state = State.from_dict(loads(read_file(path)))
        write_file(path, dumps(state.replace(exit_code=code, keeper=0, pid=0).as_dict()))
    except (OSError, ValueError, TypeError, AttributeError):
        try:  # that disk is full, or read-only: the directory of this boot is another one, in memory
            write_file(f"{paths.live(held.id)}/{LAST_WORD}", str(code))
        except OSError:
            pass  # it is full too, or the container is removed


class _Shrinking:
    """Executes the keeper anew when it has been idle for long enough."""

    def __init__(self, held: Held, log: JsonLog | None) -> None:
        self.held, self.log = held, log
        self.streams: Streams | None = None
        self._at = time.monotonic() + AFTER

    def due(self) -> float | None:
        """Do it, if it is time; seconds until then. Comes back where it cannot be done: then never again."""
        left = self._at - time.monotonic()
        if left > 0:
            return left
        assert self.streams
        rest = self.streams.at_rest()
        if rest is None or (self.log and not self.log.at_rest):
            self._at = time.monotonic() + AGAIN
            return AGAIN
        self._at = float("inf")  # not again, if it fails
        try:
            log = self.log.fileno() if self.log else -1
            self._execute(self.held.replace(log=log, **rest))
        except OSError:
            pass  # no interpreter, no memory, no descriptor: go on as we are
        return None

    def _execute(self, held: Held) -> None:
        """Does not return, unless the rehearsal fails."""
        note = os.memfd_create("held", 0)
        try:
            os.write(note, dumps(held.as_dict()).encode())
            command = [sys.executable, "-IS", _PROGRAM, held.id[:12], str(note)]
            if not _succeeds([*command, "rehearsal"]):
                return
            for fd in held.files:
                os.set_inheritable(fd, True)
            os.execv(sys.executable, command)
        finally:
            for fd in held.files:
                os.set_inheritable(fd, False)
            os.close(note)


def _succeeds(command: list[str]) -> bool:
    """Run a program and wait for it: whether its exit code is 0."""
    pid = os.posix_spawn(command[0], command, os.environ)
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_REHEARSAL * 1000):
            os.kill(pid, 9)
        return os.waitpid(pid, 0)[1] == 0
    finally:
        os.close(pidfd)


def resume(note: int, *, rehearsal: bool = False) -> NoReturn:
    """The small keeper. note: an open file with what it holds. rehearsal: do nothing with it."""
    held = Held.from_dict(loads(os.pread(note, 1 << 20, 0).decode()))
    if rehearsal:
        os._exit(0)
    os.close(note)
    for fd in held.files:
        os.set_inheritable(fd, False)
    with open("/proc/self/comm", "w") as name:
        name.write(f"nanoc:{held.id[:9]}")
    try:
        watch(held, open_log(f"{held.state}/containers/{held.id}", held.log_driver, held.log_options, held.log))
    finally:
        os._exit(0)
