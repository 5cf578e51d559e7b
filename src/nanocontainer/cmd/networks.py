"""Verbs on networks: network create, ls, inspect, reload, rm, prune."""

from __future__ import annotations

from ..errors import InvalidInput, NanoError, NotFound, Unsupported
from . import units
from .flags import Command, Given
from .main import complain
from .options import labels_of
from .output import err, out
from .ps import has_labels, read_filters
from .table import Method, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..network.model import Network
    from .main import App

HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
    "Subnets": "SUBNETS",
    "Bridge": "BRIDGE",
}
COLUMNS = ("ID", "Name", "Driver", "Scope")
FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")
_BUILT_IN = ("bridge", "host", "none")


def create(app: App, given: Given) -> int:
    """`network create`: prints the id."""
    from ..network.making import Wish

    if "ipv4" in given and not given["ipv4"]:
        hint = "--ipv6=false makes one without IPv6"
        raise Unsupported("networks without IPv4 are not supported", "--ipv4=false", hint)
    wish = Wish(
        name=given.args[0], driver=given["driver"], subnets=_several(given["subnet"]),
        gateways=_several(given["gateway"]), ranges=_several(given["ip-range"]), aux=_aux(given["aux-address"]),
        ipv6=("true" if given["ipv6"] else "false") if "ipv6" in given else "", internal=given["internal"],
        attachable=given["attachable"], labels=labels_of(given), options=_options(given["opt"]),
    )  # fmt: skip
    if given["explain"]:
        from .explain import show, wanted

        if form := wanted(given):
            return show(form, lambda: app.engine.explain_network_create(wish))
    from .process import check_root

    check_root("cannot make networks")
    out(f"{app.engine.network_create(wish).id}\n")
    _fetch_resolver(app)
    return 0


def _fetch_resolver(app: App) -> None:
    """The library that containers on the network will need: at their start nobody could see what it waits for. The
    network is made nevertheless, so that its absence is only a warning here."""
    from ..network.resolver_steps import fetch_library

    try:
        fetch_library(app.engine.paths)
    except NanoError as error:
        err(f"WARNING: no container can start on this network yet: {error.why}\nHint: {error.hint}\n")


def _several(items: list[str]) -> tuple[str, ...]:
    """Values, also several with commas between (docker's slices)."""
    return tuple(word for item in items for word in item.split(","))


def _options(items: list[str]) -> dict[str, str]:
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not (name and equals):
            raise InvalidInput("invalid --opt", f"{item!r} is not of the form NAME=value")
        found[name] = value
    return found


def _aux(items: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in _several(items):
        name, equals, value = item.partition("=")
        if not (name and equals) or name in found:
            raise InvalidInput("invalid --aux-address", f"{item!r} is not of the form NAME=ADDRESS, each name once")
        found[name] = value
    return found


def ls(app: App, given: Given) -> int:
    """`network ls`: by name."""
    wanted = read_filters(given["filter"], FILTERS)
    _check_filters(wanted)
    found = app.engine.networks()
    if "dangling" in wanted:
        used = {each.network for one in app.engine.containers(all=True) for each in one.spec.networks}
        unused = {one.name for one in found} - used - set(_BUILT_IN)
        wants = wanted["dangling"][-1] in ("true", "1")
        found = [one for one in found if (one.name in unused) is wants]
    found = [one for one in found if _matches(one, wanted)]
    form, whole = given["format"], given["no-trunc"]
    rows = [fields(network, whole) for network in found]
    if given["quiet"] and form in ("", "table"):
        out("".join(f"{row['ID']}\n" for row in rows))
    elif form in ("", "table"):
        out(render([[HEADERS[column] for column in COLUMNS], *[[row[column] for column in COLUMNS] for row in rows]]))
    else:
        from .template import listing

        out(listing(form, rows, HEADERS))
    return 0


def fields(network: Network, whole: bool) -> dict[str, Any]:
    """What a row can show, by docker's field names; Subnets and Bridge are ours."""
    return {
        "ID": network.id if whole else network.id[:12],
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "IPv4": "true",
        "IPv6": str(bool(network.subnet6)).lower(),
        "Internal": str(network.internal).lower(),
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(network.labels.items())),
        "Label": Method(lambda name: network.labels.get(name, "")),
        "CreatedAt": units.local(network.created) if network.created else "",
        "Subnets": ", ".join(text for text in (network.subnet, network.subnet6) if text),
        "Bridge": network.interface,
    }


def _check_filters(wanted: dict[str, list[str]]) -> None:
    for name, known in (("type", ("custom", "builtin")), ("dangling", ("true", "false", "1", "0"))):
        for value in wanted.get(name, ()):
            if value not in known:
                raise InvalidInput("invalid --filter", f"{name}={value}", f"it is one of {', '.join(known)}")


def _matches(network: Network, wanted: dict[str, list[str]]) -> bool:
    """Same name: one must hold. Different names, and labels: all must hold."""
    checks: dict[str, Callable[[str], bool]] = {
        "driver": lambda value: network.driver == value,
        "id": lambda value: value in network.id,  # docker: any part
        "name": lambda value: value in network.name,
        "scope": lambda value: value == "local",
        "type": lambda value: (network.name in _BUILT_IN) is (value == "builtin"),
    }
    for name, values in wanted.items():
        if name == "label":
            if not has_labels(network.labels, values):
                return False
        elif name in checks and not any(checks[name](value) for value in values):
            return False
    return True


def rm(app: App, given: Given) -> int:
    """`network rm`: prints the name of each that is gone."""
    if given["explain"]:
        from .explain import show_each, wanted

        if form := wanted(given, root="cannot look at networks"):
            return show_each(form, given.args, app.engine.explain_network_remove)
    code = 0
    for ref in given.args:
        try:
            app.engine.network_remove(ref)
            out(f"{ref}\n")
        except NanoError as error:
            if given["force"] and isinstance(error, NotFound):
                continue
            complain(error, app.debug)
            code = 1
    return code


def reload(app: App, given: Given) -> int:
    """`network reload`: prints the names of the containers whose rules are there again."""
    from .process import check_root

    check_root("cannot set firewall rules")
    out("".join(f"{name}\n" for name in app.engine.network_reload(*given.args)))
    return 0


def prune(app: App, given: Given) -> int:
    """`network prune`: all that no container names."""
    from .containers import confirm

    wanted = read_filters(given["filter"], ("label", "label!", "until"))
    until = wanted.get("until", [""])
    if len(until) > 1:
        raise InvalidInput("invalid --filter", "until is given more than once")
    confirm("This will remove all networks not used by at least one container.", given["force"])
    removed = app.engine.network_prune(
        until=until[0], labels=tuple(wanted.get("label", ())), without=tuple(wanted.get("label!", ()))
    )
    if removed:
        out("Deleted Networks:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    return 0


def inspect(app: App, given: Given) -> int:
    """`network inspect`: docker's JSON; 1 where something was not found."""
    from .inspect import show_found
    from .shape_network import network

    return show_found(app, given, lambda ref: network(app.engine.network_inspect(ref)))


RELOAD = Command(
    "reload",
    "[NETWORK|CONTAINER...]",
    "Put back the firewall rules of running containers after somebody has flushed them (nft flush ruleset, a firewall "
    "that was restarted): those of their networks, their published ports, and what they may reach. Connections are not "
    "cut. Every start of a container on a network does the same where it finds the rules gone. All rules are one "
    "transaction, so all are put back; prints the names of the containers that were asked for, or of all.",
    (),
    reload,
    least=0,
)
CREATE = Command(
    "create",
    "[OPTIONS] NETWORK",
    "Create a network: a bridge, on which containers find each other by name and reach each other on all ports. Its "
    "addresses are chosen so that they are nobody's, of IPv6 too where the host has it. Prints its id. The bridge "
    "itself is made when the first container comes, and goes after the last.",
    (
        ("driver", "d", "string", "bridge", "Kind of network; bridge is the one there is"),
        ("subnet", "", "list", None, "Subnet in CIDR form (10.5.0.0/24), one of each family"),
        ("gateway", "", "list", None, "Address of the bridge itself (default: the first of the subnet)"),
        ("ip-range", "", "list", None, "Part of the subnet from which addresses are given (10.5.0.128/25)"),
        ("aux-address", "", "list", None, "Address that is never given to a container (NAME=ADDRESS)"),
        ("ipv4", "", "bool", True, "Have IPv4"),
        ("ipv6", "", "bool", True, "Have IPv6 (default: where the host has it)"),
        ("internal", "", "bool", False, "Let nothing out and nobody in"),
        ("attachable", "", "bool", False, "Accepted and shown: every container may join"),
        ("label", "", "list", None, "Set a label (NAME=value)"),
        ("opt", "o", "list", None, "Option (com.docker.network.driver.mtu=1400); a wrong one says which there are"),
        ("explain", "", "optional", "text", "Only show what it would do (short, text, json, markdown, html)"),
        ("config-from", "", "later", None, ""),
        ("config-only", "", "later", None, ""),
        ("ingress", "", "later", None, ""),
        ("ipam-driver", "", "later", None, ""),
        ("ipam-opt", "", "later", None, ""),
        ("scope", "", "later", None, ""),
    ),
    create,
    least=1,
    most=1,
    examples=(
        ("Make one, and a container on it", "nanocontainer network create lab && nanocontainer run --network lab tiny"),
        ("With addresses of your choice", "nanocontainer network create --subnet 10.5.0.0/24 --subnet fd00:5::/64 lab"),
        ("One that reaches nothing outside", "nanocontainer network create --internal vault"),
    ),
)  # fmt: skip
LS = Command(
    "ls",
    "[OPTIONS]",
    "List networks.",
    (
        ("filter", "f", "list filter", None, "Show only what matches (name=lab, label=a=b, type=custom, ...)"),
        ("format", "", "string", "", "'table', 'table TEMPLATE', 'json', or a Go template"),
        ("no-trunc", "", "bool", False, "Show ids whole"),
        ("quiet", "q", "bool", False, "Print ids only"),
    ),
    ls,
    most=0,
    examples=(
        ("With their addresses", "nanocontainer network ls --format 'table {{.Name}}\\t{{.Subnets}}\\t{{.Bridge}}'"),
    ),
)
RM = Command(
    "rm",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Remove one or more networks. One on which a running container is stays.",
    (
        ("force", "f", "bool", False, "A missing one is no failure"),
        ("explain", "", "optional", "text", "Only show what it would do (short, text, json, markdown, html)"),
    ),
    rm,
    least=1,
)
PRUNE = Command(
    "prune",
    "[OPTIONS]",
    "Remove all networks that no container uses, not even a stopped one.",
    (
        ("filter", "", "list filter", None, "Only those (until=24h, label=a=b, label!=a)"),
        ("force", "f", "bool", False, "Do not ask"),
    ),
    prune,
    most=0,
)
INSPECT = Command(
    "inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Print all that is known of networks as a JSON array, in docker's form.",
    (
        ("format", "f", "string", "", "'json', or a Go template"),
        ("verbose", "v", "bool", False, ""),
    ),
    inspect,
    least=1,
    examples=(
        ("Who is on it, with which address",
         "nanocontainer network inspect -f '{{range .Containers}}{{println .Name .IPv4Address}}{{end}}' lab"),
    ),
)  # fmt: skip
