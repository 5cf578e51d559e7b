"""The facts of an anatomy in words for people: what text and html pages have in common."""

from __future__ import annotations

from .units import ago, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..container.anatomy import Anatomy, NamespaceShown
    from ..container.anatomy_cgroup import Meter
    from ..container.anatomy_mounts import MountShown
    from ..container.anatomy_network import NetworkShown, PortFlow, RouteShown
    from ..container.anatomy_security import CallGroup
    from ..rootfs.strata import Finding

ROLES = ("root", "user", "file", "kernel", "mask", "guard", "later")


def status_words(found: Anatomy) -> str:
    """running for 3 minutes; exited (137) 2 hours ago; created, not started."""
    if found.status == "created":
        return "created, not started"
    since = ago(found.started if found.running else found.finished)
    since = since[:1].lower() + since[1:]
    if found.running:
        return f"{found.status} for {since.removesuffix(' ago')}"
    return f"{found.status} ({found.exit_code}) {since}".rstrip()


def process_words(found: Anatomy) -> str:
    """The first process by its two numbers, and its keeper."""
    inside = found.processes[0].inside if found.processes else found.pid
    number = f"{found.pid} on the host, {inside} inside" if inside != found.pid else f"{found.pid}, here and inside"
    return f"{number}; kept by {found.keeper}"


def depths(found: Anatomy) -> dict[int, int]:
    """How far each process is indented below the first one. What is deeper than a page is wide stands below itself."""
    depth = {0: -1}
    for one in found.processes:
        depth[one.pid] = min(depth[one.parent] + 1, 12)
    return depth


def short_path(path: str, id: str) -> str:
    """A path with the 64 digits of the id cut to twelve and a star: a shell still finds it."""
    return path.replace(id, f"{id[:12]}*")


def shell_words(words: Sequence[str]) -> str:
    """A command as one would type it."""
    import shlex

    return shlex.join(words)


def namespace_words(one: NamespaceShown) -> str:
    """What a namespace separates, and who else is in it."""
    words = one.means
    if not one.own:
        return words  # everybody who has none of his own is in it
    if one.containers:
        words += f"; shared with container{'s' if len(one.containers) > 1 else ''} {', '.join(one.containers)}"
    if one.others:
        words += f"; {one.others} process{'es' if one.others > 1 else ''} from elsewhere in it"
    return words


def meter_words(one: Meter) -> str:
    """3.2 MB of 64MiB (most so far 5 MB)."""
    if one.unit == "cpus":
        return one.note
    words = [] if one.used < 0 else [_amount(one.used, one.unit)]
    if one.unit == "seconds" and one.used >= 0:
        words = [f"{one.used:.3g} s so far"]
    if one.limit >= 0:
        limit = f"{one.limit:g} processor{'s' if one.limit != 1 else ''} at a time" if one.unit == "seconds" else ""
        words.append(f"at most {limit}" if limit else f"of {_amount(one.limit, one.unit, limit=True)}")
    elif one.name in ("memory", "processes", "processor time") and one.file:
        words.append("no limit")
    text = ", ".join(words) if one.unit == "seconds" else " ".join(words) if one.limit >= 0 else ", ".join(words)
    notes = [f"most so far {_amount(one.peak, one.unit)}"] if one.peak >= 0 else []
    if one.note:
        notes.append(one.note)
    return f"{text} ({'; '.join(notes)})" if notes else text


def _amount(value: float, unit: str, *, limit: bool = False) -> str:
    if unit == "bytes":
        return size(value, binary=limit)
    return f"{value:g}"


def share(one: Meter) -> float:
    """Which part of the limit is used, 0 to 1; -1 where there is none to compare with."""
    if one.limit > 0 and one.used >= 0 and one.unit != "seconds":
        return min(one.used / one.limit, 1.0)
    return -1


def mount_words(one: MountShown, id: str) -> str:
    """What a mount is, and where its files are on the host."""
    words = one.what
    if one.role == "user" and one.kind != "tmpfs":
        words += f" ({short_path(one.source, id)})"
    if one.propagation not in ("private", ""):
        words += f"; {one.propagation}"
    return words


def made_by(one: MountShown) -> str:
    """The step that made it, and the flag that asked for it."""
    return " ".join(word for word in (one.step, one.flag and f"({one.flag})") if word)


def route_words(route: RouteShown) -> str:
    """By which gateway, out of which interface."""
    return f"by {route.gateway}, out of {route.interface}" if route.gateway else f"directly, out of {route.interface}"


def network_words(net: NetworkShown) -> str:
    """One line: which kind of network it has."""
    if not net.own:
        return "the host's own: nothing is between it and the host's interfaces and ports"
    if net.bridge:
        return f"{net.name}: {net.subnet} behind {net.bridge}, gateway {net.gateway}"
    if net.mode.startswith("container:"):
        return f"that of container {net.mode.partition(':')[2]}"
    return "none: a namespace of its own with loopback alone"


def hops(net: NetworkShown, port: PortFlow) -> list[str]:
    """The way of a packet to a published port."""
    inner = next(
        (one for one in net.interfaces if port.container_ip in (a.partition("/")[0] for a in one.addresses)), None
    )
    way = [f"{port.host_ip}:{port.host_port}/{port.protocol}", "nftables dnat"]
    if inner:
        way += [name for name in (inner.bridge, inner.peer, inner.name) if name]
    return [*way, f"{port.container_ip}:{port.container_port}"]


def port_words(port: PortFlow) -> tuple[str, str]:
    """(what to say of a published port, "" or a warning)."""
    if not port.there:
        return "", "the firewall's map has lost this port: restart the container"
    if not port.listening:
        return "", f"nothing inside listens on port {port.container_port} now"
    return f"a program inside listens on port {port.container_port}", ""


def capability_words(found: Anatomy) -> str:
    """How the set differs from docker's default."""
    more = [one.name[4:] for one in found.security.capabilities if one.bounding and not one.default]
    less = [one.name[4:] for one in found.security.capabilities if one.default and not one.bounding]
    if not more and not less:
        return "docker's default set"
    words = [f"{len(more)} more" if len(more) > 4 else f"more: {', '.join(more)}"] if more else []
    words += [f"less: {', '.join(less)}"] if less else []
    return f"compared with docker's default {', '.join(words)}"


def group_words(group: CallGroup) -> tuple[str, str]:
    """("blocked" | "allowed" | "in part", the calls that it is about)."""
    if not group.blocked and not group.some:
        return "allowed", " ".join(group.allowed)
    if not group.allowed and not group.some:
        return "blocked", " ".join(group.blocked)
    parts = [("allowed", group.allowed), ("with some arguments only", group.some), ("blocked", group.blocked)]
    return "in part", "; ".join(f"{word}: {' '.join(calls)}" for word, calls in parts if calls)


def security_rows(found: Anatomy) -> list[tuple[str, str]]:
    """What there is to say beside capabilities, seccomp and devices: (subject, words)."""
    seen = found.security
    rows = []
    if seen.privileged:
        rows.append(("privileged", "yes: nearly nothing stands between it and the host"))
    if found.running:
        groups = f", groups {' '.join(map(str, seen.groups))}" if seen.groups else ""
        rows.append(("user", f"uid {seen.uid}, gid {seen.gid}{groups}"))
        same = seen.uid_map == ("0 0 4294967295",)
        rows.append(
            ("user ids", "the same inside and outside: root inside is root to the kernel, with fewer capabilities"
             if same else f"mapped (inside outside count): {', '.join(seen.uid_map)}")
        )  # fmt: skip
    rows.append(
        ("no_new_privs", "on: set-user-ID programs give nothing" if seen.no_new_privs
         else "off: set-user-ID programs work, up to the capabilities above")
    )  # fmt: skip
    rows.append(("security module", seen.label or "none: AppArmor and SELinux say nothing of it"))
    if seen.masked:
        rows.append(("hidden", ", ".join(seen.masked)))
    if seen.read_only:
        rows.append(("read-only", ", ".join(seen.read_only)))
    if seen.open:
        rows.append(("not protected", f"{', '.join(seen.open)}: docker would hide these or make them read-only"))
    files = seen.limits.get("open files")
    if files:
        rows.append(("open files", f"{files[0]}, can be raised to {files[1]}"))
    return rows


def finding_words(one: Finding, resolved: str) -> str:
    words = one.kind
    if one.kind == "file":
        words = f"file, {size(one.size)}, mode {one.mode}"
    elif one.kind == "link":
        words = f"link to {one.target}"
    elif one.kind == "directory":
        words = f"directory, mode {one.mode}"
    return words if one.path == resolved else f"{words} at {one.path}"


ROLES_OF_FILES = {
    "provides": "provides it", "merges": "adds to the directory", "deletes": "deletes it",
    "opaque": "provides it, hides all below", "hidden": "hidden by what is above",
}  # fmt: skip
