"""The drawing of a container: the host around it, what crosses the border, and what is inside. SVG, by page.py.

Two layouts of the same panels: side by side with lines across the border for wide screens, one below the other for
phones. The page shows one of them, by CSS.
"""

from __future__ import annotations

from .anatomy_words import depths, meter_words, port_words, share, status_words
from .page import Html, box, line, svg, tag, words
from .units import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..container.anatomy import Anatomy

    Shapes = list[Html]
    # draws a panel at x, y, of that width; the height that it took
    Panel = Callable[[Shapes, float, float, float], float]

STYLE = """
svg text{white-space:pre}
svg .full{fill:var(--inside);stroke:none}svg .full.warn{fill:var(--warn)}svg .full.bad{fill:var(--bad)}
svg .track{fill:var(--code);stroke:none}svg path.slab{fill:var(--card);stroke:var(--inside-edge)}
svg path.slab.own{fill:var(--good-fill);stroke:var(--good-edge)}
svg path.border{stroke:var(--inside);stroke-width:2;stroke-dasharray:2 5;stroke-linecap:round}
svg circle.dot{fill:var(--host);stroke:none}svg path.wire{stroke:var(--host);stroke-width:2}
"""
_ROW = 21.0  # between baselines
_HEAD = 30.0  # a panel's title
_PAD = 14.0
_MOST = 7  # rows of a list that are drawn; the tables below the drawing have all


def drawing(found: Anatomy) -> Html:
    """Both layouts, one of which a screen shows."""
    return tag("figure", _wide(found), _narrow(found))


def _label(found: Anatomy) -> str:
    return f"The container {found.name} in its host: network, processes, files, limits, namespaces"


def _wide(found: Anatomy) -> Html:
    width, left, gap = 1112.0, 348.0, 56.0
    inner = 20 + left + gap
    right = width - inner - 20 - 2 * _PAD
    shapes: Shapes = []
    y = 62.0
    for host, inside, joined in _rows(found):
        joints = y + 42
        heights = [host(shapes, 20, y, left) if host else 0, inside(shapes, inner + _PAD, y, right)]
        if host and joined:
            shapes += _wire(20 + left, inner + _PAD, joints)
        y += max(heights) + 16
    height = y + 18
    back = [
        box(1, 1, width - 2, height - 2, "host", radius=16), words(22, 36, "host", "host big"),
        words(70, 36, "what the container cannot see", "soft small"),
        box(inner, 16, width - inner - 16, height - 32, "inside", radius=12),
        words(inner + _PAD, 44, found.name, "inside big", most=230),
        words(width - 30, 44, f"{status_words(found)} · {found.image}", "soft", anchor="end", most=400),
    ]  # fmt: skip
    return svg(width, height, *back, *shapes, label=_label(found), cls="wide")


def _narrow(found: Anatomy) -> Html:
    width = 352.0
    host: Shapes = []
    y = 46.0
    rows = _rows(found)
    for panel, _, _ in rows:
        if panel:
            y += panel(host, 12, y, width - 24) + 12
    top = y + 8
    inside: Shapes = []
    y = top + 58
    for _, panel, _ in rows:
        y += panel(inside, 20, y, width - 40) + 12
    back = [
        box(1, 1, width - 2, y + 14, "host", radius=14), words(14, 30, "host", "host big"),
        words(62, 30, "what it cannot see", "soft small"), box(8, top, width - 16, y - top + 4, "inside", radius=10),
        words(20, top + 26, found.name, "inside big", most=width - 40),
        words(20, top + 45, f"{status_words(found)} · {found.image}", "soft small", most=width - 40),
    ]  # fmt: skip
    return svg(width, y + 16, *back, *host, *inside, label=_label(found), cls="narrow")


def _rows(found: Anatomy) -> list[tuple[Panel | None, Panel, bool]]:
    """(the host's panel, the container's, whether something goes from one to the other), side by side where there is
    room."""
    if not found.running:
        return [(_sources(found), _files(found), True), (_kernel(found), _confined(found), False)]
    return [
        (_way(found), _interfaces(found), True),
        (_keeper(found), _processes(found), True),
        (_sources(found), _files(found), True),
        (_limits(found), _namespaces(found), False),
        (_kernel(found), _confined(found), False),
    ]


def _wire(start: float, end: float, y: float) -> Shapes:
    return [
        line([(start, y), (end, y)], "wire"),
        *(tag("circle", cx=f"{x:g}", cy=f"{y:g}", r="4", cls="dot") for x in (start, end)),
    ]


def _frame(shapes: Shapes, x: float, y: float, width: float, height: float, title: str, note: str = "") -> None:
    shapes.append(box(x, y, width, height))
    shapes.append(words(x + _PAD, y + 21, title, "strong"))
    if note:
        room = width - 2 * _PAD - len(title) * 8 - 10
        shapes.append(words(x + width - _PAD, y + 21, note, "soft small", anchor="end", most=room))


def _list(title: str, rows: list[tuple[str, str, str]], note: str = "") -> Panel:
    """A panel with lines: (words at the left, words at the right, kind of the left ones)."""

    def draw(shapes: Shapes, x: float, y: float, width: float) -> float:
        shown = rows if len(rows) <= _MOST + 1 else rows[:_MOST]
        height = _HEAD + _ROW * max(len(shown) + (len(rows) > len(shown)), 1) + 10
        _frame(shapes, x, y, width, height, title, note)
        at = y + _HEAD + 15
        for left, right, kind in shown:
            taken = min(len(right) * 6.7, width * 0.6) if right else 0
            room = width - 2 * _PAD - taken - (10 if right else 0)
            shapes.append(words(x + _PAD, at, left, kind, most=room))
            if right:
                shapes.append(words(x + width - _PAD, at, right, "soft small", anchor="end", most=taken + 8))
            at += _ROW
        if len(rows) > len(shown):
            shapes.append(words(x + _PAD, at, f"and {len(rows) - len(shown)} more", "soft small"))
        if not rows:
            shapes.append(words(x + _PAD, at, "nothing", "soft"))
        return height

    return draw


def _way(found: Anatomy) -> Panel:
    """The host's part of the network: ports, firewall, bridge, cable."""
    net = found.network
    rows: list[tuple[str, str, str]] = []
    if not net.own:
        return _list("network", [(name, "the host's own", "mono") for name in net.uplinks], "shared")
    rows += [
        (f"{port.host_ip}:{port.host_port}/{port.protocol}", f"→ {port.container_ip}:{port.container_port}", "mono")
        for port in net.ports
    ]
    if net.ports:
        rows.append((f"table inet {net.table}", "dnat by a map", "mono"))
    if net.bridge:
        rows.append((net.bridge, f"bridge, {net.gateway}", "mono"))
    rows += [(one.peer, "its end of the cable", "mono") for one in net.interfaces if one.peer]
    if net.mode.startswith("container:"):
        rows.append((net.mode, "shares its network", "mono"))
    return _list("network", rows, f"out by {', '.join(net.uplinks)}" if net.uplinks and net.bridge else "")


def _interfaces(found: Anatomy) -> Panel:
    net = found.network
    rows = [
        (one.name, ", ".join(a for a in one.addresses if not a.startswith("fe80")), "mono strong")
        for one in net.interfaces
    ]
    for port in net.ports:
        good, _ = port_words(port)
        said = "a program listens" if good else "nobody listens" if port.there else "lost by the firewall"
        rows.append((f"port {port.container_port}/{port.protocol}", said, "good" if good else "warn"))
    return _list(
        "interfaces",
        sorted(rows, key=lambda row: row[0] == "lo"),
        "its own network" if net.own else "the host's network",
    )


def _keeper(found: Anatomy) -> Panel:
    rows = [(f"process {found.keeper}", "waits, writes the log", "mono")]
    if found.log:
        rows.append(("log.json", "what it has written", "mono"))
    rows.append((found.cgroup.path.rpartition("/")[0], "its cgroup is here", "mono"))
    return _list("keeper", rows)


def _processes(found: Anatomy) -> Panel:
    depth = depths(found)
    rows = []
    for one in found.processes:
        branch = "  " * max(depth[one.pid] - 1, 0) + ("└ " if depth[one.pid] else "")
        rows.append((f"{branch}{one.inside}  {one.command}", f"{one.user}, {one.pid} outside", "mono"))
    return _list("processes", rows, "number inside first")


def _sources(found: Anatomy) -> Panel:
    rows = [
        (one.source if one.kind != "tmpfs" else "in memory", "rw" if one.writable else "ro", "mono")
        for one in found.mounts
        if one.role == "user"
    ]
    rows.append(
        (
            f"{len(found.layers)} layer{'s' if len(found.layers) != 1 else ''} of the image",
            size(sum(layer.size for layer in found.layers)),
            "",
        )
    )
    rows.append(("upper/, its own files", size(found.changes.size), ""))
    return _list("on the disk", rows)


def _files(found: Anatomy) -> Panel:
    """The layers as a stack of slabs, and what is mounted into them."""

    def draw(shapes: Shapes, x: float, y: float, width: float) -> float:
        narrow = width < 480
        stack = width - 2 * _PAD if narrow else 300
        layers = list(reversed(found.layers))
        shown = layers if len(layers) <= 5 else layers[:4]
        own = found.changes
        count = own.added + own.changed + own.deleted
        said = f"{count} change{'s' if count != 1 else ''}, {size(own.size)}" if count else "nothing changed"
        slabs = [("own files", said, "own")]
        slabs += [(layer.digest[7:19], size(layer.size), "") for layer in shown]
        if len(layers) > len(shown):
            slabs.append((f"{len(layers) - len(shown)} more layers", size(sum(one.size for one in layers[4:])), ""))
        mounts = [one for one in found.mounts if one.role == "user"]
        below = sum(one.role == "later" for one in found.mounts)
        others = len(found.mounts) - len(mounts) - below
        lines = [(one.target, "rw" if one.writable else "ro", "mono strong") for one in mounts[:5]]
        if len(mounts) > 5:
            lines.append((f"and {len(mounts) - 5} more", "", "soft"))
        if below:
            lines.append((f"{below} below them", "", "soft"))
        if found.running:
            lines.append((f"{others} by the engine", "/proc /sys /dev …", "soft"))
        tall = _HEAD + 30 * len(slabs) + 14
        list_height = _ROW * len(lines) + 8
        height = tall + list_height if narrow else max(tall, _HEAD + list_height)
        _frame(shapes, x, y, width, height, "root file system", "overlay, top first" if not narrow else "overlay")
        at = y + _HEAD + 4
        for left, right, kind in slabs:
            shapes += _slab(x + _PAD, at, stack, 25, left, right, kind)
            at += 30
        at, start = (at + 14, x + _PAD) if narrow else (y + _HEAD + 17, x + stack + 44)
        end = x + width - _PAD
        for left, right, kind in lines:
            shapes.append(words(start, at, left, kind, most=end - start - len(right) * 7 - 12))
            shapes.append(words(end, at, right, "soft small", anchor="end"))
            at += _ROW
        return height

    return draw


def _slab(x: float, y: float, width: float, height: float, left: str, right: str, kind: str) -> Shapes:
    points = f"M{x + 16:g} {y:g}L{x + width:g} {y:g}L{x + width - 16:g} {y + height:g}L{x:g} {y + height:g}Z"
    return [
        tag("path", d=points, cls=f"slab {kind}".rstrip()),
        words(x + 24, y + 17, left, "mono", most=width - 56 - len(right) * 6),
        words(x + width - 24, y + 17, right, "soft small", anchor="end"),
    ]


def _limits(found: Anatomy) -> Panel:
    """Meters, as bars where there is a limit."""
    meters = [one for one in found.cgroup.meters if one.unit != "cpus"][:5]

    def draw(shapes: Shapes, x: float, y: float, width: float) -> float:
        height = _HEAD + sum(42 if share(one) >= 0 else 28 for one in meters) + 4
        _frame(shapes, x, y, width, height, "limits", "cgroup")
        at = y + _HEAD + 13
        room = width - 2 * _PAD
        for one in meters:
            said = meter_words(one).partition(" (")[0]
            if one.unit == "seconds" and one.limit >= 0:
                said = f"at most {one.limit:g} CPU"
            shapes.append(words(x + _PAD, at, one.name))
            shapes.append(
                words(x + width - _PAD, at, said, "soft small", anchor="end", most=room - len(one.name) * 8 - 8)
            )
            part = share(one)
            if part >= 0:
                shapes.append(box(x + _PAD, at + 8, room, 7, "track", radius=3.5))
            if part > 0:
                kind = "bad" if part > 0.95 else "warn" if part > 0.8 else ""
                shapes.append(box(x + _PAD, at + 8, max(room * part, 7), 7, f"full {kind}".rstrip(), radius=3.5))
            at += 42 if part >= 0 else 28
        return height

    return draw


def _kernel(found: Anatomy) -> Panel:
    rows = [(found.kernel, "one for all", "mono"), ("security module", found.security.label or "none", "")]
    return _list("kernel", rows, "shared")


def _namespaces(found: Anatomy) -> Panel:
    """A small box each: its own, or the host's."""
    spaces = found.namespaces

    def draw(shapes: Shapes, x: float, y: float, width: float) -> float:
        across = 4 if width >= 480 else 2
        down = (len(spaces) + across - 1) // across
        height = _HEAD + down * 52 + 8
        own = sum(one.own for one in spaces)
        _frame(shapes, x, y, width, height, "namespaces", f"{own} of its own, {len(spaces) - own} the host's")
        wide = (width - 2 * _PAD + 8) / across
        for at, one in enumerate(spaces):
            left, top = x + _PAD + at % across * wide, y + _HEAD + 4 + at // across * 52
            kind = "inside" if one.own else "host"
            shapes.append(box(left, top, wide - 8, 44, kind if one.own else "host dash", radius=7))
            shapes.append(words(left + 10, top + 18, one.kind, f"strong {kind}"))
            if one.own and one.containers:
                said = f"with {', '.join(one.containers)}"
            else:
                said = "its own" if one.own else "the host's"
            shapes.append(words(left + wide - 16, top + 18, said, "soft small", anchor="end", most=wide - 66))
            shapes.append(words(left + 10, top + 35, one.inode, "soft mono small"))
        return height

    return draw


def _confined(found: Anatomy) -> Panel:
    """What holds it back, as facts with a colour."""
    seen = found.security
    held = [one for one in seen.capabilities if one.held]
    danger = [one.name[4:] for one in held if one.dangerous]
    filtered = seen.seccomp == "filter"
    facts = [
        (
            "capabilities",
            f"{len(held)}, {len(danger)} dangerous" if danger else f"{len(held)} of {len(seen.capabilities)}",
            "bad" if danger else "good",
        ),
        ("system calls", f"{seen.blocked} blocked" if filtered else "no filter", "good" if filtered else "bad"),
        ("no new privileges", "on" if seen.no_new_privs else "off", "good" if seen.no_new_privs else ""),
        (
            "devices",
            "all of the host" if seen.privileged else f"{len(seen.devices)} rules",
            "bad" if seen.privileged else "good",
        ),
    ]
    if found.running:
        whole = f"{len(seen.masked)} hidden, {len(seen.read_only)} read-only"
        facts.append(
            ("/proc and /sys", f"{len(seen.open)} open" if seen.open else whole, "bad" if seen.open else "good")
        )
        mapped = seen.uid_map != ("0 0 4294967295",)
        facts.append(
            (
                "root inside",
                "another user outside" if mapped else f"uid {seen.uid}, root's ids",
                "good" if mapped else "",
            )
        )

    def draw(shapes: Shapes, x: float, y: float, width: float) -> float:
        across = 3 if width >= 480 else 2
        down = (len(facts) + across - 1) // across
        height = _HEAD + down * 52 + 8
        _frame(shapes, x, y, width, height, "confinement", "what holds it back" if width >= 480 else "")
        wide = (width - 2 * _PAD + 8) / across
        for at, (name, value, kind) in enumerate(facts):
            left, top = x + _PAD + at % across * wide, y + _HEAD + 4 + at // across * 52
            shapes.append(box(left, top, wide - 8, 44, kind, radius=7))
            shapes.append(words(left + 10, top + 18, name, "soft small", most=wide - 28))
            shapes.append(words(left + 10, top + 35, value, f"strong {kind}".rstrip(), most=wide - 28))
        return height

    return draw
