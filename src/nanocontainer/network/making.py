"""Networks made and removed: what `network create` and `network rm` do on the disk.

A network is its file, networks/<name>/network.json. It is written in a directory beside the others, .new-…, which then
gets its name by one rename(2): so a network is there whole or not at all, and of two that want one name one gets it.
Removing goes the same way back, .rm-…. What somebody who was killed has left of these goes with the next create or rm.
In the kernel nothing is made: the bridge comes with the first container (bridge.py: EnsureBridge).
"""

from __future__ import annotations

import errno
import os
import time

from ..clock import rfc3339
from ..errors import Conflict, InvalidInput, Unsupported
from ..lean import dumps
from ..paths import Paths, claims, is_there, make_dirs, new_id, owner_of, read_file, remove_tree, write_file
from ..plan.step import Step, World, document
from ..record import Record
from .addresses import V4, V6, Subnet, parse, subnet_of, text_of
from .allot import check_interface
from .leases import name_of
from .model import (
    DEFAULT,
    HOST_BINDING,
    ICC,
    MASQUERADE,
    METADATA,
    SPOOFING,
    Network,
    NetworkStore,
    check_network_name,
    free_subnet6,
)
from .plan import ensure_bridge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..plan.step import Residue, Side

BRIDGE_NAME = "com.docker.network.bridge.name"
MTU = "com.docker.network.driver.mtu"
OPTIONS = (BRIDGE_NAME, ICC, MASQUERADE, HOST_BINDING, MTU, SPOOFING, METADATA)
_WORDS = {SPOOFING: ("allowed", "refused"), METADATA: ("closed", "open")}
_TRUE, _FALSE = ("1", "t", "true", "True", "TRUE"), ("0", "f", "false", "False", "FALSE")
_LONGEST = {V4: 30, V6: 126}  # prefixes: a gateway and one container must find room
_FAMILY = {V4: "IPv4", V6: "IPv6"}


class Wish(Record):
    """What is asked for with `network create`, as text. subnets, gateways, ranges: at most one of each family; empty:
    chosen. aux: name → address. ipv6: "" where the host has it, else "true" or "false". options: docker's names."""

    name: str
    driver: str = "bridge"
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    aux: dict[str, str] = {}
    ipv6: str = ""
    internal: bool = False
    attachable: bool = False
    labels: dict[str, str] = {}
    options: dict[str, str] = {}


class MakeNetwork(Step):
    """A network is written down, and exists from the moment on in which its directory gets its name."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "disk"

    path: str  # of its directory
    id: str
    content: str  # of network.json
    subnets: str  # for who reads this
    interface: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def beside(self) -> str:
        return f"{self.path.rpartition('/')[0]}/.new-{self.id}"

    def do(self, world: World) -> None:
        """The caller holds the lock of all networks."""
        make_dirs(self.beside)
        write_file(f"{self.beside}/network.json", self.content, durable=True)
        try:
            world.kernel.rename(self.beside, self.path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            why = "something else lies there" if error.errno == errno.ENOTDIR else ""
            raise Conflict(f"network {self.name} exists already", why, "choose another name") from None

    def explain(self) -> str:
        return (
            f"Write the network {self.name} down, with its subnet {self.subnets}, and give its directory its name as "
            "the last act, so that it is there whole or not at all (rename(2)); its bridge "
            f"{self.interface} is made by the first container on it."
        )

    def shell(self) -> str:
        return f"mkdir -p {self.path}\n{document(f'{self.path}/network.json', self.content)}"

    def undone(self) -> str:
        return f"rm -r {self.path}"

    def undo(self, world: World) -> None:
        """What was written goes, the network too if it is this one, and nobody is on it."""
        remove_tree(self.beside)
        try:
            mine = f'"{self.id}"' in read_file(f"{self.path}/network.json")
        except (FileNotFoundError, NotADirectoryError):
            return
        if mine and not claims(f"{self.path}/leases"):
            remove_tree(self.path)


def make_network(store: NetworkStore, network: Network) -> MakeNetwork:
    """The step that makes a drafted network."""
    subnets = f"{network.subnet} and {network.subnet6}" if network.subnet6 else network.subnet
    content = dumps(network.as_dict())
    return MakeNetwork(store.directory(network), network.id, content, subnets, network.interface)


def sweep(paths: Paths) -> None:
    """Clear away what makers and removers that were killed have left. Under the lock of all networks."""
    for name in claims(paths.networks):
        if name.startswith((".new-", ".rm-")):
            remove_tree(f"{paths.networks}/{name}")


def draft(store: NetworkStore, wish: Wish) -> Network:
    """The network of a wish, with all that is not said chosen; nothing is made. InvalidInput, Unsupported; Conflict
    where its name, its interface or its addresses are in use."""
    if wish.driver != "bridge":
        hint = "--network host and --network none need no network"
        raise Unsupported(f"network driver {wish.driver!r} is not supported", "bridge is the one there is", hint)
    check_network_name(wish.name)
    if wish.name == DEFAULT or is_there(f"{store.directory(wish.name)}/network.json"):
        raise Conflict(f"network {wish.name} exists already", "", "choose another name")
    options = _options(wish.options)
    taken, usual_mtu = store.taken()
    subnets = _subnets(wish, store)
    chosen = tuple(subnet_of(text) for text in wish.subnets)
    for subnet in chosen:
        _check_free(store, subnet)
    four = subnets.get(V4) or store.free_subnet([*taken, *chosen])
    six = subnets.get(V6)
    if six is None and wish.ipv6 != "false" and store.ipv6:
        six = free_subnet6([*taken, *chosen])
    both = {V4: four, **({V6: six} if six else {})}
    gateways = _inside("gateway", wish.gateways, both)
    ranges = _ranges(wish.ranges, both)
    aux = _aux(wish.aux, both, gateways)
    mtu = int(options.get(MTU, usual_mtu))
    if six and mtu < 1280:
        hint = "give --ipv6=false, or at least 1280"
        raise InvalidInput(f"invalid mtu {mtu}", "IPv6 needs packets of 1280 bytes (RFC 8200)", hint)
    id = new_id()
    interface = options.get(BRIDGE_NAME, f"nano{id[:10]}")
    _check_interface(store, interface)
    return Network(
        name=wish.name, id=id, interface=interface, subnet=str(four), mtu=mtu, internal=wish.internal,
        gateway=text_of(gateways.get(V4, four.first + 1)), labels=wish.labels, options=options,
        created=rfc3339(time.time_ns()),
        subnet6=str(six) if six else "", gateway6=text_of(gateways.get(V6, six.first + 1), V6) if six else "",
        ip_range=str(ranges.get(V4, "")), ip_range6=str(ranges.get(V6, "")), aux=aux, attachable=wish.attachable,
    )  # fmt: skip


def remove(store: NetworkStore, network: Network, alive: Callable[[str], bool], kernel: Kernel) -> None:
    """Remove a network, its bridge and its rules. The caller holds the lock of all networks. Conflict where a container
    is on it."""
    paths = store.paths
    if network.name == DEFAULT:
        raise kept(DEFAULT)
    directory = store.directory(network)
    gone = f"{paths.networks}/.rm-{network.id}"
    _check_unused(paths, network, f"{directory}/leases", alive)
    ensure_bridge(paths, network).remove(kernel)
    os.rename(directory, gone)
    try:  # somebody may have got an address since; who gets one from now on finds that there is no network
        _check_unused(paths, network, f"{gone}/leases", alive)
    except Conflict:
        remove_tree(directory)
        os.rename(gone, directory)
        raise
    remove_tree(gone)


def users(directory: str, alive: Callable[[str], bool]) -> list[str]:
    """The ids of living containers that have an address; directory: of a network's leases."""
    owners = dict.fromkeys(owner_of(f"{directory}/{name}") for name in claims(directory))
    return [owner for owner in owners if owner and alive(owner)]


def _check_unused(paths: Paths, network: Network, leases: str, alive: Callable[[str], bool]) -> None:
    names = [name_of(paths.names, id) for id in users(leases, alive)]
    if names:
        many = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        hint = f"stop {names[0]}, or disconnect it: network disconnect {network.name} {names[0]}"
        are = "containers {} are" if len(names) > 1 else "container {} is"
        raise Conflict(f"network {network.name} is in use", f"{are.format(many)} on it", hint)


def _options(given: dict[str, str]) -> dict[str, str]:
    """docker's options with checked values: booleans as true and false."""
    found = dict(given)
    for name, value in given.items():
        what = f"invalid network option {name}={value}"
        if name in (ICC, MASQUERADE):
            if value not in (*_TRUE, *_FALSE):
                raise InvalidInput(what, "it is true or false")
            found[name] = "true" if value in _TRUE else "false"
        elif name == MTU:
            if not (value.isascii() and value.isdecimal() and len(value) < 6 and 68 <= int(value) <= 65535):
                raise InvalidInput(what, "it is a number of bytes from 68 to 65535")
        elif name == HOST_BINDING:
            if parse(value)[1] != V4:
                raise InvalidInput(what, "it is an IPv4 address")
        elif name == BRIDGE_NAME:
            check_interface(value)
        elif name in _WORDS:
            if value not in _WORDS[name]:
                raise InvalidInput(what, f"it is {' or '.join(_WORDS[name])}")
        else:
            raise InvalidInput(f"unknown network option {name!r}", "", f"there are {', '.join(OPTIONS)}")
    return found


def _subnets(wish: Wish, store: NetworkStore) -> dict[int, Subnet]:
    if wish.ipv6 == "true" and not store.ipv6:
        raise Unsupported("cannot make a network with IPv6", "this host has no IPv6")
    found: dict[int, Subnet] = {}
    for text in wish.subnets:
        subnet = subnet_of(text)
        family = _FAMILY[subnet.bits]
        if subnet.bits in found:
            raise Unsupported(f"more than one {family} subnet", f"{found[subnet.bits]} and {subnet}")
        if subnet.prefix > _LONGEST[subnet.bits]:
            raise InvalidInput(f"invalid subnet {text!r}", "it has no room for a gateway and a container")
        if subnet.bits == V6 and not store.ipv6:
            raise Unsupported("cannot make a network with IPv6", "this host has no IPv6")
        if subnet.bits == V6 and wish.ipv6 == "false":
            raise InvalidInput(f"conflicting options: subnet {text} and --ipv6=false", "it is one of IPv6")
        if subnet.overlaps(subnet_of("127.0.0.0/8")) or subnet.overlaps(subnet_of("224.0.0.0/3")):
            raise InvalidInput(f"invalid subnet {text!r}", "no host can have its addresses")
        if any(subnet.overlaps(subnet_of(of)) for of in ("::/64", "fe80::/10", "ff00::/8")):
            raise InvalidInput(f"invalid subnet {text!r}", "no network can have its addresses")
        found[subnet.bits] = subnet
    return found


def _check_free(store: NetworkStore, subnet: Subnet) -> None:
    """Conflict where a subnet that was asked for is somebody else's. A wider route of the host's does not hinder: the
    more exact one wins (and is what one wants inside 10.0.0.0/8 of a VPN)."""
    what = f"subnet {subnet} is in use"
    for network in store.all():
        for text in (network.subnet, network.subnet6):
            if text and subnet.overlaps(subnet_of(text)):
                raise Conflict(what, f"network {network.name} has {text}", "choose another, or none at all")
    with store.kernel.links() as links:
        for route in links.routes():
            if not route.destination or not route.prefix:
                continue
            number, bits = parse(route.destination)
            other = Subnet(number, route.prefix, bits)
            if other.overlaps(subnet) and (other.prefix >= subnet.prefix):
                raise Conflict(what, f"this host has a route to {other}", "choose another, or none at all")


def _check_interface(store: NetworkStore, interface: str) -> None:
    for network in store.all():
        if network.interface == interface:
            raise Conflict(f"interface {interface} is in use", f"it is the bridge of network {network.name}")
    with store.kernel.links() as links:
        link = links.link(interface)
    if link is not None:
        raise Conflict(f"interface {interface} is in use", f"this host has one of that name ({link.kind or 'device'})")


def _inside(what: str, texts: tuple[str, ...], subnets: dict[int, Subnet]) -> dict[int, int]:
    found: dict[int, int] = {}
    for text in texts:
        number, bits = parse(text, what)
        if bits not in subnets or number not in subnets[bits]:
            of = ", ".join(str(subnet) for subnet in subnets.values())
            raise InvalidInput(f"invalid {what} {text!r}", f"it is not in the network's subnet {of}")
        if number == subnets[bits].first or (bits == V4 and number == subnets[bits].last):
            raise InvalidInput(f"invalid {what} {text!r}", f"it is the first or last address of {subnets[bits]}")
        if bits in found:
            raise InvalidInput(f"more than one {what} of {_FAMILY[bits]}", f"{text} is the second")
        found[bits] = number
    return found


def _ranges(texts: tuple[str, ...], subnets: dict[int, Subnet]) -> dict[int, Subnet]:
    found: dict[int, Subnet] = {}
    for text in texts:
        part = subnet_of(text, "range of addresses")
        if part.bits not in subnets or not subnets[part.bits].covers(part):
            of = ", ".join(str(subnet) for subnet in subnets.values())
            raise InvalidInput(f"invalid range of addresses {text!r}", f"it is not in the network's subnet {of}")
        if part.bits in found:
            raise InvalidInput(f"more than one range of {_FAMILY[part.bits]} addresses", f"{text} is the second")
        found[part.bits] = part
    return found


def _aux(given: dict[str, str], subnets: dict[int, Subnet], gateways: dict[int, int]) -> dict[str, str]:
    found = {}
    for name, text in given.items():
        ((bits, number),) = _inside("auxiliary address", (text,), subnets).items()
        if number == gateways.get(bits, subnets[bits].first + 1):
            raise InvalidInput(f"invalid auxiliary address {text!r}", "it is the gateway's")
        found[name] = text_of(number, bits)
    return found


def kept(name: str) -> Conflict:
    """The error for who wants to remove what is always there."""
    return Conflict(f"network {name} cannot be removed", "it belongs to the engine (docker: a pre-defined network)")
