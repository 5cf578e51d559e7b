"""The network part of a plan. Pure: all decisions were made when the allotment was claimed.

    host           no step at all: the container stays in the host's network
    none           MakeNetworkNamespace RaiseLoopback
    container:ID   OpenNetworkNamespace
    networks       MakeNetworkNamespace RaiseLoopback, EnforceEgress where not everything may be reached,
                   for each one EnsureBridge HoldAddress ConnectVeth GuardSource JoinBridge AddAddress, and
                   AddAddress for link-local ones, AddDefaultRoute, per published port ReservePort, and PublishPorts,
                   for each one with names RegisterNames, and EnsureResolver

All of these are the host's, before the clone. Where there are any, init's part is EnterNetworkNamespace, before it
mounts /sys. The slot "netns" is an open file to be closed once init lives: it would keep the namespace. A slot "port …"
is a socket to be kept until the container has ended, and closed before it is taken down.
"""

from __future__ import annotations

from ..paths import Paths
from .addresses import mac_of, number_of
from .allot import exit_of, named_endpoints, published_on
from .bridge import AddAddress, AddDefaultRoute, ConnectVeth, EnsureBridge, HoldAddress, JoinBridge
from .guard import GuardSource
from .model import DEFAULT, Network, lock_path, table_name
from .namespace import EnterNetworkNamespace, MakeNetworkNamespace, OpenNetworkNamespace, RaiseLoopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.step import Step
    from .allot import Allotment, Binding, Endpoint
    from .registration import Naming


def steps(
    allotment: Allotment, id: str, allow_out: tuple[str, ...] = (), naming: Naming | None = None
) -> tuple[list[Step], list[Step]]:
    """(host steps, inside steps) of container id. allow_out: rules of what it may reach (egress.py); empty: all.
    naming: what the resolver is told of it; without, nothing."""
    if allotment.mode == "host":
        return [], []
    enter: list[Step] = [EnterNetworkNamespace()]
    if allotment.mode == "container":
        return [OpenNetworkNamespace(allotment.pid)], enter
    host: list[Step] = [MakeNetworkNamespace(deaf=allotment.ipv6 and bool(allotment.endpoints)), RaiseLoopback()]
    if allow_out and allotment.endpoints:
        from . import enforce

        legs = enforce.legs_of(allotment.endpoints)
        host.append(enforce.step(Paths(allotment.state), id, allow_out, legs))
    if allotment.endpoints:
        host += _bridges(allotment, id, limited=bool(allow_out))
    if naming and (named := named_endpoints(allotment, allow_out)):
        host += naming_steps(Paths(allotment.state, naming.run), named, id, naming, allotment.linger)
    return host, enter


def _bridges(allotment: Allotment, id: str, *, limited: bool) -> list[Step]:
    paths, ports, endpoints = Paths(allotment.state), allotment.ports, allotment.endpoints
    steps: list[Step] = []
    way, way6 = exit_of(endpoints), exit_of(endpoints, six=True)
    for endpoint in endpoints:
        published = bool(ports) and endpoint in published_on(endpoints)
        steps += endpoint_steps(paths, endpoint, id, allotment.linger, hairpin=published, limited=limited)
    if way or way6:
        gateways = (way.network.gateway if way else "", way6.network.gateway6 if way6 else "")
        steps.append(AddDefaultRoute(*gateways))
    return steps + port_steps(paths, endpoints, ports, id)


def port_steps(paths: Paths, endpoints: tuple[Endpoint, ...], ports: tuple[Binding, ...], id: str) -> list[Step]:
    """The steps that publish ports which container id has claimed."""
    if not ports:
        return []
    from .publish import PublishPorts, ReservePort

    four, six = published_on(endpoints)
    ip6 = six.ip6 if six else ""
    steps: list[Step] = [
        ReservePort(port.host_port, port.protocol, port.host_ip, id, paths.state, six=bool(ip6)) for port in ports
    ]
    return [*steps, PublishPorts(table_name(paths), four.ip if four else "", ports, id, paths.state, ip6)]


def endpoint_steps(
    paths: Paths, endpoint: Endpoint, id: str, linger: int, *, hairpin: bool = False, limited: bool = False
) -> list[Step]:
    """The steps that put container id on one network; slot "netns" is its network namespace. The default route is not
    among them: which network has it depends on all (allot.exit_of). limited: not everything may be reached, and who
    asks is told by the source address: it must be true, whatever the network allows others."""
    network = endpoint.network
    leases = f"{paths.networks}/{network.name}/leases"
    steps: list[Step] = [
        ensure_bridge(paths, network, linger),
        HoldAddress(
            path=f"{leases}/{endpoint.ip}", id=id, names=paths.names,
            path6=f"{leases}/{endpoint.ip6}" if endpoint.ip6 else "",
        ),
        ConnectVeth(endpoint.link, endpoint.mac, network.mtu, endpoint.interface, ipv6=bool(endpoint.ip6)),
    ]  # fmt: skip
    if network.guarded or limited:
        steps.append(guard(endpoint))
    steps += [
        JoinBridge(network.interface, endpoint.link, endpoint.mac, hairpin=hairpin, isolated=not network.icc),
        AddAddress(
            endpoint.ip, network.prefix, endpoint.interface, endpoint.ip6, network.prefix6 if endpoint.ip6 else 0
        ),
    ]
    steps += [AddAddress(text, 64 if ":" in text else 16, endpoint.interface) for text in endpoint.link_local]
    return steps


def guard(endpoint: Endpoint) -> GuardSource:
    """The step by which nothing but an endpoint's own addresses comes by its cable."""
    own = tuple(address for address in (endpoint.ip, endpoint.ip6, *endpoint.link_local) if address)
    return GuardSource(endpoint.link, endpoint.mac, own)


def naming_steps(
    paths: Paths, endpoints: tuple[Endpoint, ...], id: str, naming: Naming, linger: int
) -> list[Step]:
    """The steps that tell container id names, and its names to others, on some networks (allot.named_endpoints)."""
    from .registration import Registration, names_of
    from .resolver_steps import EnsureResolver, RegisterNames

    steps: list[Step] = []
    for endpoint in endpoints:
        name = endpoint.network.name
        names = () if name == DEFAULT else names_of(id, naming.name, endpoint.aliases)
        registration = Registration(id, name, names, endpoint.ip, endpoint.ip6, naming.servers, naming.egress)
        steps.append(RegisterNames(registration, paths.state, paths.run))
    networks = tuple(endpoint.network.name for endpoint in endpoints)
    gateways = tuple(
        address
        for endpoint in endpoints
        for address in (endpoint.network.gateway, endpoint.network.gateway6)
        if address
    )
    return [*steps, EnsureResolver(networks, gateways, table_name(paths), paths.state, paths.run, linger)]


def ensure_bridge(paths: Paths, network: Network, linger: int = 0) -> EnsureBridge:
    """The step that makes a network's bridge. Its undo removes the bridge when no container is on the network: now, or
    after so many seconds."""
    return EnsureBridge(
        interface=network.interface,
        gateway=network.gateway,
        subnet=network.subnet,
        table=table_name(paths),
        directory=f"{paths.networks}/{network.name}",
        lock=lock_path(paths),
        mac=mac_of(number_of(network.gateway)),
        mtu=network.mtu,
        internal=network.internal,
        linger=linger,
        gateway6=network.gateway6,
        subnet6=network.subnet6,
        icc=network.icc,
        masquerade=network.masquerade,
        metadata=network.metadata,
    )
