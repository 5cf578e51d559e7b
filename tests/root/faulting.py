"""System calls that fail: the n-th of a command, whichever of its processes makes it.

The command runs in a fork of this warm process, so a case costs some 50 ms. What the engine calls of os, fcntl, the
socket module and the kernel's façade goes through a counter in shared memory: command, keeper and init count together.
A call fails with an error that it can have (man pages, section 2): no open file is left (EMFILE), no space (ENOSPC), no
memory (ENOMEM), no process (EAGAIN), no right (EPERM).
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NoReturn

from nanocontainer.cmd.main import App, main
from nanocontainer.kernel import calls
from nanocontainer.kernel.abi import NR

from .nano import Nano

NAMES = {number: name for name, number in NR.items()}
FILES = ("open", "openat2", "pipe", "dup", "memfd_create", "pidfd_open", "openpty", "socket", "socketpair", "fsopen")
FILES = (*FILES, "fsmount", "open_tree", "accept")
WRITES = ("write", "mkdir", "symlink", "rename", "link", "mknod", "ftruncate", "fsync", "open to write", "sendmsg")
PROCESSES = ("fork", "clone3", "posix_spawn")
RIGHTS = ("mount", "umount2", "move_mount", "mount_setattr", "setns", "unshare", "fsconfig", "fsmount", "clone3")
NOT = ("close", "waitpid", "exit")  # these cannot fail so


def errors_of(name: str) -> tuple[int, ...]:
    """The errors that a call may have on a host that is short of something."""
    found = []
    if name in WRITES:
        found += [errno.ENOSPC, errno.EIO]
    if name in FILES or name == "open to write":
        found += [errno.EMFILE, errno.ENFILE]
    if name in PROCESSES:
        found += [errno.EAGAIN]
    if name in ("clone3", "unshare"):
        found += [errno.ENOSPC]
    if name in RIGHTS:
        found += [errno.EPERM]
    if name == "lock":
        return (errno.ENOLCK,)
    return (*found, errno.ENOMEM)


class Faults:
    """What all processes of a case share: how many calls there were, which one fails, which it was."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096)

    def arm(self, at: int, turn: int = 0) -> None:
        """From now on calls are counted, and the at-th fails; 0: none does. turn: with which of its errors."""
        self.memory[:] = bytes(4096)
        self._put(8, at)
        self._put(16, turn)
        self._put(24, 1)

    def disarm(self) -> None:
        self._put(24, 0)

    def _put(self, where: int, number: int) -> None:
        self.memory[where : where + 8] = number.to_bytes(8, "little")

    def _get(self, where: int) -> int:
        return int.from_bytes(self.memory[where : where + 8], "little")

    @property
    def count(self) -> int:
        return self._get(0)

    @property
    def failed(self) -> str:
        """The call that failed, and how: "openat2 ENOMEM /proc"; empty where none did."""
        return self.memory[64:4096].rstrip(b"\0").decode()

    def fails(self, name: str, about: object = "") -> int:
        """Count a call; its error, or 0."""
        if not self._get(24) or name in NOT:
            return 0
        count = self._get(0) + 1
        self._put(0, count)
        if count != self._get(8):
            return 0
        possible = errors_of(name)
        code = possible[self._get(16) % len(possible)]
        said = f"{name} {errno.errorcode[code]} {about}"[:200].encode()
        self.memory[64 : 64 + len(said)] = said
        return code

    # --- putting it between the engine and the kernel

    def install(self) -> None:
        """In this process and its forks, for good."""
        for name in (
            "open", "mkdir", "rmdir", "unlink", "rename", "symlink", "link", "readlink", "listdir", "scandir", "stat",
            "lstat", "fstat", "chmod", "chown", "mknod", "write", "read", "pread", "lseek", "ftruncate", "fsync",
            "pipe", "dup", "dup2", "fork", "memfd_create", "pidfd_open", "openpty", "setsid", "chdir",
            "set_inheritable", "posix_spawn", "getxattr", "setxattr", "setgroups", "setresuid", "setresgid", "execve",
        ):  # fmt: skip
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        for name, said in (("lockf", "lock"), ("flock", "lock"), ("fcntl", "fcntl"), ("ioctl", "ioctl")):
            setattr(fcntl, name, self._wrapped(said, getattr(fcntl, name)))
        _socket.socketpair = self._wrapped("socketpair", _socket.socketpair)  # type: ignore[assignment]
        _socket.socket = self._sockets(_socket.socket)  # type: ignore[misc,assignment]
        calls._syscall = self._raw(calls._syscall)
        calls._prctl = self._wrapped("prctl", calls._prctl)

    def _wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*args: Any, **named: Any) -> Any:
            said = name
            if name == "open" and len(args) > 1 and args[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                said = "open to write"
            if code := self.fails(said, args[0] if args else ""):
                if args and isinstance(args[0], str):
                    raise OSError(code, os.strerror(code), args[0])
                raise OSError(code, os.strerror(code))
            return call(*args, **named)

        return faulty

    def _raw(self, call: Callable[..., int]) -> Callable[..., int]:
        def faulty(number: Any, *args: Any) -> int:
            if code := self.fails(NAMES[number.value], next((arg for arg in args if isinstance(arg, bytes)), b"")[:60]):
                ctypes.set_errno(code)
                return -1
            return call(number, *args)

        return faulty

    def _sockets(self, base: Any) -> Any:
        faults = self

        class Socket(base):  # type: ignore[misc]
            def __init__(self, *args: Any, **named: Any) -> None:
                if "fileno" not in named and len(args) < 4 and (code := faults.fails("socket")):
                    raise OSError(code, os.strerror(code))
                super().__init__(*args, **named)

        for name in ("bind", "listen", "connect", "sendto", "sendmsg", "recv"):

            def faulty(self: Any, *args: Any, _call: Any = getattr(base, name), _name: str = name) -> Any:
                if code := faults.fails(_name, args[0] if _name in ("bind", "connect") else ""):
                    raise OSError(code, os.strerror(code))
                return _call(self, *args)

            setattr(Socket, name, faulty)
        return Socket


class Ended:
    """How a command ended: its exit code, and what it said."""

    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds


def command(
    nano: Nano, *words: str, faults: Faults | None = None, at: int = 0, turn: int = 0, patience: float = 30
) -> Ended:
    """The command line, in a fork of this process. faults: count calls from its first one on, in it, in its children
    and in keepers that have them too; the at-th fails. at=0: none is counted, but later commands count its keeper's."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            try:
                null = os.open("/dev/null", os.O_RDWR)
                for fd, file in enumerate((null, out.fileno(), err.fileno())):
                    os.dup2(file, fd)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                code = 99
                if faults:
                    faults.install()
                    if at:
                        faults.arm(at, turn)
                sys.stdout = open(1, "w", closefd=False)
                sys.stderr = open(2, "w", closefd=False)
                code = main(list(words), App(nano.root, nano.runroot))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        hung = not poll.poll(patience * 1000)
        if hung:
            os.kill(pid, signal.SIGKILL)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if faults:
            faults.disarm()
        out.seek(0)
        err.seek(0)
        ended = Ended(code, out.read().decode(), err.read().decode(), time.monotonic() - begin)
        if hung:
            ended.err += f"(did not end within {patience} s)"
        return ended


def commands(nano: Nano, lines: list[tuple[str, ...]], patience: float = 30) -> list[Ended]:
    """Several command lines, one after the other, in one fork of this process. patience: seconds for each; where one
    does not end its end says so, and there are no more."""
    ends: list[Ended] = []
    with tempfile.TemporaryDirectory() as place:
        pid = os.fork()
        if pid == 0:
            _run_all(nano, lines, place)
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        begin, seen, hung = time.monotonic(), -1, False
        while not poll.poll(100):
            if (done := len(os.listdir(place))) != seen:
                begin, seen = time.monotonic(), done
            if time.monotonic() - begin > patience:
                os.kill(pid, signal.SIGKILL)
                hung = True
                break
        os.close(pidfd)
        os.waitpid(pid, 0)
        for number in range(len(lines)):
            texts = []
            for kind in ("out", "err", "end"):
                path = f"{place}/{number}.{kind}"
                texts.append(open(path, errors="replace").read() if os.path.exists(path) else "")
            if not texts[2]:
                why = f"(did not end within {patience} s)" if hung else "(its process has gone)"
                ends.append(Ended(99, texts[0], texts[1] + why, patience))
                break
            code, seconds = texts[2].split()
            ends.append(Ended(int(code), texts[0], texts[1], float(seconds)))
    return ends


def _run_all(nano: Nano, lines: list[tuple[str, ...]], place: str) -> NoReturn:
    """In the fork: what each one writes, and how it ended, in files."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        for number, words in enumerate(lines):
            for fd, kind in ((1, "out"), (2, "err")):
                file = os.open(f"{place}/{number}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(file, fd)
                os.close(file)
            sys.stdout = open(1, "w", closefd=False)
            sys.stderr = open(2, "w", closefd=False)
            begin = time.monotonic()
            code = main(list(words), App(nano.root, nano.runroot))
            sys.stdout.flush()
            sys.stderr.flush()
            with open(f"{place}/{number}.end", "w") as end:
                end.write(f"{code} {time.monotonic() - begin}")
    finally:
        os._exit(0)


def wrong_words(ended: Ended) -> str:
    """What a person could not do anything with, in what a command said; empty where all is well."""
    said = ended.err
    if "Traceback" in said or "this is a bug" in said or "did not end within" in said or ended.code == 99:
        return f"code {ended.code}: {said}"
    if ended.code not in (0, 1, 7, 125, 126, 127, 255) and not 128 < ended.code < 160:
        return f"code {ended.code}: {said}"
    if ended.code in (1, 125, 126, 127) and not said.startswith("Error: ") and "\nError: " not in said:
        return f"code {ended.code}, and no word of why: {said!r}"
    first = next((line for line in said.splitlines() if line.startswith("Error: ")), "")
    if first and ": " not in first.removeprefix("Error: "):
        return f"no reason: {first}"
    return ""
