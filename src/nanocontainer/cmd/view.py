"""What the world looks like at a moment of a start, from outside and from inside: values by name, made to be compared.

All of it is read as anybody with root could: /proc/PID of the keeper and of init (proc(5)), the cgroup's files, and for
what only a namespace itself knows (host name, interfaces) a look from within by a short-lived child that joins it
(setns(2)). Nothing is asked of the process that is looked at: it stands still.
"""

from __future__ import annotations

import os
import re
import socket

from ..kernel import abi
from ..kernel.calls import Kernel
from ..kernel.caps import names as capability_names
from ..paths import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    View = dict[str, list[str]]  # name → what is there; one line, or one for each of a set

NAMESPACES = ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user")
_SECCOMP = {"0": "no filter", "1": "strict mode", "2": "a filter judges each system call"}
_LIMITS = ("memory.max", "pids.max", "cpu.max", "cpuset.cpus")
_CLONE = {"net": abi.CLONE_NEWNET, "uts": abi.CLONE_NEWUTS}


def outside(keeper: int, cgroup: str) -> View:
    """The host: the keeper and what it holds, the container's cgroup, the host's interfaces and mounts."""
    return {
        "keeper": [f"process {keeper}"] if keeper else [],
        "holds": _held(keeper) if keeper else [],
        "cgroup": _cgroup(cgroup),
        "interfaces": [name for _, name in sorted(socket.if_nameindex())],
        "mounts": _mounts("/proc/self"),
    }


def inside(pid: int) -> View:
    """The container, as far as it is there: what init has by now. Empty where it is gone."""
    try:
        status = _status(pid)
        return {
            "process": [f"{status['NSpid'].split()[-1]} inside, {pid} outside"],
            **{f"{name} namespace": [_namespace(pid, name)] for name in NAMESPACES},
            "root": ["the container's own" if has_own_root(pid) else "the host's"],
            "directory": [os.readlink(f"/proc/{pid}/cwd")],
            "host name": _within(pid, "uts", lambda: [os.uname().nodename]),
            "interfaces": _within(pid, "net", _interfaces),
            "mounts": _mounts(f"/proc/{pid}"),
            "user": [f"{status['Uid'].split()[0]}:{status['Gid'].split()[0]}"],
            "groups": status["Groups"].split(),
            "capabilities": [_capabilities(status["CapEff"])],
            "bounding set": [_capabilities(status["CapBnd"])],
            "no_new_privs": ["set" if status["NoNewPrivs"] == "1" else "not set"],
            "seccomp": [_SECCOMP[status["Seccomp"]]],
            "session": [_session(pid)],
            "streams": [_link(f"/proc/{pid}/fd/{number}") for number in range(3)],
            "limits": _limits(pid),
            "oom_score_adj": [read_file(f"/proc/{pid}/oom_score_adj").strip()],
        }
    except (OSError, KeyError, IndexError):
        return {}


def changes(old: View, new: View) -> list[tuple[str, list[str], list[str]]]:
    """(name, what is gone, what has come) of each value that differs, in the order of the new view."""
    found = []
    for name, lines in new.items():
        before = old.get(name, [])
        if before != lines:
            gone, come = _without(before, lines), _without(lines, before)
            found.append((name, gone, come))
    return found


def _without(lines: list[str], others: list[str]) -> list[str]:
    rest = list(others)
    found = []
    for line in lines:
        if line in rest:
            rest.remove(line)
        else:
            found.append(line)
    return found


def _status(pid: int) -> dict[str, str]:
    lines = (line.partition(":") for line in read_file(f"/proc/{pid}/status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _namespace(pid: int, name: str) -> str:
    there = os.readlink(f"/proc/{pid}/ns/{name}")
    here = os.readlink(f"/proc/self/ns/{name}")
    return there.partition("[")[2].rstrip("]") + (" the host's" if there == here else " new")


def same_namespaces(pid: int) -> list[str]:
    """The names of the namespaces that a process shares with us."""
    there, here = f"/proc/{pid}/ns", "/proc/self/ns"
    return [name for name in NAMESPACES if os.readlink(f"{there}/{name}") == os.readlink(f"{here}/{name}")]


def has_own_root(pid: int) -> bool:
    """Whether its root directory is another than ours."""
    there, here = os.stat(f"/proc/{pid}/root/."), os.stat("/.")
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)


def _capabilities(mask: str) -> str:
    found = capability_names(int(mask, 16))
    if len(found) > 20:
        return f"{len(found)} of {int(read_file('/proc/sys/kernel/cap_last_cap')) + 1}"
    return f"{len(found)}: {' '.join(name.removeprefix('CAP_') for name in found)}" if found else "none"


def _mounts(process: str) -> list[str]:
    found = []
    for line in read_file(f"{process}/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        _, _, _, root, place, options, *_ = fields.split(" ")
        kind = rest.partition(" ")[0]
        flags = " read-only" if "ro" in options.split(",") else ""
        part = f" ({root})" if root != "/" else ""
        text = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), f"{place}  {kind}{part}{flags}")
        found.append(text)
    return found


def _cgroup(path: str) -> list[str]:
    if not path or not os.path.isdir(path):
        return []
    lines = [path]
    try:
        count = len(read_file(f"{path}/cgroup.procs").split())
        lines.append(f"{count} process{'' if count == 1 else 'es'}")
        names = [name for name in _LIMITS if os.path.exists(f"{path}/{name}")]
        values = ((name, read_file(f"{path}/{name}").strip()) for name in names)
        lines += [f"{name} {value}" for name, value in values if value not in ("max", "")]
    except OSError:
        pass
    return lines


def _held(pid: int) -> list[str]:
    """What a process has open beside its standard streams and sockets: a namespace, a mount, a program in memory."""
    found = []
    try:
        numbers = sorted(map(int, os.listdir(f"/proc/{pid}/fd")))
    except OSError:
        return []
    for number in numbers:
        target = _link(f"/proc/{pid}/fd/{number}")
        if number < 3 or target.startswith(("socket:", "/dev/null", "pipe:")) or not target:
            continue
        if not target.startswith("/sys/fs/cgroup") and os.path.isdir(f"/proc/{pid}/fd/{number}"):
            target = "a file system of the container's"  # its path is init's affair, and changes
        found.append(f"fd {number}: {target.replace('anon_inode:', '')}")
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _session(pid: int) -> str:
    fields = read_file(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if fields[3] != str(pid):
        return "the keeper's"
    return "its own, with a terminal" if fields[4] != "0" else "its own"


def _limits(pid: int) -> list[str]:
    """Resource limits that differ from ours (getrlimit(2))."""
    ours = read_file("/proc/self/limits").splitlines()
    return [" ".join(line.split()) for line in read_file(f"/proc/{pid}/limits").splitlines()[1:] if line not in ours]


def _interfaces() -> list[str]:
    kernel = Kernel()
    with kernel.links() as links:
        by_index: dict[int, list[str]] = {}
        for each in links.addresses():
            by_index.setdefault(each.index, []).append(each.address)
    return [" ".join((name, *by_index.get(index, []))) for index, name in sorted(socket.if_nameindex())]


def _within(pid: int, name: str, look: Callable[[], list[str]]) -> list[str]:
    """What a look from within one namespace of a process shows: by a child, since ours must stay as they are."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel = Kernel()
            kernel.setns(kernel.pidfd_open(pid), _CLONE[name])
            os.write(write, "\n".join(look()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as file:
        lines = file.read().split("\n")
    os.waitpid(child, 0)
    return [line for line in lines if line]
