"""Addresses and ports: what a container wishes, and claims (paths.py) of its id on names that say which.

An IPv4 address is the lowest that is free; the IPv6 address beside it has the same number within its own subnet, so it
is found without looking: 172.30.0.7 and fd…::7 are one container.
"""

from __future__ import annotations

from ..errors import Conflict, InvalidInput
from ..paths import Paths, claim, claims, owner_of
from ..record import Record
from .addresses import V4, V6, number6_of, number_of, parse, subnet_of, text_of

DEFAULT = "bridge"  # the network that containers are on which ask for none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .addresses import Subnet
    from .model import Network


class Attachment(Record):
    """One --network that is a network: what a container wants on it, empty where it does not mind. A part of its
    specification (container/spec.py).

    network: its name. mac: "02:42:…". aliases: other names for the container, on this network. link_local: further
    addresses, which no network hands out. priority: of several networks the highest has the default route (docker's
    gw-priority). interface: its name inside, empty for eth0 and so on in their order.
    """

    network: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    link_local: tuple[str, ...] = ()
    priority: int = 0
    interface: str = ""


class Pool:
    """The addresses of one family on a network: which may be given at all, and which to who wants no certain one."""

    def __init__(self, network: Network, bits: int = V4) -> None:
        six = bits == V6
        self.network = network.name
        self.subnet: Subnet = subnet_of(network.subnet6 if six else network.subnet)
        part = network.ip_range6 if six else network.ip_range
        self.range: Subnet = subnet_of(part) if part else self.subnet
        self.gateway = number6_of(network.gateway6) if six else number_of(network.gateway)
        # The first is the network's own (in IPv6 it means any router, RFC 4291); the last of IPv4 is the broadcast's.
        self.never = {self.gateway, self.subnet.first} | (set() if six else {self.subnet.last})
        self.aux = {number for number, of in map(parse, network.aux.values()) if of == bits}

    def check(self, wanted: str) -> int:
        """The number of a wanted address. InvalidInput where it cannot be given."""
        number, bits = parse(wanted)
        what = f"cannot give address {wanted}"
        if bits != self.subnet.bits or number not in self.subnet:
            raise InvalidInput(what, f"it is not in {self.subnet}, the subnet of {self.network}")
        if number in self.never:
            raise InvalidInput(what, "it is the gateway's, or the subnet's first or last")
        if number in self.aux:
            raise InvalidInput(what, f"network {self.network} keeps it for something else (--aux-address)")
        return number

    def text(self, number: int) -> str:
        return text_of(number, self.subnet.bits)

    def free(self, number: int) -> bool:
        return number in self.range and number not in self.never and number not in self.aux

    def has(self, address: str) -> bool:
        """Whether a claim's name is an address that may be given."""
        try:
            number, bits = parse(address)
        except InvalidInput:
            return False  # something else lies there
        return bits == self.subnet.bits and self.free(number)

    def beside(self, network: Network, ip: str) -> int:
        """The IPv6 address that has the same number in its subnet as an IPv4 address in its own; it may not be free."""
        return self.subnet.first + number_of(ip) - subnet_of(network.subnet).first

    def lowest(self) -> int:
        """The first that may be given. Conflict where the network is too small for any."""
        for number in self:
            return number
        raise Conflict(f"network {self.network} has no address to give", f"{self.range} holds none")

    def __iter__(self) -> Iterator[int]:
        """What may be given, in this order: after the gateway, as far as that is in the range; then before it."""
        first = self.gateway + 1 if self.gateway in self.range else self.range.first
        for low, high in ((first, self.range.last + 1), (self.range.first, first)):
            number = low
            while number < high:  # range() has no more than 2^63 numbers
                if self.free(number):
                    yield number
                number += 1


def claim_address(
    directory: str, network: Network, owner: str, alive: Callable[[str], bool], wanted: str = "", names: str = ""
) -> str:
    """An address of the network for owner, e.g. "172.30.0.2": the wanted one, or the lowest free after the gateway.

    directory: the network's leases. names: the directory of container names, to say who has a wanted address.
    Conflict where it is taken or none is free; InvalidInput where it cannot be given.
    """
    return _claim(directory, Pool(network), owner, alive, wanted, names)


def claim_address6(
    directory: str,
    network: Network,
    owner: str,
    alive: Callable[[str], bool],
    wanted: str = "",
    names: str = "",
    *,
    beside: str = "",
) -> str:
    """The same for IPv6. beside: the owner's IPv4 address, whose number within its subnet this one has as well."""
    pool = Pool(network, V6)
    if not wanted and beside:
        number = pool.beside(network, beside)
        if pool.free(number) and not claim(f"{directory}/{pool.text(number)}", owner, alive):
            return pool.text(number)
    return _claim(directory, pool, owner, alive, wanted, names)


def first_address(network: Network, wanted: str = "") -> str:
    """What claim_address() would give where nobody is on the network."""
    pool = Pool(network)
    return pool.text(pool.check(wanted) if wanted else pool.lowest())


def first_address6(network: Network, wanted: str = "", *, beside: str) -> str:
    """The same for IPv6."""
    pool = Pool(network, V6)
    if wanted:
        return pool.text(pool.check(wanted))
    number = pool.beside(network, beside)
    return pool.text(number if pool.free(number) else pool.lowest())


def _claim(directory: str, pool: Pool, owner: str, alive: Callable[[str], bool], wanted: str, names: str) -> str:
    if wanted:
        address = pool.text(pool.check(wanted))
        holder = claim(f"{directory}/{address}", owner, alive)
        if holder:
            raise Conflict(f"address {address} is in use", f"container {name_of(names, holder)} has it")
        return address
    taken = set(claims(directory))
    for number in pool:
        address = pool.text(number)
        if address not in taken and not claim(f"{directory}/{address}", owner, alive):
            return address
    for address in sorted(taken):  # all taken: perhaps by containers that are no more
        if pool.has(address) and not claim(f"{directory}/{address}", owner, alive):
            return address
    raise Conflict(
        f"network {pool.network} has no free address", f"all of {pool.range} are in use", "remove containers of it"
    )


def ports_directory(paths: Paths) -> str:
    """Claims of the host's ports: one directory for all networks, for the host has each port once."""
    return f"{paths.state}/ports"


def port_name(protocol: str, address: str, port: int) -> str:
    """The name of a port's claim: "tcp-any-8080", "udp-127.0.0.1-53"."""
    return f"{protocol}-{address or 'any'}-{port}"


def port_owner(directory: str, protocol: str, port: int, *, besides: str = "") -> str:
    """The id of a container that has this port of any host address; empty where none of ours has."""
    for name in claims(directory):
        if name.startswith(f"{protocol}-") and name.endswith(f"-{port}"):
            holder = owner_of(f"{directory}/{name}")
            if holder and holder != besides:
                return holder
    return ""


def name_of(names: str, id: str) -> str:
    """A container's name for an error message: looked for in the directory of names, else its short id."""
    for name in claims(names) if names else ():
        if owner_of(f"{names}/{name}") == id:
            return name
    return id[:12]
