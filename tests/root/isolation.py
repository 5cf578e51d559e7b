"""The tests get a machine of their own, as far as namespaces go, so that a census can be exact.

pytest forks once, early. The parent becomes the *reaper*: a child subreaper (prctl(2)), so that every process a test
starts stays its descendant however often it forks, and is reaped as soon as it dies, as init(1) does on any host. The
child runs the tests in a mount and a network namespace of its own: what others do on this machine meanwhile is not
seen, and what a test leaks cannot hurt. Mounts are shared among themselves, as systemd leaves them on a real host.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
MS_RDONLY, MS_REMOUNT = 1, 32
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE, MS_SHARED, MNT_DETACH = 4096, 8192, 16384, 1 << 18, 1 << 20, 2
PR_SET_CHILD_SUBREAPER = 36
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)
reaper = 0  # its pid, once isolated


def _call(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}{args}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [text.encode() if text is not None else None for text in (source, target, kind, data)]
    _call("mount", *words[:3], flags, words[3])


def umount(target: str, flags: int = 0) -> None:
    _call("umount2", target.encode(), flags)


def isolate() -> None:
    """Fork the reaper off (it is the parent) and go on in namespaces of our own. Once per process; needs root.

    A fork of an isolated process may do it again (tests/crash): it gets a reaper and namespaces of its own.
    """
    global reaper
    if reaper == os.getppid():
        return
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    parent = os.getpid()
    child = os.fork()
    if child:
        _reap_until(child)
    reaper = parent
    signal.signal(signal.SIGTERM, _end)
    _call("unshare", CLONE_NEWNS | CLONE_NEWNET)
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    _mount_sysfs()
    os.makedirs("/run/netns", exist_ok=True)
    mount("tmpfs", "/run/netns", "tmpfs", 0)  # names for network namespaces are ours too
    mount("none", "/", None, MS_REC | MS_SHARED)
    set_up("lo")


def _end(number: int, _: object) -> None:
    """Told to end: like Ctrl-C, so that fixtures clean up; once, however often it is said."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def outside(args: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    """subprocess.run in the machine's own network namespace: for what must be downloaded."""
    command = ["nsenter", f"--net=/proc/{reaper}/ns/net", "--", *args] if reaper else args
    return subprocess.run(command, **options)  # type: ignore[call-overload, no-any-return]


def set_up(link: str) -> None:
    """ip link set LINK up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        name = struct.pack("16sH14x", link.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, SIOCGIFFLAGS, name))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", link.encode(), flags | IFF_UP))


def _mount_sysfs() -> None:
    """A sysfs shows the network namespace of who mounted it. The cgroup mounts below move to the new one."""
    new = tempfile.mkdtemp()
    mount("sysfs", new, "sysfs", 0)
    if os.path.ismount("/sys/fs/cgroup"):
        mount("/sys/fs/cgroup", f"{new}/fs/cgroup", None, MS_BIND | MS_REC)
    umount("/sys", MNT_DETACH)
    mount(new, "/sys", None, MS_MOVE)
    os.rmdir(new)


def _reap_until(child: int) -> None:
    """The reaper's life: wait for everybody, end as the tests end, and leave no process behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the tests as well
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    code = -1
    while code < 0:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        time.sleep(0.01)
    os._exit(code)


def descendants(ancestor: int) -> dict[int, tuple[int, str, str]]:
    """pid -> (start time in clock ticks, state letter, name) of all processes below one; see proc_pid_stat(5).

    By the lists of children (proc_pid_task_tid_children(5)), looked at again until nobody new is found: who is given to
    another parent meanwhile could be missed in one look.
    """
    found: dict[int, tuple[int, str, str]] = {}
    while True:
        known = len(found)
        todo = [ancestor]
        seen = {ancestor}
        while todo:
            for child in _children(todo.pop()):
                if child in seen:
                    continue
                seen.add(child)
                todo.append(child)
                try:
                    with open(f"/proc/{child}/stat", "rb") as file:
                        line = file.read().decode(errors="replace")
                except OSError:
                    continue  # gone meanwhile
                name, _, rest = line.partition("(")[2].rpartition(")")
                fields = rest.split()
                found[child] = (int(fields[19]), fields[0], name)
        if len(found) == known:
            return {pid: facts for pid, facts in found.items() if pid in seen}


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        if os.path.exists(f"/proc/{pid}/stat") and not os.path.exists(f"/proc/{pid}/task/{pid}/children"):
            return _children_by_parent(pid)  # a kernel without CONFIG_PROC_CHILDREN
    return found


def _children_by_parent(pid: int) -> list[int]:
    found: list[int] = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                if name.isdecimal() and int(file.read().rpartition(b")")[2].split()[1]) == pid:
                    found.append(int(name))
        except OSError:
            pass  # gone meanwhile, or no process
    return found
