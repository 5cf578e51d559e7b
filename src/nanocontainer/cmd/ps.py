"""ps: the list of containers, in docker's columns, filters and words."""

from __future__ import annotations

import time

from ..errors import InvalidInput
from . import units
from .flags import Command, Given
from .main import complain
from .output import out
from .table import Method, quote, render, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..container.spec import Container, Port
    from .main import App

HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "HealthStatus": "HEALTH STATUS",
    "Size": "SIZE",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
    "Pid": "PID",
    "ExitCode": "EXIT CODE",
    "Restarts": "RESTARTS",
    "StartedAt": "STARTED AT",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
FILTERS = (
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish", "since",
    "status", "volume",
)  # fmt: skip
STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


def ps(app: App, given: Given) -> int:
    """`ps`: newest first."""
    last = 1 if given["latest"] else given["last"]
    wanted = read_filters(given["filter"], FILTERS)
    everything = given["all"] or last >= 0 or "status" in wanted or "exited" in wanted
    found = app.engine.containers(all=everything or "before" in wanted or "since" in wanted, on_broken=complain)
    found = sorted(found, key=lambda container: container.spec.created, reverse=True)
    if wanted:
        found = _filtered(app, found, wanted)
        if not everything:
            found = [container for container in found if container.state.status in ("running", "paused", "restarting")]
    if last >= 0:
        found = found[:last]
    whole = given["no-trunc"]
    form = given["format"]
    if given["quiet"] and form in ("", "table"):
        out("".join((container.id if whole else container.id[:12]) + "\n" for container in found))
        return 0
    columns = COLUMNS + (("Size",) if given["size"] else ())
    now = time.time()
    shown = [fields(app, container, whole, given["size"], now) for container in found]
    if form in ("", "table"):
        cells = [[row[column]() for column in columns] for row in shown]
        out(render([[HEADERS[column] for column in columns], *cells]))
    else:
        from .template import listing

        out(listing(form, shown, HEADERS))
    return 0


def fields(app: App, container: Container, whole: bool, sized: bool, now: float) -> dict[str, Any]:
    """What a row can show, by docker's field names: functions, called where they are shown."""
    spec, state = container.spec, container.state
    args = command(spec.args or spec.command)

    def size() -> str:
        own, total = app.engine.size(container.id)
        return f"{units.size(own, digits=3)} (virtual {units.size(total, digits=3)})"

    def mounts() -> str:
        names = [mount.source or mount.target for mount in spec.mounts if mount.kind != "tmpfs"]
        return ",".join(names if whole else [shorten(name, 15) for name in names])

    return {
        "ID": lambda: container.id if whole else container.id[:12],
        "Image": lambda: spec.image,
        "Command": lambda: quote(args if whole else shorten(args, 20)),
        "CreatedAt": lambda: units.local(spec.created),
        "RunningFor": lambda: units.ago(spec.created, now),
        "Ports": lambda: ports(container),
        "State": lambda: state.status,
        "Status": lambda: status(container, now),
        "HealthStatus": lambda: "",
        "Size": size if sized else lambda: "0B",
        "Names": lambda: container.name,
        "Labels": lambda: ",".join(f"{name}={value}" for name, value in sorted(spec.labels.items())),
        "Label": Method(lambda name: spec.labels.get(name, "")),
        "Mounts": mounts,
        "LocalVolumes": lambda: str(sum(mount.kind == "volume" for mount in spec.mounts)),
        "Networks": lambda: ",".join(networks(container)),
        "Platform": lambda: "",
        "Pid": lambda: state.pid,
        "ExitCode": lambda: state.exit_code,
        "Restarts": lambda: state.restarts,
        "StartedAt": lambda: units.local(state.started),
    }


def status(container: Container, now: float) -> str:
    """The state in words: "Up 3 minutes", "Exited (0) 2 hours ago"."""
    state = container.state
    if state.status in ("running", "paused"):
        up = units.duration(now - units.read_time(state.started)) if state.started else "Less than a second"
        without = (*container.spec.without, *state.skipped)
        said = f" (without {', '.join(dict.fromkeys(without))})" if without else ""
        return f"Up {up}{' (Paused)' if state.status == 'paused' else ''}{said}"
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {units.ago(state.finished, now)}".rstrip()
    return state.status.capitalize()


def command(args: tuple[str, ...]) -> str:
    """A command line; arguments with spaces in quotes, as dockerd puts it together."""
    return " ".join([*args[:1], *(f"'{word}'" if " " in word or not word else word for word in args[1:])])


def ports(container: Container) -> str:
    """ "0.0.0.0:8080->80/tcp, 443/tcp": published ports, neighbours joined to ranges, then those only exposed."""
    if container.state.status not in ("running", "paused"):
        return ""
    bound = sorted(
        container.state.ports,
        key=lambda port: (port.protocol, port.host_ip, port.container_port, port.host_port),
    )
    runs: list[tuple[Port, int]] = []  # the first port, and how many follow it
    for port in bound:
        if runs:
            first, more = runs[-1]
            step = more + 1
            if (port.host_ip, port.protocol, port.container_port, port.host_port) == (
                first.host_ip,
                first.protocol,
                first.container_port + step,
                first.host_port + step,
            ):
                runs[-1] = (first, step)
                continue
        runs.append((port, 0))
    shown = []
    for port, more in runs:
        address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip or "0.0.0.0"
        span = f"{port.host_port}-{port.host_port + more}" if more else str(port.host_port)
        inside = f"{port.container_port}-{port.container_port + more}" if more else str(port.container_port)
        shown.append(f"{address}:{span}->{inside}/{port.protocol}")
    published = {f"{port.container_port}/{port.protocol}" for port in bound}
    return ", ".join([*shown, *(word for word in container.spec.exposed if word not in published)])


def networks(container: Container) -> tuple[str, ...]:
    """The names of a container's networks, or its mode."""
    spec = container.spec
    return tuple(each.network for each in spec.networks) or (() if spec.unplugged else (spec.network,))


def network_ids(container: Container) -> tuple[str, ...]:
    """The ids of the networks that a running container is on."""
    return tuple(each.id for each in container.state.endpoints)


def read_filters(items: list[str], known: tuple[str, ...]) -> dict[str, list[str]]:
    """--filter NAME=VALUE items, by name. InvalidInput."""
    wanted: dict[str, list[str]] = {}
    for item in items:
        name, equals, value = item.partition("=")
        name = name.strip().lower()
        if not equals:
            raise InvalidInput("invalid --filter", f"{item!r} is not of the form NAME=VALUE")
        if name not in known:
            raise InvalidInput("invalid --filter", f"there is no filter {name!r}", f"filters are {', '.join(known)}")
        wanted.setdefault(name, []).append(value.strip())
    return wanted


def has_labels(labels: dict[str, str], wanted: list[str]) -> bool:
    """Whether all of these labels are there: NAME, or NAME=VALUE."""
    for item in wanted:
        name, equals, value = item.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def _filtered(app: App, found: list[Container], wanted: dict[str, list[str]]) -> list[Container]:
    """Same name: one must hold. Different names, and labels: all must hold."""
    for value in wanted.get("status", ()):
        if value not in STATES:
            raise InvalidInput("invalid --filter", f"there is no status {value!r}", f"it is one of {', '.join(STATES)}")
    for value in wanted.get("exited", ()):
        if not value.removeprefix("-").isdigit():
            raise InvalidInput("invalid --filter", f"exited={value} is not an exit code")
    times = {name: app.engine.inspect(wanted[name][-1]).spec.created for name in wanted if name in ("before", "since")}
    images = {value: _image_id(app, value) for value in wanted.get("ancestor", ())}
    return [container for container in found if _matches(container, wanted, times, images)]


def _matches(container: Container, wanted: dict[str, list[str]], times: dict[str, str], images: dict[str, str]) -> bool:
    spec, state = container.spec, container.state
    checks: dict[str, Callable[[str], bool]] = {
        "id": container.id.startswith,
        "name": lambda value: _name_matches(container.name, value),
        "status": lambda value: state.status == value,
        "exited": lambda value: state.status == "exited" and state.exit_code == int(value),
        "ancestor": lambda value: spec.image == value or (images[value] != "" and spec.image_id == images[value]),
        "volume": lambda value: any(value in (mount.source, mount.target) for mount in spec.mounts),
        "network": lambda value: value in networks(container) or any(
            len(value) > 3 and id.startswith(value) for id in network_ids(container)
        ),
        "publish": lambda value: any(_port_matches(value, port.host_port, port.protocol) for port in state.ports),
        "expose": lambda value: any(
            _port_matches(value, int(word.partition("/")[0]), word.partition("/")[2]) for word in spec.exposed
        ),
        "health": lambda value: value == "none",
        "is-task": lambda value: value in ("false", "0"),
    }
    for name, values in wanted.items():
        if name == "label":
            if not has_labels(spec.labels, values):
                return False
        elif name == "before":
            if not spec.created < times[name]:
                return False
        elif name == "since":
            if not spec.created > times[name]:
                return False
        elif not any(checks[name](value) for value in values):
            return False
    return True


def _name_matches(name: str, value: str) -> bool:
    """docker takes the value for a regular expression, searched in /NAME; a plain word needs none."""
    if not set(value) & set("^$.*+?()[]{}|\\"):
        return value in f"/{name}"
    import re

    try:
        return re.search(value, name) is not None or re.search(value, f"/{name}") is not None
    except re.error as error:
        raise InvalidInput("invalid --filter", f"name={value} is not a regular expression: {error}") from None


def _port_matches(value: str, number: int, protocol: str) -> bool:
    span, _, kind = value.partition("/")
    first, _, last = span.partition("-")
    if not (first.isdigit() and (not last or last.isdigit())):
        raise InvalidInput("invalid --filter", f"{value!r} is not PORT[/PROTOCOL] or FIRST-LAST[/PROTOCOL]")
    return int(first) <= number <= int(last or first) and protocol == (kind or "tcp")


def _image_id(app: App, name: str) -> str:
    from ..errors import NanoError

    try:
        return app.engine.image(name).id
    except NanoError:
        return ""  # a container may outlive the name it was made from


PS = Command(
    "ps",
    "[OPTIONS]",
    "List containers: the running ones, the newest first.",
    (
        ("all", "a", "bool", False, "Show all containers (default shows just running)"),
        ("filter", "f", "list filter", None, "Show only what matches (name=web, status=exited, label=a=b, ...)"),
        ("format", "", "string", "", "'table', 'table TEMPLATE', 'json', or a Go template"),
        ("last", "n", "int", -1, "Show the n containers made last, in all states"),
        ("latest", "l", "bool", False, "Show the container made last, in any state"),
        ("no-trunc", "", "bool", False, "Show ids and commands whole"),
        ("quiet", "q", "bool", False, "Print ids only"),
        ("size", "s", "bool", False, "Show how much the containers have written"),
    ),
    ps,
    most=0,
    examples=(
        ("Names and states only", "nanocontainer ps -a --format '{{.Names}}: {{.Status}}'"),
        ("Ids of all containers that have failed", "nanocontainer ps -aq -f exited=1"),
    ),
)
