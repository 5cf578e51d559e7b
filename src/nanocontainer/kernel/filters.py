"""The seccomp filters that a process really has: read from the kernel, and judged call by call.

/proc says only that there is a filter. PTRACE_SECCOMP_GET_FILTER (ptrace(2), Linux 4.4) hands out its program, whoever
loaded it: so docker's and podman's filters can be looked into as well. The process has to be stopped for that, some
tens of microseconds (PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH); a call in which it waits is taken up again, though
a few of them return EINTR (signal(7)): so it is only done when it was asked for. It needs CAP_SYS_ADMIN and no filter
of our own.

A program is judged by running it (classic BPF, linux/filter.h) with a call's number and architecture. What depends on
the arguments is unknown: both ways of such a jump are taken, and what comes out is a set of actions.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

from ..errors import NanoError, NotFound, NotPermitted, Unsupported, denied
from . import sysnames
from .calls import syscall

_SEIZE, _INTERRUPT, _GET_FILTER, _DETACH = 0x4206, 0x4207, 0x420C, 17  # linux/ptrace.h
_WALL = 0x40000000  # __WALL, linux/wait.h: tracees that are no children of ours too
_PATIENCE = 2.0  # seconds
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*, linux/audit.h
_PASSES = (0x7FFF0000, 0x7FFC0000)  # SECCOMP_RET_ALLOW, SECCOMP_RET_LOG
_ACTION = 0xFFFF0000
_LOW = 0xFFFFFFFF


def filters(pid: int) -> tuple[bytes, ...]:
    """The programs of a process's filters, struct sock_filter[] each, the newest first. NotFound, NotPermitted;
    Unsupported where the kernel does not hand them out; NanoError where the process does not stop (it is frozen)."""
    try:
        _ptrace(_SEIZE, pid)
    except ProcessLookupError:
        raise NotFound(f"there is no process {pid}") from None
    except PermissionError as error:
        raise NotPermitted(f"cannot trace process {pid}", error.strerror or "", denied()) from None
    stopped = False
    try:
        _ptrace(_INTERRUPT, pid)
        stopped = _wait(pid)
        if not stopped:
            raise NanoError(f"process {pid} does not stop", "it may be frozen", "unpause its container first")
        return of_stopped(pid)
    finally:
        if stopped:
            try:
                _ptrace(_DETACH, pid)
            except ProcessLookupError:
                pass  # it has been killed meanwhile


def of_stopped(pid: int) -> tuple[bytes, ...]:
    """As filters(), of a process that we trace and that stands still."""
    found: list[bytes] = []
    while True:
        try:
            length = _ptrace(_GET_FILTER, pid, len(found))
            code = ctypes.create_string_buffer(length * 8)
            _ptrace(_GET_FILTER, pid, len(found), ctypes.addressof(code))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL):
                return tuple(found)  # there are no more
            if error.errno in (errno.EIO, errno.EMEDIUMTYPE):
                why = "the kernel does not hand it out (CONFIG_CHECKPOINT_RESTORE, or it is not classic BPF)"
                raise Unsupported(f"cannot read the seccomp filter of process {pid}", why) from None
            if error.errno == errno.EACCES:
                why = "it needs CAP_SYS_ADMIN, and that we have no filter ourselves"
                raise NotPermitted(f"cannot read the seccomp filter of process {pid}", why) from None
            raise
        found.append(code.raw)


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    return syscall("ptrace", request, pid, address, data)


def _wait(pid: int) -> bool:
    """Until the process has stopped; whether it did."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        done, status = os.waitpid(pid, _WALL | os.WNOHANG)
        if done:
            return os.WIFSTOPPED(status)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)


def blocked(programs: tuple[bytes, ...], machine: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a machine's calls that never pass all of the programs, and of those that pass with some arguments
    only. Unsupported for a machine whose numbers we do not have."""
    if machine not in _AUDIT:
        raise Unsupported("cannot judge a seccomp filter", f"no system call numbers known for {machine}")
    never, sometimes = [], []
    for name, number in sysnames.numbers(machine).items():
        outcomes = [actions(program, number, _AUDIT[machine]) for program in programs]
        if any(not any(action & _ACTION in _PASSES for action in found) for found in outcomes):
            never.append(name)
        elif any(action & _ACTION not in _PASSES for found in outcomes for action in found):
            sometimes.append(name)
    return tuple(sorted(never)), tuple(sorted(sometimes))


def actions(program: bytes, number: int, arch: int, args: tuple[int, ...] | None = None) -> set[int]:
    """All SECCOMP_RET_* values with which a program may end for a call, whatever its arguments; the one value where
    they are known."""
    known = {0: number, 4: arch}
    for at, arg in enumerate(args or ()):
        known |= {16 + 8 * at: arg & _LOW, 20 + 8 * at: arg >> 32 & _LOW}
    code = [
        (
            int.from_bytes(program[at : at + 2], "little"), program[at + 2], program[at + 3],
            int.from_bytes(program[at + 4 : at + 8], "little"),
        )
        for at in range(0, len(program), 8)
    ]  # fmt: skip
    found: set[int] = set()
    # where to go on: instruction, A, X, memory; None is a value that depends on the arguments
    pending: list[tuple[int, int | None, int | None, tuple[int | None, ...]]] = [(0, 0, 0, (0,) * 16)]
    seen = set(pending)
    while pending:
        at, a, x, memory = pending.pop()
        while True:
            op, yes, no, k = code[at]
            at += 1
            kind, source = op & 7, x if op & 8 else k
            if kind == 6:  # return
                value = a if op & 0x18 == 0x10 else k
                found.add(0 if value is None else value)
                break
            if kind == 5:  # jump
                if op & 0xF0 == 0:
                    at += k
                    continue
                taken = _compare(op & 0xF0, a, source)
                if taken is None:
                    other = (at + no, a, x, memory)
                    if other not in seen:
                        seen.add(other)
                        pending.append(other)
                    at += yes
                else:
                    at += yes if taken else no
            elif kind == 0:  # load A
                mode = op & 0xE0
                a = (
                    known.get(k)
                    if mode == 0x20
                    else memory[k]
                    if mode == 0x60
                    else 64
                    if mode == 0x80
                    else k
                )
            elif kind == 1:  # load X
                mode = op & 0xE0
                x = memory[k] if mode == 0x60 else 64 if mode == 0x80 else k
            elif kind in (2, 3):  # store
                memory = (*memory[:k], a if kind == 2 else x, *memory[k + 1 :])
            elif kind == 4:
                a = _calculate(op & 0xF0, a, source)
            elif op & 0xF8 == 0:  # A to X, or back
                x = a
            else:
                a = x
    return found


def _compare(op: int, a: int | None, b: int | None) -> bool | None:
    if a is None or b is None:
        return None
    return a == b if op == 0x10 else a > b if op == 0x20 else a >= b if op == 0x30 else bool(a & b)


def _calculate(op: int, a: int | None, b: int | None) -> int | None:
    if op == 0x80:
        return None if a is None else -a & _LOW
    if a is None or b is None:
        return None
    if op in (0x30, 0x90):
        return (a // b if op == 0x30 else a % b) if b else 0
    if op in (0x60, 0x70):
        return (a << b if op == 0x60 else a >> b) & _LOW if b < 32 else 0
    results = {0x00: a + b, 0x10: a - b, 0x20: a * b, 0x40: a | b, 0x50: a & b, 0xA0: a ^ b}
    return results[op] & _LOW
