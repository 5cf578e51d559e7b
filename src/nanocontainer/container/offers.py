"""What containers use of a host, and for each thing: what it costs to be without it, and how to get it.

The questions are data; kernel/probes.py puts them. `needed`: without it a plain `run IMAGE` fails. The rest costs a
flag or a feature, which is named. What nothing of this version uses says so: it is asked for all the same, because who
prepares a host wants to know.
"""

from __future__ import annotations

import sys

from ..errors import NanoError
from ..kernel import probes
from ..kernel.host import Host, Lack
from ..library import borrow
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Ask = Callable[[Host], str]

_NOT_YET = "nothing in this version"
_KERNEL = "use Linux 5.14 or newer; inside another container: let it have the call (its seccomp profile)"


class Feature(Record):
    """One thing that this host was asked for.

    name: its stable name; group, title: for people. status: ok, limited, missing, or unknown: it could not be asked.
    detail: what was found. costs: what does not work without it, and remedy: how to get it; both empty where it is ok
    or unknown. needed: without it a plain `run` fails.
    """

    name: str
    group: str
    title: str
    status: str
    detail: str = ""
    costs: str = ""
    remedy: str = ""
    needed: bool = False


class Question:
    """A Feature yet to be looked for."""

    def __init__(
        self, name: str, group: str, title: str, ask: Ask, costs: str, remedy: str = "", *, needed: bool = False
    ) -> None:
        self.name, self.group, self.title, self.ask = name, group, title, ask
        self.costs, self.remedy, self.needed = costs, remedy, needed

    def put(self, host: Host) -> Feature:
        status, detail = "ok", ""
        try:
            detail = self.ask(host)
        except Lack as lack:
            status, detail = lack.status, lack.detail
        except NanoError as error:
            status, detail = "missing", error.why or error.what
        except PermissionError as error:
            status, detail = "missing" if host.root else "unknown", error.strerror or "permission denied"
        except OSError as error:
            status, detail = "missing", error.strerror or str(error)
        costs, remedy = (self.costs, self.remedy) if status in ("limited", "missing") else ("", "")
        return Feature(self.name, self.group, self.title, status, detail, costs, remedy, self.needed)


def examine(host: Host, questions: Sequence[Question] = ()) -> tuple[Feature, ...]:
    """All questions (or those given), each answered. Needs no root: what only root can ask is unknown then."""
    return tuple(question.put(host) for question in questions or QUESTIONS)


def _python(host: Host) -> str:
    """An older one would not have come so far."""
    return f"{sys.version.split()[0]} ({sys.executable})"


def _zstd(host: Host) -> str:
    for name in ("compression.zstd", "backports.zstd"):
        if borrow(name):
            return name
    program = probes.program("zstd")
    if not program:
        raise Lack("missing", "neither Python's compression.zstd, backports.zstd nor the program zstd is there")
    return program


def _urllib3(host: Host) -> str:
    module = borrow("urllib3", f"{host.state}/lib") or borrow("pip._vendor.urllib3")
    if module is None:
        raise Lack("missing", "not installed, nor is pip, which has a copy")
    return f"urllib3 {module.__version__}"


def _dnspython(host: Host) -> str:
    module = borrow("dns.version", f"{host.state}/lib")
    if module is None:
        raise Lack("missing", "not installed")
    return f"dnspython {module.version}"


def _limit(name: str, title: str, flags: str) -> Question:
    remedy = {
        "memory": "boot with cgroup_enable=memory; in version 1: mount that hierarchy",
        "cpuset": "boot with a kernel that has CONFIG_CPUSETS; in version 1: mount that hierarchy",
    }.get(name, "mount cgroup2 with all controllers: boot with systemd.unified_cgroup_hierarchy=1")
    return Question(f"cgroup-{name}", "Cgroups", title, probes.controller(name), f"{flags}: refused", remedy)


QUESTIONS = (
    Question("kernel", "Kernel", "kernel", probes.version,
             "no container runs: mount_setattr (5.12) and cgroup.kill (5.14) are needed",
             "use Linux 5.14 or newer, on x86_64 or aarch64", needed=True),
    Question("mount-api", "Kernel", "mount API of Linux 5.2", probes.mount_api,
             "no container runs: its root file system could not be made", _KERNEL, needed=True),
    Question("mount-setattr", "Kernel", "mount_setattr", probes.mount_setattr,
             "no container runs: its mounts could not be protected", _KERNEL, needed=True),
    Question("openat2", "Kernel", "openat2", probes.openat2,
             "no container runs and no layer is unpacked: links in an image could lead to the host", _KERNEL,
             needed=True),
    Question("pidfd", "Kernel", "pidfd", probes.pidfd, "no container runs", _KERNEL, needed=True),
    Question("clone-into-cgroup", "Kernel", "clone3 into a cgroup", probes.clone_into_cgroup,
             "no container runs: its processes could escape being killed", _KERNEL, needed=True),
    Question("cgroup-kill", "Kernel", "cgroup.kill", probes.cgroup_kill,
             "no container can be taken down whole", _KERNEL, needed=True),
    Question("idmapped-mounts", "Kernel", "id-mapped mounts", probes.idmapped_mounts, _NOT_YET,
             "use Linux 5.12 or newer, and a file system that has them (ext4, xfs, btrfs; overlay has not)"),
    Question("time-namespaces", "Kernel", "time namespaces", probes.time_namespaces,
             f"{_NOT_YET}: containers see the host's uptime", "use Linux 5.6 or newer"),

    Question("cgroup2", "Cgroups", "cgroup2", probes.cgroup2,
             "no container runs: its processes could not be found and killed",
             "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified", needed=True),
    _limit("memory", "memory", "--memory, --memory-reservation, --memory-swap"),
    _limit("cpu", "cpu", "--cpus, --cpu-shares, --cpu-quota"),
    _limit("cpuset", "cpuset", "--cpuset-cpus, --cpuset-mems"),
    _limit("pids", "pids", "--pids-limit"),
    _limit("io", "io", "--device-read-bps and its like, --blkio-weight"),
    Question("swap-limit", "Cgroups", "limit of swap", probes.swap, "--memory-swap: refused",
             "boot with swapaccount=1"),
    Question("device-rules", "Cgroups", "device rules (eBPF)", probes.device_rules,
             "no container runs, but with --privileged: it could use all devices of the host",
             "use a kernel with CONFIG_CGROUP_BPF; inside another container: let it have bpf(2)", needed=True),

    Question("overlayfs", "File systems", "overlayfs", probes.overlayfs,
             "no container runs: images could not be shared between containers", "modprobe overlay", needed=True),
    Question("many-layers", "File systems", "images of many layers", probes.many_layers,
             "images of more than some 40 layers may be refused", "use Linux 6.5 or newer"),
    Question("state-directory", "File systems", "state directory", probes.state_as_upper,
             "no container runs: its writable layer could not lie there",
             "put the state on ext4, xfs or btrfs, writable: --root DIR, or NANOCONTAINER_ROOT", needed=True),
    Question("erofs-files", "File systems", "EROFS from a file", probes.erofs_files,
             f"{_NOT_YET}: layers are directories", "use Linux 6.12 or newer with CONFIG_EROFS_FS_BACKED_BY_FILE"),
    Question("disk-space", "File systems", "free space", probes.disk_space,
             "pulls and containers that write will soon fail",
             "container prune and image prune remove what is not used; or make the disk larger"),
    Question("inodes", "File systems", "free inodes", probes.inodes,
             "pulls will soon fail: a layer is thousands of files", "image prune; or a file system with more inodes"),

    Question("nftables", "Network", "nftables", probes.nftables,
             "no container with a network of its own, no -p: only --network host, none or container:NAME",
             "apt install nftables; the kernel needs nf_tables with NAT (Linux 5.2)", needed=True),
    Question("bridges", "Network", "bridge and veth", probes.bridges,
             "no container with a network of its own: only --network host, none or container:NAME",
             "modprobe bridge veth", needed=True),
    Question("ip-forward", "Network", "IP forwarding", probes.ip_forward, ""),
    Question("ipv6", "Network", "IPv6", probes.ipv6, f"{_NOT_YET}: containers have IPv4 addresses",
             "sysctl net.ipv6.conf.all.disable_ipv6=0"),

    Question("seccomp", "Security", "seccomp", probes.seccomp,
             "containers run with --security-opt seccomp=unconfined only",
             "use a kernel with CONFIG_SECCOMP_FILTER", needed=True),
    Question("seccomp-notify", "Security", "seccomp notification", probes.seccomp_notify, _NOT_YET,
             "use Linux 5.0 or newer"),
    Question("capabilities", "Security", "capabilities", probes.capabilities,
             "containers cannot have those either, even with --privileged or --cap-add",
             "run the engine outside of a container, or give that one more (--privileged)"),
    Question("apparmor", "Security", "AppArmor", probes.apparmor,
             f"{_NOT_YET}: containers run without a profile", "boot with lsm=...,apparmor"),
    Question("selinux", "Security", "SELinux", probes.selinux,
             f"{_NOT_YET}: containers run without a label", "boot with lsm=...,selinux, and a policy"),

    Question("user-namespaces", "Without root (not in this version yet)", "user namespaces", probes.user_namespaces,
             "containers without root", "sysctl user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1"),
    Question("overlay-userns", "Without root (not in this version yet)", "overlayfs", probes.overlay_in_userns,
             "containers without root", "use Linux 5.11 or newer, with user namespaces"),
    Question("id-maps", "Without root (not in this version yet)", "ranges of ids", probes.id_maps,
             "containers without root: only one user in them",
             "apt install uidmap; usermod --add-subuids --add-subgids"),
    Question("pasta", "Without root (not in this version yet)", "network", probes.pasta,
             "containers without root: no network", "apt install passt"),
    Question("delegation", "Without root (not in this version yet)", "cgroup delegation", probes.delegation,
             "containers without root: no limits", "systemd with cgroup2: a user's own service manager, Delegate=yes"),

    Question("python", "Programs", "Python", _python, "NanoContainer does not run", "use Python 3.11 or newer",
             needed=True),
    Question("urllib3", "Programs", "HTTP library", _urllib3, "pull: it is installed at the first one, or fails",
             "apt install python3-urllib3, or pip install urllib3"),
    Question("dnspython", "Programs", "DNS library", _dnspython,
             "names on networks: it is installed when the first one is used, or the start fails",
             "apt install python3-dnspython, or pip install dnspython"),
    Question("zstd", "Programs", "zstd", _zstd, "images whose layers are compressed with zstd cannot be unpacked",
             "apt install zstd, or pip install backports.zstd"),
)  # fmt: skip
