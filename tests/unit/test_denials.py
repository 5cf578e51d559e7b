"""From a refused system call to its cause and the flag that allows it: the table, without a container."""

from __future__ import annotations

from typing import Any

import pytest

from nanocontainer.container.denials import MASKED, NOT_RAISED, About, Finding, Seen
from nanocontainer.container.denied_calls import CALLS, capability, words
from nanocontainer.container.judgement import judge
from nanocontainer.container.recorder import Recorder, Recording, records
from nanocontainer.container.spec import Mount, Spec
from nanocontainer.kernel import seccomp
from nanocontainer.kernel.bpf import DEFAULT_RULES
from nanocontainer.kernel.calls import Kernel
from nanocontainer.kernel.caps import DEFAULT, NAMES, NUMBERS
from nanocontainer.kernel.filters import actions
from nanocontainer.kernel.ptrace import ABIS
from nanocontainer.kernel.sysnames import numbers

MACHINE = "x86_64"
EPERM = 0x00050001  # SECCOMP_RET_ERRNO and EPERM
ARCH = {name: arch for arch, name in ABIS.items()}


def default_passes(machine: str, call: str, args: Any, mask: int) -> bool:
    program = seccomp.program("default", MACHINE, mask, "6.18")
    return actions(program, numbers(machine)[call], ARCH[machine], tuple(args)) == {0x7FFF0000}


def about(spec: Spec | None = None, keep: int = DEFAULT) -> About:
    return About(
        spec or Spec(image="tiny"), keep=keep, masked=("/proc/keys", "/sys/firmware/"), protected=("/proc/sys/",),
        passes=default_passes, rules=DEFAULT_RULES, device_name=lambda device: {"b 8:0": "/dev/sda"}.get(device, ""),
    )  # fmt: skip


def ask(call: str, error: str, spec: Spec | None = None, keep: int = DEFAULT, **facts: Any) -> Finding:
    facts = {"effective": keep if facts.get("uid", 0) == 0 else 0, "machine": MACHINE, "process": "sh", **facts}
    return judge(Seen(call, error, **facts), about(spec, keep))


def args(*numbers: int) -> tuple[int, ...]:
    return (*numbers, *(0,) * (6 - len(numbers)))


RO = {"mount": "/v", "mount_options": ("ro",)}
FILE = {"path": "/f", "kind": "file", "mode": 0o600}

TABLE: list[tuple[str, dict[str, Any], str, tuple[str, ...]]] = [
    # seccomp: the profile opens some calls with a capability, others for nobody
    ("mount EPERM", {"filter": EPERM, "path": "/m", "other": "none"}, "seccomp", ("--cap-add SYS_ADMIN",)),
    ("bpf EPERM", {"filter": EPERM}, "seccomp", ("--cap-add BPF",)),
    ("ptrace EPERM", {"filter": EPERM}, "seccomp", ("--cap-add SYS_PTRACE",)),
    ("reboot EPERM", {"filter": EPERM}, "seccomp", ("--cap-add SYS_BOOT",)),
    ("init_module EPERM", {"filter": EPERM}, "seccomp", ("--cap-add SYS_MODULE",)),
    ("iopl EPERM", {"filter": EPERM}, "seccomp", ("--cap-add SYS_RAWIO",)),
    ("acct EPERM", {"filter": EPERM}, "seccomp", ("--cap-add SYS_PACCT",)),
    ("clock_settime EPERM", {"filter": EPERM}, "seccomp", ("--cap-add SYS_TIME",)),
    ("unshare EPERM", {"filter": EPERM, "args": args(0x20000)}, "seccomp", ("--cap-add SYS_ADMIN",)),
    ("open_by_handle_at EPERM", {"filter": EPERM}, "seccomp", ("--cap-add DAC_READ_SEARCH",)),
    ("keyctl EPERM", {"filter": EPERM}, "seccomp", ("--security-opt seccomp=unconfined",)),
    ("io_uring_setup EPERM", {"filter": EPERM}, "seccomp", ("--security-opt seccomp=unconfined",)),
    ("swapon EPERM", {"filter": EPERM}, "seccomp", ("--security-opt seccomp=unconfined", "--cap-add SYS_ADMIN")),
    ("mount EPERM", {"filter": EPERM, "uid": 1000}, "seccomp", ("--cap-add SYS_ADMIN", "-u 0")),
    ("clone3 ENOSYS", {"filter": 0x00050026}, "seccomp", ()),
    ("mkdir EPERM", {"filter": EPERM, "own_filter": True}, "seccomp", ()),
    # capabilities
    ("mount EPERM", {"path": "/m"}, "capability", ("--cap-add SYS_ADMIN",)),
    ("chown EPERM", {**FILE, "keep": 0}, "capability", ("--cap-add CHOWN",)),
    ("fchownat EPERM", {**FILE, "uid": 1000}, "capability", ("-u 0",)),
    ("chmod EPERM", {**FILE, "uid": 1000}, "capability", ("-u 0",)),
    ("settimeofday EPERM", {}, "capability", ("--cap-add SYS_TIME",)),
    ("setuid EPERM", {"uid": 1000}, "capability", ("-u 0",)),
    ("setgroups EPERM", {"keep": 0}, "capability", ("--cap-add SETGID",)),
    ("mknod EPERM", {"keep": 0, "path": "/n"}, "capability", ("--cap-add MKNOD",)),
    ("socket EPERM", {"keep": 0, "args": args(2, 3, 1)}, "capability", ("--cap-add NET_RAW",)),
    ("socket EPERM", {"keep": 0, "args": args(17, 3, 1)}, "capability", ("--cap-add NET_RAW",)),
    ("socket EACCES", {"keep": 0, "args": args(2, 1, 0)}, "kernel", ()),
    ("ioctl EPERM", {"args": args(3, 0x8914)}, "capability", ("--cap-add NET_ADMIN",)),
    ("ioctl EPERM", {"args": args(3, 0x40086602)}, "capability", ("--cap-add LINUX_IMMUTABLE",)),
    ("ioctl EPERM", {"args": args(3, 0x1234)}, "kernel", ()),
    ("bind EACCES", {"keep": 0, "detail": "0.0.0.0 port 80"}, "capability", ("--cap-add NET_BIND_SERVICE",)),
    ("setpriority EACCES", {}, "capability", ("--cap-add SYS_NICE",)),
    ("prlimit64 EPERM", {}, "capability", ("--cap-add SYS_RESOURCE",)),
    ("kill EPERM", {"uid": 5}, "capability", ("-u 0",)),
    ("openat EACCES", {"path": "/proc/7/mem", "kind": "file", "mode": 0o666}, "capability", ("--cap-add SYS_PTRACE",)),
    ("setpgid EPERM", {}, "kernel", ()),
    # files
    ("openat masked", {"path": "/proc/keys"}, "masked", ("--security-opt systempaths=unconfined",)),
    ("openat EACCES", {"path": "/sys/firmware/x"}, "masked", ("--security-opt systempaths=unconfined",)),
    ("openat EROFS", {"path": "/proc/sys/kernel/x"}, "read-only", ("--security-opt systempaths=unconfined",)),
    ("openat EROFS", {"path": "/proc/sys/net/ipv4/ip_forward"}, "read-only", ("--sysctl net.ipv4.ip_forward=VALUE",)),
    ("mkdir EROFS", {"path": "/sys/fs/cgroup/x", "mount": "/sys/fs/cgroup"}, "read-only", ("--privileged",)),
    ("openat EROFS", {"path": "/var/x", "mount": "/", "spec": Spec("i", read_only=True)}, "read-only",
     ("--tmpfs /var",)),
    ("openat EROFS", {"path": "/x", "mount": "/", "spec": Spec("i", read_only=True)}, "read-only",
     ("--read-only=false",)),
    ("openat EROFS", {"path": "/v/x", **RO, "spec": Spec("i", mounts=(Mount("bind", "/v", "/src", True),))},
     "read-only", ("-v /src:/v",)),
    ("openat EROFS", {"path": "/w/x", "mount": "/w"}, "read-only", ()),
    ("openat EPERM", {"path": "/d", "kind": "block device", "device": "b 8:0"}, "device", ("--device /dev/sda",)),
    ("openat EPERM", {"path": "/d", "kind": "character device", "device": "c 9:9"}, "device",
     ("--device-cgroup-rule 'c 9:9 rwm'",)),
    ("openat EPERM", {"path": "/d", "kind": "character device", "device": "c 1:3"}, "kernel", ()),
    ("openat EACCES", {"path": "/t/d", "device": "c 1:3", "mount": "/t", "mount_options": ("rw", "nodev")}, "device",
     ("--tmpfs /t:dev",)),
    ("execve EACCES", {"path": "/t/x", "mount": "/t", "mount_options": ("noexec",)}, "noexec", ("--tmpfs /t:exec",)),
    ("execve not raised", {"path": "/bin/su", "no_new_privs": True}, "no-new-privileges",
     ("--security-opt no-new-privileges=false",)),
    ("execve not raised", {"path": "/t/su", "mount": "/t", "mount_options": ("nosuid",)}, "no-new-privileges",
     ("--tmpfs /t:suid",)),
    ("openat EACCES", {**FILE, "uid": 1000}, "permissions", ("-u 0",)),
    ("openat EACCES", {**FILE, "keep": 0, "owner": 7}, "permissions", ("--cap-add DAC_OVERRIDE",)),
    ("execve EACCES", {**FILE, "mode": 0o644}, "permissions", ()),
    ("execve EACCES", {"path": "/d", "kind": "directory"}, "permissions", ()),
    ("unlink EPERM", {**FILE, "uid": 1000}, "permissions", ("-u 0",)),
    # limits
    ("clone EAGAIN", {"pids": (9, 9)}, "pids", ("--pids-limit 18",)),
    ("fork EAGAIN", {"pids": (1, 9), "uid": 5, "limits": {"processes": "40"}}, "limit", ("--ulimit nproc=80",)),
    ("vfork EAGAIN", {"limits": {"processes": "unlimited"}}, "pids", ()),
    ("openat EMFILE", {"limits": {"open files": "64"}}, "limit", ("--ulimit nofile=128",)),
    ("write EFBIG", {"limits": {"file size": "1024"}}, "limit", ("--ulimit fsize=2048",)),
    ("mlock ENOMEM", {"limits": {"locked memory": "8192"}}, "limit", ("--ulimit memlock=-1",)),
    ("mmap ENOMEM", {"limits": {"address space": "1000"}}, "limit", ("--ulimit as=-1",)),
    ("mmap ENOMEM", {"limits": {"address space": "unlimited"}}, "memory", ()),
    ("write ENOSPC", {"path": "/dev/shm/x", "mount": "/dev/shm", "mount_kind": "tmpfs"}, "space", ("--shm-size 128m",)),
    ("write ENOSPC", {"path": "/t/x", "mount": "/t", "mount_kind": "tmpfs", "spec": Spec("i", mounts=(
        Mount("tmpfs", "/t"),))}, "space", ("--tmpfs /t:size=SIZE",)),
    ("write ENOSPC", {"path": "/x", "mount": "/", "mount_kind": "overlay"}, "space", ()),
    # network and namespaces
    ("connect ENETUNREACH", {"detail": "1.1.1.1 port 53", "spec": Spec("i", network="none")}, "network",
     ("--network bridge",)),
    ("connect ENETUNREACH", {"detail": "1.1.1.1 port 80"}, "network", ()),
    ("connect ECONNREFUSED", {"detail": "127.0.0.1 port 5432"}, "network", ()),
    ("bind EADDRNOTAVAIL", {"detail": "10.9.9.9 port 80"}, "network", ()),
    ("bind EADDRINUSE", {"detail": "0.0.0.0 port 80", "spec": Spec("i", network="host")}, "network",
     ("--network bridge",)),
    ("unshare ENOSPC", {"args": args(0x10000000)}, "namespaces", ()),
]  # fmt: skip


@pytest.mark.parametrize(("said", "facts", "cause", "flags"), TABLE)
def test_the_table(said: str, facts: dict[str, Any], cause: str, flags: tuple[str, ...]) -> None:
    call, _, error = said.partition(" ")
    found = ask(call, error, **facts)
    assert (found.cause, found.flags) == (cause, flags), found
    assert found.what and found.why
    assert bool(found.cost) == bool(found.flags)
    for text in (found.what, found.why, found.cost, found.instead):
        assert "{" not in text and "  " not in text


def test_words_of_every_error_and_both_markers() -> None:
    assert {MASKED, NOT_RAISED} == {"masked", "not raised"}
    assert "127.0.0.1 inside is the container itself" in ask("connect", "ECONNREFUSED", detail="127.0.0.1 port 1").why
    assert "name resolution" in ask("connect", "ENETUNREACH", detail="9.9.9.9 port 53").why
    assert "kills" in ask("bpf", "SIGSYS", filter=0).why
    assert ask("clone3", "ENOSYS", filter=0x00050026).harmless


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "i386", "arm"])
def test_the_calls_exist(machine: str) -> None:
    known = {name for abi in ("x86_64", "aarch64", "i386", "arm") for name in numbers(abi)}
    assert CALLS.keys() <= known
    assert len(CALLS.keys() & set(numbers(machine))) > 90
    assert all(not one.capability or one.capability in NUMBERS for one in CALLS.values())
    assert {capability(name, args()) for name in CALLS} - {""} <= set(NAMES)


def test_words() -> None:
    assert words("mount", "/m", "none") == "mount none at /m"
    assert words("openat") == "open something"
    assert words("nonsense") == "call nonsense"


def test_a_filter_is_asked_with_the_arguments() -> None:
    """The profile lets clone(2) pass without new namespaces, and personality(2) with few values."""
    assert default_passes(MACHINE, "personality", args(0), DEFAULT)
    assert not default_passes(MACHINE, "personality", args(3), DEFAULT)
    assert not default_passes(MACHINE, "clone", args(0x20000000), DEFAULT)
    assert default_passes(MACHINE, "clone", args(0x100), DEFAULT)
    assert not default_passes(MACHINE, "socket", args(40), DEFAULT)  # AF_VSOCK
    assert default_passes("i386", "getpid", args(), DEFAULT)


def test_what_is_kept(tmp_path: Any) -> None:
    recorder = Recorder(Kernel(), "run", str(tmp_path))
    seen = Seen("mount", "EPERM", path="/\x1b\udcff", limits={"a": "1"}, first=5, last=9)
    recorder.seen[seen.key] = seen
    recorder.save(end=True)
    assert not records(str(tmp_path))  # the container is gone
    (tmp_path / "state.json").write_text("{}")
    recorder.save()
    (kept,) = records(str(tmp_path))
    assert kept == Recording("run", recorder.begin, 0, 0, (seen,), 0)
    (tmp_path / "denials-run.json").write_text("[")
    assert not records(str(tmp_path))
