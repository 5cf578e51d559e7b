"""One side of a comparison: a container of ours, any process (docker's, podman's), or the host itself.

All sides are seen through the same window, /proc and the cgroup files, so that engines can be compared with each other:
what an engine promises does not count, only what its processes have.
"""

from __future__ import annotations

import os
import stat

from ..errors import InvalidInput, NotFound, NotPermitted, NotRunning
from ..kernel import safepath
from ..kernel.facts import MASKED, READ_ONLY
from ..paths import read_file
from ..record import Record
from . import procfs
from .anatomy_mounts import is_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.calls import Kernel
    from ..kernel.facts import Facts
    from .lifecycle import Lifecycle
    from .procfs import MountEntry, Process

# Whoever can speak to one of these commands the engine behind it, and with it the host
_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock", "crio.sock", "nanocontainer.sock", "libpod.sock")
_RUN = ("/run", "/var/run", "/")
_OWN_FILES = frozenset(("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/run/secrets"))
_VIRTUAL = frozenset(
    ("overlay", "proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "nsfs", "bpf", "tracefs",
     "securityfs", "debugfs", "pstore", "ramfs", "configfs", "fusectl", "hugetlbfs", "binfmt_misc", "selinuxfs")
)  # fmt: skip


class Side(Record):
    """What a process is confined by, as far as anybody can see. label: how it was named.

    kind: container, process or host. host: kinds of namespaces that are the host's. root: "own", "own, read-only" or
    "the host's". host_files: "target ← source" of writable parts of the host's disks; sockets: engines it can command;
    writable: parts of /proc and /sys that configure the host and can be written; shown: parts that others hide; shared:
    mounts from which later mounts travel to the host. blocks: block devices in its /dev.
    interfaces: of its network. limits: memory (bytes), pids, cpus; -1 for none. judged: its filters were read; blocked,
    partly: then the calls that never pass, and those that pass with some arguments only.
    """

    label: str
    kind: str
    process: Process
    host: tuple[str, ...] = ()
    root: str = ""
    host_files: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    limits: dict[str, float] = {}
    judged: bool = False
    blocked: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()


def with_filters(found: Side, machine: str) -> Side:
    """With what its seccomp filters say, read from the kernel: it is stopped for a moment (kernel/filters.py)."""
    if not found.process.seccomp:
        return found.replace(judged=True)
    from ..kernel import filters

    never, partly = filters.blocked(filters.filters(found.process.pid), machine)
    return found.replace(judged=True, blocked=never, partly=partly)


def side(life: Lifecycle, word: str) -> Side:
    """The side that a word names: "host", "pid:NUMBER", or a container. NotFound, NotRunning, NotPermitted,
    InvalidInput."""
    if os.geteuid():
        raise NotPermitted("cannot compare", "looking into other processes needs root", "try sudo")
    if word == "host":
        return _look(life, "host", "host", os.getpid())
    if word.startswith("pid:"):
        number = word[4:]
        if not (number.isascii() and number.isdecimal()) or len(number) > 10:
            raise InvalidInput(f"invalid process {word!r}", "it must be like pid:1234")
        return _look(life, word, "process", int(number))
    container = life.settle(life.store.resolve(word))
    if container.state.status not in ("running", "paused"):
        why = f"container {container.name} is not running"
        raise NotRunning("cannot compare", why, f"start it first: start {container.name}")
    return _look(life, container.name, "container", container.state.pid)


def _look(life: Lifecycle, label: str, kind: str, pid: int) -> Side:
    facts = life.facts()
    process = procfs.read_process(pid)
    try:
        table = procfs.visible(procfs.mounts(pid))
        own = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in process.namespaces}
        interfaces = _interfaces(pid)
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"there is no process {pid}", "it has just ended", "") from None
    ours = procfs.namespaces("self")
    host = tuple(name for name in own if ours.get(name) == process.namespaces[name])
    outer = procfs.mounts("self")
    shared_root = "mnt" in host
    entry = next((one for one in table if one.point == "/"), None)
    read_only = bool(entry and entry.read_only)
    return Side(
        label=label,
        kind=kind,
        process=process,
        host=host,
        root="the host's" if shared_root else "own, read-only" if read_only else "own",
        host_files=() if shared_root else host_files(table, outer),
        sockets=sockets(table) if not shared_root else ("those of the host",),
        writable=open_paths(table, READ_ONLY, "/sys"),
        shown=shown_paths(table, MASKED),
        shared=() if shared_root else tuple(one.point for one in table if "shared:" in one.propagation),
        blocks=_blocks(life.kernel, pid),
        interfaces=interfaces,
        limits=_limits(process, facts),
    )


def host_files(table: tuple[MountEntry, ...], outer: tuple[MountEntry, ...]) -> tuple[str, ...]:
    """Writable mounts of the host's disks: "/data ← /srv/data". Not volumes, nor what engines write in /etc."""
    found = []
    for one in table:
        if one.kind in _VIRTUAL or one.read_only or one.point in _OWN_FILES or one.point == "/":
            continue
        source = procfs.host_source(one, outer) or one.source
        if "/volumes/" not in source or not source.endswith("/_data"):  # an engine's volume is nobody else's
            found.append(f"{one.point} ← {source}")
    return tuple(found)


def sockets(table: tuple[MountEntry, ...]) -> tuple[str, ...]:
    """Mounts that are an engine's socket, or a directory in which engines have theirs."""
    files = [one.point for one in table if one.root.endswith(_SOCKETS) or one.point.endswith(_SOCKETS)]
    whole = [one.point for one in table if one.point != "/" and one.kind not in _VIRTUAL and one.root in _RUN]
    return (*files, *whole)


def open_paths(table: tuple[MountEntry, ...], paths: tuple[str, ...], *more: str) -> tuple[str, ...]:
    """Those of the paths that exist and that a mount shows writable."""
    return tuple(path for path in (*paths, *more) if os.path.exists(path) and _writable(table, path))


def shown_paths(table: tuple[MountEntry, ...], paths: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the paths that exist on the host and that no mask covers."""
    shown = []
    for path in paths:
        cover = _covering(table, path)
        if os.path.exists(path) and cover and not (cover.point == path and is_mask(cover)):
            shown.append(path)
    return tuple(shown)


def _writable(table: tuple[MountEntry, ...], path: str) -> bool:
    cover = _covering(table, path)
    return bool(cover and not cover.read_only and cover.kind in ("proc", "sysfs"))


def _covering(table: tuple[MountEntry, ...], path: str) -> MountEntry | None:
    """The mount that shows a path: the one with the longest place above it."""
    above = [one for one in table if path == one.point or path.startswith(one.point.rstrip("/") + "/")]
    return max(above, key=lambda one: len(one.point), default=None)


def _interfaces(pid: int) -> tuple[str, ...]:
    lines = read_file(f"/proc/{pid}/net/dev").split("\n")[2:]
    return tuple(line.partition(":")[0].strip() for line in lines if ":" in line)


def _blocks(kernel: Kernel, pid: int) -> tuple[str, ...]:
    """Names of block devices in a process's /dev. Its tree is hostile: nothing in it is followed or opened."""
    try:
        root = kernel.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return ()
    try:
        dev = safepath.open_in(kernel, root, "/dev", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return ()
    finally:
        kernel.close(root)
    try:
        with os.scandir(dev) as entries:
            return tuple(sorted(one.name for one in entries if stat.S_ISBLK(one.stat(follow_symlinks=False).st_mode)))
    finally:
        kernel.close(dev)


def _limits(process: Process, facts: Facts) -> dict[str, float]:
    """The tightest limit on the way up from the process's cgroup, in both versions (cgroups(7)): it is what counts."""
    found: dict[str, float] = {"memory": -1, "pids": -1, "cpus": -1}
    for controller, file1, file2, name in (
        ("memory", "memory.limit_in_bytes", "memory.max", "memory"), ("pids", "pids.max", "pids.max", "pids"),
        ("cpu", "cpu.cfs_quota_us", "cpu.max", "cpus"),
    ):  # fmt: skip
        if controller in facts.cgroup1:
            top, path, file = facts.cgroup1[controller], process.cgroups.get(controller, "/"), file1
        else:
            top, path, file = facts.cgroup2, process.cgroups.get("", "/"), file2
        at = f"{top}{path}".rstrip("/")
        while len(at) >= len(top) and ".." not in path:
            limit = _limit(at, file)
            if limit >= 0 and (found[name] < 0 or limit < found[name]):
                found[name] = limit
            at = at.rpartition("/")[0]
    return found


def _limit(group: str, file: str) -> float:
    try:
        words = read_file(f"{group}/{file}").split()
        if not words or words[0] == "max" or words[0].startswith("-"):
            return -1
        if file == "cpu.cfs_quota_us":
            return int(words[0]) / int(read_file(f"{group}/cpu.cfs_period_us"))
        if file == "cpu.max":
            return int(words[0]) / int(words[1])
        return -1 if int(words[0]) > 1 << 60 else int(words[0])
    except (OSError, ValueError, IndexError):
        return -1
