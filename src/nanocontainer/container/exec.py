"""One more command in a running container: a plan that joins its namespaces and cgroup, and ends with execve.

There is no keeper: the caller is the parent, and reaps. (A program with threads must not fork and go on in Python: its
zygote has a child that is the parent, and hands the streams over; see zygote.py.) The streams inside are pipes or a
terminal of the container's, never the caller's own files: a file of the host that is open inside can be opened again
from there, for writing, through /proc/self/fd (root inside may), and a terminal of the host can be typed into
(CVE-2016-2568 and its kin).
"""

from __future__ import annotations

import errno
import os
import select
import stat

from ..errors import Conflict, InvalidInput, NanoError, NotRunning
from ..kernel import abi
from ..lean import dumps, exit_code, loads, recv_fds, send_fds, signals
from ..plan.execute import Execution
from ..plan.step import World
from ..runtime.process import NULL, STREAMS
from .grip import Grip
from .joining import plan_exec
from .signalling import open_init
from .spec import merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..plan.wire import Wire
    from .lifecycle import Lifecycle
    from .spec import Container

_BLOCK = 65536
_LOST = NanoError("cannot execute the command", "the helper process that started it was killed", "try again").as_dict()
REAP = 200  # milliseconds for a command to end when nobody reads it any more
LIMIT = 1 << 20  # the largest pipe (fs.pipe-max-size)


class ExecSession:
    """A command that runs in a container. Poll fileno() for input and call receive(), as with attach.Session.

    direct: the caller's own streams are used, because they are pipes: then only wait() is of use.
    """

    room = 1 << 20

    def __init__(self, pid: int, pidfd: int, outputs: dict[int, str], stdin: int, tty: bool) -> None:
        self.pid, self.direct = pid, not outputs
        self._pidfd, self._stdin, self._tty = pidfd, stdin, tty
        self._outputs = outputs  # open file → kind of message
        self._pending = b""
        self._detached = False
        self._ending = False
        self._epoll = select.epoll()
        for fd in outputs:
            os.set_blocking(fd, False)
            self._epoll.register(fd, select.EPOLLIN)
        self._epoll.register(pidfd, select.EPOLLIN)
        self._exited = False
        self._left = LIMIT  # bytes that may still be read after the end: others can go on writing for ever
        if stdin >= 0 and not tty:
            os.set_blocking(stdin, False)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def receive(self) -> tuple[str, bytes]:
        """("o", data), ("r", data), ("x", code in digits) at last; ("a", b"") for nothing to show."""
        for fd, _ in sorted(self._epoll.poll(), key=lambda ready: ready[0] == self._pidfd):
            if fd == self._stdin and fd not in self._outputs:
                self._flush()
                return "a", b""
            if fd == self._pidfd:  # which stays registered: from now on no poll waits
                self._exited = True
                return self._rest()
            kind = self._outputs[fd]
            data = self._read(fd)
            if data is not None:
                return kind, data
            return self._rest() if self._exited else ("a", b"")
        return "a", b""

    def _read(self, fd: int) -> bytes | None:
        """Data of an output; None where there is none now, or it has ended."""
        try:
            data = os.read(fd, _BLOCK)
        except BlockingIOError:
            if self._exited:
                self._end(fd)  # somebody left behind holds it open: it is not waited for
            return None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if self._exited:
            self._left -= len(data)
        if not data or self._left < 0:
            self._end(fd)
        return data or None

    def _end(self, fd: int) -> None:
        kind = self._outputs.pop(fd, None)
        if kind is not None:
            self._epoll.unregister(fd)
            if fd != self._stdin:
                os.close(fd)

    def _rest(self) -> tuple[str, bytes]:
        """After the end: what is still in the pipes, then the code."""
        for fd in list(self._outputs):
            kind = self._outputs[fd]
            data = self._read(fd)
            if data is not None:
                return kind, data
        if self._outputs:
            return "a", b""
        return "x", str(self.wait()).encode()

    def send_stdin(self, data: bytes) -> None:
        self._pending += data
        self._flush()

    def close_stdin(self) -> None:
        self._ending = True
        self._flush()

    def _flush(self) -> None:
        if self._stdin < 0:
            self._pending = b""
            return
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._stdin, self._pending) :]
        except BlockingIOError:
            self._watch_stdin()
            self.room = max((1 << 20) - len(self._pending), 0)
            return
        except OSError:
            self._pending, self._ending = b"", True  # the command has closed its input
        self.room = 1 << 20
        if self._tty:
            return
        try:
            self._epoll.unregister(self._stdin)
        except OSError:
            pass
        if self._ending:
            os.close(self._stdin)
            self._stdin = -1

    def _watch_stdin(self) -> None:
        if self._tty:
            return
        try:
            self._epoll.register(self._stdin, select.EPOLLOUT)
        except FileExistsError:
            pass

    def resize(self, rows: int, cols: int) -> None:
        if self._tty and self._stdin >= 0:
            import fcntl

            size = b"".join(number.to_bytes(2, "little") for number in (rows, cols, 0, 0))
            try:
                fcntl.ioctl(self._stdin, abi.TIOCSWINSZ, size)
            except OSError:
                pass

    def signal(self, number: int) -> None:
        try:
            signals.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def detach(self) -> None:
        """Leave the command running."""
        self._detached = True

    def _reap_soon(self) -> None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if poll.poll(REAP):
            try:
                os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pass  # it has been waited for

    def wait(self) -> int:
        """The command's exit code; 128 + n where signal n ended it."""
        _, status = os.waitpid(self.pid, 0)
        return exit_code(status)

    def close(self) -> None:
        """Let go of the command. One that ends of that, because nobody reads it, is reaped here: the container's first
        process may not do so."""
        for fd in {*self._outputs, self._stdin} - {-1}:
            os.close(fd)
        if self._pidfd >= 0:
            if not self._detached:
                self._reap_soon()
            os.close(self._pidfd)
        self._outputs, self._stdin, self._pidfd = {}, -1, -1
        self._epoll.close()

    def hand_over(self, wire: Wire) -> None:
        """Give the command's streams to another process, which makes a DistantSession of them."""
        self._detached = True  # but still to be waited for, by us
        files = (self._pidfd, *self._outputs, *({self._stdin} - {-1, *self._outputs}))
        words = {"pid": self.pid, "outputs": "".join(self._outputs.values()), "tty": self._tty}
        send_fds(wire.sock, dumps(words).encode(), files)


class DistantSession(ExecSession):
    """A command that the zygote has started for a program with threads. Its parent says its exit code on `wire`."""

    def __init__(self, wire: Wire) -> None:
        data, fds = recv_fds(wire.sock, 1 << 16, 4)
        words: dict[str, Any] = loads(data.decode()) if data else _LOST
        if "what" in words:
            wire.close()
            raise NanoError.from_dict(words)
        self._wire = wire
        outputs = dict(zip(fds[1:], words["outputs"], strict=False))
        rest = fds[1 + len(outputs) :]
        stdin = fds[1] if words["tty"] else rest[0] if rest else -1
        super().__init__(words["pid"], fds[0], outputs, stdin, words["tty"])
        self._detached = True  # it is not our child

    def wait(self) -> int:
        word = self._wire.wait()
        if not isinstance(word, dict):
            raise NanoError("the exit code of the command is not known", "its parent was killed")
        code: int = word["code"]
        return code

    def close(self) -> None:
        super().close()
        self._wire.close()


def run_exec(
    life: Lifecycle,
    container: Container,
    args: Sequence[str],
    *,
    env: Sequence[str] = (),
    cwd: str = "",
    user: str = "",
    tty: bool = False,
    stdin: bool = False,
    detach: bool = False,
    privileged: bool = False,
    inherit: bool = False,
    size: tuple[int, int] = (0, 0),
) -> ExecSession:
    """Start a command in a running container. inherit: use the caller's own streams where they are pipes. size: rows
    and columns of the terminal.

    NotRunning, Conflict (paused), CommandNotFound, CommandNotExecutable and what else a step says.
    """
    if not args:
        raise InvalidInput("no command to execute", "", "name one: exec CONTAINER COMMAND")
    spec, state = container.spec, container.state
    if state.status == "paused":
        raise Conflict(f"container {spec.name} is paused", "", f"continue it first: unpause {spec.name}")
    if state.status != "running":
        raise NotRunning(f"container {spec.name} is not running", "", f"start it first: start {spec.name}")
    direct = inherit and not detach and not tty and all(_harmless(fd) for fd in range(3))
    null = null_streams(stdin, detach=detach, direct=direct)
    plan = plan_exec(
        spec,
        life.facts(),
        pid=state.pid,
        cgroup=state.cgroup,
        groups1=state.groups,
        args=tuple(args),
        env=environment(spec.env, env, tty),
        cwd=cwd,
        user=user,
        tty=tty,
        privileged=privileged,
        paths=life.paths,
        null=null,
        size=size,
    )
    world = World(life.kernel)
    inner: dict[str, int] = {}
    outputs: dict[int, str] = {}
    into = -1
    if not tty:
        if direct:
            inner = {name: os.dup(fd) for fd, name in enumerate(STREAMS) if name not in null}
        elif not detach:
            out, inner["stdout"] = os.pipe()
            err, inner["stderr"] = os.pipe()
            outputs = {out: "o", err: "r"}
            if stdin:
                inner["stdin"], into = os.pipe()
        world.slots.update(inner)
    held: list[int] = []
    execution = Execution(plan, world, reporter=Grip(held, life.reporter))
    try:
        held.append(open_init(life, spec, state))
        execution.run()
    except BaseException:
        execution.close()
        ours = (world.slots.get(slot, -1) for slot in ("pidfd", "master"))
        for fd in {*outputs, into, *ours} - {-1}:
            os.close(fd)
        raise
    finally:
        _close_start(world, inner)
        for fd in held:
            os.close(fd)
    if tty:
        master = world["master"]
        outputs, into = {master: "o"}, master
    return ExecSession(world["pid"], world["pidfd"], outputs, into, tty)


def _close_start(world: World, inner: dict[str, int]) -> None:
    for slot, value in world.slots.items():
        if slot in ("rootfs", "cgroup", "target", "terminal", "launcher") or slot.startswith("procs:") or slot in inner:
            os.close(value)


def environment(base: tuple[str, ...], more: Sequence[str], tty: bool) -> tuple[str, ...]:
    env = dict(item.split("=", 1) for item in base if "=" in item)
    if tty:
        env.setdefault("TERM", "xterm")
    return merged(env, more)


def null_streams(stdin: bool, *, detach: bool, direct: bool) -> tuple[str, ...]:
    """The streams that are connected to the container's own /dev/null, never to the host's."""
    if detach:
        return STREAMS
    unused = set() if stdin else {"stdin"}
    if direct:
        unused |= {name for fd, name in enumerate(STREAMS) if _is_null(os.fstat(fd))}
    return tuple(name for name in STREAMS if name in unused)


def _is_null(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == NULL


def _harmless(fd: int) -> bool:
    """Whether a stream of ours is a pipe, which may be open inside, or the null device, which has a twin inside."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return stat.S_ISFIFO(found.st_mode) or _is_null(found)
