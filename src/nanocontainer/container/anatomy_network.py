"""The way of a packet: from a port of the host to the container's interface, as netlink and nftables have it now."""

from __future__ import annotations

import os

from ..errors import NanoError
from ..network.allot import Binding
from ..network.model import NetworkStore, table_name
from ..network.rules import publish
from ..paths import read_file
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.netlink import Link
    from ..network.model import Network
    from .lifecycle import Lifecycle
    from .spec import Container, Port

_TCP_LISTEN, _UDP_UNCONNECTED = "0A", "07"  # linux/net/tcp_states.h, as in /proc/net/tcp


class Interface(Record):
    """An interface inside. peer: the name of the cable's other end on the host; bridge: what that is plugged into."""

    name: str
    index: int
    kind: str
    up: bool
    mac: str
    mtu: int
    addresses: tuple[str, ...] = ()
    peer: str = ""
    peer_up: bool = False
    bridge: str = ""


class RouteShown(Record):
    """destination: "default", or with its prefix; gateway: empty for a direct one."""

    destination: str
    gateway: str
    interface: str


class PortFlow(Record):
    """A published port. element: of which map of ours, as nft writes it; there: whether the kernel has it; listening:
    whether a program inside listens on the port now."""

    host_ip: str
    host_port: int
    protocol: str
    container_ip: str
    container_port: int
    element: str
    there: bool
    listening: bool


class NetworkShown(Record):
    """mode: as was asked for. own: it has a network namespace that is not the host's. rules: the chains of our table,
    as nft lists them; table: its name; uplinks: interfaces of the host that lead out."""

    mode: str = ""
    own: bool = False
    name: str = ""
    bridge: str = ""
    subnet: str = ""
    gateway: str = ""
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[RouteShown, ...] = ()
    ports: tuple[PortFlow, ...] = ()
    table: str = ""
    rules: tuple[str, ...] = ()
    uplinks: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


def network_of(life: Lifecycle, container: Container) -> NetworkShown:
    """Ask the kernel for the network of a running container. OSError where it ends meanwhile."""
    spec, state = container.spec, container.state
    kernel = life.kernel
    fd = kernel.open(f"/proc/{state.pid}/ns/net", os.O_RDONLY)
    try:
        own = os.stat(f"/proc/{state.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino
        with kernel.links(fd) as links:
            inner, addresses, routes = links.links(), links.addresses(), links.routes()
    finally:
        kernel.close(fd)
    with kernel.links() as links:
        outer = {link.index: link for link in links.links()}
        uplinks = {route.index for route in links.routes() if not route.prefix and route.gateway}
        network = _network(life, spec.network)
        table = table_name(life.paths) if network and links.has_table(table_name(life.paths)) else ""
    names = {link.index: link.name for link in inner}
    interfaces = [
        _interface(link, tuple(f"{a.address}/{a.prefix}" for a in addresses if a.index == link.index), outer, own)
        for link in inner
    ]
    listed = kernel.nft(f"list table inet {table}") if table else ""
    return NetworkShown(
        mode=spec.network,
        own=own,
        name=network.name if network else "",
        bridge=network.interface if network else "",
        subnet=network.subnet if network else "",
        gateway=network.gateway if network else "",
        interfaces=tuple(interfaces),
        routes=tuple(
            RouteShown(
                f"{route.destination}/{route.prefix}" if route.destination else "default",
                route.gateway,
                names.get(route.index, ""),
            )
            for route in routes
            if route.kind == "unicast" and not route.destination.startswith(("ff00:", "fe80:"))
        ),
        ports=tuple(_flow(port, state.ip, listed, state.pid) for port in state.ports),
        table=table,
        rules=chains(listed),
        uplinks=tuple(sorted(outer[index].name for index in uplinks if index in outer)),
        dns=_name_servers(life, container),
    )


def _network(life: Lifecycle, mode: str) -> Network | None:
    if mode in ("host", "none") or mode.startswith("container:"):
        return None
    try:
        return NetworkStore(life.paths, life.kernel).find("bridge" if mode in ("", "default") else mode, save=False)
    except NanoError:
        return None  # removed while a container was on it


def _interface(link: Link, addresses: tuple[str, ...], outer: dict[int, Link], own: bool) -> Interface:
    other = outer.get(link.peer) if own and link.kind == "veth" else None
    if other and other.peer != link.index:
        other = None  # a number that means something else here
    bridge = outer.get(other.master) if other and other.master else None
    return Interface(
        link.name, link.index, link.kind or ("loopback" if link.name == "lo" else ""), link.up, link.mac, link.mtu,
        addresses, other.name if other else "", bool(other and other.up), bridge.name if bridge else "",
    )  # fmt: skip


def _flow(port: Port, ip: str, listed: str, pid: int) -> PortFlow:
    binding = Binding(port.container_port, port.host_port, port.host_ip, port.protocol)
    line = publish("t", ip, [binding]).strip()
    map_name, _, element = line.removeprefix("add element inet t ").partition(" { ")
    element = element.removesuffix(" }")
    return PortFlow(
        port.host_ip or "0.0.0.0", port.host_port, port.protocol, ip, port.container_port,
        f"{map_name} {{ {element} }}",
        element in elements(listed, map_name), listens(pid, port.protocol, port.container_port),
    )  # fmt: skip


def elements(listed: str, name: str) -> tuple[str, ...]:
    """The elements of one set or map, of what nft lists; it breaks long lists into lines."""
    for kind in ("map", "set"):
        _, found, rest = listed.partition(f"\t{kind} {name} {{\n")
        if found:
            _, found, rest = rest.partition("\n\t}")[0].partition("elements = {")
            return tuple(" ".join(part.split()) for part in rest.rpartition("}")[0].split(",")) if found else ()
    return ()


def chains(listed: str) -> tuple[str, ...]:
    """ "chain: rule" of each rule that nft lists; for base chains the hook stands for the name of the chain as well."""
    found, chain = [], ""
    for line in listed.split("\n"):
        words = line.strip()
        if line.startswith("\tchain "):
            chain = words.split()[1]
        elif line == "\t}":
            chain = ""
        elif chain and words and not words.startswith("type "):
            found.append(f"{chain}: {words}")
    return tuple(found)


def listens(pid: int, protocol: str, port: int) -> bool:
    """Whether somebody in a process's network namespace waits on a port: /proc/PID/net/tcp and its like (proc(5))."""
    state = _UDP_UNCONNECTED if protocol == "udp" else _TCP_LISTEN
    for file in (protocol, f"{protocol}6"):
        try:
            lines = read_file(f"/proc/{pid}/net/{file}").split("\n")[1:]
        except OSError:
            continue  # no IPv6, or a protocol without such a file (sctp)
        for line in lines:
            words = line.split()
            if len(words) > 3 and words[3] == state and int(words[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _name_servers(life: Lifecycle, container: Container) -> tuple[str, ...]:
    """Of the resolv.conf that the engine wrote for it."""
    try:
        lines = read_file(f"{life.paths.container(container.id)}/resolv.conf").split("\n")
    except (OSError, ValueError):
        return ()
    return tuple(words[1] for words in (line.split() for line in lines) if len(words) > 1 and words[0] == "nameserver")
