"""What this host offers, probed once per boot. All decisions of the planner rest on it, and none on a later probe.

The facts are data: a plan for a machine that we do not have can be made and looked at (tests, --explain).
"""

from __future__ import annotations

import os

from ..errors import Unsupported
from ..lean import dumps, loads
from ..paths import Paths, make_dirs, read_file, rewrite_file
from ..record import Record
from . import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

# What docker hides from a container (moby: oci/defaults.go), as far as this kernel has it.
MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
CONTROLLERS1 = ("memory", "cpu", "cpuset", "pids", "blkio")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Facts(Record):
    """The host. kernel: (6, 18); capabilities: our own bounding set, as a mask, more than which nobody can be given;
    masked and read_only: the paths above that exist, directories with a final slash.

    cgroup2: where the cgroup2 hierarchy is mounted, empty if it is not; controllers: those that it can hand out.
    cgroup1: controller → mount point, for hybrid hosts, where cgroup2 exists but the controllers are bound to v1: those
    of limits. (Hosts with all of them in cgroup2 may still have a hierarchy for net_cls.) erofs: whether it is mounted
    from a file where layers are.
    """

    boot: str = ""
    version: int = 0
    kernel: tuple[int, ...] = (0, 0)
    release: str = ""
    machine: str = ""
    last_cap: int = 40
    capabilities: int = -1
    filesystems: tuple[str, ...] = ()
    cgroup2: str = ""
    controllers: tuple[str, ...] = ()
    cgroup1: dict[str, str] = {}
    cpus: str = ""
    mems: str = ""
    swap_limit: bool = False
    masked: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    seccomp: bool = True
    apparmor: bool = False
    erofs: bool = False

    FORMAT: ClassVar[int] = 3

    def since(self, major: int, minor: int) -> bool:
        """Whether the kernel is of this version or newer."""
        return self.kernel >= (major, minor)


def facts(paths: Paths, boot: str) -> Facts:
    """The facts of this boot: from the cache, or probed and, where containers can run here, cached: what is missing may
    be there a moment later."""
    try:
        cached = Facts.from_dict(loads(read_file(paths.facts)))
        if cached.boot == boot and cached.version == Facts.FORMAT:
            return cached
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    found = probe(boot)
    if not _lacking(found) and found.since(6, 12):
        from .erofsprobe import mounts_erofs

        found = found.replace(erofs=mounts_erofs(paths.images))
    if not _lacking(found):
        make_dirs(paths.run)
        rewrite_file(paths.facts, dumps(found.as_dict()))
    return found


def probe(boot: str = "") -> Facts:
    """Look at the host. Needs no root."""
    release = os.uname().release
    kernel = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    cgroup2, cgroup1 = _cgroups()
    controllers = tuple(_text(f"{cgroup2}/cgroup.controllers").split()) if cgroup2 else ()
    cpuset = cgroup1.get("cpuset", "")
    memory = cgroup1.get("memory", "")
    swap = os.path.exists(f"{memory}/memory.memsw.limit_in_bytes") if memory else os.path.exists("/proc/swaps")
    return Facts(
        boot=boot,
        version=Facts.FORMAT,
        kernel=kernel,
        release=release,
        machine=abi.MACHINE,
        last_cap=int(_text("/proc/sys/kernel/cap_last_cap") or "40"),
        capabilities=_bounding_set(),
        filesystems=_filesystems(),
        cgroup2=cgroup2,
        controllers=controllers,
        cgroup1=cgroup1,
        cpus=_text(f"{cpuset}/cpuset.cpus") if cpuset else "",
        mems=_text(f"{cpuset}/cpuset.mems") if cpuset else "",
        swap_limit=swap,
        masked=_existing(MASKED),
        read_only=_existing(READ_ONLY),
        seccomp=os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
        apparmor=_text("/sys/module/apparmor/parameters/enabled").startswith("Y"),
    )


def require(host: Facts) -> None:
    """Unsupported, with the name of what is missing, where this host cannot run containers at all."""
    if lacking := _lacking(host):
        raise Unsupported(*lacking)


def _lacking(host: Facts) -> tuple[str, str, str] | None:
    """What, why and hint of what is missing."""
    if not host.since(5, 14):
        version = ".".join(map(str, host.kernel))
        return (
            "this kernel is too old",
            f"Linux {version} lacks mount_setattr (5.12) and cgroup.kill (5.14)",
            "use Linux 5.14 or newer",
        )
    if host.machine not in ("x86_64", "aarch64"):
        return f"the architecture {host.machine} is not supported", "x86_64 and aarch64 are", ""
    if not host.cgroup2:
        return (
            "no cgroup2 hierarchy is mounted",
            "processes of a container could not be found and killed",
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
        )
    if "overlay" not in host.filesystems:
        return "overlayfs is missing", "the kernel does not know it, nor can it load the module", "modprobe overlay"
    return None


def _filesystems() -> tuple[str, ...]:
    """Those of /proc/filesystems. overlay is a module on most hosts, which fsopen(2) has the kernel load, for root."""
    found = tuple(line.split()[-1] for line in _text("/proc/filesystems").splitlines() if line)
    if "overlay" not in found:
        from .calls import Kernel

        try:
            os.close(Kernel().fsopen("overlay"))
        except OSError:
            return found
        return *found, "overlay"
    return found


def _cgroups() -> tuple[str, dict[str, str]]:
    """(mount point of cgroup2, {controller: mount point} of v1), from /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    two = ""
    one: dict[str, str] = {}
    for line in _text("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if kind[0] == "cgroup2" and fields[3] == "/" and not two:
            two = fields[4]
        elif kind[0] == "cgroup" and fields[3] == "/":
            for option in kind[2].split(","):
                if option in CONTROLLERS1:
                    one.setdefault(option, fields[4])
    return two, one


def _bounding_set() -> int:
    for line in _text("/proc/self/status").splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return -1


def _existing(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{path}/" if os.path.isdir(path) else path for path in paths if os.path.exists(path))


def _text(path: str) -> str:
    try:
        return read_file(path).strip()
    except OSError:
        return ""
