"""Seccomp filters in the kernel: it takes them, and its answers are the simulator's."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from nanocontainer.kernel import abi, caps, seccomp, sysnames
from nanocontainer.kernel.calls import Kernel
from tests.unit.bpf_machines import AARCH64, X86_64, Classic

MACHINE, RELEASE = os.uname().machine, os.uname().release
AUDIT = {"x86_64": X86_64, "aarch64": AARCH64}[MACHINE]
NUMBERS = sysnames.numbers(MACHINE)
ALLOW, ERRNO = 0x7FFF0000, 0x50000


def compiled(tmp: Path, *rules: dict[str, object], default: str = "SCMP_ACT_ALLOW") -> bytes:
    path = tmp / "profile.json"
    path.write_text(json.dumps({"defaultAction": default, "syscalls": list(rules)}))
    return seccomp.program(str(path), MACHINE, 0, RELEASE)


def filtered(program: bytes, what: Callable[[], bytes], flags: int = seccomp.DEFAULT_FLAGS) -> tuple[bytes, int]:
    """What a child with this filter writes, and its wait status."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = b"failed"
        try:
            Kernel().prctl(abi.PR_SET_NO_NEW_PRIVS, 1)
            Kernel().seccomp_set_filter(program, flags)
            answer = what()
        finally:
            os.write(write, answer)
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read()
    return said, os.waitpid(pid, 0)[1]


def raw(nr: int, *args: int) -> int:
    """The errno of a call by number, or 0."""
    libc = ctypes.PyDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return ctypes.get_errno() if libc.syscall(*(ctypes.c_long(n) for n in (nr, *args))) < 0 else 0


def test_denied_calls_are_refused_and_others_not() -> None:
    """Every number that the filter denies whatever the arguments: the kernel gives just that errno."""
    program = seccomp.program("default", MACHINE, caps.DEFAULT, RELEASE)
    machine = Classic(program)
    denied = {}
    exempt = {NUMBERS[name] for name in ("uretprobe", "uprobe") if name in NUMBERS}  # the kernel never asks
    for nr in sorted({*range(600), 0x3FFFFFFF} - exempt):
        answer = machine.run(AUDIT, nr)
        if answer & 0xFFFF0000 == ERRNO and not machine.looked:
            denied[nr] = answer & 0xFFFF
    assert len(denied) > 100 and denied[NUMBERS["clone3"]] == errno.ENOSYS and denied[NUMBERS["mount"]] == errno.EPERM

    def attempt() -> bytes:
        wrong = {nr: got for nr, code in denied.items() if (got := raw(nr, *[-1] * 6)) != code}
        os.stat("/")
        os.close(os.open("/dev/null", os.O_RDWR))
        return repr(wrong).encode()

    assert filtered(program, attempt) == (b"{}", 0)


def test_arguments_are_judged() -> None:
    program = seccomp.program("default", MACHINE, caps.DEFAULT, RELEASE)

    def attempt() -> bytes:
        answers = [raw(NUMBERS["personality"], n) for n in (0xFFFFFFFF, 0x0400000, 1 << 32)]
        answers += [raw(NUMBERS["socket"], family, 99, 0) for family in (1, 38, 40)]
        return repr(answers).encode()

    eperm, unknown = errno.EPERM, errno.EINVAL  # a socket of type 99: refused by the socket code, so it got there
    assert filtered(program, attempt) == (repr([0, eperm, eperm, unknown, eperm, eperm]).encode(), 0)


def test_a_python_runs_under_the_default_profile() -> None:
    program = seccomp.program("default", MACHINE, caps.DEFAULT, RELEASE)
    code = "import threading as t, socket; x = t.Thread(target=print, args=('hello',)); x.start(); x.join()"
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Kernel().prctl(abi.PR_SET_NO_NEW_PRIVS, 1)
            Kernel().seccomp_set_filter(program, seccomp.DEFAULT_FLAGS)
            os.dup2(write, 1)
            os.execv("/usr/bin/python3", ["python3", "-c", code])
        finally:
            os._exit(1)
    os.close(write)
    with open(read, "rb") as file:
        said = file.read()
    assert (said, os.waitpid(pid, 0)[1]) == (b"hello\n", 0)


def test_killing_actions(tmp_path: Path) -> None:
    for action, number in (("SCMP_ACT_KILL_PROCESS", signal.SIGSYS), ("SCMP_ACT_KILL", signal.SIGSYS)):
        program = compiled(tmp_path, {"names": ["getpgrp", "getpgid"], "action": action})
        said, status = filtered(program, lambda: str(os.getpgid(0)).encode())
        assert said == b"" and os.WTERMSIG(status) == number


def test_errno_of_the_profile(tmp_path: Path) -> None:
    program = compiled(tmp_path, {"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOTTY})
    for flags in (0, 2, 4):
        assert filtered(program, lambda: str(raw(NUMBERS["sethostname"])).encode(), flags) == (b"25", 0)


@pytest.mark.parametrize("held", [0, caps.DEFAULT, caps.everything(caps.LAST)])
def test_the_kernel_takes_the_program(held: int) -> None:
    assert filtered(seccomp.program("default", MACHINE, held, RELEASE), lambda: b"fine") == (b"fine", 0)


def test_the_kernel_takes_the_longest_programs(tmp_path: Path) -> None:
    args = [{"index": 5, "op": "SCMP_CMP_GT", "value": i} for i in range(700)]
    program = compiled(tmp_path, {"names": ["reboot"], "action": "SCMP_ACT_ERRNO", "args": args})
    assert 3000 < len(program) // 8 < 4096
    assert filtered(program, lambda: b"fine") == (b"fine", 0)
