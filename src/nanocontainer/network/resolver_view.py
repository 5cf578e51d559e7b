"""What the resolver knows of names, read from the files of registration.py: who asks, and what that one may be told.

A question is answered from what the disk says now. stat(2) of a directory costs 2 µs, and its time of change is that of
the last file that came or went; but the kernel's clock for that is coarse (up to 10 ms, inode(7)), so two changes may
bear the same time. What was read so soon after its time of change is therefore read again: it has not settled.

A container is told the names of all networks that it is on, and of no other.
"""

from __future__ import annotations

import os
import time
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from ..lean import loads
from ..paths import is_id, read_file
from ..record import Record
from .registration import Registration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Stamp = tuple[int, int, int]  # inode, time of change in ns, size

_SETTLED = 50_000_000  # ns after which a change gets another time than the one before


class Zone:
    """One network: its gateways, its containers, by name and by address. internal: it has no way out."""

    def __init__(self, name: str, directory: str) -> None:
        self.name, self.directory = name, directory
        self.gateways: tuple[str, ...] = ()
        self.subnets: tuple[IPv4Network | IPv6Network, ...] = ()
        self.internal = False
        self.all: dict[str, Registration] = {}  # by id
        self.groups: dict[str, Group] = {}
        self.by_address: dict[str, Registration] = {}
        self._files: dict[str, tuple[Stamp, bool]] = {}  # and whether it has settled
        self._stamp: Stamp | None = None
        self._described: Stamp | None = None

    def refresh(self) -> bool:
        """Read what has changed. False where the network is not there any more."""
        described = _stamp(f"{self.directory}/network.json")
        if described is None:
            return False
        if described != self._described:
            self._described = described if self._describe() else None
        now = time.time_ns()
        stamp = _stamp(f"{self.directory}/names")
        if stamp != self._stamp or stamp is None:
            self._read_names(now)
            self._stamp = stamp if stamp and now - stamp[1] > _SETTLED else None
        return True

    def _describe(self) -> bool:
        try:
            data = loads(read_file(f"{self.directory}/network.json"))
            gateways = [str(data.get(key) or "") for key in ("gateway", "gateway6")]
            self.gateways = tuple(str(ip_address(each)) for each in gateways if each)
            subnets = [str(data.get(key) or "") for key in ("subnet", "subnet6")]
            self.subnets = tuple(ip_network(each) for each in subnets if each)
            self.internal = data.get("internal") is True
        except (OSError, ValueError, TypeError, AttributeError):
            return False
        return True

    def _read_names(self, now: int) -> None:
        directory = f"{self.directory}/names"
        try:
            ids = [name for name in os.listdir(directory) if is_id(name)]
        except OSError:
            ids = []
        changed = len(ids) != len(self.all)
        files: dict[str, tuple[Stamp, bool]] = {}
        found: dict[str, Registration] = {}
        for id in ids:
            stamp = _stamp(f"{directory}/{id}")
            if stamp is None:
                continue
            before = self._files.get(id)
            if before and before == (stamp, True) and id in self.all:
                found[id], files[id] = self.all[id], before
                continue
            read = _read(f"{directory}/{id}", id, self.name)
            if read:
                found[id], files[id] = read, (stamp, now - stamp[1] > _SETTLED)
                changed = changed or read != self.all.get(id)
        self._files = files
        if changed or found.keys() != self.all.keys():
            self.all = found
            self._index()

    def _index(self) -> None:
        before, self.groups, self.by_address = self.groups, {}, {}
        for registration in sorted(self.all.values(), key=lambda each: each.id):
            for name in registration.names:
                group = self.groups.setdefault(name.lower(), Group())
                group.members.append(registration)
            for address in (registration.ip, registration.ip6):
                if address:
                    self.by_address[address] = registration
        for name, group in self.groups.items():
            if name in before:
                group.turns = before[name].turns


class Group:
    """The containers that have a name in common. They take turns in being the first: round robin."""

    def __init__(self) -> None:
        self.members: list[Registration] = []
        self.turns: dict[str, int] = {}  # by family: clients ask for both

    def addresses(self, family: str) -> list[str]:
        """All that there are of a family ("ip" or "ip6"), beginning with another one each time."""
        found = [address for each in self.members if (address := getattr(each, family))]
        turn = self.turns[family] = (self.turns.get(family, -1) + 1) % max(len(found), 1)
        return found[turn:] + found[:turn]


class Asker(Record):
    """A container that asks: its networks, the one on which it asks first."""

    registration: Registration
    zones: tuple[Zone, ...]

    @property
    def internal(self) -> bool:
        """Whether none of its networks has a way out."""
        return all(zone.internal for zone in self.zones)

    @property
    def egress(self) -> dict[str, object]:
        """What it may reach: a container has one policy, whichever network it asks on."""
        if self.registration.egress:
            return self.registration.egress
        each = (zone.all[self.registration.id].egress for zone in self.zones)
        return next((egress for egress in each if egress), {})

    def group(self, name: str) -> Group | None:
        """Who has this name: as it is, or with the name of a network behind it, of the networks of the asker."""
        for zone in self.zones:
            if name in zone.groups:
                return zone.groups[name]
        for zone in self.zones:
            suffix = f".{zone.name.lower()}"
            if name.endswith(suffix) and name.removesuffix(suffix) in zone.groups:
                return zone.groups[name.removesuffix(suffix)]
        return None

    def owner(self, address: str) -> Registration | None:
        """Whose address this is, on the networks of the asker."""
        for zone in self.zones:
            if address in zone.by_address:
                return zone.by_address[address]
        return None

    def is_near(self, address: str) -> bool:
        """Whether an address is in one of the networks of the asker."""
        number = ip_address(address)
        return any(number in subnet for zone in self.zones for subnet in zone.subnets)


class View:
    """All networks of an engine. networks: the directory of their directories."""

    def __init__(self, networks: str) -> None:
        self.networks = networks
        self.zones: dict[str, Zone] = {}
        self._stamp: Stamp | None = None

    def refresh(self) -> None:
        """Read what has changed since the last time."""
        now = time.time_ns()
        stamp = _stamp(self.networks)
        if stamp != self._stamp or stamp is None:
            self._stamp = stamp if stamp and now - stamp[1] > _SETTLED else None
            for name in _names(self.networks):
                if name not in self.zones:
                    self.zones[name] = Zone(name, f"{self.networks}/{name}")
        for name, zone in list(self.zones.items()):
            if not zone.refresh():
                del self.zones[name]
                self._stamp = None

    def asker(self, address: str) -> Asker | None:
        """Who has this address; None where nobody of ours does."""
        for zone in self.zones.values():
            registration = zone.by_address.get(address)
            if registration:
                others = [each for each in self.zones.values() if each is not zone and registration.id in each.all]
                return Asker(registration, (zone, *others))
        return None

    @property
    def needed(self) -> list[Zone]:
        """Networks with containers on them."""
        return [zone for zone in self.zones.values() if zone.all]

    def is_gateway(self, address: str) -> bool:
        """Whether an address is that of a network of ours: to ask there would be to ask ourselves."""
        return any(address in zone.gateways for zone in self.zones.values())


def _names(directory: str) -> Iterator[str]:
    try:
        yield from (name for name in sorted(os.listdir(directory)) if not name.startswith("."))
    except OSError:
        return


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: str, id: str, network: str) -> Registration | None:
    """A registration, or None where the file is broken, or just gone: it stands in nobody's way."""
    try:
        data = loads(read_file(path))
        read = Registration.from_dict(data)
        names = tuple(str(name) for name in read.names)
        ip, ip6 = (str(ip_address(each)) if each else "" for each in (read.ip, read.ip6))
        servers = tuple(str(ip_address(each)) for each in read.servers)
        return Registration(id, network, names, ip, ip6, servers, dict(read.egress))
    except (OSError, ValueError, TypeError, AttributeError):
        return None
