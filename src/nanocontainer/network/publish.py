"""Published ports: a port of the host that leads to a container, by destination NAT in the kernel; no proxy process.

The port is also bound by a socket of the keeper, which never listens: so no other program can take it, a taken one is
noticed before anything is changed, and it is free again when the keeper is gone. NAT comes before the socket is asked.
"""

from __future__ import annotations

import errno

from ..errors import NanoError
from ..paths import Paths, owner_of, release
from ..plan.step import Step, World
from . import rules
from .allot import Binding, bind_address, bind_failed, port_taken
from .leases import name_of, port_name, port_owner, ports_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..plan.step import Residue, Side


class ReservePort(Step):
    """A port of the host, held by a socket that nobody can connect to."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "disk"

    port: int
    protocol: str
    address: str  # of the host; empty: all
    id: str
    state: str  # the engine's state directory
    six: bool = False  # whether a port of no certain address is one of IPv6, too

    @property
    def path(self) -> str:
        return f"{ports_directory(Paths(self.state))}/{port_name(self.protocol, self.address, self.port)}"

    @property
    def slot(self) -> str:
        return f"port {self.address or '*'}:{self.port}/{self.protocol}"

    def writes(self) -> tuple[str, ...]:
        return (self.slot,)

    def do(self, world: World) -> None:
        paths = Paths(self.state)
        holder = world.kernel.readlink(self.path)
        if holder != self.id:
            raise port_taken(self.port, self.protocol, name_of(paths.names, holder))
        try:
            with world.kernel.links() as links:
                world[self.slot] = links.bind_port(self.protocol, bind_address(self.address, self.six), self.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise bind_failed(error, self.address, self.port, self.protocol) from None
            other = port_owner(ports_directory(paths), self.protocol, self.port, besides=self.id)
            raise port_taken(self.port, self.protocol, name_of(paths.names, other) if other else "") from None

    def explain(self) -> str:
        where = f"{shown(self.address) or ('0.0.0.0 and [::]' if self.six else '0.0.0.0')}:{self.port}/{self.protocol}"
        return (
            f"Bind a socket to {where} and never listen: no other program can take the port as long as the keeper "
            "lives, and nobody can connect to the socket itself (bind(2), ip(7))."
        )

    def shell(self) -> str:
        said = f"{self.protocol} {self.address or ('::' if self.six else '0.0.0.0')} {self.port}"
        return f'port_is_free {said} || die "port {self.port}/{self.protocol} is in use on this host"'

    def undo(self, world: World) -> None:
        """The claim on the port is given back; the socket went with the keeper."""
        release(self.path, self.id)


class PublishPorts(Step):
    """The container's ports on the host: entries in the firewall's map of published ports, all in one transaction."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "kernel"

    table: str
    ip: str
    ports: tuple[Binding, ...]
    id: str
    state: str
    ip6: str = ""

    @property
    def script(self) -> str:
        return rules.publish(self.table, self.ip, self.ports, self.ip6)

    def do(self, world: World) -> None:
        script = self.script
        try:
            world.kernel.nft(script)
        except NanoError as error:
            if "File exists" not in error.why:
                raise
            # We hold claim and socket: what stands there is left from a container that was killed, and not swept yet.
            self._withdraw(world.kernel, self.ports)
            world.kernel.nft(script)
        forget_flows(world.kernel, self.ports)

    def _withdraw(self, kernel: Kernel, ports: Iterable[Binding]) -> None:
        for line in self._withdrawals(ports):
            try:
                kernel.nft(line)
            except NanoError:
                pass  # this one was free

    def explain(self) -> str:
        ports = [
            f"{shown(port.host_ip) or '*'}:{port.host_port} → {shown(self._leads_to(port))}:{port.container_port}"
            f"/{port.protocol}"
            for port in self.ports
        ]
        flows = (
            "; and forget where UDP was sent to before, as the kernel goes on with a flow as it began (netlink(7))"
            if any(port.protocol == "udp" for port in self.ports)
            else ""
        )
        return (
            f"Publish {', '.join(ports)}, as entries of one map that all rules look into, so that no rule is added for "
            f"a container (nft(8)){flows}."
        )

    def shell(self) -> str:
        return f"nft -f - <<'END'\n{self.script}END"

    def undone(self) -> str:
        return "\n".join(f"nft '{line.rstrip()}'" for line in self._withdrawals(self.ports))

    def _withdrawals(self, ports: Iterable[Binding]) -> list[str]:
        return [line for port in ports for line in rules.withdraw(self.table, port, bool(self.ip), bool(self.ip6))]

    def _leads_to(self, port: Binding) -> str:
        return self.ip6 if ":" in port.host_ip else self.ip or self.ip6

    def less(self, other: Step) -> Step | None:
        """Without the ports of the other one."""
        if not isinstance(other, PublishPorts) or (other.table, other.id) != (self.table, self.id):
            return self
        left = tuple(port for port in self.ports if port not in other.ports)
        return self if left == self.ports else self.replace(ports=left) if left else None

    def undo(self, world: World) -> None:
        """The ports go from the map; only those still claimed by us, as others may have them by now."""
        directory = ports_directory(Paths(self.state))
        ours = [
            port
            for port in self.ports
            if owner_of(f"{directory}/{port_name(port.protocol, port.host_ip, port.host_port)}") == self.id
        ]
        if not ours:
            return
        with world.kernel.links() as links:
            if not links.has_table(self.table):
                return
        try:
            world.kernel.nft(rules.unpublish(self.table, self.ip, ours, self.ip6))
        except NanoError as error:
            if "File exists" not in error.why:
                raise
            self._withdraw(world.kernel, ours)  # they lead to another of our addresses by now
        forget_flows(world.kernel, ours)


def forget_flows(kernel: Kernel, ports: Iterable[Binding]) -> None:
    """UDP to these ports goes where the rules say now, also from clients that have been sending before."""
    ports = [port for port in ports if port.protocol == "udp"]
    if not ports:
        return
    with kernel.links() as links:
        own = {each.address for each in links.addresses()}
    with kernel.flows() as flows:
        for port in ports:
            for flow in flows.to_port("udp", port.host_port):
                at = flow.destination
                every = port.host_ip in ("", "0.0.0.0", "::")
                if at == port.host_ip or (every and (at in own or at.startswith("127."))):
                    flows.forget(flow)


def shown(address: str) -> str:
    """An address as it stands before a port: IPv6 in brackets (RFC 3986)."""
    return f"[{address}]" if ":" in address else address
