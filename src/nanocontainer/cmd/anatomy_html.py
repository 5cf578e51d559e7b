"""The anatomy of a container as a page: a drawing, and below it all that the text has, in sections."""

from __future__ import annotations

from .anatomy_drawing import STYLE, drawing
from .anatomy_words import (
    ROLES,
    capability_words,
    depths,
    group_words,
    hops,
    made_by,
    meter_words,
    mount_words,
    namespace_words,
    network_words,
    port_words,
    process_words,
    route_words,
    security_rows,
    share,
    shell_words,
    status_words,
)
from .page import Html, chip, contents, join, page, pairs, section, table, tag
from .units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..container.anatomy import Anatomy
    from ..container.anatomy_cgroup import Meter


def html(found: Anatomy) -> str:
    """The whole page, one file."""
    parts = [(id, title, draw(found)) for id, title, draw, alive in _SECTIONS if found.running or not alive]
    lead = f"{found.image}, {status_words(found)}: what it is made of, as the kernel has it."
    if not found.running:
        lead = f"{found.image}, {status_words(found)}: it has no processes, namespaces, mounts or network."
    links = contents([(id, title) for id, title, _ in parts])
    body = join([drawing(found), links, _head(found), *(section(title, inner, id=id) for id, title, inner in parts)])
    foot = f"nanocontainer anatomy --format html {found.name}"
    return page(f"Anatomy of {found.name}", body, lead=lead, style=STYLE, foot=tag("code", foot))


def _head(found: Anatomy) -> Html:
    rows: list[tuple[object, object]] = [
        ("id", tag("code", found.id)), ("command", tag("code", shell_words(found.command))),
    ]  # fmt: skip
    if found.running:
        rows.append(("process", process_words(found)))
    rows += [("user", found.user or "root"), ("directory", tag("code", found.cwd or "/"))]
    rows += [("host name", found.hostname)] if found.hostname else []
    rows += [("log", tag("code", found.log))] if found.log else []
    rows += [("files", tag("code", found.directory))]
    rows += [("error", found.error)] if found.error else []
    env = tag("details", tag("summary", f"environment, {len(found.env)}"), tag("pre", "\n".join(found.env)))
    return section("Container", pairs(rows), env, id="container")


def _processes(found: Anatomy) -> Html:
    depth = depths(found)
    rows = []
    for one in found.processes:
        branch = tag("span", "└ " if depth[one.pid] else "", style=f"padding-left:{max(depth[one.pid] - 1, 0)}em")
        more = join([" ", chip("by exec")]) if one.joined else ""
        command = join([branch, tag("code", one.command), more])
        rows.append((command, one.inside, one.pid, one.user, size(one.memory, digits=3)))
    return table(("Command", "Inside", "Outside", "User", "Memory"), rows, numbers=(1, 2, 4), short=(3,))


def _namespaces(found: Anatomy) -> Html:
    rows = [
        (tag("strong", one.kind), chip("its own", "inside") if one.own else chip("the host's", "host"),
         namespace_words(one), tag("code", one.inode))
        for one in found.namespaces
    ]  # fmt: skip
    return table(("Namespace", "Whose", "What it separates", "Inode"), rows, short=(1, 3))


def _cgroup(found: Anatomy) -> Html:
    group = found.cgroup
    rows = [(one.name, join([meter_words(one), _bar(one)])) for one in group.meters]
    events = [chip(f"{name}: {count}", "warn") for name, count in group.events.items()]
    said = tag("p", "The kernel had to act: ", *events) if events else ""
    places = tag("pre", "\n".join((group.path, *group.groups)))
    return join([pairs(rows), said, tag("details", tag("summary", "its directories"), places)])


def _bar(one: Meter) -> Html:
    part = share(one)
    if part < 0:
        return Html("")
    kind = " bad" if part > 0.95 else " warn" if part > 0.8 else ""
    return tag("span", tag("i", style=f"width:{max(part * 100, 1):.0f}%"), cls=f"bar{kind}")


def _layers(found: Anatomy) -> Html:
    own = found.changes
    words = f"{own.added} added, {own.changed} changed, {own.deleted} deleted"
    rows: list[tuple[object, ...]] = [(chip("its own files", "good"), words, size(own.size))]
    rows += [
        (join([f"{layer.place} ", tag("code", layer.digest[7:19])]), layer.made_by, size(layer.size))
        for layer in reversed(found.layers)
    ]
    shown = table(("Layer, top first", "What", "Size"), rows, numbers=(2,))
    if not own.paths:
        return shown
    more = own.added + own.changed + own.deleted - len(own.paths)
    lines = "\n".join((*own.paths, *([f"and {more} more"] if more else ())))
    return join([shown, tag("details", tag("summary", "what it has changed"), tag("pre", lines))])


def _mounts(found: Anatomy) -> Html:
    rows = []
    for role in ROLES:
        for one in sorted((mount for mount in found.mounts if mount.role == role), key=lambda mount: mount.target):
            kind = "warn" if one.writable and role == "user" else ""
            mode = chip("hidden") if role == "mask" else chip("rw" if one.writable else "ro", kind)
            rows.append(
                (tag("code", one.target), mode, mount_words(one, found.id), tag("small", made_by(one)), one.kind)
            )
    return table(("Where", "", "What", "Made by", "Type"), rows, short=(1, 4))


def _network(found: Anatomy) -> Html:
    net = found.network
    parts: list[object] = [tag("p", network_words(net))]
    for port in net.ports:
        good, bad = port_words(port)
        way = join([tag("code", hop) for hop in hops(net, port)], " → ")
        parts.append(tag("p", way, " ", chip(good or bad, "good" if good else "warn")))
    rows = []
    for one in net.interfaces:
        cable = f"cable to {one.peer} on the host" + (f", in {one.bridge}" if one.bridge else "") if one.peer else ""
        name = join([tag("strong", one.name), " ", tag("small", one.kind)])
        mac = tag("small", f"MAC {one.mac}") if one.mac.strip("0:") else ""
        rows.append((name, join([*(tag("div", address) for address in one.addresses), mac]), cable))
    parts.append(table(("Interface", "Addresses", "Joined to"), rows))
    parts.append(tag("h3", "Routes"))
    parts.append(table(("To", "How"), [(route.destination, route_words(route)) for route in net.routes]))
    if net.dns:
        parts.append(tag("p", f"Names are asked of {', '.join(net.dns)}."))
    if net.rules:
        rules = table(("Chain", "Rule"), [(chain, tag("code", rule)) for chain, _, rule in
                                          (text.partition(": ") for text in net.rules)])  # fmt: skip
        elements = tag("pre", "\n".join(port.element for port in net.ports)) if net.ports else ""
        parts.append(tag("details", tag("summary", f"the firewall: table inet {net.table}"), elements, rules))
    return join(parts)


def _capabilities(found: Anatomy) -> Html:
    seen = found.security.capabilities
    held = [one for one in seen if one.held]
    rows = [(chip(one.name[4:], "bad" if one.dangerous else "good"), one.allows) for one in held]
    rest = [(chip(one.name[4:]), one.allows) for one in seen if not one.held]
    gained = [one.name[4:] for one in seen if one.bounding and not one.held]
    said = f"It holds {len(held)} of {len(seen)}: {capability_words(found)}."
    if gained:
        said += f" A set-user-ID program could gain {', '.join(gained)}."
    others = tag(
        "details", tag("summary", f"the {len(rest)} it does not hold"), table(("Capability", "Would allow"), rest)
    )
    return join([tag("p", said), table(("Capability", "Allows"), rows) if rows else "", others])


def _seccomp(found: Anatomy) -> Html:
    seen = found.security
    if seen.seccomp != "filter":
        return tag("p", chip("off", "bad"), " Every system call of the kernel can be made.")
    rows = []
    for group in seen.calls:
        word, calls = group_words(group)
        kind = {"blocked": "good", "allowed": "", "in part": "warn"}[word]
        rows.append((group.name, chip(word, kind), tag("small", calls)))
    count = f"{seen.blocked} calls never pass." if seen.blocked >= 0 else "The profile's file is gone."
    return join(
        [
            tag("p", f"A filter by profile {seen.profile}. {count}"),
            table(("Subject", "", "System calls"), rows, short=(1,)),
        ]
    )


def _security(found: Anatomy) -> Html:
    return pairs(security_rows(found))


def _devices(found: Anatomy) -> Html:
    rows = [(tag("code", one.device), one.name, one.access) for one in found.security.devices]
    return table(("Device", "Name", "Allowed"), rows)


_SECTIONS: tuple[tuple[str, str, Callable[[Anatomy], Html], bool], ...] = (
    ("processes", "Processes", _processes, True),
    ("namespaces", "Namespaces", _namespaces, True),
    ("cgroup", "Cgroup", _cgroup, True),
    ("layers", "Layers", _layers, False),
    ("mounts", "Mounts", _mounts, True),
    ("network", "Network", _network, True),
    ("capabilities", "Capabilities", _capabilities, False),
    ("seccomp", "System calls", _seccomp, False),
    ("security", "Security", _security, False),
    ("devices", "Devices", _devices, False),
)
