"""The network part of a plan. Pure: all decisions were made when the allotment was claimed.

    host           no step at all: the container stays in the host's network
    none           MakeNetworkNamespace RaiseLoopback
    container:ID   OpenNetworkNamespace
    a network      MakeNetworkNamespace RaiseLoopback EnsureBridge HoldAddress ConnectVeth AddAddress AddDefaultRoute,
                   per published port ReservePort, and PublishPorts

All of these are the host's, before the clone. Where there are any, init's part is EnterNetworkNamespace, before it
mounts /sys. The slot "netns" is an open file to be closed once init lives: it would keep the namespace. A slot "port …"
is a socket to be kept until the container has ended, and closed before it is taken down.
"""

from __future__ import annotations

from ..paths import Paths
from .addresses import mac_of, number_of
from .bridge import AddAddress, AddDefaultRoute, ConnectVeth, EnsureBridge, HoldAddress
from .model import Network, lock_path, table_name
from .namespace import EnterNetworkNamespace, MakeNetworkNamespace, OpenNetworkNamespace, RaiseLoopback
from .publish import PublishPorts, ReservePort

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.step import Step
    from .allot import Allotment


def steps(allotment: Allotment, id: str) -> tuple[list[Step], list[Step]]:
    """(host steps, inside steps) of container id."""
    if allotment.mode == "host":
        return [], []
    enter: list[Step] = [EnterNetworkNamespace()]
    if allotment.mode == "container":
        return [OpenNetworkNamespace(allotment.pid)], enter
    host: list[Step] = [MakeNetworkNamespace(), RaiseLoopback()]
    if allotment.network:
        host += _bridge(allotment, allotment.network, id)
    return host, enter


def _bridge(allotment: Allotment, network: Network, id: str) -> list[Step]:
    paths, ports = Paths(allotment.state), allotment.ports
    steps: list[Step] = [
        ensure_bridge(paths, network, allotment.linger),
        HoldAddress(path=f"{paths.networks}/{network.name}/leases/{allotment.ip}", id=id, names=paths.names),
        ConnectVeth(network.interface, allotment.link, allotment.mac, network.mtu, hairpin=bool(ports)),
        AddAddress(allotment.ip, network.prefix),
    ]
    if not network.internal:
        steps.append(AddDefaultRoute(network.gateway))
    steps += [ReservePort(port.host_port, port.protocol, port.host_ip, id, paths.state) for port in ports]
    if ports:
        steps.append(PublishPorts(table_name(paths), allotment.ip, ports, id, paths.state))
    return steps


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
    )
