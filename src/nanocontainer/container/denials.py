"""From a refused system call to its cause, in words, and to the flag that would allow it and what that costs.

A refusal does not say where it comes from: EPERM may be the seccomp filter, a missing capability, a device rule, or the
file's owner. But all of these can be asked: the filter is a program that can be run with this call's arguments, the
capabilities stand in /proc, the rules and flags in the container's specification, the mount in its mount table. So the
causes are gone through in the order in which the kernel asks them: filter, mount, device, capability, permissions,
limits. The first that refuses is the one that was met; what would be met behind it is named too, or the advice would
not help.
"""

from __future__ import annotations

from ..kernel.caps import NAMES, NUMBERS
from ..kernel.capwords import ALLOWS, DANGEROUS
from ..record import Record
from .denied_calls import CALLS, capability, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..kernel.bpf import DeviceRule
    from .spec import Mount, Spec

MASKED = "masked"  # in the place of an error's name: it succeeded, and what was seen is not the real thing
NOT_RAISED = "not raised"  # the same: a set-user-ID program that got no rights
_PASSES = (0x7FFF0000, 0x7FFC0000)  # SECCOMP_RET_ALLOW, SECCOMP_RET_LOG
_ACTION = 0xFFFF0000
_ERRNO = 0x00050000  # SECCOMP_RET_ERRNO


class Seen(Record):
    """One kind of refusal, as the tracer saw it; how often, and when (nanoseconds since 1970).

    process: its name; pid: in its own namespace; uid: effective, in its own namespace. call, error: names; machine: of
    the call's numbers; args: its six arguments. path, other: absolute, as inside; detail: an address. kind, mode,
    owner, group, device ("b 8:0"): of the file, or where that is not there of the directory, kind empty; mount, mount_kind, mount_options: where it lies. effective: the
    capabilities it had. filter: what seccomp answers, -1 without a filter; own_filter: it is not the engine's. limits:
    name as in /proc/PID/limits → soft. pids: (now, most), most 0 for no limit.
    """

    call: str
    error: str
    process: str = ""
    pid: int = 0
    uid: int = 0
    machine: str = ""
    args: tuple[int, ...] = (0, 0, 0, 0, 0, 0)
    path: str = ""
    other: str = ""
    detail: str = ""
    kind: str = ""
    directory: str = ""
    mode: int = 0
    owner: int = 0
    group: int = 0
    device: str = ""
    mount: str = ""
    mount_kind: str = ""
    mount_options: tuple[str, ...] = ()
    effective: int = 0
    no_new_privs: bool = False
    filter: int = -1
    own_filter: bool = False
    limits: dict[str, str] = {}
    pids: tuple[int, ...] = (0, 0)
    count: int = 1
    first: int = 0
    last: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for refusals of one kind."""
        return (self.process, self.uid, self.call, self.error, self.path, self.other, self.detail, self.filter)

    def counted(self, now: int) -> Seen:
        """The same, once more."""
        return self.replace(count=self.count + 1, last=now)


class Finding(Record):
    """A refusal, understood. what: who tried what; cause: seccomp, capability, device, read-only, masked, noexec,
    permissions, no-new-privileges, pids, limit, memory, space, network, namespaces, or kernel (no wall of the
    container's); why: in words. flags: what would allow it, together; empty where no flag does. cost: what these cost
    in safety. instead: a safer way, may be empty. harmless: programs are made for it, and do it another way."""

    what: str
    call: str
    error: str
    cause: str
    why: str
    flags: tuple[str, ...] = ()
    cost: str = ""
    instead: str = ""
    harmless: bool = False
    count: int = 1
    first: int = 0
    last: int = 0


class About:
    """What is known of the container. masked, protected: paths of /proc and /sys; keep: its capabilities, as a mask;
    profile: of seccomp; passes(machine, call, args, capabilities): whether the profile would let a call pass, were
    those the container's capabilities; rules: of its devices; device_name("b 8:0"): what the host calls it."""

    def __init__(
        self,
        spec: Spec,
        *,
        keep: int,
        masked: tuple[str, ...] = (),
        protected: tuple[str, ...] = (),
        profile: str = "default",
        passes: Callable[[str, str, Sequence[int], int], bool] = lambda *_: True,
        rules: tuple[DeviceRule, ...] = (),
        device_name: Callable[[str], str] = lambda device: "",
    ) -> None:
        self.spec, self.keep, self.profile, self.passes = spec, keep, profile, passes
        self.masked = tuple(path.rstrip("/") for path in masked)
        self.protected = tuple(path.rstrip("/") for path in protected)
        self.rules, self.device_name = rules, device_name


def judge(seen: Seen, about: About) -> Finding:
    """The finding for one kind of refusal."""
    for ask in _QUESTIONS:
        found = ask(seen, about)
        if found is not None:
            break
    else:
        why = f"the kernel answers {seen.error}, and no wall of the container's is the cause"
        found = _finding(seen, "kernel", why)
    return found.replace(count=seen.count, first=seen.first, last=seen.last)


def _finding(
    seen: Seen, cause: str, why: str, flags: Sequence[str] = (), cost: str = "", instead: str = "", *,
    harmless: bool = False,
) -> Finding:  # fmt: skip
    what = f"{seen.process or 'a process'} tried to {words(seen.call, seen.path, seen.other, seen.detail)}"
    return Finding(what, seen.call, seen.error, cause, why, tuple(flags), cost, instead, harmless)


# --- seccomp and capabilities

_FALLS_BACK = {"clone3": "the C library takes clone(2) instead, as it does on old kernels"}
# capability → a safer way to the same end
_INSTEAD = {
    "CAP_SYS_TIME": "let the host keep the time; a program can be given another one with libfaketime",
    "CAP_SYS_MODULE": "load the module on the host: modprobe",
    "CAP_SYSLOG": "read it on the host: dmesg",
    "CAP_NET_ADMIN": "--network and --publish set the network up from outside, --sysctl net... its settings",
    "CAP_SYS_PTRACE": "trace it from the host: strace -p, gdb -p with the pid that `nanocontainer anatomy` shows",
    "CAP_SYS_NICE": "--cpu-shares gives the whole container a larger share",
    "CAP_IPC_LOCK": "--ulimit memlock=BYTES lets it lock a bounded amount",
    "CAP_SYS_RESOURCE": "--ulimit NAME=SOFT:HARD sets the limit from outside",
    "CAP_MKNOD": "--device adds a device of the host",
    "CAP_CHOWN": "chown the files in the image, or run as the user that owns them: -u",
    "CAP_NET_BIND_SERVICE": "listen on a port above 1023, and publish it: -p 80:8080",
    "CAP_SYS_BOOT": "stop and start the container: nanocontainer restart",
}
_INSTEAD_CALL = {
    "mount": "mounts from outside: --tmpfs DIR, -v SOURCE:DIR, --mount; they are made before the command starts",
    "sethostname": "--hostname NAME",
    "setdomainname": "--domainname NAME",
    "setns": "--network container:NAME, --pid container:NAME join at the start",
    "swapon": "--memory-swap gives the container swap of the host",
    "socket": "",
}
UNCONFINED = "--security-opt seccomp=unconfined"
_COST_UNCONFINED = (
    "all system calls of the kernel are open, the rarely used ones too in which most escapes were found; a profile of "
    "your own that allows this one call more is much better: --security-opt seccomp=FILE"
)


def _seccomp(seen: Seen, about: About) -> Finding | None:
    if seen.filter < 0 or seen.filter & _ACTION in _PASSES:
        return None
    answer = f"answers {seen.error}" if seen.filter & _ACTION == _ERRNO else "kills whoever makes this call"
    if seen.own_filter:
        why = f"a seccomp filter that the program itself has loaded {answer} for {seen.call}(2): its own sandbox"
        return _finding(seen, "seccomp", why, harmless=True)
    why = f"the seccomp filter ({about.profile} profile) {answer} for {seen.call}(2)"
    needed = capability(seen.call, seen.args, seen.path)
    if seen.call in _FALLS_BACK:
        return _finding(seen, "seccomp", f"{why}; {_FALLS_BACK[seen.call]}", harmless=True)
    for name in dict.fromkeys((needed, *DANGEROUS, *NAMES)):
        if not name or about.keep >> NUMBERS[name] & 1:
            continue
        if about.passes(seen.machine, seen.call, seen.args, about.keep | 1 << NUMBERS[name]):
            return _with_capability(seen, about, name, "seccomp", f"{why} as long as the container has no {name}")
    if needed and not seen.effective >> NUMBERS[needed] & 1:
        found = _with_capability(seen, about, needed, "seccomp", f"{why}; and the process has no {needed}")
        return found.replace(flags=(UNCONFINED, *found.flags), cost=f"{_COST_UNCONFINED}. {found.cost}")
    return _finding(seen, "seccomp", why, (UNCONFINED,), _COST_UNCONFINED, _INSTEAD_CALL.get(seen.call, ""))


def _with_capability(seen: Seen, about: About, name: str, cause: str, why: str) -> Finding:
    """The finding where a capability would help: given to the container, and to the process, which must be root."""
    flags, costs = [], []
    if not about.keep >> NUMBERS[name] & 1:
        flags.append(f"--cap-add {name.removeprefix('CAP_')}")
        risk = " This is one of those by which root inside becomes root outside." if name in DANGEROUS[:7] else ""
        costs.append(f"{name}: {ALLOWS[name]}.{risk}")
    if seen.uid != 0:
        flags.append("-u 0")
        costs.append("The command runs as root inside, with all the container's capabilities.")
    instead = _INSTEAD_CALL.get(seen.call) or _INSTEAD.get(name, "")
    return _finding(seen, cause, why, flags, " ".join(costs), instead)


def _capability(seen: Seen, about: About) -> Finding | None:
    if seen.error not in ("EPERM", "EACCES"):
        return None
    name = capability(seen.call, seen.args, seen.path)
    if not name or seen.effective >> NUMBERS[name] & 1:
        return None
    if name == "CAP_SYS_PTRACE" and seen.path and _forbidden(seen):
        return None  # a plain question of the file's mode
    if about.keep >> NUMBERS[name] & 1:
        why = f"it runs as user {seen.uid}, and only root has the container's {name}"
        if seen.uid == 0:
            why = f"the process has given its {name} away"
    else:
        why = f"the container has no {name}"
    if seen.call in ("setxattr", "lsetxattr", "fsetxattr", "fchmod", "chmod", "utimensat") and seen.owner == seen.uid:
        return None
    return _with_capability(seen, about, name, "capability", why)


# --- files

_OPEN = "--security-opt systempaths=unconfined"
_COST_OPEN = (
    "shows and opens all of /proc and /sys: settings and data of the host's kernel, among them /proc/sysrq-trigger and "
    "/proc/kcore"
)


def _masked(seen: Seen, about: About) -> Finding | None:
    hidden = next((path for path in about.masked if seen.path == path or seen.path.startswith(f"{path}/")), "")
    if not hidden or seen.error not in (MASKED, "EACCES", "EPERM", "EROFS", "ENOENT"):
        return None
    why = f"{hidden} is masked: inside it is empty, because it shows or changes the host's kernel"
    return _finding(seen, "masked", why, (_OPEN,), _COST_OPEN, "read it on the host")


def _not_raised(seen: Seen, about: About) -> Finding | None:
    if seen.error != NOT_RAISED:
        return None
    what = f"{seen.path} is set-user-ID of user {seen.owner}, and ran as user {seen.uid} all the same"
    if "nosuid" in seen.mount_options:
        why = f"{what}: it lies on the mount {seen.mount}, which is nosuid"
        return _finding(seen, "no-new-privileges", why, _without_option(seen, about, "suid"),
                        "programs that lie there can make anybody root inside")  # fmt: skip
    why = f"{what}: no_new_privs is set, nothing gains rights by execve(2)"
    flags = ("--security-opt no-new-privileges=false",)
    return _finding(seen, "no-new-privileges", why, flags, "set-user-ID programs such as su make users root inside",
                    "run the command as the user that it needs: -u")  # fmt: skip


def _without_option(seen: Seen, about: About, word: str) -> tuple[str, ...]:
    """The flag that mounts it anew without one of noexec, nosuid, nodev."""
    mount = _mount_of(seen, about.spec.mounts)
    if mount is None or mount.kind == "tmpfs":
        return (f"--tmpfs {seen.mount}:{word}",)
    return ()


def _mount_of(seen: Seen, mounts: Sequence[Mount]) -> Mount | None:
    return next((mount for mount in mounts if (mount.target.rstrip("/") or "/") == seen.mount), None)


def _read_only(seen: Seen, about: About) -> Finding | None:
    if seen.error != "EROFS":
        return None
    where = seen.mount or "the file system"
    mount = _mount_of(seen, about.spec.mounts)
    if mount is not None and mount.read_only:
        source = mount.source or "it"
        cost = f"the container can change {source}, on the host too" if mount.kind == "bind" else "it can be changed"
        said = f"-v {source}:{mount.target}" if mount.kind != "tmpfs" else f"--tmpfs {mount.target}"
        return _finding(seen, "read-only", f"{where} is mounted read-only: :ro or readonly was said",
                        (said,), cost, "a volume of its own for what it writes: -v NAME:DIR")  # fmt: skip
    if seen.mount == "/" and about.spec.read_only:
        below = seen.path.rpartition("/")[0] or "/tmp"
        return _finding(seen, "read-only", "the root file system is read-only: --read-only was said",
                        (f"--tmpfs {below}",), f"what lies in {below} of the image is hidden, and what is written "
                        "there is in memory and gone at the end", f"a volume keeps it: -v NAME:{below}")  # fmt: skip
    if setting := _setting(seen.path):
        why = "/proc/sys is read-only: settings of the kernel are not the container's"
        if setting.startswith("net.") and about.spec.network != "host":
            return _finding(seen, "read-only", why, (f"--sysctl {setting}=VALUE",),
                            "little: it is a setting of the container's own network namespace")  # fmt: skip
        return _finding(seen, "read-only", why, (_OPEN,), _COST_OPEN, f"set it on the host: sysctl {setting}=VALUE")
    if any(seen.path == path or seen.path.startswith(f"{path}/") for path in about.protected):
        return _finding(seen, "read-only", f"{where} is read-only: it changes the host's kernel", (_OPEN,), _COST_OPEN,
                        "do it on the host")  # fmt: skip
    if seen.path.startswith("/sys"):
        what = "do it on the host"
        if seen.path.startswith("/sys/fs/cgroup"):
            what = "cgroups are set from outside: the flags under Resources"
        return _finding(seen, "read-only", f"{where} is read-only: it is the host's kernel and hardware",
                        ("--privileged",), "no wall is left but the namespaces: root inside is root outside",
                        what)  # fmt: skip
    why = f"{where} is mounted read-only"
    return _finding(seen, "read-only", why, instead="a volume for what it writes: -v NAME:DIR")


def _setting(path: str) -> str:
    """The sysctl that a path of /proc/sys is."""
    return path.removeprefix("/proc/sys/").replace("/", ".") if path.startswith("/proc/sys/") else ""


def _device(seen: Seen, about: About) -> Finding | None:
    if not seen.device or seen.error not in ("EPERM", "EACCES") or seen.call not in ("open", "openat", "openat2"):
        return None
    if seen.error == "EACCES" and "nodev" in seen.mount_options:
        return _finding(seen, "device", f"{seen.path} lies on the mount {seen.mount}, which is nodev: devices do not "
                        "work there", _without_option(seen, about, "dev"), "devices that are made there can be used, "
                        "as far as the device rules allow")  # fmt: skip
    if seen.error != "EPERM" or _allowed(seen.device, about.rules):
        return None
    name = about.device_name(seen.device)
    flag = f"--device {name}" if name else f"--device-cgroup-rule '{seen.device} rwm'"
    cost = f"the container uses the host's {name or seen.device} directly"
    if seen.device.startswith("b "):
        cost += ": whoever reads and writes a disk reads and writes all files on it, past all permissions"
    return _finding(seen, "device", f"no device rule allows {seen.device}", (flag,), cost,
                    "mount what is on it, on the host, and give that: -v" if seen.device[0] == "b" else "")  # fmt: skip


def _allowed(device: str, rules: Sequence[DeviceRule]) -> bool:
    kind, _, numbers = device.partition(" ")
    major, _, minor = numbers.partition(":")
    return any(
        rule.kind in (kind, "a") and rule.major in (-1, int(major)) and rule.minor in (-1, int(minor))
        and "r" in rule.access and rule.allow
        for rule in rules
    )  # fmt: skip


def _noexec(seen: Seen, about: About) -> Finding | None:
    if seen.error not in ("EACCES", "EPERM") or "noexec" not in seen.mount_options:
        return None
    if seen.call not in ("execve", "execveat", "mmap"):
        return None
    why = f"{seen.path} lies on the mount {seen.mount}, which is noexec: no program there can be run"
    cost = "whatever can be written there can be run, also what an intruder has brought"
    return _finding(seen, "noexec", why, _without_option(seen, about, "exec"), cost, "put programs into the image")


def _forbidden(seen: Seen) -> bool:
    """Whether the file's mode alone refuses reading to this user."""
    bits = seen.mode >> (6 if seen.owner == seen.uid else 0)
    return bool(seen.kind) and not bits & 4


def _permissions(seen: Seen, about: About) -> Finding | None:
    if seen.error not in ("EACCES", "EPERM") or not seen.path or seen.call not in CALLS:
        return None
    if seen.error == "EPERM" and not (seen.call.startswith(("unlink", "rmdir", "rename")) and seen.uid):
        return None
    whose = f"has mode {seen.mode:04o} and owner {seen.owner}:{seen.group}"
    file = f"{seen.path} {whose}"
    if not seen.kind:
        file = f"{seen.path} is not there, and the directory {seen.directory} {whose}"
    if seen.call.startswith("exec"):
        if seen.kind == "directory":
            return _finding(seen, "permissions", f"{seen.path} is a directory")
        if seen.kind == "file" and not seen.mode & 0o111:
            return _finding(seen, "permissions", f"{seen.path} is not executable: mode {seen.mode:04o}",
                            instead=f"chmod +x {seen.path} in the image")  # fmt: skip
    override = "CAP_DAC_OVERRIDE"
    if seen.uid == 0:
        if seen.effective >> NUMBERS[override] & 1:
            return None
        why = f"{file}; root without {override} is asked like anybody else"
        return _with_capability(seen, about, override, "permissions", why)
    return _finding(seen, "permissions", f"{file}; it runs as user {seen.uid}", ("-u 0",),
                    "the command runs as root inside, with all the container's capabilities",
                    f"chown or chmod it in the image or volume, or run as its owner: -u {seen.owner}")  # fmt: skip


# --- limits

_ULIMITS = {  # error → (calls, empty: any; name in /proc/PID/limits; --ulimit)
    "EMFILE": ((), "open files", "nofile"),
    "EFBIG": ((), "file size", "fsize"),
}


def _pids(seen: Seen, about: About) -> Finding | None:
    if seen.call not in ("clone", "clone3", "fork", "vfork") or seen.error != "EAGAIN":
        return None
    now, most = seen.pids if len(seen.pids) == 2 else (0, 0)
    if most and now >= most:
        return _finding(seen, "pids", f"the container has reached its limit of {most} processes and threads",
                        (f"--pids-limit {2 * most}",), "little, as long as there is a limit: it keeps a fork bomb from "
                        "taking the host's process numbers")  # fmt: skip
    soft = seen.limits.get("processes", "unlimited")
    if soft.isdecimal() and seen.uid:
        return _finding(seen, "limit", f"user {seen.uid} has reached its limit of {soft} processes, which counts those "
                        "of this user in all containers", (f"--ulimit nproc={2 * int(soft)}",), "little")  # fmt: skip
    return _finding(seen, "pids", "the kernel has no process number or memory left for one more")


def _limits(seen: Seen, about: About) -> Finding | None:
    if seen.call.startswith("mlock") and seen.error in ("ENOMEM", "EPERM", "EAGAIN"):
        soft = seen.limits.get("locked memory", "")
        return _finding(seen, "limit", f"it may lock {soft or 'few'} bytes of memory (RLIMIT_MEMLOCK), and has no "
                        "CAP_IPC_LOCK", ("--ulimit memlock=-1",), "locked memory is never swapped: with -m it is "
                        "bounded all the same")  # fmt: skip
    if seen.error not in _ULIMITS:
        return None
    _, name, flag = _ULIMITS[seen.error]
    soft = seen.limits.get(name, "")
    more = str(2 * int(soft)) if soft.isdecimal() else "unlimited"
    what = {"nofile": "open files", "fsize": "bytes in a file"}[flag]
    return _finding(seen, "limit", f"a process may have {soft} {what} (RLIMIT_{flag.upper()})",
                    (f"--ulimit {flag}={'-1' if more == 'unlimited' else more}",),
                    "little: it is a guard against mistakes")  # fmt: skip


def _memory(seen: Seen, about: About) -> Finding | None:
    if seen.error != "ENOMEM":
        return None
    soft = seen.limits.get("address space", "unlimited")
    if soft.isdecimal():
        return _finding(seen, "limit", f"its address space may have {soft} bytes (RLIMIT_AS)", ("--ulimit as=-1",),
                        "little: -m bounds the container's memory as a whole")  # fmt: skip
    return _finding(seen, "memory", "the kernel has no memory for this: the size may be absurd, or the host's limit on "
                    "promises is reached (vm.overcommit_memory)")  # fmt: skip


def _space(seen: Seen, about: About) -> Finding | None:
    if seen.error not in ("ENOSPC", "EDQUOT") or seen.call in ("unshare", "clone", "clone3"):
        return None
    if seen.mount == "/dev/shm":
        size = about.spec.shm_size
        return _finding(seen, "space", f"/dev/shm has {size >> 20} MB and is full", (f"--shm-size {size >> 19}m",),
                        "it is memory: with -m it counts there")  # fmt: skip
    mount = _mount_of(seen, about.spec.mounts)
    if seen.mount_kind == "tmpfs" and mount is not None:
        return _finding(seen, "space", f"{seen.mount} is a file system in memory, and full",
                        (f"--tmpfs {seen.mount}:size=SIZE",), "it is memory: with -m it counts there",
                        f"a volume is on disk: -v NAME:{seen.mount}")  # fmt: skip
    if seen.mount_kind == "tmpfs":
        return _finding(seen, "space", f"{seen.mount} is a file system in memory, and full",
                        instead="write somewhere else: a volume, -v NAME:DIR")  # fmt: skip
    hint = "see `df -h` and `df -i` on the host; `nanocontainer container prune` removes what has exited"
    return _finding(seen, "space", "the host's disk is full, or has no inodes left", instead=hint)


# --- network and namespaces


def _network(seen: Seen, about: About) -> Finding | None:
    if seen.call not in ("connect", "bind", "sendto", "sendmsg", "sendmmsg", "listen"):
        return None
    none = about.spec.network == "none"
    dns = " Port 53 is name resolution: this is why names are not found." if seen.detail.endswith(" port 53") else ""
    if seen.error in ("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN"):
        if none:
            return _finding(seen, "network", f"the container has no network (--network none): only itself.{dns}",
                            ("--network bridge",), "it reaches the internet and other containers, and is reached by "
                            "them", "what listens on the host can be given as a unix socket: -v")  # fmt: skip
        return _finding(seen, "network", f"no route leads there, or nobody answers.{dns}",
                        instead="does the host reach it? `nanocontainer anatomy --only network` shows the way of a "
                        "packet")  # fmt: skip
    if seen.error == "ECONNREFUSED":
        local = seen.detail.startswith(("127.", "::1"))
        why = f"nobody listens there.{dns}"
        if local:
            why += " 127.0.0.1 inside is the container itself, not the host"
        return _finding(seen, "network", why, instead="--network container:NAME shares another container's 127.0.0.1"
                        if local and not none else "")  # fmt: skip
    if seen.error == "EADDRNOTAVAIL":
        return _finding(seen, "network", f"the container has no such address{' (--network none)' if none else ''}",
                        instead="listen on 0.0.0.0, and choose the host's address when publishing: -p "
                        "ADDRESS:PORT:PORT; --ip gives the container a certain address")  # fmt: skip
    if seen.error == "EADDRINUSE":
        shared = about.spec.network == "host" or about.spec.network.startswith("container:")
        whose = f", perhaps outside: --network {about.spec.network} shares all ports" if shared else ""
        return _finding(seen, "network", f"somebody listens there already{whose}",
                        ("--network bridge",) if shared else (), "none: it is the stronger wall" if shared else "")
    return None


def _namespaces(seen: Seen, about: About) -> Finding | None:
    if seen.call not in ("unshare", "clone", "clone3", "setns") or seen.error not in ("ENOSPC", "EUSERS"):
        return None
    return _finding(seen, "namespaces", "a limit on namespaces is used up, or they are nested too deep",
                    instead="see /proc/sys/user/max_*_namespaces on the host")  # fmt: skip


_QUESTIONS = (
    _masked, _not_raised, _seccomp, _noexec, _read_only, _device, _limits, _pids, _capability, _permissions, _memory,
    _space, _network, _namespaces,
)  # fmt: skip
