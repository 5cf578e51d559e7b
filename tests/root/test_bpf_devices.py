"""Device rules on a real cgroup2: what a process in the cgroup may open and make."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nanocontainer.kernel import bpf
from nanocontainer.kernel.bpf import DEFAULT_RULES, DeviceRule
from nanocontainer.kernel.calls import Kernel

KERNEL = Kernel()
NULL, ZERO, KMSG, TUN = (stat.S_IFCHR, 1, 3), (stat.S_IFCHR, 1, 5), (stat.S_IFCHR, 1, 11), (stat.S_IFCHR, 10, 200)
DISK = (stat.S_IFBLK, 7, 0)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split()[4] for line in file if " - cgroup2 " in line]
    if not mounts:
        pytest.skip("no cgroup2 here")
    path = Path(mounts[0]) / f"nanocontainer-test-{os.getpid()}"
    path.mkdir()
    yield path
    for _ in range(100):  # a process that has ended leaves a moment later
        try:
            path.rmdir()
            break
        except OSError:
            time.sleep(0.01)


@pytest.fixture
def confined(cgroup: Path) -> Iterator[Callable[..., int]]:
    """Attach rules to the cgroup; returns their program, closed at the end."""
    programs = []

    def attach(*rules: DeviceRule) -> int:
        programs.append(bpf.load_device_program(KERNEL, rules))
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            bpf.attach(KERNEL, fd, programs[-1])
        finally:
            os.close(fd)
        return programs[-1]

    yield attach
    for program in programs:
        os.close(program)


def inside(cgroup: Path, what: Callable[[], object]) -> int:
    """Do it as a process in the cgroup: 0 or the errno."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            (cgroup / "cgroup.procs").write_text("0")
            code = 0
            what()
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def opened(tmp: Path, device: tuple[int, int, int], flags: int = os.O_RDONLY) -> Callable[[], object]:
    kind, major, minor = device
    node = tmp / f"{kind}-{major}-{minor}"
    if not node.exists():
        os.mknod(node, kind | 0o600, os.makedev(major, minor))
    return lambda: os.close(os.open(node, flags))


def test_default_rules(cgroup: Path, confined: Callable[..., int], tmp_path: Path) -> None:
    assert inside(cgroup, opened(tmp_path, KMSG, os.O_WRONLY)) == 0  # without rules, root may
    confined(*DEFAULT_RULES)
    assert inside(cgroup, opened(tmp_path, NULL, os.O_RDWR)) == 0
    assert inside(cgroup, opened(tmp_path, ZERO)) == 0
    for device in (KMSG, TUN, DISK):
        assert inside(cgroup, opened(tmp_path, device)) == errno.EPERM
        made = tmp_path / f"made-{device[1]}"
        assert inside(cgroup, lambda d=device, m=made: os.mknod(m, d[0] | 0o600, os.makedev(d[1], d[2]))) == 0  # type: ignore[misc]
    os.close(os.open(tmp_path / f"{KMSG[0]}-1-11", os.O_WRONLY))  # outside the cgroup nothing has changed


def test_no_rules_deny_all(cgroup: Path, confined: Callable[..., int], tmp_path: Path) -> None:
    confined()
    assert inside(cgroup, opened(tmp_path, NULL)) == errno.EPERM
    assert inside(cgroup, lambda: os.mknod(tmp_path / "made", stat.S_IFBLK, os.makedev(7, 0))) == errno.EPERM


def test_read_and_write_apart(cgroup: Path, confined: Callable[..., int], tmp_path: Path) -> None:
    confined(DeviceRule("c", 1, -1), DeviceRule("c", 1, 3, "w", allow=False))
    assert inside(cgroup, opened(tmp_path, NULL)) == 0
    assert inside(cgroup, opened(tmp_path, NULL, os.O_WRONLY)) == errno.EPERM
    assert inside(cgroup, opened(tmp_path, NULL, os.O_RDWR)) == errno.EPERM
    assert inside(cgroup, opened(tmp_path, ZERO, os.O_RDWR)) == 0


def test_two_programs_must_both_allow(cgroup: Path, confined: Callable[..., int], tmp_path: Path) -> None:
    confined(*DEFAULT_RULES)
    confined(*DEFAULT_RULES, bpf.parse_rule("c 1:11 rw"))
    assert inside(cgroup, opened(tmp_path, KMSG, os.O_WRONLY)) == errno.EPERM


@pytest.mark.parametrize(
    "rules",
    [
        bpf.ALLOW_ALL,
        (DeviceRule("a", allow=False), *DEFAULT_RULES),
        (DeviceRule("a"), DeviceRule("b", allow=False), DeviceRule("c", 10, 200, "m", allow=False)),
        tuple(DeviceRule("bc"[i % 2], i, i + 1, ("r", "rw", "rwm")[i % 3], allow=i % 5 > 0) for i in range(200)),
    ],
)
def test_the_verifier_takes_all_kinds_of_programs(rules: tuple[DeviceRule, ...]) -> None:
    os.close(bpf.load_device_program(KERNEL, rules))


def test_what_the_verifier_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "assemble", lambda rules: bytes((0xBF, 0x90, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0)))
    with pytest.raises(OSError, match=r"bpf: .*R9 !read_ok"):
        bpf.load_device_program(KERNEL, ())
