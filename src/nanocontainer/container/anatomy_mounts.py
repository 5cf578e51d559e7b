"""What is mounted in a container, decoded: what each mount is, where its files are, which step and flag made it."""

from __future__ import annotations

from ..record import Record
from ..rootfs.devices import MountConsole, MountDev, MountTerminals
from ..rootfs.mounts import (
    MaskPaths,
    MountBind,
    MountCgroup,
    MountMqueue,
    MountProc,
    MountShm,
    MountSys,
    MountTmpfs,
    ProtectPaths,
)
from ..rootfs.overlay import AttachRootfs
from . import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.facts import Facts
    from ..paths import Paths
    from ..plan.step import Step
    from .procfs import MountEntry
    from .spec import Container, Mount

_OF_KERNEL: dict[str, tuple[type[Step], str]] = {
    MountProc.target: (MountProc, "the processes of its PID namespace"),
    MountSys.target: (MountSys, "the kernel's devices and settings"),
    MountCgroup.target: (MountCgroup, "its own limits, as the root of the tree"),
    MountDev.target: (MountDev, "device nodes, in memory"),
    MountShm.target: (MountShm, "shared memory"),
    MountMqueue.target: (MountMqueue, "POSIX message queues"),
    "/dev/pts": (MountTerminals, "its own terminals"),
    "/dev/console": (MountConsole, "the terminal it was started with"),
}


class MountShown(Record):
    """A mount as the container sees it.

    role: root, kernel (a file system of the kernel's), file (one of ours in /etc), user (asked for with a flag), mask
    (hides something), guard (makes something read-only), later (below a bind mount, or made after the start). source:
    where on the host the files are, or what the kernel calls it; step: the class that made it; flag: what asked for it.
    """

    target: str
    role: str
    what: str
    source: str
    kind: str
    writable: bool
    options: tuple[str, ...]
    propagation: str
    step: str = ""
    flag: str = ""
    root: str = ""
    device: str = ""


def mounts_of(
    container: Container, paths: Paths, facts: Facts, table: tuple[MountEntry, ...], host: tuple[MountEntry, ...]
) -> tuple[MountShown, ...]:
    """The visible mounts, decoded. table: of the container; host: of the engine's own mount namespace."""
    asked = {mount.target.rstrip("/") or "/": mount for mount in container.spec.mounts}
    own = paths.container(container.id)
    return tuple(_shown(entry, asked, own, facts, host) for entry in procfs.visible(table))


def _shown(
    entry: MountEntry, asked: dict[str, Mount], own: str, facts: Facts, host: tuple[MountEntry, ...]
) -> MountShown:
    role, what, step, flag = _origin(entry, asked, own, facts, host)
    source = entry.source
    if entry.kind not in ("overlay", "proc", "sysfs", "cgroup2", "tmpfs", "devpts", "mqueue", "devtmpfs"):
        source = procfs.host_source(entry, host) or entry.root
    elif entry.kind == "tmpfs" and role == "user" and entry.root != "/":
        source = procfs.host_source(entry, host) or entry.source
    return MountShown(
        entry.point, role, what, source, entry.kind, not entry.read_only, entry.options, _propagation(entry),
        step, flag, entry.root, entry.device,
    )  # fmt: skip


def _origin(
    entry: MountEntry, asked: dict[str, Mount], own: str, facts: Facts, host: tuple[MountEntry, ...]
) -> tuple[str, str, str, str]:
    """(role, what it is, step, flag)."""
    point = entry.point
    if point == "/":
        return "root", "the image's layers and the container's own files on top", AttachRootfs.__name__, "IMAGE"
    if point in asked:
        mount = asked[point]
        if mount.kind == "tmpfs":
            return "user", "a file system in memory", MountTmpfs.__name__, flag_of(mount)
        what = f"volume {mount.source}" if mount.kind == "volume" else "a part of the host"
        if "anonymous" in mount.options:
            what = "an anonymous volume"
        return "user", what, MountBind.__name__, flag_of(mount)
    if point in _OF_KERNEL:
        step, what = _OF_KERNEL[point]
        flag = ""
        if point == MountShm.target and entry.root != "/":
            step, what, flag = MountBind, "the host's shared memory", "--ipc host"
        return "kernel", what, step.__name__, flag
    masked = {path.rstrip("/") for path in facts.masked}
    if point in masked and is_mask(entry):
        word = "an empty directory" if entry.root == "/" else "/dev/null"
        return "mask", f"hidden: {word} on top of it", MaskPaths.__name__, ""
    guarded = {path.rstrip("/") for path in facts.read_only}
    if point in guarded and entry.read_only:
        return "guard", "read-only: it configures the host", ProtectPaths.__name__, ""
    if procfs.host_source(entry, host).startswith(f"{own}/"):
        return "file", "written by the engine for this container", MountBind.__name__, ""
    for target, mount in asked.items():
        if mount.kind == "bind" and point.startswith(f"{target.rstrip('/')}/"):
            return (
                "later",
                f"came along with {target}: on the host it is mounted there",
                MountBind.__name__,
                flag_of(mount),
            )
    return "later", "mounted after the start", "", ""


def is_mask(entry: MountEntry) -> bool:
    """Whether a mount hides what lies below it: /dev/null, or an empty read-only tmpfs, as runc and we do it."""
    return entry.kind in ("tmpfs", "devtmpfs") and (entry.root == "/null" or (entry.root == "/" and entry.read_only))


def flag_of(mount: Mount) -> str:
    """The shortest flag that asks for a mount."""
    if mount.kind == "tmpfs":
        return f"--tmpfs {mount.target}"
    if "anonymous" in mount.options:
        return f"-v {mount.target}"
    options = [
        word for word, there in (("ro", mount.read_only), (mount.propagation, mount.propagation != "rprivate")) if there
    ]
    return f"-v {mount.source}:{mount.target}{':' if options else ''}{','.join(options)}"


def _propagation(entry: MountEntry) -> str:
    """In words (mount_namespaces(7)): whether later mounts travel between here and elsewhere."""
    words = []
    for word in entry.propagation.split():
        kind = word.partition(":")[0]
        words.append({"shared": "shared (both ways)", "master": "slave (from the host)"}.get(kind, kind))
    return ", ".join(words)
