"""The anatomy of a container as text for people: sections, colour where the terminal has it, lines that fit it."""

from __future__ import annotations

from .anatomy_words import (
    ROLES,
    ROLES_OF_FILES,
    capability_words,
    depths,
    finding_words,
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
    short_path,
    status_words,
)
from .page import visible
from .paint import Paint, columns, wrap
from .sheet import Sheet
from .units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..container.anatomy import Anatomy, WhichLayer
    from ..container.anatomy_cgroup import Meter
    from ..container.anatomy_network import NetworkShown, PortFlow


def text(found: Anatomy, paint: Paint, width: int, sections: Sequence[str]) -> str:
    """The sections asked for, in that order of the page; what a container that does not run lacks is said once."""
    sheet = Sheet(paint, width)
    _head(sheet, found)
    for name, draw, needs_life in _SECTIONS:
        if name in sections and (found.running or not needs_life):
            draw(sheet, found)
    if not found.running:
        missing = [name for name, _, needs_life in _SECTIONS if needs_life and name in sections]
        if missing:
            sheet.title("not running")
            sheet.say(f"It has no {', '.join(missing)} now: these come with a start (start {found.name}).")
    return sheet.text()


def _head(sheet: Sheet, found: Anatomy) -> None:
    paint = sheet.paint
    state = status_words(found)
    colour = "green" if found.status == "running" else "yellow"
    first = f"{visible(found.name)}  {state}  {visible(found.image)}"
    if columns(first) <= sheet.width:
        sheet.lines.append(
            f"{paint.bold(visible(found.name))}  {paint(state, colour)}  {paint.dim(visible(found.image))}"
        )
    else:
        sheet.lines += wrap(first, sheet.width)
    rows = [("id", found.id[:12]), ("command", shell_words(found.command))]
    if found.running:
        rows.append(("process", process_words(found)))
    if found.log:
        rows.append(("log", short_path(found.log, found.id)))
    rows.append(("files", short_path(found.directory, found.id)))
    if found.error:
        rows.append(("error", found.error))
    sheet.table(rows, ("dim",))


def _processes(sheet: Sheet, found: Anatomy) -> None:
    count = len(found.processes)
    sheet.title("processes", f"{count}: the number outside, the number inside, who, memory")
    depth = depths(found)
    rows = []
    for one in found.processes:
        branch = "" if not depth[one.pid] else "  " * (depth[one.pid] - 1) + "└ "
        came = "  (by exec)" if one.joined else ""
        more = f"  ({one.threads} threads)" if one.threads > 1 else ""
        rows.append(
            (str(one.pid), str(one.inside), one.user, size(one.memory, digits=3), f"{branch}{one.command}{more}{came}")
        )
    sheet.table(rows, ("", "cyan", "", "dim"), right=(0, 1, 3))


def _namespaces(sheet: Sheet, found: Anatomy) -> None:
    sheet.title("namespaces", "what is its own, and with whom it shares the rest")
    sheet.table(
        [(one.kind, str(one.inode), "own" if one.own else "host's", namespace_words(one)) for one in found.namespaces],
        ("bold", "dim"),
    )


def _cgroup(sheet: Sheet, found: Anatomy) -> None:
    group = found.cgroup
    sheet.title("cgroup", "what it uses, and what it may")
    sheet.table([(one.name, bar(one), meter_words(one)) for one in group.meters], ("bold", "green"))
    for name, count in group.events.items():
        sheet.say(f"the kernel had to act: {name}, {count} time{'s' if count > 1 else ''}", "yellow")
    sheet.table([("at", short_path(path, found.id)) for path in (group.path, *group.groups)], ("dim", "dim"))


def bar(one: Meter, cells: int = 10) -> str:
    part = share(one)
    if part < 0:
        return ""
    full = int(part * cells + 0.999) if part else 0
    return "█" * full + "░" * (cells - full)


def _layers(sheet: Sheet, found: Anatomy) -> None:
    total = sum(layer.size for layer in found.layers)
    sheet.title("layers", f"top first; the image has {size(total)}")
    own = found.changes
    words = f"its own files: {own.added} added, {own.changed} changed, {own.deleted} deleted"
    rows = [("own", "writable", size(own.size), words)]
    rows += [
        (str(layer.place), layer.digest[7:19], size(layer.size), layer.made_by) for layer in reversed(found.layers)
    ]
    sheet.table(rows, ("bold", "cyan", ""), right=(0, 2))
    if own.paths:
        shown = own.paths[:12]
        more = own.added + own.changed + own.deleted - len(shown)
        sheet.say("; ".join(shown) + (f"; and {more} more" if more else ""), "dim")


def _mounts(sheet: Sheet, found: Anatomy) -> None:
    sheet.title("mounts", f"{len(found.mounts)}: what is where, from where, by which step of the start")
    rows = []
    for role in ROLES:
        for one in sorted((mount for mount in found.mounts if mount.role == role), key=lambda mount: mount.target):
            words = mount_words(one, found.id)
            by = made_by(one)
            mode = "" if role == "mask" else "rw" if one.writable else "ro"
            rows.append((one.target, mode, one.kind, f"{words} · {by}" if by else words))
    sheet.table(rows, ("bold", "", "dim"))


def _network(sheet: Sheet, found: Anatomy) -> None:
    net = found.network
    sheet.title("network", network_words(net))
    for port in net.ports:
        sheet.lines += _flow(sheet, net, port)
    rows = []
    for one in net.interfaces:
        cable = f"cable to {one.peer} on the host" if one.peer else ""
        if one.bridge:
            cable += f", which is plugged into {one.bridge}"
        if not one.up:
            cable = "down" + (f"; {cable}" if cable else "")
        rows.append((one.name, one.kind, ", ".join(one.addresses), cable))
    sheet.table(rows, ("bold", "dim", "cyan"))
    sheet.table([(f"→ {route.destination}", route_words(route)) for route in net.routes], ("bold",))
    if net.dns:
        sheet.table([("names", f"asked of {', '.join(net.dns)}")], ("bold",))
    if net.table:
        sheet.say(f"nftables: table inet {net.table}", "dim")
        sheet.table([tuple(rule.split(": ", 1)) for rule in net.rules], ("dim", "dim"))


def _flow(sheet: Sheet, net: NetworkShown, port: PortFlow) -> list[str]:
    lines = wrap(" → ".join(hops(net, port)), sheet.width, "  ", "    ")
    good, bad = port_words(port)
    said = [sheet.paint(line, "yellow" if bad else "green") for line in wrap(good or bad, sheet.width, "      ")]
    return [*(sheet.paint(line, "bold") for line in lines), *said]


def _capabilities(sheet: Sheet, found: Anatomy) -> None:
    have = [one for one in found.security.capabilities if one.held]
    sheet.title("capabilities", f"{len(have)} of {len(found.security.capabilities)}: {capability_words(found)}")
    sheet.table(
        [(one.name[4:] + ("" if one.default else " +"), one.allows) for one in have if not one.dangerous], ("green",)
    )
    sheet.table([(f"{one.name[4:]} !", one.allows) for one in have if one.dangerous], ("red",))
    gained = [one.name[4:] for one in found.security.capabilities if one.bounding and not one.held]
    if gained:
        sheet.say(f"not held, but a set-user-ID program could gain: {', '.join(gained)}", "yellow")
    lacking = [one.name[4:] for one in found.security.capabilities if not one.held and not one.bounding]
    if lacking:
        sheet.say(f"out of reach: {', '.join(lacking)}", "dim")


def _seccomp(sheet: Sheet, found: Anatomy) -> None:
    seen = found.security
    if seen.seccomp != "filter":
        sheet.title("seccomp", "off: every system call of the kernel can be made")
        return
    count = f"{seen.blocked} system calls never pass" if seen.blocked >= 0 else "the profile's file is gone"
    sheet.title("seccomp", f"filter by profile {seen.profile}; {count}")
    rows = []
    for group in seen.calls:
        word, calls = group_words(group)
        rows.append((group.name, word, calls))
    sheet.table(rows, ("bold",))


def _security(sheet: Sheet, found: Anatomy) -> None:
    sheet.title("security")
    sheet.table(security_rows(found), ("bold",))


def _devices(sheet: Sheet, found: Anatomy) -> None:
    sheet.title("devices", "which may be used; all others are refused by the kernel")
    sheet.table([(one.device, one.access, one.name) for one in found.security.devices], ("bold", "dim"))


_SECTIONS: tuple[tuple[str, Callable[[Sheet, Anatomy], None], bool], ...] = (
    ("processes", _processes, True),
    ("namespaces", _namespaces, True),
    ("cgroup", _cgroup, True),
    ("layers", _layers, False),
    ("mounts", _mounts, True),
    ("network", _network, True),
    ("capabilities", _capabilities, False),
    ("seccomp", _seccomp, False),
    ("security", _security, False),
    ("devices", _devices, False),
)


def file_text(found: WhichLayer, paint: Paint, width: int) -> str:
    """Which layer a path comes from, as lines from the top of the stack down."""
    sheet = Sheet(paint, width)
    trace = found.trace
    circle = len(trace.links) > 40
    for link in trace.links[: 4 if circle else None]:
        sheet.say(f"{link.path} is a link to {link.target} ({found.layers[link.layer]})")
    sheet.lines.append(paint.bold(visible(trace.resolved)))
    if found.mount:
        one = found.mount
        what = f"{one.what} ({one.source})" if one.role in ("user", "file") and one.kind != "tmpfs" else one.what
        by = f", put there by {one.step}" if one.step else ""
        sheet.say(f"What the container sees there is no layer's: {one.target} is a mount: {what}{by}.", "yellow")
        if trace.findings:
            sheet.say("Below it, unseen, the layers have:")
    rows = [
        (found.layers[one.layer], ROLES_OF_FILES[one.role], finding_words(one, trace.resolved))
        for one in trace.findings
    ]
    sheet.table(rows, ("", "bold"))
    if not trace.findings and not found.mount:
        why = ": the links lead in a circle" if circle else ", where the link leads" if trace.links else ""
        sheet.say(f"No layer has it{why}.", "yellow")
    elif not trace.exists and not found.mount:
        sheet.say("So the container sees nothing there.", "yellow")
    return sheet.text()
