"""`network connect` and `network disconnect`: a container joins a network or leaves one, while it runs or not."""

from __future__ import annotations

from ..errors import Conflict, InvalidInput, NotFound
from .flags import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .flags import Given
    from .main import App

_IFNAME = "com.docker.network.endpoint.ifname"


def connect(app: App, given: Given) -> int:
    network, ref = given.args
    interface = ""
    for option in given["driver-opt"]:
        name, _, interface = option.partition("=")
        if name != _IFNAME or not interface:
            raise InvalidInput(f"invalid --driver-opt {option!r}", f"the one option there is: {_IFNAME}=NAME")
    wishes = {
        "ip": given["ip"], "ip6": given["ip6"], "aliases": tuple(given["alias"]), "interface": interface,
        "link_local": tuple(given["link-local-ip"]), "priority": given["gw-priority"],
    }  # fmt: skip
    if given["explain"]:
        from .explain import show, wanted

        if form := wanted(given, root="cannot look at containers"):
            return show(form, lambda: app.engine.explain_connect(network, ref, **wishes))
    app.engine.connect(network, ref, **wishes)
    return 0


def disconnect(app: App, given: Given) -> int:
    network, ref = given.args
    if given["explain"]:
        from .explain import show, wanted

        if form := wanted(given, root="cannot look at containers"):
            return show(form, lambda: app.engine.explain_disconnect(network, ref))
    try:
        app.engine.disconnect(network, ref)
    except NotFound:
        if not given["force"]:
            raise
    except Conflict as error:
        if not given["force"] or "is not connected" not in error.what:
            raise
    return 0


_EXPLAIN = ("explain", "", "optional", "text", "Only show what it would do (short, text, json, markdown, html)")

CONNECT = Command(
    "connect",
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network. One that runs has it at once, as a further interface; one that does not has it "
    "when it is started.",
    (
        ("alias", "", "list", None, "Further names of the container on this network"),
        ("driver-opt", "", "list", None, f"{_IFNAME}=NAME: the interface's name inside"),
        ("gw-priority", "", "int", 0, "Of several networks the highest has the default route"),
        ("ip", "", "string", "", "IPv4 address (such as 172.30.100.104)"),
        ("ip6", "", "string", "", "IPv6 address (such as fd00::3)"),
        ("link-local-ip", "", "list", None, "Link-local addresses beside it (169.254.0.0/16, fe80::/10)"),
        _EXPLAIN,
        ("link", "", "later", None, ""),
    ),
    connect,
    least=2,
    most=2,
    examples=(("Let web reach what is on the network back", "nanocontainer network connect back web"),),
)
DISCONNECT = Command(
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network, while it runs or for its next start. Without any network it has its "
    "loopback alone, and can be connected again. Connections by that network end.",
    (("force", "f", "bool", False, "It is no failure where it is not there, or not on the network"), _EXPLAIN),
    disconnect,
    least=2,
    most=2,
)
