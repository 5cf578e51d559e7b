"""Questions to this host, each put to the kernel itself: whether it can do a thing is tried, not read off a version.

A system call that a kernel does not have fails with ENOSYS before it looks at its arguments; one that it has finds
something wrong with arguments that cannot be right (syscalls(2)). So most questions harm nothing and need no root. What
must really be made to be known (a bridge, NAT, a mount) is made in namespaces of a child, and is gone with it.

A probe returns what it has found, in words, or raises Lack: missing, limited, or unknown where we may not ask. Each is
given a Host, so that a test can be any host.
"""

from __future__ import annotations

import errno
import os
import stat

from ..paths import remove_tree
from . import abi
from .bpf import DEFAULT_RULES, load_device_program
from .calls import clone3_args, syscall
from .caps import names
from .host import Host, Lack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LOW_SPACE, _LOW_SHARE = 1 << 30, 0.05  # a disk with less than both is nearly full
_NO_SUCH = (errno.ENOSYS, errno.ENODEV, errno.EOPNOTSUPP)


# --- system calls


def version(host: Host) -> str:
    shown = f"Linux {host.facts.release} on {host.facts.machine}"
    if not host.facts.since(5, 14):
        raise Lack("missing", shown)
    if host.facts.machine not in ("x86_64", "aarch64"):
        raise Lack("missing", f"{shown}: only x86_64 and aarch64 are supported")
    return shown


def mount_api(host: Host) -> str:
    try:
        os.close(host.kernel.fsopen("tmpfs"))
    except OSError as error:
        _there(error)
    return "fsopen, fsmount, move_mount"


def mount_setattr(host: Host) -> str:
    try:
        host.kernel.mount_setattr(-1, "", abi.AT_EMPTY_PATH)
    except OSError as error:
        _there(error)
    return "whole trees of mounts become read-only at once"


def openat2(host: Host) -> str:
    fd = host.kernel.openat2(abi.AT_FDCWD, "/", abi.O_PATH | os.O_DIRECTORY, 0, abi.RESOLVE_IN_ROOT)
    os.close(fd)
    return "paths cannot lead out of a container"


def pidfd(host: Host) -> str:
    os.close(host.kernel.pidfd_open(os.getpid()))
    return "signals never reach another process"


def clone_into_cgroup(host: Host) -> str:
    """The file given is no cgroup: a kernel that looks finds that out (EBADF), an older one finds a struct too long."""
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        args = clone3_args(abi.CLONE_INTO_CGROUP, 0, null)
        pid = syscall("clone3", args, len(args))
        if pid == 0:  # against all that is written about it
            os._exit(0)
        os.waitpid(pid, 0)
        raise Lack("missing", "the kernel does not look at the cgroup")
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    finally:
        os.close(null)
    return "a process is born in its cgroup"


def cgroup_kill(host: Host) -> str:
    """The root of the hierarchy has no such file, any group below it has."""
    top = host.facts.cgroup2
    if not top:
        raise Lack("missing", "no cgroup2 hierarchy is mounted")
    for name in os.listdir(top):
        if stat.S_ISDIR(os.stat(f"{top}/{name}").st_mode):
            if not os.path.exists(f"{top}/{name}/cgroup.kill"):
                raise Lack("missing", f"{top}/{name} has no cgroup.kill")
            return "all processes of a container die at once"
    raise Lack("unknown", "no group is there that could be looked at")


def idmapped_mounts(host: Host) -> str:
    """Of the file system of the state directory: a bind mount that is never put in place, with our own user
    namespace's child."""
    host.needs_root()
    host.needs_one_thread()
    place = _existing(host.state)
    holder_in, holder_out = os.pipe2(os.O_CLOEXEC)
    ready_in, ready_out = os.pipe2(os.O_CLOEXEC)
    pid = host.kernel.fork()
    if pid == 0:
        try:
            os.close(holder_out)
            host.kernel.unshare(abi.CLONE_NEWUSER)
            os.write(ready_out, b"1")
            os.read(holder_in, 1)
        finally:
            os._exit(0)
    os.close(ready_out)
    try:
        if not os.read(ready_in, 1):
            raise Lack("missing", "user namespaces cannot be made")
        for name in ("uid_map", "gid_map"):
            host.kernel.write_file(f"/proc/{pid}/{name}", b"0 100000 65536")
        userns = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            tree = host.kernel.open_tree(abi.AT_FDCWD, place, abi.OPEN_TREE_CLONE)
            try:
                host.kernel.mount_setattr(tree, "", abi.AT_EMPTY_PATH, set=abi.MOUNT_ATTR_IDMAP, userns=userns)
            except OSError as error:
                raise Lack("missing", f"not on the file system of {place} ({error.strerror})") from None
            finally:
                os.close(tree)
        finally:
            os.close(userns)
    finally:
        for fd in (holder_in, holder_out, ready_in):
            os.close(fd)
        host.kernel.waitpid(pid)
    return f"on the file system of {place}"


def time_namespaces(host: Host) -> str:
    if not os.path.lexists("/proc/self/ns/time"):
        raise Lack("missing", "the kernel has none")
    return "can be made"


# --- cgroups


def cgroup2(host: Host) -> str:
    if not host.facts.cgroup2:
        raise Lack("missing", "no cgroup2 hierarchy is mounted")
    hybrid = host.facts.cgroup1
    return f"{host.facts.cgroup2}{', controllers in version 1 hierarchies (hybrid)' if hybrid else ''}"


def controller(name: str) -> Callable[[Host], str]:
    """A controller, under its name in version 2: where limits of its kind are set."""
    old = {"io": "blkio"}.get(name, name)

    def ask(host: Host) -> str:
        if host.facts.cgroup1:
            if old not in host.facts.cgroup1:
                raise Lack("missing", "no version 1 hierarchy of it is mounted")
            return f"version 1, {host.facts.cgroup1[old]}"
        if name not in host.facts.controllers:
            raise Lack("missing", "cgroup.controllers does not list it")
        return "version 2"

    return ask


def swap(host: Host) -> str:
    if not host.facts.swap_limit:
        raise Lack("missing", "the kernel does not count swap")
    return "is counted"


def device_rules(host: Host) -> str:
    host.needs_root()
    os.close(load_device_program(host.kernel, DEFAULT_RULES))
    return "an eBPF program judges each device"


# --- file systems


def overlayfs(host: Host) -> str:
    if "overlay" not in host.facts.filesystems:
        host.needs_root()
        raise Lack("missing", "the kernel does not know it, nor can it load the module")
    return "known to the kernel"


def many_layers(host: Host) -> str:
    host.needs_root()
    fd = host.kernel.fsopen("overlay")
    try:
        host.kernel.fsconfig(fd, "lowerdir+", "/")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Lack("limited", "all layers of an image must fit into one option of 4 KiB") from None
    finally:
        os.close(fd)
    return "up to 500 layers"


def state_as_upper(host: Host) -> str:
    """Whether the writable layers of containers can lie there: a mount that is made and never put in place."""
    if not os.path.isdir(host.state):
        raise Lack("unknown", f"{host.state} is not there yet: the first image makes it")
    host.needs_root()
    place = f"{host.state}/.probe-{os.getpid()}"
    try:
        for name in ("", "/lower", "/upper", "/work"):
            os.mkdir(f"{place}{name}", 0o700)
        fd = host.kernel.fsopen("overlay")
        try:
            for key, name in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")):
                host.kernel.fsconfig(fd, key, f"{place}/{name}")
            host.kernel.fsconfig_create(fd)
            mounted = host.kernel.fsmount(fd)
        finally:
            os.close(fd)
        read_only = os.fstatvfs(mounted).f_flag & os.ST_RDONLY  # how overlayfs takes an upper that it cannot use
        os.close(mounted)
    except OSError as error:
        raise Lack("missing", f"{host.state}: {error.strerror}") from None
    finally:
        remove_tree(place)
    if read_only:
        raise Lack("missing", f"{host.state}: overlayfs can only read there")
    return host.state


def erofs_files(host: Host) -> str:
    """One that takes a file finds that this one is no image (EINVAL); others want a block device (ENOTBLK)."""
    host.needs_root()
    fd = host.kernel.fsopen("erofs")
    try:
        host.kernel.fsconfig(fd, "source", __file__)
        host.kernel.fsconfig_create(fd)
    except OSError as error:
        if error.errno == errno.ENOTBLK:
            raise Lack("missing", "it needs a block device (before Linux 6.12)") from None
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
    return "images are mounted without a loop device"


def disk_space(host: Host) -> str:
    place = _existing(host.state)
    there = os.statvfs(place)
    free, whole = there.f_bavail * there.f_frsize, there.f_blocks * there.f_frsize
    shown = f"{free / 1e9:.1f} GB of {whole / 1e9:.1f} GB free at {place}"
    if free < _LOW_SPACE and free < whole * _LOW_SHARE:
        raise Lack("limited", shown)
    return shown


def inodes(host: Host) -> str:
    there = os.statvfs(_existing(host.state))
    if not there.f_files:
        return "made as they are needed"
    shown = f"{there.f_favail:,} of {there.f_files:,} free"
    if there.f_favail < there.f_files * _LOW_SHARE:
        raise Lack("limited", shown)
    return shown


# --- network


def nftables(host: Host) -> str:
    """The program or the library, and NAT, as a bridge of ours needs it: in a network namespace of a child."""
    host.needs_root()
    script = (
        "add table inet probe\n"
        "add map inet probe ports { type inet_proto . inet_service : ipv4_addr . inet_service; }\n"
        "add chain inet probe in { type nat hook prerouting priority -100; }\n"
        "add chain inet probe out { type nat hook postrouting priority 100; }\n"
        "add rule inet probe in fib daddr type local dnat ip to meta l4proto . th dport map @ports\n"
        "add rule inet probe out masquerade\n"
    )
    host.in_child(abi.CLONE_NEWNET, lambda: host.kernel.nft(script))
    return "with address translation"


def bridges(host: Host) -> str:
    host.needs_root()

    def make() -> None:
        with host.kernel.links() as links:
            links.add_bridge("probe0")
            links.add_veth("probe1", "probe2")

    host.in_child(abi.CLONE_NEWNET, make)
    return "can be made"


def ip_forward(host: Host) -> str:
    on = host.text("/proc/sys/net/ipv4/ip_forward") == "1"
    return "on" if on else "off: the first container with a network turns it on, and it stays on"


def ipv6(host: Host) -> str:
    if host.text("/proc/sys/net/ipv6/conf/all/disable_ipv6") != "0":
        raise Lack("missing", "the kernel is without it, or it is turned off")
    return "on"


# --- security


def seccomp(host: Host) -> str:
    if not host.facts.seccomp:
        raise Lack("missing", "the kernel is built without it")
    return "filters can be loaded"


def seccomp_notify(host: Host) -> str:
    if "user_notif" not in host.text("/proc/sys/kernel/seccomp/actions_avail").split():
        raise Lack("missing", "the kernel has no SECCOMP_RET_USER_NOTIF")
    return "can be asked for"


def apparmor(host: Host) -> str:
    if not host.facts.apparmor:
        raise Lack("missing", "not built in, or turned off")
    return "on"


def selinux(host: Host) -> str:
    enforcing = host.text("/sys/fs/selinux/enforce")
    if not enforcing:
        raise Lack("missing", "not built in, or turned off")
    return "enforcing" if enforcing == "1" else "permissive"


def capabilities(host: Host) -> str:
    """Of our bounding set: more than it has nobody can get from us."""
    last = host.facts.last_cap
    every = (1 << last + 1) - 1
    have = host.facts.capabilities & every
    count = have.bit_count()
    if count <= last:
        lost = ", ".join(names(~have & every)[:3])
        raise Lack("limited", f"{count} of {last + 1}: {lost}{' and others' if last - count > 2 else ''} cannot be had")
    return f"all {count}"


# --- what containers without root need


def user_namespaces(host: Host) -> str:
    most = host.text("/proc/sys/user/max_user_namespaces")
    if most in ("", "0"):
        raise Lack("missing", "the kernel has none" if not most else "user.max_user_namespaces is 0")
    if host.text("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        raise Lack("limited", "only root may make them (kernel.unprivileged_userns_clone is 0)")
    if host.text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        raise Lack("limited", "AppArmor restricts them (kernel.apparmor_restrict_unprivileged_userns is 1)")
    host.in_child(abi.CLONE_NEWUSER, lambda: None)
    return f"at most {most}"


def overlay_in_userns(host: Host) -> str:
    host.in_child(abi.CLONE_NEWUSER | abi.CLONE_NEWNS, lambda: os.close(host.kernel.fsopen("overlay")))
    return "may be mounted in a user namespace"


def id_maps(host: Host) -> str:
    programs = [name for name in ("newuidmap", "newgidmap") if not program(name)]
    if programs:
        raise Lack("missing", f"no {' and no '.join(programs)}")
    lines = [*host.text("/etc/subuid").splitlines(), *host.text("/etc/subgid").splitlines()]
    users = sorted({line.partition(":")[0] for line in lines if line.count(":") == 2})
    if not users:
        raise Lack("limited", "no user has a range in /etc/subuid and /etc/subgid")
    return f"ranges for {', '.join(users[:3])}{' and others' if len(users) > 3 else ''}"


def pasta(host: Host) -> str:
    found = program("pasta") or program("slirp4netns")
    if not found:
        raise Lack("missing", "neither pasta nor slirp4netns is there")
    return found


def delegation(host: Host) -> str:
    """Controllers that systemd hands down to the service manager of a user (systemd.resource-control(5), Delegate=)."""
    if not host.facts.controllers:
        raise Lack("missing", "cgroup2 has no controllers here to hand down")
    uid = os.getuid() or 1000
    path = f"{host.facts.cgroup2}/user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers"
    found = host.text(path).split()
    if not found:
        raise Lack("missing", f"user {uid} has no group of its own with controllers")
    return f"user {uid}: {' '.join(found)}"


# --- inside


def _there(error: OSError) -> None:
    """A call that fails with any other error than "no such call" is there; EPERM says so too."""
    if error.errno in _NO_SUCH:
        raise error


def _existing(path: str) -> str:
    """This directory, or the nearest above it that is there and may be looked at."""
    while path != "/" and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def program(name: str) -> str:
    """The path of a program, where root's commands are looked for as well; empty where it is not there."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"]
    return next((f"{place}/{name}" for place in places if place and os.access(f"{place}/{name}", os.X_OK)), "")
