"""The launcher is a real program: here it runs, on this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nanocontainer.kernel.calls import Kernel
from nanocontainer.runtime.launcher import MOST, program

MACHINE = os.uname().machine


def launch(tmp_path: Path, places: tuple[str, ...], *args: str) -> tuple[int, bytes, bytes]:
    """(exit code, what it said on the wire, what the command printed)."""
    wire, far = os.pipe()
    out, end = os.pipe()
    fd = Kernel().sealed_file("launcher", program(MACHINE, far, places), 0)
    pid = os.fork()
    if pid == 0:
        os.dup2(end, 1)
        os.set_inheritable(far, True)
        try:
            os.execve(fd, ["name", *args], {"A": "b"})
        finally:
            os._exit(1)
    for one in (far, end, fd):
        os.close(one)
    said, printed = os.read(wire, 4096), os.read(out, 4096)
    for one in (wire, out):
        os.close(one)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said, printed


def test_it_becomes_the_first_that_can_be_executed(tmp_path: Path) -> None:
    places = ("/nosuch", f"{tmp_path}/", "/bin/sh")
    code, said, printed = launch(tmp_path, places, "-c", "echo $0 $1 $A; exit 3", "x", "y")
    assert (code, said, printed) == (3, b"", b"x y b\n")


def test_it_says_why_none_could_be(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    code, said, _ = launch(tmp_path, ("/nosuch", f"{plain}/x", str(plain)))
    expected = bytes([errno.ENOENT, errno.ENOTDIR, errno.EACCES])
    assert (code, said) == (125, b"E" + expected)


def test_it_stops_at_what_is_no_program(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_bytes(b"\0\0\0\0")
    odd.chmod(0o755)
    assert launch(tmp_path, (str(odd), "/bin/true"))[:2] == (125, b"E" + bytes([errno.ENOEXEC]))


def test_executed_by_itself_it_ends(tmp_path: Path) -> None:
    """The command /proc/self/exe is the launcher again, and not whoever executed it."""
    assert launch(tmp_path, ("/proc/self/exe",))[0] == 126


def test_nobody_can_change_it() -> None:
    fd = Kernel().sealed_file("launcher", program(MACHINE, 1, ()), 0)
    try:
        with pytest.raises(PermissionError):
            os.write(fd, b"x")
        with pytest.raises(PermissionError):
            os.truncate(fd, 0)
    finally:
        os.close(fd)


def test_its_answer_has_an_end(tmp_path: Path) -> None:
    assert len(launch(tmp_path, tuple(f"/nosuch/{number}" for number in range(5000)))[1]) == MOST + 1
