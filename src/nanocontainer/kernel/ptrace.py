"""Watching the system calls of other processes, and what the kernel answers: ptrace(2).

A refusal has many origins: a seccomp filter, a missing capability, a device rule, a read-only mount, a limit. The
kernel logs few of them, and none for one container alone. But every one of them is the result of a system call, and a
tracer sees results: PTRACE_SEIZE (Linux 3.4) attaches without stopping, PTRACE_O_TRACEFORK and its kin attach to all
that comes from it, PTRACE_SYSCALL stops at the begin and the end of each call, PTRACE_GET_SYSCALL_INFO (5.3) says
number, arguments and result, the same on every machine. We look, and never change anything.

That costs: each call is two stops, and each stop two switches to us and back. What computes is as fast as ever.

The kernel lets go by itself of what a tracer leaves when it is killed (no PTRACE_O_EXITKILL): all runs on. Signals are
passed on as they come, and stopped processes stay stopped (PTRACE_LISTEN). A process has one tracer at most: gdb and
strace inside fail meanwhile.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

from ..errors import NanoError, NotPermitted, Unsupported
from ..lean import signals
from .abi import NR, PR_SET_PDEATHSIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/ptrace.h
_SYSCALL, _DETACH = 24, 17
_GETEVENTMSG, _SEIZE, _INTERRUPT, _LISTEN, _GET_SYSCALL_INFO = 0x4201, 0x4206, 0x4207, 0x4208, 0x420E
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACEEXIT
_OPTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x40
_EVENTS_CHILD = (1, 2, 3)  # PTRACE_EVENT_FORK, VFORK, CLONE
_EVENT_EXEC, _EVENT_EXIT, _EVENT_STOP = 4, 6, 128
_ENTRY, _EXIT = 1, 2  # PTRACE_SYSCALL_INFO_*
_WALL = 0x40000000  # __WALL, linux/wait.h: tracees that are no children of ours too
_INFO = 88  # bytes of struct ptrace_syscall_info
_SYSCALL_STOP = 5 | 0x80  # SIGTRAP, marked by TRACESYSGOOD
_SIGSYS = 31
_PATIENCE = 3.0  # seconds for processes to stop, so that they can be let go
ABIS = {0xC000003E: "x86_64", 0x40000003: "i386", 0xC00000B7: "aarch64", 0x40000028: "arm"}  # linux/audit.h

_libc = ctypes.PyDLL(None, use_errno=True)
_call = _libc["syscall"]
_call.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong]
_call.restype = ctypes.c_long


class Observer:
    """Who is told what is seen. tid: the thread, in our numbers; it stands still until the method returns."""

    errors: frozenset[int] = frozenset()  # the errno values of which failed() is told
    opens: dict[int, frozenset[int]] = {}  # AUDIT_ARCH_* → numbers of the calls whose success opened() is told

    def failed(self, tid: int, arch: int, number: int, args: tuple[int, ...], error: int) -> None:
        """A call has failed."""

    def opened(self, tid: int, fd: int) -> None:
        """A file has been opened."""

    def executed(self, tid: int) -> None:
        """A program has begun (execve(2))."""

    def exiting(self, tid: int) -> None:
        """A thread is about to end."""

    def shot(self, tid: int, arch: int, number: int, args: tuple[int, ...]) -> None:
        """A seccomp filter has killed a process for this call (SIGSYS). Its filters are gone already."""


class Tracer:
    """Processes that are traced, and the loop that lets them go on after each stop. Only in a thread of its own process
    that waits for no other children."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.tracees: set[int] = set()
        self.calls = 0
        self._unannounced: set[int] = set()  # children of whom the parent's event is yet to come
        self._entries: dict[int, bytes] = {}
        self._info = ctypes.create_string_buffer(_INFO)
        self._address = ctypes.addressof(self._info)

    def seize(self, tid: int) -> bool:
        """Attach to a thread; False where it has ended or is traced by us. NotPermitted, Unsupported."""
        if tid in self.tracees:
            return False
        try:
            _ptrace(_SEIZE, tid, 0, _OPTIONS)
        except ProcessLookupError:
            return False
        except OSError as error:
            if error.errno == errno.EPERM:
                if _ends_or_is_ours(tid):
                    return False
                hint = "a process has one tracer at most: gdb, strace, or another --why; and it needs root"
                raise NotPermitted(f"cannot trace process {tid}", "the kernel refuses it", hint) from None
            raise Unsupported("cannot trace processes", f"ptrace: {error.strerror}") from None
        self.tracees.add(tid)
        try:
            _ptrace(_INTERRUPT, tid)
        except ProcessLookupError:
            pass  # it ends: wait(2) will say so
        return True

    def seize_all(self, groups: Iterable[str]) -> None:
        """All threads of all processes in these cgroups; those that come meanwhile too."""
        while True:
            fresh = False
            for pid in [pid for group in groups for pid in _members(group)]:
                try:
                    threads = os.listdir(f"/proc/{pid}/task")
                except OSError:
                    continue  # it has ended
                for tid in threads:
                    fresh |= self.seize(int(tid))
            if not fresh:
                return

    def run(self, seconds: float | None = None) -> bool:
        """Let them go on and look, until the last has ended (True), or the time is over or ctrl-c was typed (False). In
        the end all that is left is let go of."""
        before = signals.pthread_sigmask(signals.SIG_BLOCK, {signals.SIGINT})
        clock = 0 if seconds is None else _clock(seconds)
        try:
            while self.tracees:
                try:
                    tid, status = os.waitpid(-1, _WALL)
                except ChildProcessError:
                    self.tracees.clear()
                    break
                if tid == clock:
                    clock = 0
                    return False
                self._stopped(tid, status)
            return True
        finally:
            try:
                if clock:
                    os.kill(clock, signals.SIGKILL)
                    os.waitpid(clock, 0)
                self.release()
            finally:
                while signals.SIGINT in signals.sigpending():  # it was typed to end this
                    signals.sigwait({signals.SIGINT})
                signals.pthread_sigmask(signals.SIG_SETMASK, before)

    def release(self) -> None:
        """Let go of all: they run on as if nothing had been. NanoError where one does not stop (it is frozen): the
        kernel lets go of it when we end."""
        for tid in list(self.tracees):
            try:
                _ptrace(_INTERRUPT, tid)
            except ProcessLookupError:
                if not os.path.exists(f"/proc/{tid}"):
                    self.tracees.discard(tid)
        deadline = time.monotonic() + _PATIENCE
        while self.tracees:
            try:
                tid, status = os.waitpid(-1, _WALL | os.WNOHANG)
            except ChildProcessError:
                self.tracees.clear()
                return
            if not tid:
                if time.monotonic() > deadline:
                    raise NanoError("some processes were not let go of yet", "they do not stop: are they frozen?")
                time.sleep(0.0005)
                continue
            self.tracees.discard(tid)
            if os.WIFSTOPPED(status):
                number, event = os.WSTOPSIG(status), status >> 16
                try:
                    _ptrace(_DETACH, tid, 0, number if not event and number != _SYSCALL_STOP else 0)
                except ProcessLookupError:
                    pass  # it has been killed meanwhile

    def _stopped(self, tid: int, status: int) -> None:
        """One thing has happened to one thread: look, and let it go on."""
        if not os.WIFSTOPPED(status):
            self.tracees.discard(tid)
            self._entries.pop(tid, None)
            return
        number, event = os.WSTOPSIG(status), status >> 16
        request, passed = _SYSCALL, 0
        if number == _SYSCALL_STOP:
            self._at_call(tid)
        elif not event:
            passed = number  # a signal is about to be delivered
            if number == _SIGSYS:
                self._entries.pop(tid, None)  # somebody has sent it: a filter that kills does so without this stop
        elif event == _EVENT_STOP:
            if tid not in self.tracees:  # a new one begins with such a stop, which may come before its parent's event
                self.tracees.add(tid)
                self._unannounced.add(tid)
            if number in (signals.SIGSTOP, signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU):
                request = _LISTEN
        elif event in _EVENTS_CHILD:
            child = self._message(tid)
            if child in self._unannounced:
                self._unannounced.discard(child)  # we know it; it may even have ended
            elif child:
                self.tracees.add(child)  # ours from now on, though its first stop is yet to come
        elif event == _EVENT_EXEC:
            former = self._message(tid)
            if former != tid:  # a thread that was not the first has become it
                self.tracees.discard(former)
                self._entries.pop(former, None)
            self.observer.executed(tid)
        elif event == _EVENT_EXIT:
            entry = self._entries.pop(tid, None)
            if entry and self._message(tid) & 0x7F == _SIGSYS:
                self.observer.shot(tid, *_decoded(entry))
            self.observer.exiting(tid)
        if _call(NR["ptrace"], request, tid, 0, passed) < 0 and ctypes.get_errno() != errno.ESRCH:
            raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")

    def _message(self, tid: int) -> int:
        """What an event is about: the tid of a child, the former tid of who executes, the wait status of who ends; 0
        where it is gone."""
        message = ctypes.c_ulong(0)
        _call(NR["ptrace"], _GETEVENTMSG, tid, 0, ctypes.addressof(message))
        return message.value

    def _at_call(self, tid: int) -> None:
        if _call(NR["ptrace"], _GET_SYSCALL_INFO, tid, _INFO, self._address) < 0:
            return  # it has been killed meanwhile
        info = self._info.raw
        if info[0] == _ENTRY:
            self._entries[tid] = info
            return
        entry = self._entries.get(tid)  # stays: a filter that kills lets the call end like one that succeeds
        self.calls += 1
        if info[0] != _EXIT or entry is None:
            return
        observer = self.observer
        if info[32]:  # is_error
            error = -int.from_bytes(info[24:32], "little", signed=True)
            if error in observer.errors:
                observer.failed(tid, *_decoded(entry), error)
        elif int.from_bytes(entry[24:32], "little") in observer.opens.get(int.from_bytes(entry[4:8], "little"), ()):
            observer.opened(tid, int.from_bytes(info[24:32], "little"))


def _clock(seconds: float) -> int:
    """A child that ends after so many seconds, or of ctrl-c: so one blocking wait(2) hears of all that may happen,
    where a timeout would cost two more calls for each stop."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            signals.signal(signals.SIGINT, signals.SIG_DFL)
            _libc.prctl(PR_SET_PDEATHSIG, signals.SIGKILL)
            signals.pthread_sigmask(signals.SIG_SETMASK, ())
            if os.getppid() == parent:
                time.sleep(seconds)
        finally:
            os._exit(0)
    return pid


def _decoded(entry: bytes) -> tuple[int, int, tuple[int, ...]]:
    """(AUDIT_ARCH_*, the call's number, its six arguments) of a struct ptrace_syscall_info at a call's begin."""
    numbers = [int.from_bytes(entry[at : at + 8], "little") for at in range(24, 80, 8)]
    return int.from_bytes(entry[4:8], "little"), numbers[0], tuple(numbers[1:])


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    result: int = _call(NR["ptrace"], request, tid, address, data)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"ptrace: {os.strerror(code)}")
    return result


def _ends_or_is_ours(tid: int) -> bool:
    """Whether a thread that cannot be seized is about to end, or was attached to when its parent made it."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as lines:
            status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    except OSError:
        return True
    return status["State"][0] in ("Z", "X") or status["TracerPid"] == [str(os.getpid())]


def _members(group: str) -> list[int]:
    """The processes of a cgroup and of those below it."""
    found: list[int] = []
    for place, _, files in os.walk(group):
        if "cgroup.procs" in files:
            try:
                with open(f"{place}/cgroup.procs", encoding="ascii") as lines:
                    found += [int(line) for line in lines]
            except OSError:
                continue  # it has just been removed
    return found


def read_memory(tid: int, address: int, size: int) -> bytes:
    """Bytes of a process's memory, as many as can be read; of hostile content (proc_pid_mem(5))."""
    try:
        fd = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, size, address)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(fd)


def read_string(tid: int, address: int, most: int = 4096) -> str:
    """A C string of a process: up to its NUL, page by page, for what is behind a page may not be there."""
    data = b""
    while len(data) < most and b"\0" not in data:
        part = read_memory(tid, address + len(data), 4096 - (address + len(data)) % 4096)
        if not part:
            break
        data += part
    return os.fsdecode(data[:most].partition(b"\0")[0])
