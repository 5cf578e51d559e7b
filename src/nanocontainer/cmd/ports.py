"""`port`: the published ports of a container, shown, added and removed.

docker's `port CONTAINER [PORT]` has the container where we have `add` and `rm`: those two are our verbs where a
container and a port follow them, and else the name of a container.
"""

from __future__ import annotations

from ..errors import InvalidInput, NotFound
from .flags import BadArguments, Command
from .output import out
from .portflags import publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..container.spec import Port, State
    from .flags import Given
    from .main import App


def port(app: App, given: Given) -> int:
    words = given.args
    if words[0] in ("add", "rm") and (len(words) > 2 or (given["publish"] and len(words) > 1)):
        return _change(app, given, words[0], words[1], [*given["publish"], *words[2:]])
    if given["publish"]:
        raise InvalidInput("--publish is for port add", "", f"port add {words[0]} -p {given['publish'][0]}")
    if len(words) > 2:
        raise InvalidInput(
            "too many arguments for port", "it shows one container, or one port of it",
            f"to publish more: port add {words[0]} {words[1]}",
        )  # fmt: skip
    try:
        container = app.engine.inspect(words[0])
    except NotFound:
        if words[0] not in ("add", "rm"):
            raise
        what = f"'nanocontainer port {words[0]}' requires a container and a port"
        raise BadArguments(what, hint=f"nanocontainer port {words[0]} CONTAINER PORT...") from None
    if len(words) == 1:
        out("".join(f"{_inside(one)} -> {_outside(one)}\n" for one in sorted(published(container.state), key=_order)))
        return 0
    wanted = _one(words[1])
    found = [one for one in published(container.state) if (one.container_port, one.protocol) == wanted]
    if not found:
        what = f"no public port '{wanted[0]}/{wanted[1]}' published for {words[0]}"
        raise NotFound(what, "", f"see: port {words[0]}")
    out("".join(f"{_outside(one)}\n" for one in found))
    return 0


def _change(app: App, given: Given, verb: str, ref: str, items: list[str]) -> int:
    if given["explain"]:
        from .explain import show, wanted

        if form := wanted(given, root="cannot look at containers"):
            ports = publish(items)
            return show(form, lambda: app.engine.explain_publish(ref, ports, less=verb == "rm"))
    if verb == "rm":
        app.engine.unpublish(ref, publish(items))
        return 0
    before = app.engine.ports(ref)
    state = app.engine.publish(ref, publish(items)).state
    new = tuple(one for one in state.ports if one not in before)
    out("".join(f"{_inside(one)} -> {_outside(one)}\n" for one in published(state.replace(ports=new))))
    return 0


def published(state: State) -> list[Port]:
    """The ports as they are reached: what is published on all addresses of the host once for each family, as docker
    lists them. All means IPv6 too where a network of the container has it (network/allot.py)."""
    anywhere = ["0.0.0.0", *(["::"] if any(one.ip6 for one in state.endpoints) else [])]
    return [port.replace(host_ip=ip) for port in state.ports for ip in ([port.host_ip] if port.host_ip else anywhere)]


def _order(port: Port) -> tuple[int, str, int]:
    return port.container_port, port.protocol, port.host_port


def _inside(port: Port) -> str:
    return f"{port.container_port}/{port.protocol}"


def _outside(port: Port) -> str:
    address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    return f"{address}:{port.host_port}"


def _one(text: str) -> tuple[int, str]:
    """The container's port of "80" or "80/udp"."""
    (found,) = publish([text]) if "-" not in text and ":" not in text else (None,)
    if found is None:
        raise InvalidInput(f"invalid port {text!r}", "it is a port of the container, such as 80/tcp")
    return found.container_port, found.protocol


PORT = Command(
    "port",
    "[add|rm] CONTAINER [PORT...]",
    "Show the published ports of a container; or publish more of them, or some no more, while it runs.\n\n"
    "PORT is CONTAINER[/PROTO] where it is shown; added and removed it is what follows -p of run: "
    "[[IP:]HOST:]CONTAINER[/PROTO]. In a container that does "
    "not run that counts from its next start on. port rm 80 removes all that lead to its port 80. TCP connections that "
    "stand when their port is removed go on to their end; UDP is cut off.\n\n"
    "A container that is named add or rm: its ports are shown by `port add`, and changed by `port add add 80`.",
    (
        ("publish", "p", "list spec", None, "A port to add or remove, as with run (the word -p may be left out)"),
        ("explain", "", "optional", "text", "Only show what add or rm would do (short, text, json, markdown, html)"),
    ),
    port,
    least=1,
    examples=(
        ("What leads to it", "nanocontainer port web"),
        ("Publish one more port of a container that runs", "nanocontainer port add web 8080:80"),
        ("And no more", "nanocontainer port rm web 8080:80"),
    ),
)
