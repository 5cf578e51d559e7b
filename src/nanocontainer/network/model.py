"""Networks and where they are kept: networks/<name>/network.json, immutable after it was made.

The default network `bridge` is made when it is first asked for. Its subnet is chosen then: one that overlaps no address
and no route of the host, and no other network of ours, so that nothing the host could reach becomes unreachable. Where
the host has IPv6, a network has that too: a /64 of unique local addresses (RFC 4193), which nobody has to hand out.
"""

from __future__ import annotations

import errno
import os
import time

from ..errors import Corrupt, InvalidInput, NanoError, NotFound, NotPermitted, denied, reason
from ..kernel.calls import Kernel
from ..lean import dumps, loads
from ..paths import FileLock, Paths, clear_torn, is_there, make_dirs, new_id, read_file, write_file
from ..record import Record
from .addresses import (
    CANDIDATES,
    V4,
    Subnet,
    choose,
    enclosing,
    number6_of,
    number_of,
    parse,
    subnet_of,
    text_of,
    unique_local,
)
from .leases import DEFAULT as DEFAULT  # a name of this module as well

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.netlink import Link, Route

RESERVED = ("host", "none", "default", "container")  # words that --network understands
ICC = "com.docker.network.bridge.enable_icc"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
SPOOFING = "io.nanocontainer.spoofing"  # "allowed": containers may send with addresses that are not theirs
METADATA = "io.nanocontainer.metadata"  # "closed": the metadata services of clouds cannot be reached
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HEX = frozenset("0123456789abcdef")
_IMAGINED = unique_local(b"nano\0\0\0")  # of a network that is only described
IPV6 = "/proc/sys/net/ipv6"  # is not there where the host has no IPv6


class Network(Record):
    """A network. interface: its bridge on the host (15 characters at most); subnet "172.30.0.0/16"; mtu in bytes;
    internal: nothing outside can be reached; created: RFC 3339 in UTC.

    subnet6, gateway6: the same for IPv6, empty where it has none. ip_range, ip_range6: the part of the subnet from
    which addresses are given to who wants no certain one. aux: addresses that are somebody else's, name → address.
    options: docker's names (com.docker.network.…), as given.
    """

    name: str
    id: str
    interface: str
    subnet: str
    gateway: str
    driver: str = "bridge"
    mtu: int = 1500
    internal: bool = False
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    created: str = ""
    subnet6: str = ""
    gateway6: str = ""
    ip_range: str = ""
    ip_range6: str = ""
    aux: dict[str, str] = {}
    attachable: bool = False

    @property
    def prefix(self) -> int:
        return int(self.subnet.partition("/")[2])

    @property
    def prefix6(self) -> int:
        return int(self.subnet6.partition("/")[2] or 0)

    @property
    def icc(self) -> bool:
        """Whether its containers may talk to each other (docker's inter-container connectivity)."""
        return self.options.get(ICC, "true") == "true"

    @property
    def masquerade(self) -> bool:
        """Whether who leaves the network takes the host's address."""
        return self.options.get(MASQUERADE, "true") == "true"

    @property
    def guarded(self) -> bool:
        """Whether its containers can send with their own addresses only."""
        return self.options.get(SPOOFING, "") != "allowed"

    @property
    def metadata(self) -> bool:
        """Whether its containers may ask the metadata services of clouds, which hand out credentials."""
        return self.options.get(METADATA, "") != "closed"

    @property
    def host_binding(self) -> str:
        """The host's address on which ports are published that name none; empty for all."""
        address = self.options.get(HOST_BINDING, "")
        return "" if address == "0.0.0.0" else address

    def without_ipv6(self) -> Network:
        """The same on a host that has no IPv6 (any more)."""
        return self.replace(subnet6="", gateway6="", ip_range6="") if self.subnet6 else self


def check_network_name(name: str) -> str:
    """A network's name from outside, or InvalidInput: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most 128, and no word that
    --network understands."""
    if not (0 < len(name) <= 128 and name[0].isalnum() and _NAME.issuperset(name)):
        raise InvalidInput(
            f"invalid network name {name[:140]!r}", "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 128 of them"
        )
    if name in RESERVED:
        raise InvalidInput(f"invalid network name {name!r}", "--network has another meaning for this word")
    return name


class NetworkStore:
    """The networks of one engine."""

    def __init__(self, paths: Paths, kernel: Kernel | None = None) -> None:
        self.paths = paths
        self.kernel = kernel or Kernel()
        self._ipv6: bool | None = None

    @property
    def ipv6(self) -> bool:
        """Whether the host has IPv6 (now), and new interfaces do: many switch it off by net.ipv6.conf.all.disable_ipv6,
        which is written to default as well (ip-sysctl.rst), and no address can be given to a bridge then."""
        if self._ipv6 is None:
            self._ipv6 = is_there(IPV6) and not _switched_off()
        return self._ipv6

    def directory(self, network: Network | str) -> str:
        """Where a network is kept: network.json, leases/."""
        return f"{self.paths.networks}/{network if isinstance(network, str) else network.name}"

    def find(self, ref: str, *, save: bool = True) -> Network:
        """The network of this name, id or unique beginning of an id; NotFound, or Corrupt where its file is broken.

        The default network is made if it is not there; without save it is only described (for --explain, without root).
        """
        check_network_name(ref)
        try:
            network = self._read(ref)
        except NotPermitted:
            if save:
                raise
            network = None
        if network:
            return network if self.ipv6 else network.without_ipv6()
        if ref != DEFAULT:
            return self._by_id(ref)
        if not save:
            return self._default(describe=True)
        make_dirs(self.paths.networks)
        with FileLock(lock_path(self.paths)):
            network = self._read(ref)  # another process may have been first
            if network is None:
                network = self._default()
                self.write(network)
        return network

    def _by_id(self, ref: str) -> Network:
        networks = self.all() if _HEX.issuperset(ref) else []
        fitting = [network for network in networks if network.id.startswith(ref)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise InvalidInput(f"network {ref!r} is ambiguous", f"{len(fitting)} ids begin with it", "give more digits")
        known = ", ".join(sorted({DEFAULT, *self._names()}))
        raise NotFound(f"network {ref} not found", "", f"the networks are: {known}")

    def write(self, network: Network) -> None:
        """Write a network down, whole or not at all. Under the lock of all networks."""
        directory = self.directory(network)
        make_dirs(directory)
        clear_torn(directory)
        write_file(f"{directory}/network.json", dumps(network.as_dict()), durable=True)

    def all(self) -> list[Network]:
        """All networks that can be read, by name. A broken file hides its own network and no other."""
        found = []
        for name in self._names():
            try:
                network = self._read(name)
            except NanoError:
                continue
            if network:
                found.append(network)
        return found

    def _names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self.paths.networks) if not name.startswith("."))
        except (FileNotFoundError, PermissionError):
            return []

    def _read(self, name: str) -> Network | None:
        path = f"{self.directory(name)}/network.json"
        hint = f"restore it, or remove {self.directory(name)} when no container uses the network"
        try:
            data = loads(read_file(path))
            if not isinstance(data, dict):
                raise ValueError("it holds no JSON object")
            network = Network.from_dict(data)
            _check(network, name)
            return network
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, AttributeError, KeyError, InvalidInput) as error:
            raise Corrupt(f"broken file {path}", str(error), hint) from None
        except PermissionError as error:
            raise NotPermitted(f"cannot read {path}", error.strerror or "", denied()) from None
        except OSError as error:
            if error.errno in (errno.EISDIR, errno.ELOOP):
                raise Corrupt(f"broken file {path}", error.strerror or "", hint) from None
            raise NanoError(f"cannot read {path}", error.strerror or str(error), reason(error)[1]) from None

    def spare(self, interface: str, besides: tuple[Network, ...] = ()) -> Network:
        """A network that is nobody's: its subnet is in use neither by the host nor by a network of ours, nor by those
        besides."""
        return self._default(besides=besides).replace(interface=interface)

    def taken(self, besides: tuple[Network, ...] = ()) -> tuple[list[Subnet], int]:
        """What the host has addresses of or routes to, and our networks, and those besides; and the MTU
        that a new network should have: that of the way out, as far as it is smaller than usual."""
        with self.kernel.links() as links:
            addresses, routes, all_links = links.addresses(), links.routes(), links.links()
        taken = [
            enclosing(number, each.prefix, bits) for each in addresses for number, bits in (parse(each.address),)
        ]
        for route in routes:
            if route.destination and route.prefix and not route.destination.startswith(("ff", "fe80:")):
                number, bits = parse(route.destination)
                taken.append(Subnet(number, route.prefix, bits))
        for network in (*self.all(), *besides):
            taken += [subnet_of(text) for text in (network.subnet, network.subnet6) if text]
        return taken, _mtu(routes, all_links)

    def free_subnet(self, taken: list[Subnet]) -> Subnet:
        """An IPv4 subnet that overlaps nothing taken. NanoError where there is none."""
        # Engines beside each other start looking at different places: they do not see a network that is not up.
        subnet = choose(taken, int(self.paths.mark or "0", 16) % len(CANDIDATES))
        if subnet is None:
            raise NanoError(
                "cannot make a network", "the host has addresses or routes in all private ranges we know",
                "choose its subnet: network create --subnet; of the network bridge it stands in "
                f"{self.directory(DEFAULT)}/network.json",
            )  # fmt: skip
        return subnet

    def _default(self, *, describe: bool = False, besides: tuple[Network, ...] = ()) -> Network:
        mark = self.paths.mark
        taken, mtu = self.taken(besides)
        subnet = self.free_subnet(taken)
        subnet6 = (_IMAGINED if describe else free_subnet6(taken)) if self.ipv6 else None
        return Network(
            name=DEFAULT,
            id=new_id(),
            interface=f"nano-{mark}" if mark else "nano0",
            subnet=str(subnet),
            gateway=text_of(subnet.first + 1),
            mtu=mtu,
            created=time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()),
            subnet6=str(subnet6) if subnet6 else "",
            gateway6=text_of(subnet6.first + 1, subnet6.bits) if subnet6 else "",
        )


def _switched_off() -> bool:
    try:
        return read_file(f"{IPV6}/conf/default/disable_ipv6").strip() != "0"
    except FileNotFoundError:
        return False


def free_subnet6(taken: list[Subnet]) -> Subnet:
    """A /64 of unique local addresses that overlaps nothing taken."""
    while True:
        subnet = unique_local(os.urandom(7))
        if not any(subnet.overlaps(other) for other in taken):
            return subnet


def _mtu(routes: list[Route], links: list[Link]) -> int:
    uplinks = {route.index for route in routes if not route.prefix and route.gateway}
    mtus = [link.mtu for link in links if link.index in uplinks and link.mtu]
    return max(1280, min([1500, *mtus]))  # IPv6 needs 1280 bytes (RFC 8200)


def table_name(paths: Paths) -> str:
    """Our nftables table, in family inet: one for all networks of an engine."""
    return f"nanocontainer_{paths.mark}" if paths.mark else "nanocontainer"


def lock_path(paths: Paths) -> str:
    """The lock under which networks, bridges and the nftables table are made and removed."""
    return f"{paths.networks}/.lock"


def _check(network: Network, name: str) -> None:
    """ValueError or InvalidInput where a network read from a file cannot be one."""
    if network.name != name:
        raise ValueError(f"it is of network {network.name!r}")
    subnet = subnet_of(network.subnet)
    if subnet.bits != V4:
        raise ValueError(f"subnet {network.subnet} is not of IPv4")
    if number_of(network.gateway) not in subnet:
        raise ValueError(f"gateway {network.gateway} is not in {network.subnet}")
    if network.subnet6 and number6_of(network.gateway6) not in subnet_of(network.subnet6):
        raise ValueError(f"gateway {network.gateway6} is not in {network.subnet6}")
    for text, of in ((network.ip_range, network.subnet), (network.ip_range6, network.subnet6)):
        if text and not subnet_of(of).covers(subnet_of(text)):
            raise ValueError(f"range {text} is not in {of}")
    for address in network.aux.values():
        parse(address)
    if not 0 < len(network.interface) < 16 or any(c.isspace() or c in '/"' for c in network.interface):
        raise ValueError(f"interface {network.interface!r} is no interface name")
    if not 68 <= network.mtu <= 65535:
        raise ValueError(f"mtu {network.mtu!r} is not between 68 and 65535")
