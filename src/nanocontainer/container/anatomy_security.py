"""What a container is confined by, decoded: ids, capabilities, seccomp, devices, what /proc and /sys hide."""

from __future__ import annotations

import os

from ..errors import NanoError
from ..kernel import caps, seccomp
from ..kernel.bpf import ALLOW_ALL, DEFAULT_RULES, parse_rule
from ..kernel.callgroups import GROUPS
from ..kernel.capwords import ALLOWS, DANGEROUS
from ..record import Record
from .confinement import security_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.bpf import DeviceRule
    from ..kernel.facts import Facts
    from .anatomy_mounts import MountShown
    from .procfs import Process
    from .spec import Spec

_DEVICES = {
    ("c", 1, 3): "null", ("c", 1, 5): "zero", ("c", 1, 7): "full", ("c", 1, 8): "random", ("c", 1, 9): "urandom",
    ("c", 5, 0): "tty", ("c", 5, 1): "console", ("c", 5, 2): "ptmx", ("c", 136, -1): "pts/*, all its terminals",
    ("c", 10, 200): "net/tun", ("c", 10, 229): "fuse", ("c", 10, 232): "kvm", ("c", 1, 1): "mem", ("c", 1, 2): "kmem",
}  # fmt: skip
_ACCESS = {"r": "read", "w": "write", "m": "make the node"}


class Capability(Record):
    """held: in the effective set of the first process now; bounding: it could be gained; default: docker gives it."""

    name: str
    allows: str
    held: bool
    bounding: bool
    default: bool
    dangerous: bool


class CallGroup(Record):
    """System calls of one subject, as the filter judges them. some: those that pass with some arguments only."""

    name: str
    allowed: tuple[str, ...]
    some: tuple[str, ...]
    blocked: tuple[str, ...]


class DeviceShown(Record):
    """A rule of the device program. device: "c 1:3", * for any number; name: what it is; access: in words."""

    device: str
    name: str
    access: str


class Security(Record):
    """uid, gid, groups: of the first process, host's numbers. seccomp: off, strict or filter; filters: how many are on
    top of each other; profile: its name, a path, or "unconfined". blocked: the number of calls that never pass.
    masked, read_only: paths of /proc and /sys; open: those that docker would hide or protect and that are not.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    uid_map: tuple[str, ...] = ()
    gid_map: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    effective: int = 0
    bounding: int = 0
    no_new_privs: bool = False
    seccomp: str = ""
    filters: int = 0
    profile: str = ""
    blocked: int = 0
    calls: tuple[CallGroup, ...] = ()
    label: str = ""
    privileged: bool = False
    devices: tuple[DeviceShown, ...] = ()
    masked: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    limits: dict[str, tuple[str, ...]] = {}
    oom_score_adj: int = 0


def security_of(init: Process | None, spec: Spec, facts: Facts, mounts: tuple[MountShown, ...]) -> Security:
    """init: None where the container does not run: then capabilities, filter and devices are as they will be."""
    words = security_words(spec)
    keep = caps.granted(spec.cap_add, spec.cap_drop, spec.privileged, facts.last_cap, facts.capabilities)
    confined = words.get("seccomp") != "unconfined" and not spec.privileged
    profile = (words.get("seccomp") or "default") if confined else "unconfined"
    effective = init.capabilities["effective"] if init else keep
    bounding = init.capabilities["bounding"] if init else keep
    blocked, calls = call_groups(profile, facts.machine, keep, facts.release)
    found = Security(
        capabilities=capabilities(effective, bounding, facts.last_cap),
        effective=effective,
        bounding=bounding,
        no_new_privs=init.no_new_privs if init else words.get("no-new-privileges") == "true",
        seccomp=seccomp_word(init.seccomp) if init else ("filter" if confined else "off"),
        filters=init.filters if init else int(confined),
        profile=profile,
        blocked=blocked,
        calls=calls,
        privileged=spec.privileged,
        devices=tuple(map(_device, device_rules(spec))),
    )
    if init is None:
        return found
    hidden = tuple(mount.target for mount in mounts if mount.role == "mask")
    guarded = tuple(mount.target for mount in mounts if mount.role == "guard")
    wanted = [path.rstrip("/") for path in (*facts.masked, *facts.read_only)]
    return found.replace(
        uid=init.uids[1], gid=init.gids[1], groups=init.groups, uid_map=init.uid_map, gid_map=init.gid_map,
        label=init.label, masked=hidden, read_only=guarded, limits=init.limits, oom_score_adj=init.oom_score_adj,
        open=tuple(path for path in wanted if path not in hidden and path not in guarded),
    )  # fmt: skip


def capabilities(effective: int, bounding: int, last: int) -> tuple[Capability, ...]:
    """All capabilities of the kernel, in the order of their numbers."""
    return tuple(
        Capability(
            name, ALLOWS[name], bool(effective >> number & 1), bool(bounding >> number & 1),
            bool(caps.DEFAULT >> number & 1), name in DANGEROUS,
        )
        for number, name in enumerate(caps.NAMES)
        if number <= last
    )  # fmt: skip


def seccomp_word(mode: int) -> str:
    """As in proc_pid_status(5)."""
    return {0: "off", 1: "strict", 2: "filter"}.get(mode, str(mode))


def call_groups(profile: str, machine: str, keep: int, release: str) -> tuple[int, tuple[CallGroup, ...]]:
    """(the number of calls that never pass, the groups). "unconfined" blocks nothing. A profile whose file has been
    lost since the start is judged as far as is known: no groups."""
    from ..kernel import sysnames

    known = sysnames.numbers(machine)
    never: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()
    if profile != "unconfined":
        try:
            never, sometimes = seccomp.blocked(profile, machine, keep, release)
        except NanoError:
            return -1, ()
    groups = []
    for name, calls in GROUPS.items():
        there = [call for call in calls if call in known]
        if there:
            groups.append(
                CallGroup(
                    name,
                    tuple(call for call in there if call not in never and call not in sometimes),
                    tuple(call for call in there if call in sometimes),
                    tuple(call for call in there if call in never),
                )
            )
    return len(never), tuple(groups)


def device_rules(spec: Spec) -> tuple[DeviceRule, ...]:
    """The device rules of a container, as the kernel has them."""
    if spec.privileged:
        return ALLOW_ALL
    given = []
    for device in spec.devices:
        try:
            found = os.stat(device.source)
        except OSError:
            continue  # it is not on the host any more
        kind = "b" if found.st_mode & 0o170000 == 0o060000 else "c"
        given.append(parse_rule(f"{kind} {os.major(found.st_rdev)}:{os.minor(found.st_rdev)} {device.access}"))
    return (*DEFAULT_RULES, *given, *map(parse_rule, spec.device_rules))


def _device(rule: DeviceRule) -> DeviceShown:
    numbers = ":".join("*" if number < 0 else str(number) for number in (rule.major, rule.minor))
    kinds = {"c": "any character device", "b": "any block device", "a": "every device of the host"}
    name = _DEVICES.get((rule.kind, rule.major, rule.minor), "")
    if not name and rule.major < 0:
        name = kinds[rule.kind]
    access = "all" if set(rule.access) == set("rwm") else ", ".join(_ACCESS[letter] for letter in rule.access)
    return DeviceShown(f"{rule.kind} {numbers}", name, access)
