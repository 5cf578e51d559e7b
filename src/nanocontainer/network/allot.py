"""What a container gets of the host's network before its plan is made: an address and ports, claimed atomically.

allot() claims, plan.steps() plans, the steps HoldAddress and ReservePort check the claims and release them when undone.
"""

from __future__ import annotations

import errno
import os

from ..errors import Conflict, InvalidInput, NanoError, Unsupported
from ..kernel.calls import Kernel
from ..paths import claim, release
from ..record import Record
from .addresses import check_mac, mac_of, number_of, text_of
from .leases import claim_address, name_of, port_name, port_owner, ports_directory
from .model import DEFAULT, Network, NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..container.spec import Port, Spec
    from ..paths import Paths

PROTOCOLS = ("tcp", "udp", "sctp")
DYNAMIC = (49153, 65535)  # IANA's dynamic ports, from which docker chose too
LINGER = 5  # seconds that a bridge outlives its last container; NANOCONTAINER_LINGER overrides it


class Binding(Record):
    """A published port as it is bound. host_ip empty: all IPv4 addresses of the host. Fields as those of Port."""

    container_port: int
    host_port: int
    host_ip: str = ""
    protocol: str = "tcp"


class Allotment(Record):
    """What a container has of the network.

    mode: host, none, container (pid: the process whose namespace is shared), or bridge, which alone has the rest. link:
    the name of the host's end of the cable, new at each start. state: the engine's state directory, of the claims.
    linger: seconds that the bridge outlives its last container, 0 for not at all, -1 for ever.
    """

    mode: str
    pid: int = 0
    network: Network | None = None
    ip: str = ""
    mac: str = ""
    link: str = ""
    ports: tuple[Binding, ...] = ()
    state: str = ""
    linger: int = LINGER

    @property
    def gateway(self) -> str:
        return self.network.gateway if self.network else ""


def parse_mode(text: str) -> tuple[str, str]:
    """A --network as (mode, rest): host and none, container and a reference, bridge and a network's name."""
    if text in ("none", "host"):
        return text, ""
    kind, colon, rest = text.partition(":")
    if colon:
        if kind != "container" or not rest:
            raise InvalidInput(f"invalid network {text!r}", "it is none, host, container:NAME or the name of a network")
        return kind, rest
    return "bridge", DEFAULT if text in ("", "default") else text


def allot(
    spec: Spec, paths: Paths, id: str, alive: Callable[[str], bool], target: int = 0, kernel: Kernel | None = None
) -> Allotment:
    """Claim what the specification wants for container id: an address and ports. All of it or nothing.

    alive(id): whether a container lives; claims of those that do not are taken over. target: the first process of the
    container in "container:REF". Conflict names the owner of what is taken; NotFound: no such network.
    """
    mode, name = parse_mode(spec.network)
    kernel = kernel or Kernel()
    if mode == "container":
        return Allotment(mode, target, ip=_address_of(target, kernel), state=paths.state)
    if mode != "bridge":
        return Allotment(mode, state=paths.state)
    wishes = _wishes(spec)
    mac = check_mac(spec.mac) if spec.mac else ""
    linger = _linger()
    network = NetworkStore(paths, kernel).find(name)
    address = claim_address(f"{paths.networks}/{network.name}/leases", network, id, alive, spec.ip, paths.names)
    got: list[Binding] = []
    try:
        for port in wishes:
            take = _claim_port if port.host_port else _claim_any_port
            got.append(take(paths, port, id, alive, kernel))
    except BaseException:
        for each in got:
            release(f"{ports_directory(paths)}/{port_name(each.protocol, each.host_ip, each.host_port)}", id)
        release(f"{paths.networks}/{network.name}/leases/{address}", id)
        raise
    mac = mac or mac_of(number_of(address))
    return Allotment(mode, 0, network, address, mac, f"veth{os.urandom(4).hex()}", tuple(got), paths.state, linger)


def imagine(spec: Spec, paths: Paths) -> Allotment:
    """What allot() would give on an idle host; nothing is claimed or made, no root is needed. For --explain."""
    mode, name = parse_mode(spec.network)
    if mode != "bridge":
        return Allotment(mode, pid=1 if mode == "container" else 0, state=paths.state)
    network = NetworkStore(paths).find(name, save=False)
    address = number_of(spec.ip) if spec.ip else number_of(network.gateway) + 1
    mac = check_mac(spec.mac) if spec.mac else mac_of(address)
    ports = tuple(port if port.host_port else port.replace(host_port=DYNAMIC[0]) for port in _wishes(spec))
    return Allotment(mode, 0, network, text_of(address), mac, "veth0", ports, paths.state, _linger())


def _linger() -> int:
    text = os.environ.get("NANOCONTAINER_LINGER", "")
    if not text:
        return LINGER
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"invalid NANOCONTAINER_LINGER {text!r}", "it is a number of seconds") from None


def _address_of(pid: int, kernel: Kernel) -> str:
    """The first address in another process's network that is not a loopback's; empty if there is none."""
    fd = kernel.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        with kernel.links(fd) as links:
            found = [each.address for each in links.addresses() if ":" not in each.address]
    finally:
        kernel.close(fd)
    return next((address for address in found if not address.startswith("127.")), "")


def _wishes(spec: Spec) -> list[Binding]:
    """The published ports, checked; with --publish-all also the exposed ones that are not published."""
    wishes = [_checked(port) for port in spec.ports]
    if spec.publish_all:
        published = {(port.container_port, port.protocol) for port in wishes}
        exposed = map(_exposed, spec.exposed)
        wishes += [port for port in exposed if (port.container_port, port.protocol) not in published]
    return wishes


def _checked(port: Port | Binding) -> Binding:
    host_ip = port.host_ip
    shown = f"{host_ip + ':' if host_ip else ''}{port.host_port or ''}:{port.container_port}/{port.protocol}"
    if port.protocol not in PROTOCOLS:
        raise InvalidInput(f"cannot publish port {shown}", f"protocol {port.protocol!r} is not one of tcp, udp, sctp")
    if not 0 < port.container_port < 65536 or not 0 <= port.host_port < 65536:
        raise InvalidInput(f"cannot publish port {shown}", "a port is a number from 1 to 65535")
    if ":" in host_ip:
        hint = "leave the address out, or give 127.0.0.1 for this host alone"
        raise Unsupported(f"cannot publish port {shown}", "ports are published on IPv4 addresses only", hint)
    if host_ip and not number_of(host_ip, "host address of a published port"):
        host_ip = ""  # 0.0.0.0
    return Binding(port.container_port, port.host_port, host_ip, port.protocol)


def _exposed(text: str) -> Binding:
    port, _, protocol = text.partition("/")
    if not (port.isascii() and port.isdecimal()):
        raise InvalidInput(f"cannot publish exposed port {text!r}", "it must look like 80/tcp")
    return _checked(Binding(int(port), 0, "", protocol or "tcp"))


def _claim_port(paths: Paths, port: Binding, id: str, alive: Callable[[str], bool], _: Kernel) -> Binding:
    name = port_name(port.protocol, port.host_ip, port.host_port)
    holder = claim(f"{ports_directory(paths)}/{name}", id, alive)
    if holder:
        raise port_taken(port.host_port, port.protocol, name_of(paths.names, holder))
    return port


def _claim_any_port(paths: Paths, port: Binding, id: str, alive: Callable[[str], bool], kernel: Kernel) -> Binding:
    """A random free port: one that nobody of ours claims on any address, and no other program has bound now."""
    directory = ports_directory(paths)
    low, high = DYNAMIC
    with kernel.links() as links:
        for _ in range(256):
            number = low + int.from_bytes(os.urandom(4), "big") % (high - low + 1)
            if port_owner(directory, port.protocol, number):
                continue
            try:
                kernel.close(links.bind_port(port.protocol, port.host_ip, number))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise bind_failed(error, port.host_ip, number, port.protocol) from None
            if not claim(f"{directory}/{port_name(port.protocol, port.host_ip, number)}", id, alive):
                return port.replace(host_port=number)
    why = f"256 random ports of {low}-{high} are all in use"
    raise Conflict(f"no free port for {port.container_port}/{port.protocol}", why, "give one: -p HOST:CONTAINER")


def port_taken(port: int, protocol: str, owner: str) -> Conflict:
    """The error for a port that is taken, by a container of ours (its name) or by another program ("")."""
    why = f"container {owner} has published it" if owner else "another program has it"
    hint = f"choose another host port, or see who it is: ss -lnp 'sport = :{port}'"
    if owner:
        hint = f"choose another host port, or stop {owner}"
    return Conflict(f"port {port}/{protocol} is already in use on the host", why, hint)


def bind_failed(error: OSError, address: str, port: int, protocol: str) -> NanoError:
    """A failed bind of a host port, other than a taken one, in words."""
    what = f"cannot publish port {port}/{protocol}"
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidInput(what, f"{address} is no address of this host", "see the host's addresses: ip address")
    if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
        return Unsupported(what, f"this kernel has no {protocol}")
    return NanoError(what, error.strerror or str(error))
