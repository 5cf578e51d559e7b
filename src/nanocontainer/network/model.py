"""Networks and where they are kept: networks/<name>/network.json, immutable after it was made.

The default network `bridge` is made when it is first asked for. Its subnet is chosen then: one that overlaps no address
and no route of the host, and no other network of ours, so that nothing the host could reach becomes unreachable.
"""

from __future__ import annotations

import errno
import os
import time

from ..errors import Corrupt, InvalidInput, NanoError, NotFound, NotPermitted, denied, reason
from ..kernel.calls import Kernel
from ..lean import dumps, loads
from ..paths import FileLock, Paths, check_name, clear_torn, make_dirs, new_id, read_file, write_file
from ..record import Record
from .addresses import CANDIDATES, Subnet, choose, enclosing, number_of, subnet_of, text_of

DEFAULT = "bridge"


class Network(Record):
    """A network. interface: its bridge on the host (15 characters at most); subnet "172.30.0.0/16"; mtu in bytes;
    internal: nothing outside can be reached; created: RFC 3339 in UTC."""

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

    @property
    def prefix(self) -> int:
        return int(self.subnet.partition("/")[2])


class NetworkStore:
    """The networks of one engine."""

    def __init__(self, paths: Paths, kernel: Kernel | None = None) -> None:
        self.paths = paths
        self.kernel = kernel or Kernel()

    def directory(self, network: Network | str) -> str:
        """Where a network is kept: network.json, leases/."""
        return f"{self.paths.networks}/{network if isinstance(network, str) else network.name}"

    def find(self, name: str, *, save: bool = True) -> Network:
        """The network of this name; NotFound, or Corrupt where its file is broken.

        The default network is made if it is not there; without save it is only described (for --explain, without root).
        """
        check_name(name, "network name")
        try:
            network = self._read(name)
        except NotPermitted:
            if save:
                raise
            network = None
        if network:
            return network
        if name != DEFAULT:
            known = ", ".join(sorted({DEFAULT, *self._names()}))
            raise NotFound(f"network {name} not found", "", f"the networks are: {known}")
        if not save:
            return self._default()
        make_dirs(self.paths.networks)
        with FileLock(lock_path(self.paths)):
            network = self._read(name)  # another process may have been first
            if network is None:
                network = self._default()
                make_dirs(self.directory(network))
                clear_torn(self.directory(network))
                write_file(f"{self.directory(network)}/network.json", dumps(network.as_dict()), durable=True)
        return network

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

    def spare(self, interface: str) -> Network:
        """A network that is nobody's: its subnet is in use neither by the host nor by a network of ours."""
        return self._default().replace(interface=interface)

    def _default(self) -> Network:
        mark = self.paths.mark
        with self.kernel.links() as links:
            addresses, routes, all_links = links.addresses(), links.routes(), links.links()
        taken = [enclosing(number_of(each.address), each.prefix) for each in addresses if ":" not in each.address]
        taken += [
            Subnet(number_of(route.destination), route.prefix)
            for route in routes
            if route.destination and route.prefix and ":" not in route.destination
        ]
        taken += [subnet_of(network.subnet) for network in self.all()]
        # Engines beside each other start looking at different places: they do not see a network that is not up.
        subnet = choose(taken, int(mark or "0", 16) % len(CANDIDATES))
        if subnet is None:
            raise NanoError(
                f"cannot make network {DEFAULT}", "the host has addresses or routes in all private ranges we know",
                f"write {self.directory(DEFAULT)}/network.json with a subnet of your choice",
            )  # fmt: skip
        uplinks = {route.index for route in routes if not route.prefix and route.gateway}
        mtus = [link.mtu for link in all_links if link.index in uplinks and link.mtu]
        return Network(
            name=DEFAULT,
            id=new_id(),
            interface=f"nano-{mark}" if mark else "nano0",
            subnet=str(subnet),
            gateway=text_of(subnet.first + 1),
            mtu=max(1280, min([1500, *mtus])),
            created=time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()),
        )


def table_name(paths: Paths) -> str:
    """Our nftables table, in family inet: one for all networks of an engine."""
    return f"nanocontainer_{paths.mark}" if paths.mark else "nanocontainer"


def lock_path(paths: Paths) -> str:
    """The lock under which networks, bridges and the nftables table are made and removed."""
    return f"{paths.networks}/.lock"


def _check(network: Network, name: str) -> None:
    """ValueError or InvalidInput where a network read from a file cannot be one."""
    subnet = subnet_of(network.subnet)
    if network.name != name:
        raise ValueError(f"it is of network {network.name!r}")
    if number_of(network.gateway) not in subnet:
        raise ValueError(f"gateway {network.gateway} is not in {network.subnet}")
    if not 0 < len(network.interface) < 16 or any(c.isspace() or c in '/"' for c in network.interface):
        raise ValueError(f"interface {network.interface!r} is no interface name")
    if not 68 <= network.mtu <= 65535:
        raise ValueError(f"mtu {network.mtu!r} is not between 68 and 65535")
