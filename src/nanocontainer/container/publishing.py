"""Ports of a container are published and withdrawn while it runs, or written down for its next start.

What it was asked for is in the specification (host port 0: any free one), what it has in the state. A port that is
withdrawn refuses new connections; TCP connections that stand go on to their end, as the kernel's connection tracking
knows them. UDP has no connections: what is tracked as one is forgotten, so nothing is forwarded any more.
"""

from __future__ import annotations

from ..errors import Conflict, InvalidInput, NotFound
from ..network import allot
from ..network.live import TurnBack
from ..network.plan import port_steps
from ..network.publish import PublishPorts, ReservePort
from .amending import Amendment, Change
from .connecting import doors, endpoints_of
from .spec import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.step import Step
    from .amending import Live
    from .spec import Container, Spec


class Publish(Change):
    """Publish more ports."""

    def __init__(self, ports: tuple[Port, ...]) -> None:
        self.ports = ports

    def amended(self, container: Container) -> Spec:
        spec = container.spec
        mode, _ = allot.parse_mode(spec.network)
        if mode != "bridge":
            why = {
                "host": "it is in the host's network: all its ports are the host's already",
                "none": "it is on no network",
            }.get(mode, "it shares another container's network: publish the ports there")
            raise Conflict(f"cannot publish ports of container {spec.name}", why)
        for port in self.ports:
            allot.checked(port)
            for other in (*spec.ports, *container.state.ports):
                if port.host_port and _collide(port, other):
                    why = f"it leads to {other.container_port}/{other.protocol} of this container already"
                    raise Conflict(f"port {port.host_port}/{port.protocol} is already published", why)
        return spec.replace(ports=(*spec.ports, *self.ports))

    def live(self, live: Live, spec: Spec) -> Amendment:
        state, paths = live.state, live.paths
        endpoints = endpoints_of(live)
        if not endpoints:
            why, hint = "it is connected to no network", f"network connect NETWORK {spec.name}"
            raise Conflict(f"cannot publish ports of container {spec.name}", why, hint)
        wishes = [allot.checked(port) for port in self.ports]
        ipv6 = any(endpoint.ip6 for endpoint in endpoints)
        allot.fits(wishes, ipv6)
        ports = live.claim_ports(wishes, ipv6=ipv6)
        steps: list[Step] = [TurnBack(each.interface) for each in doors(endpoints)] if not state.ports else []
        steps += port_steps(paths, endpoints, ports, live.id)
        had = tuple(Port.from_dict(port.as_dict()) for port in ports)
        return Amendment(state.replace(ports=(*state.ports, *had)), steps)


class Withdraw(Change):
    """Publish some ports no more. wanted: host_port 0 and host_ip "" mean all that lead to the container's port."""

    def __init__(self, wanted: tuple[Port, ...]) -> None:
        self.wanted = wanted

    def amended(self, container: Container) -> Spec:
        spec, bound = container.spec, container.state.ports
        left, had = list(spec.ports), list(bound)
        publish_all = spec.publish_all
        for wish in self.wanted:
            gone = [port for port in had if _fits(wish, port)]
            asked = [port for port in left if _fits(wish, port)]
            random = [port for port in left if port not in asked and not port.host_port and _same(port, wish)]
            asked += random[: sum(port not in left for port in gone)]  # a random one does not know its number
            from_all = spec.publish_all and (
                bool(gone) or (not bound and f"{wish.container_port}/{wish.protocol}" in spec.exposed)
            )
            if not (gone or asked or from_all):
                raise NotFound(f"container {spec.name} publishes no port like {_words(wish)}", "",
                               _meant(wish, (*bound, *spec.ports), spec.name))  # fmt: skip
            had = [port for port in had if port not in gone]
            for port in asked:  # one for one: two random ones are equal
                left.remove(port)
            if publish_all and from_all:  # from now on those that stay are named one by one
                publish_all = False
                named = {(port.container_port, port.protocol) for port in left}
                for text in spec.exposed:
                    number, _, protocol = text.partition("/")
                    one = Port(int(number), 0, "", protocol or "tcp")
                    if (one.container_port, one.protocol) not in named:
                        left.append(one)
                left = [port for port in left if not (_same(port, wish) and not port.host_port)]
        return spec.replace(ports=tuple(left), publish_all=publish_all)

    def live(self, live: Live, spec: Spec) -> Amendment:
        state = live.state
        gone = tuple(port for port in state.ports if any(_fits(wish, port) for wish in self.wanted))
        left = tuple(port for port in state.ports if port not in gone)
        return Amendment(state.replace(ports=left), undo=withdrawn(live.journalled(), gone))


def withdrawn(journalled: list[Step], gone: tuple[Port, ...]) -> list[Step]:
    """The steps of the journal, or parts of them, that publish these ports: in the order in which they are undone."""
    ends = {(port.host_port, port.protocol, port.host_ip) for port in gone}
    published, reserved = [], []
    for step in journalled:
        if isinstance(step, PublishPorts):
            ports = tuple(port for port in step.ports if (port.host_port, port.protocol, port.host_ip) in ends)
            published += [step.replace(ports=ports)] if ports else []
        elif isinstance(step, ReservePort) and (step.port, step.protocol, step.address) in ends:
            reserved.append(step)
    return [*published, *reserved]


def _same(one: Port, other: Port) -> bool:
    return (one.container_port, one.protocol) == (other.container_port, other.protocol)


def _fits(wish: Port, port: Port) -> bool:
    return (
        _same(wish, port) and wish.host_port in (0, port.host_port) and wish.host_ip in ("", port.host_ip)
    )


def _collide(one: Port, other: Port) -> bool:
    """Whether two ports want the same of the host."""
    addresses = {"" if ip in ("0.0.0.0", "::") else ip for ip in (one.host_ip, other.host_ip)}
    return (one.host_port, one.protocol) == (other.host_port, other.protocol) and (
        len(addresses) == 1 or "" in addresses
    )


def _meant(wish: Port, there: tuple[Port, ...], name: str) -> str:
    """A hint: a number alone is the container's port, where people may mean the host's."""
    for port in there:
        if wish.container_port == port.host_port and not wish.host_port:
            return f"{wish.container_port} is its port on the host: port rm {name} {_words(port)}"
    return f"see: port {name}"


def _words(port: Port) -> str:
    host = f"{port.host_ip}:{port.host_port or ''}:" if port.host_ip else f"{port.host_port}:" if port.host_port else ""
    return f"{host}{port.container_port}/{port.protocol}"


def check_wishes(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    """InvalidInput where there is none."""
    if not ports:
        raise InvalidInput("no port is named", "", "give one: 8080:80")
    return ports
