"""What a container gets of the host's network before its plan is made: addresses and ports, claimed atomically.

allot() claims, plan.steps() plans, the steps HoldAddress and ReservePort check the claims and release them when undone.
claim_endpoint() is the part of allot() for one network, for a container that runs already as well.
"""

from __future__ import annotations

import errno
import os

from ..errors import Conflict, InvalidInput, NanoError, NotFound, Unsupported
from ..kernel.calls import Kernel
from ..paths import claim, is_there, release
from ..record import Record
from .addresses import check_mac, mac_of, number6_of, number_of, parse, subnet_of, text_of
from .leases import Attachment, claim_address, claim_address6, name_of, port_name, port_owner, ports_directory
from .model import DEFAULT, Network, NetworkStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..container.spec import Port, Spec
    from ..paths import Paths

PROTOCOLS = ("tcp", "udp", "sctp")
DYNAMIC = (49153, 65535)  # IANA's dynamic ports, from which docker chose too
LINGER = 5  # seconds that a bridge outlives its last container; NANOCONTAINER_LINGER overrides it


class Binding(Record):
    """A published port as it is bound. host_ip empty: all addresses of the host, IPv6 ones where the container has one;
    0.0.0.0, ::: all of that family. Fields as those of Port."""

    container_port: int
    host_port: int
    host_ip: str = ""
    protocol: str = "tcp"


class Endpoint(Record):
    """A container's place on one network. interface: its name inside; link: the name of the host's end of the cable,
    new at each start; ip6: empty where the network has no IPv6. The rest is as of an Attachment (container/spec.py)."""

    network: Network
    interface: str
    link: str
    mac: str
    ip: str
    ip6: str = ""
    aliases: tuple[str, ...] = ()
    link_local: tuple[str, ...] = ()
    priority: int = 0


class Allotment(Record):
    """What a container has of the network.

    mode: host, none, container (pid: the process whose namespace is shared; address: its first), or bridge, which alone
    has the rest. endpoints: one for each network, in the order of their interfaces. state: the engine's state
    directory, of the claims. linger: seconds that a bridge outlives its last container, 0 for not at all, -1 for ever.
    """

    mode: str
    pid: int = 0
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[Binding, ...] = ()
    state: str = ""
    linger: int = LINGER
    address: str = ""
    ipv6: bool = False  # whether the host has it
    resolver: bool = True  # whether there is a process that answers names; a script has none

    # Those of the first network

    @property
    def network(self) -> Network | None:
        return self.endpoints[0].network if self.endpoints else None

    @property
    def ip(self) -> str:
        return self.endpoints[0].ip if self.endpoints else self.address

    @property
    def ip6(self) -> str:
        return self.endpoints[0].ip6 if self.endpoints else ""

    @property
    def mac(self) -> str:
        return self.endpoints[0].mac if self.endpoints else ""

    @property
    def gateway(self) -> str:
        return self.network.gateway if self.network else ""

    @property
    def gateway6(self) -> str:
        return self.network.gateway6 if self.network else ""


def named_endpoints(allotment: Allotment, allow_out: tuple[str, ...] = ()) -> tuple[Endpoint, ...]:
    """The networks on which the resolver answers the container: all but the default one, where docker tells no names
    either. Where it may not reach everything (allow_out) that one too, as what it may reach goes by names."""
    if not allotment.resolver:
        return ()
    return tuple(each for each in allotment.endpoints if allow_out or each.network.name != DEFAULT)


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


def attachments(spec: Spec) -> tuple[Attachment, ...]:
    """All networks that a specification asks for, the first one first; () for the modes host, none and container.

    InvalidInput where one is named twice, or beside a mode that has no networks.
    """
    mode, name = parse_mode(spec.network)
    if mode != "bridge":
        if spec.networks:
            others = ", ".join(each.network for each in spec.networks)
            raise InvalidInput(f"conflicting networks: {spec.network} and {others}", f"{spec.network} stands alone")
        return ()
    wanted = tuple(each.replace(network=DEFAULT) if each.network in ("", "default") else each for each in spec.networks)
    names = [each.network for each in wanted]
    if name not in names and (name != DEFAULT or not wanted):
        wanted = (Attachment(name), *wanted)
    for each in wanted:
        if parse_mode(each.network)[0] != "bridge":
            raise InvalidInput(f"conflicting networks: {each.network} and others", f"{each.network} stands alone")
        if names.count(each.network) > 1:
            raise InvalidInput(f"network {each.network} is given twice", "a container is on a network once")
        if each.aliases and each.network == DEFAULT:
            hint = "make one: network create NAME"
            raise InvalidInput("network aliases need a network of one's own", f"{DEFAULT} has no names", hint)
    first = wanted[0]
    return (first.replace(ip=first.ip or spec.ip, mac=first.mac or spec.mac), *wanted[1:])


def interfaces(wanted: tuple[Attachment, ...], taken: tuple[str, ...] = ()) -> list[str]:
    """The interface of each network: eth0 and so on, where none is asked for. InvalidInput where one is there twice."""
    found = list(taken)
    for each in wanted:
        name = each.interface
        if name in found:
            raise InvalidInput(f"interface {name!r} is asked for twice", "each network has one of its own")
        if name:
            check_interface(name)
            found.append(name)
    named = iter(f"eth{number}" for number in range(len(wanted) + len(found)) if f"eth{number}" not in found)
    return [each.interface or next(named) for each in wanted]


def check_interface(name: str) -> str:
    """An interface's name from outside, or InvalidInput (the kernel's rule, dev_valid_name)."""
    fine = 0 < len(name.encode()) < 16 and name not in (".", "..", "lo", "all", "default")
    if not fine or any(char in "/:%\"'" or char.isspace() or not char.isprintable() for char in name):
        raise InvalidInput(f"invalid interface name {name!r}", "at most 15 characters, no blank, '/' or ':'")
    return name


def allot(
    spec: Spec, paths: Paths, id: str, alive: Callable[[str], bool], target: int = 0, kernel: Kernel | None = None
) -> Allotment:
    """Claim what the specification wants for container id: addresses and ports. All of it or nothing.

    alive(id): whether a container lives; claims of those that do not are taken over. target: the first process of the
    container in "container:REF". Conflict names the owner of what is taken; NotFound: no such network.
    """
    mode, _ = parse_mode(spec.network)
    wanted = attachments(spec)
    kernel = kernel or Kernel()
    if mode == "container":
        return Allotment(mode, target, address=_address_of(target, kernel), state=paths.state)
    if mode != "bridge":
        return Allotment(mode, state=paths.state)
    wanted_ports = wishes(spec)
    names = interfaces(wanted)
    stay = linger()
    store = NetworkStore(paths, kernel)
    networks = _different(wanted, [store.find(each.network) for each in wanted])
    ipv6 = any(network.subnet6 for network in networks)
    fits(wanted_ports, ipv6)
    got: list[Endpoint] = []
    try:
        for attachment, network, interface in zip(wanted, networks, names, strict=True):
            got.append(claim_endpoint(paths, network, attachment, interface, id, alive))
        ports = claim_ports(paths, wanted_ports, id, alive, kernel, ipv6=ipv6)
    except BaseException:
        for endpoint in got:
            release_endpoint(paths, endpoint, id)
        raise
    return Allotment(mode, 0, tuple(got), ports, paths.state, stay, ipv6=store.ipv6)


def claim_endpoint(
    paths: Paths, network: Network, attachment: Attachment, interface: str, id: str, alive: Callable[[str], bool]
) -> Endpoint:
    """Claim the addresses of container id on one network, both or none. InvalidInput, Conflict."""
    mac = _checked_wish(network, attachment)
    directory = f"{paths.networks}/{network.name}/leases"
    ip = claim_address(directory, network, id, alive, attachment.ip, paths.names)
    ip6 = ""
    try:
        if not is_there(f"{paths.networks}/{network.name}/network.json"):  # removed before we had an address: making.py
            raise NotFound(f"network {network.name} not found", "it has just been removed")
        if network.subnet6:
            ip6 = claim_address6(directory, network, id, alive, attachment.ip6, paths.names, beside=ip)
    except BaseException:
        release(f"{directory}/{ip}", id)
        _clear_ghost(paths, network)
        raise
    return _endpoint(network, attachment, interface, mac, ip, ip6, f"veth{os.urandom(4).hex()}")


def _clear_ghost(paths: Paths, network: Network) -> None:
    """A claim makes its directory, also that of a network that is no more."""
    directory = f"{paths.networks}/{network.name}"
    if not is_there(f"{directory}/network.json"):
        for path in (f"{directory}/leases", directory):
            try:
                os.rmdir(path)
            except OSError:
                pass  # somebody else is about to find out the same, or has made a network of this name


def release_endpoint(paths: Paths, endpoint: Endpoint, id: str) -> None:
    """Give the claims of claim_endpoint() back."""
    for address in (endpoint.ip, endpoint.ip6):
        if address:
            release(f"{paths.networks}/{endpoint.network.name}/leases/{address}", id)


def claim_ports(
    paths: Paths,
    wishes: Iterable[Binding],
    id: str,
    alive: Callable[[str], bool],
    kernel: Kernel,
    *,
    ipv6: bool = False,
) -> tuple[Binding, ...]:
    """Claim ports of the host for container id, all or none; those without a number get a free one. Conflict.

    ipv6: whether the container has an IPv6 address, and ports of no certain address are published there, too.
    """
    got: list[Binding] = []
    try:
        for port in wishes:
            take = _claim_port if port.host_port else _claim_any_port
            got.append(take(paths, port, id, alive, kernel, ipv6))
    except BaseException:
        for each in got:
            release(f"{ports_directory(paths)}/{port_name(each.protocol, each.host_ip, each.host_port)}", id)
        raise
    return tuple(got)


def imagine(spec: Spec, paths: Paths) -> Allotment:
    """What allot() would give on an idle host; nothing is claimed or made, no root is needed. For --explain."""
    mode, _ = parse_mode(spec.network)
    if mode != "bridge":
        return Allotment(mode, pid=1 if mode == "container" else 0, state=paths.state)
    store, wanted = NetworkStore(paths), attachments(spec)
    networks = _different(wanted, [store.find(each.network, save=False) for each in wanted])
    endpoints = tuple(
        imagine_endpoint(network, attachment, interface, f"veth{number}")
        for number, (attachment, network, interface) in enumerate(
            zip(wanted, networks, interfaces(wanted), strict=True)
        )
    )
    wanted_ports = wishes(spec)
    fits(wanted_ports, any(network.subnet6 for network in networks))
    ports = tuple(port if port.host_port else port.replace(host_port=DYNAMIC[0]) for port in wanted_ports)
    return Allotment(mode, 0, endpoints, ports, paths.state, linger(), ipv6=store.ipv6)


def imagine_endpoint(network: Network, attachment: Attachment, interface: str, link: str) -> Endpoint:
    """What claim_endpoint() would give on a network on which nobody is."""
    from .leases import first_address, first_address6

    mac = _checked_wish(network, attachment)
    ip = first_address(network, attachment.ip)
    ip6 = first_address6(network, attachment.ip6, beside=ip) if network.subnet6 else ""
    return _endpoint(network, attachment, interface, mac, ip, ip6, link)


def _checked_wish(network: Network, wish: Attachment) -> str:
    """The wanted MAC address in lower case, after all that was wished has been looked at. InvalidInput."""
    for address in wish.link_local:
        check_link_local(address)
    if wish.ip6:
        number6_of(wish.ip6)
        if not network.subnet6:
            raise InvalidInput(f"cannot give address {wish.ip6}", f"network {network.name} has no IPv6")
    return check_mac(wish.mac) if wish.mac else ""


def _endpoint(network: Network, wish: Attachment, interface: str, mac: str, ip: str, ip6: str, link: str) -> Endpoint:
    return Endpoint(
        network, interface, link, mac or mac_of(number_of(ip)), ip, ip6, wish.aliases, wish.link_local, wish.priority
    )


def check_link_local(text: str) -> str:
    """A link-local address from outside (169.254.0.0/16 of RFC 3927, fe80::/10 of RFC 4291), or InvalidInput."""
    number, bits = parse(text, "link-local address")
    if number not in subnet_of("169.254.0.0/16" if bits == 32 else "fe80::/10"):
        raise InvalidInput(f"invalid link-local address {text!r}", "it must be in 169.254.0.0/16 or fe80::/10")
    return text


def _different(wanted: tuple[Attachment, ...], networks: list[Network]) -> list[Network]:
    """The networks of several references; InvalidInput where two of them (a name and an id) mean one."""
    names = [network.name for network in networks]
    for attachment, name in zip(wanted, names, strict=True):
        if names.count(name) > 1:
            raise InvalidInput(f"network {attachment.network} is given twice", "a container is on a network once")
    return networks


def exit_of(endpoints: tuple[Endpoint, ...], *, six: bool = False) -> Endpoint | None:
    """The endpoint through which the default route of a family leads, as docker has it: that of the highest priority,
    among equals the one whose network's name is first in the alphabet; never an internal one."""
    able = [each for each in endpoints if not each.network.internal and (each.ip6 if six else each.ip)]
    return min(able, key=lambda each: (-each.priority, each.network.name), default=None)


def published_on(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint | None, Endpoint | None]:
    """The endpoints to which published ports of IPv4 and of IPv6 lead: those through which answers leave. A container
    on internal networks only is reached by the host alone, on its first one."""
    first = endpoints[0] if endpoints else None
    six = next((each for each in endpoints if each.ip6), None)
    return exit_of(endpoints) or first, exit_of(endpoints, six=True) or six


def fits(ports: Iterable[Binding], ipv6: bool) -> None:
    """InvalidInput where a port is wanted on an IPv6 address and the container has none."""
    for port in ports:
        if ":" in port.host_ip and not ipv6:
            raise InvalidInput(
                f"cannot publish port [{port.host_ip}]:{port.host_port or ''}:{port.container_port}/{port.protocol}",
                "the container has no IPv6 address, to which it could lead",
                "leave the address out, or use a network with IPv6: network create --ipv6 NAME",
            )


def linger() -> int:
    """Seconds that bridges and the resolver stay when the last container has left (NANOCONTAINER_LINGER)."""
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


def wishes(spec: Spec) -> list[Binding]:
    """The published ports, checked; with --publish-all also the exposed ones that are not published."""
    wishes = [checked(port) for port in spec.ports]
    if spec.publish_all:
        published = {(port.container_port, port.protocol) for port in wishes}
        exposed = map(_exposed, spec.exposed)
        wishes += [port for port in exposed if (port.container_port, port.protocol) not in published]
    return wishes


def checked(port: Port | Binding) -> Binding:
    host_ip = port.host_ip
    shown = f"{host_ip + ':' if host_ip else ''}{port.host_port or ''}:{port.container_port}/{port.protocol}"
    if port.protocol not in PROTOCOLS:
        raise InvalidInput(f"cannot publish port {shown}", f"protocol {port.protocol!r} is not one of tcp, udp, sctp")
    if not 0 < port.container_port < 65536 or not 0 <= port.host_port < 65536:
        raise InvalidInput(f"cannot publish port {shown}", "a port is a number from 1 to 65535")
    if host_ip:
        number, bits = parse(host_ip, "host address of a published port")
        if bits == 128 and number >> 118 == 0xFE80 >> 6:
            why = "a link-local address means another machine on each link"
            raise Unsupported(f"cannot publish port {shown}", why, "name another address, or none")
        host_ip = text_of(number, bits)
    return Binding(port.container_port, port.host_port, host_ip, port.protocol)


def _exposed(text: str) -> Binding:
    port, _, protocol = text.partition("/")
    if not (port.isascii() and port.isdecimal()):
        raise InvalidInput(f"cannot publish exposed port {text!r}", "it must look like 80/tcp")
    return checked(Binding(int(port), 0, "", protocol or "tcp"))


def _claim_port(paths: Paths, port: Binding, id: str, alive: Callable[[str], bool], *_: object) -> Binding:
    name = port_name(port.protocol, port.host_ip, port.host_port)
    holder = claim(f"{ports_directory(paths)}/{name}", id, alive)
    if holder:
        raise port_taken(port.host_port, port.protocol, name_of(paths.names, holder))
    return port


def _claim_any_port(
    paths: Paths, port: Binding, id: str, alive: Callable[[str], bool], kernel: Kernel, ipv6: bool
) -> Binding:
    """A random free port: one that nobody of ours claims on any address, and no other program has bound now."""
    directory = ports_directory(paths)
    low, high = DYNAMIC
    with kernel.links() as links:
        for _ in range(256):
            number = low + int.from_bytes(os.urandom(4), "big") % (high - low + 1)
            if port_owner(directory, port.protocol, number):
                continue
            try:
                kernel.close(links.bind_port(port.protocol, bind_address(port.host_ip, ipv6), number))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise bind_failed(error, port.host_ip, number, port.protocol) from None
            if not claim(f"{directory}/{port_name(port.protocol, port.host_ip, number)}", id, alive):
                return port.replace(host_port=number)
    why = f"256 random ports of {low}-{high} are all in use"
    raise Conflict(f"no free port for {port.container_port}/{port.protocol}", why, "give one: -p HOST:CONTAINER")


def bind_address(host_ip: str, ipv6: bool) -> str:
    """The address at which a port is reserved (Links.bind_port): all of both families where it is published in both."""
    return host_ip or "*" * ipv6


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
