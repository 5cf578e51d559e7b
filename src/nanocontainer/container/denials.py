"""What is known of a refused system call (Seen), of the container (About), and what is found of it (Finding).

The words and flags that several causes share are here; the causes are in judgement.py, denied_files.py and
denied_limits.py.
"""

from __future__ import annotations

from ..kernel.caps import NUMBERS
from ..kernel.capwords import ALLOWS, DANGEROUS
from ..record import Record
from .denied_calls import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..kernel.bpf import DeviceRule
    from .spec import Mount, Spec

MASKED = "masked"  # in the place of an error's name: it succeeded, and what was seen is not the real thing
NOT_RAISED = "not raised"  # the same: a set-user-ID program that got no rights
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
INSTEAD_CALL = {
    "mount": "mounts from outside: --tmpfs DIR, -v SOURCE:DIR, --mount; they are made before the command starts",
    "sethostname": "--hostname NAME",
    "setdomainname": "--domainname NAME",
    "setns": "--network container:NAME, --pid container:NAME join at the start",
    "swapon": "--memory-swap gives the container swap of the host",
    "socket": "",
}


class Seen(Record):
    """One kind of refusal, as the tracer saw it; how often, and when (nanoseconds since 1970).

    process: its name; pid: in its own namespace; uid: effective, in its own namespace. call, error: names; machine: of
    the call's numbers; args: its six arguments. path, other: absolute, as inside; detail: an address. kind, mode,
    owner, group, device ("b 8:0"): of the file, or where that is not there of the directory, kind empty; mount,
    mount_kind, mount_options: where it lies. effective: the capabilities it had. filter: what seccomp answers, -1 where
    it lets pass; own_filter: it is not the engine's. limits: name as in /proc/PID/limits → soft. pids: (now, most),
    most 0 for no limit.
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


def finding(
    seen: Seen, cause: str, why: str, flags: Sequence[str] = (), cost: str = "", instead: str = "", *,
    harmless: bool = False,
) -> Finding:  # fmt: skip
    what = f"{seen.process or 'a process'} tried to {words(seen.call, seen.path, seen.other, seen.detail)}"
    return Finding(what, seen.call, seen.error, cause, why, tuple(flags), cost, instead, harmless)


def with_capability(seen: Seen, about: About, name: str, cause: str, why: str) -> Finding:
    """The finding where a capability would help: given to the container, and to the process, which must be root."""
    flags, costs = [], []
    if not about.keep >> NUMBERS[name] & 1:
        flags.append(f"--cap-add {name.removeprefix('CAP_')}")
        risk = " This is one of those by which root inside becomes root outside." if name in DANGEROUS[:7] else ""
        costs.append(f"{name}: {ALLOWS[name]}.{risk}")
    if seen.uid != 0:
        flags.append("-u 0")
        costs.append("The command runs as root inside, with all the container's capabilities.")
    instead = INSTEAD_CALL.get(seen.call) or _INSTEAD.get(name, "")
    return finding(seen, cause, why, flags, " ".join(costs), instead)


def without_option(seen: Seen, about: About, word: str) -> tuple[str, ...]:
    """The flag that mounts it anew without one of noexec, nosuid, nodev."""
    mount = mount_of(seen, about.spec.mounts)
    if mount is None or mount.kind == "tmpfs":
        return (f"--tmpfs {seen.mount}:{word}",)
    return ()


def mount_of(seen: Seen, mounts: Sequence[Mount]) -> Mount | None:
    """The mount of the specification on which the file lies."""
    return next((mount for mount in mounts if (mount.target.rstrip("/") or "/") == seen.mount), None)
