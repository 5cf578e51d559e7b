"""The moments at which a process is killed: each step of a plan, and each call that changes something.

A case forks its processes from a warm one, and none of them may keep an open file of ours: a keeper closes what it does
not know. What is mapped they keep. So a *board* in shared memory (mmap(2), MAP_SHARED) carries the orders: who comes to
the chosen moment says so there and waits, is killed from outside, or goes on when the killed one is dead.

For moments between steps: `die_at_call` lets a process kill itself behind its n-th call that changes something. Two
neighbouring ones with nothing in between are one moment for the disk and the kernel, so all moments are among these.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import stat
import struct
import time
from collections.abc import Callable
from typing import Any

from nanocontainer.container import attach, keeper
from nanocontainer.kernel import calls, nft
from nanocontainer.kernel.netlink import Links
from nanocontainer.lean import signals
from nanocontainer.plan.execute import Execution
from nanocontainer.plan.step import Reporter, Step

REACHED, GO_ON = 1, 2

_SIZE = 1 << 16
_TEXTS = {"plan": 256, "error": _SIZE // 2}  # where the board's texts begin


class Board:
    """Numbers and texts that all processes of a case see. flag: REACHED, GO_ON. count: of calls. The rest are pids."""

    FIELDS = ("flag", "host", "zygote", "keeper", "count", "plan", "error")  # the last two: lengths of texts

    def renew(self) -> None:
        """A memory of its own, for this process and its forks."""
        object.__setattr__(self, "memory", mmap.mmap(-1, _SIZE))

    def __getattr__(self, name: str) -> int:
        return int(struct.unpack_from("i", self.memory, 4 * self.FIELDS.index(name))[0])

    def __setattr__(self, name: str, value: int) -> None:
        struct.pack_into("i", self.memory, 4 * self.FIELDS.index(name), value)

    def clear(self) -> None:
        for name in self.FIELDS:
            setattr(self, name, 0)

    def say(self, what: str, text: str) -> None:
        """what: plan or error."""
        at, data = _TEXTS[what], text.encode(errors="replace")[: _SIZE // 2 - 256]
        self.memory[at : at + len(data)] = data
        setattr(self, what, len(data))

    def said(self, what: str) -> str:
        at = _TEXTS[what]
        return bytes(self.memory[at : at + getattr(self, what)]).decode(errors="replace")

    def wait(self, seconds: float = 10.0) -> None:
        """Who has come to the moment: say so, and wait to be killed or told to go on."""
        self.flag = REACHED
        deadline = time.monotonic() + seconds
        while self.flag == REACHED and time.monotonic() < deadline:
            time.sleep(0.0002)


board = Board()
# The step at which this case's execution stops: (when, index, whether in the new process); None: nowhere
chosen: tuple[str, int, bool] | None = None


class Witness(Reporter):
    """Sees every step of every execution, on both sides."""

    def __init__(self, execution: Execution) -> None:
        self.before_us, self.host = execution.reporter, os.getpid()
        board.host = self.host
        board.say("plan", "\n".join(f"{type(step).__name__} {step.side}" for step in execution.plan.steps))

    def before(self, index: int, step: Step) -> None:
        self.before_us.before(index, step)
        self.look("before", index)

    def after(self, index: int, step: Step) -> None:
        self.before_us.after(index, step)
        self.look("after", index)

    def failed(self, index: int, step: Step, error: BaseException) -> None:
        self.before_us.failed(index, step, error)

    def look(self, when: str, index: int) -> None:
        if chosen == (when, index, os.getpid() != self.host):
            board.wait()


def watch_executions() -> None:
    """From now on, and in all forks, executions have a witness."""
    begin, run = Execution.__init__, Execution.run

    def init(self: Execution, *args: Any, **named: Any) -> None:
        begin(self, *args, **named)
        self.reporter = Witness(self)

    def whole(self: Execution) -> None:
        run(self)
        self.reporter.look("after", len(self.plan.steps) - 1)  # type: ignore[attr-defined]

    Execution.__init__, Execution.run = init, whole  # type: ignore[method-assign]


# --- every call that changes something

_OF_OS = (
    "chmod", "chown", "fchmod", "fchown", "ftruncate", "kill", "link", "mkdir", "mknod", "posix_spawn", "rename",
    "rmdir", "symlink", "truncate", "unlink",
)  # fmt: skip


class _Counter:
    """Counts the calls of one process, and ends it behind the chosen one; torn: in the middle of it, if it is a write
    to a file."""

    def __init__(self, who: str, at: int, torn: bool, victim: int = 0) -> None:
        self.who, self.at, self.torn, self.victim = who, at, torn, victim
        self.pid = os.getpid() if who == "command" else 0
        self.kill = os.kill

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **named: Any) -> Any:
            result = call(*args, **named)
            self.past()
            return result

        return counted

    def past(self) -> None:
        if os.getpid() == self.pid:
            board.count += 1
            if board.count == self.at and not self.torn:
                self.die()

    def die(self) -> None:
        """The process itself, or the one that is to die in its place; then this one sees it gone, and goes on."""
        self.kill(self.victim or os.getpid(), signal.SIGKILL)
        while self.victim and os.path.exists(f"/proc/{self.victim}"):
            time.sleep(0.0005)

    def open(self, call: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *args: Any, **named: Any) -> int:
            fd = call(path, flags, *args, **named)
            if flags & (os.O_CREAT | os.O_TRUNC):
                self.past()
            return fd

        return opened

    def write(self, call: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def written(fd: int, data: Any) -> int:
            if os.getpid() == self.pid and self.torn and board.count + 1 == self.at:
                if stat.S_ISREG(os.fstat(fd).st_mode) and len(data) > 1:
                    call(fd, data[: len(data) // 2])
                self.die()
            count = call(fd, data)
            self.past()
            return count

        return written

    def fork(self, call: Callable[[], int]) -> Callable[[], int]:
        def forked() -> int:
            pid = call()
            if pid:
                board.keeper = board.keeper or pid
                self.past()
            elif self.who == "keeper" and self.pid == 0:
                self.pid = os.getpid()
                self.past()
            return pid

        return forked


def die_at_call(who: str, at: int, *, torn: bool = False, victim: int = 0) -> None:
    """Let this process (who: command), or the first one it forks (keeper), die behind its n-th call that changes
    something. at 0: never; board.count has the number of calls. victim: another process dies in its place."""
    counter = _Counter(who, at, torn, victim)
    for name in _OF_OS:
        setattr(os, name, counter.counted(getattr(os, name)))
    os.open = counter.open(os.open)  # type: ignore[assignment]
    os.write = counter.write(os.write)
    os.fork = counter.fork(os.fork)
    fcntl.flock = counter.counted(fcntl.flock)
    fcntl.lockf = counter.counted(fcntl.lockf)
    calls.syscall = counter.counted(calls.syscall)
    nft.run = counter.counted(nft.run)
    keeper.listen = counter.counted(keeper.listen)
    attach.Session.hold = counter.counted(attach.Session.hold)  # type: ignore[method-assign]
    attach.Session.let_go = counter.counted(attach.Session.let_go)  # type: ignore[method-assign]
    signals.pidfd_send_signal = counter.counted(signals.pidfd_send_signal)  # type: ignore[assignment]
    Links._ask = counter.counted(Links._ask)  # type: ignore[method-assign]
    calls.Kernel.clone3 = counter.counted(calls.Kernel.clone3)  # type: ignore[method-assign]
