"""Refusals for want of something: processes, open files, memory, space, a way through the network, namespaces."""

from __future__ import annotations

from .denials import finding, mount_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .denials import About, Finding, Seen

# error → (name in /proc/PID/limits, --ulimit)
_ULIMITS = {"EMFILE": ("open files", "nofile"), "EFBIG": ("file size", "fsize")}


def pids(seen: Seen, about: About) -> Finding | None:
    """No more processes: the container's limit, or the user's."""
    if seen.call not in ("clone", "clone3", "fork", "vfork") or seen.error != "EAGAIN":
        return None
    now, most = seen.pids if len(seen.pids) == 2 else (0, 0)
    if most and now >= most:
        return finding(seen, "pids", f"the container has reached its limit of {most} processes and threads",
                        (f"--pids-limit {2 * most}",), "little, as long as there is a limit: it keeps a fork bomb from "
                        "taking the host's process numbers")  # fmt: skip
    soft = seen.limits.get("processes", "unlimited")
    if soft.isdecimal() and seen.uid:
        return finding(seen, "limit", f"user {seen.uid} has reached its limit of {soft} processes, which counts those "
                        "of this user in all containers", (f"--ulimit nproc={2 * int(soft)}",), "little")  # fmt: skip
    return finding(seen, "pids", "the kernel has no process number or memory left for one more")


def limits(seen: Seen, about: About) -> Finding | None:
    """Limits of one process (setrlimit(2))."""
    if seen.call.startswith("mlock") and seen.error in ("ENOMEM", "EPERM", "EAGAIN"):
        soft = seen.limits.get("locked memory", "")
        return finding(seen, "limit", f"it may lock {soft or 'few'} bytes of memory (RLIMIT_MEMLOCK), and has no "
                        "CAP_IPC_LOCK", ("--ulimit memlock=-1",), "locked memory is never swapped: with -m it is "
                        "bounded all the same")  # fmt: skip
    if seen.error not in _ULIMITS:
        return None
    name, flag = _ULIMITS[seen.error]
    soft = seen.limits.get(name, "")
    more = str(2 * int(soft)) if soft.isdecimal() else "unlimited"
    what = {"nofile": "open files", "fsize": "bytes in a file"}[flag]
    return finding(seen, "limit", f"a process may have {soft} {what} (RLIMIT_{flag.upper()})",
                    (f"--ulimit {flag}={'-1' if more == 'unlimited' else more}",),
                    "little: it is a guard against mistakes")  # fmt: skip


def memory(seen: Seen, about: About) -> Finding | None:
    """ENOMEM."""
    if seen.error != "ENOMEM":
        return None
    soft = seen.limits.get("address space", "unlimited")
    if soft.isdecimal():
        return finding(seen, "limit", f"its address space may have {soft} bytes (RLIMIT_AS)", ("--ulimit as=-1",),
                        "little: -m bounds the container's memory as a whole")  # fmt: skip
    return finding(seen, "memory", "the kernel has no memory for this: the size may be absurd, or the host's limit on "
                    "promises is reached (vm.overcommit_memory)")  # fmt: skip


def space(seen: Seen, about: About) -> Finding | None:
    """A full file system."""
    if seen.error not in ("ENOSPC", "EDQUOT") or seen.call in ("unshare", "clone", "clone3"):
        return None
    if seen.mount == "/dev/shm":
        size = about.spec.shm_size
        return finding(seen, "space", f"/dev/shm has {size >> 20} MB and is full", (f"--shm-size {size >> 19}m",),
                        "it is memory: with -m it counts there")  # fmt: skip
    mount = mount_of(seen, about.spec.mounts)
    if seen.mount_kind == "tmpfs" and mount is not None:
        return finding(seen, "space", f"{seen.mount} is a file system in memory, and full",
                        (f"--tmpfs {seen.mount}:size=SIZE",), "it is memory: with -m it counts there",
                        f"a volume is on disk: -v NAME:{seen.mount}")  # fmt: skip
    if seen.mount_kind == "tmpfs":
        return finding(seen, "space", f"{seen.mount} is a file system in memory, and full",
                        instead="write somewhere else: a volume, -v NAME:DIR")  # fmt: skip
    hint = "see `df -h` and `df -i` on the host; `nanocontainer container prune` removes what has exited"
    return finding(seen, "space", "the host's disk is full, or has no inodes left", instead=hint)


def network(seen: Seen, about: About) -> Finding | None:
    """Where nobody is reached."""
    if seen.call not in ("connect", "bind", "sendto", "sendmsg", "sendmmsg", "listen"):
        return None
    none = about.spec.network == "none"
    dns = " Port 53 is name resolution: this is why names are not found." if seen.detail.endswith(" port 53") else ""
    if seen.error in ("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN"):
        if none:
            return finding(seen, "network", f"the container has no network (--network none): only itself.{dns}",
                            ("--network bridge",), "it reaches the internet and other containers, and is reached by "
                            "them", "what listens on the host can be given as a unix socket: -v")  # fmt: skip
        return finding(seen, "network", f"no route leads there, or nobody answers.{dns}",
                        instead="does the host reach it? `nanocontainer anatomy --only network` shows the way of a "
                        "packet")  # fmt: skip
    if seen.error == "ECONNREFUSED":
        local = seen.detail.startswith(("127.", "::1"))
        why = f"nobody listens there.{dns}"
        if local:
            why += " 127.0.0.1 inside is the container itself, not the host"
        return finding(seen, "network", why, instead="--network container:NAME shares another container's 127.0.0.1"
                        if local and not none else "")  # fmt: skip
    if seen.error == "EADDRNOTAVAIL":
        return finding(seen, "network", f"the container has no such address{' (--network none)' if none else ''}",
                        instead="listen on 0.0.0.0, and choose the host's address when publishing: -p "
                        "ADDRESS:PORT:PORT; --ip gives the container a certain address")  # fmt: skip
    if seen.error == "EADDRINUSE":
        shared = about.spec.network == "host" or about.spec.network.startswith("container:")
        whose = f", perhaps outside: --network {about.spec.network} shares all ports" if shared else ""
        return finding(seen, "network", f"somebody listens there already{whose}",
                        ("--network bridge",) if shared else (), "none: it is the stronger wall" if shared else "")
    return None


def namespaces(seen: Seen, about: About) -> Finding | None:
    """No more namespaces."""
    if seen.call not in ("unshare", "clone", "clone3", "setns") or seen.error not in ("ENOSPC", "EUSERS"):
        return None
    return finding(seen, "namespaces", "a limit on namespaces is used up, or they are nested too deep",
                    instead="see /proc/sys/user/max_*_namespaces on the host")  # fmt: skip
