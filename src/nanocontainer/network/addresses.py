"""Addresses of both families as numbers, and text at the edges; the ipaddress module costs 4 ms to import.

A number alone does not say its family: `bits` does, 32 or 128, the length of its addresses. IPv4 addresses for networks
of our own come from the private ranges of RFC 1918, IPv6 ones from a range that is unique by being random (RFC 4193).
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..lean import sockets
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


V4, V6 = 32, 128  # the bits of an address, by which a family is told here


class Subnet(Record):
    """A network: the number of its first address, its prefix length, and the bits of its addresses (32 or 128)."""

    first: int
    prefix: int
    bits: int = V4

    @property
    def last(self) -> int:
        return self.first | (1 << self.bits - self.prefix) - 1

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last

    def overlaps(self, other: Subnet) -> bool:
        return self.bits == other.bits and self.first <= other.last and other.first <= self.last

    def covers(self, other: Subnet) -> bool:
        """Whether all of the other is in this one."""
        return self.bits == other.bits and self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        return f"{text_of(self.first, self.bits)}/{self.prefix}"


def number_of(text: str, what: str = "IPv4 address") -> int:
    """The number of "172.30.0.1". InvalidInput where it is no dotted quad."""
    try:
        return int.from_bytes(sockets.inet_pton(sockets.AF_INET, text), "big")
    except (OSError, ValueError):
        raise InvalidInput(f"invalid {what} {text!r}", "it must look like 172.30.0.2") from None


def number6_of(text: str, what: str = "IPv6 address") -> int:
    """The number of "fd00::1". InvalidInput where it is no IPv6 address."""
    try:
        return int.from_bytes(sockets.inet_pton(sockets.AF_INET6, text), "big")
    except (OSError, ValueError):
        raise InvalidInput(f"invalid {what} {text!r}", "it must look like fd00::2") from None


def text_of(number: int, bits: int = V4) -> str:
    """A number as text; an IPv6 address in its one canonical form (RFC 5952), which claims are named after."""
    if bits == V6:
        return sockets.inet_ntop(sockets.AF_INET6, number.to_bytes(16, "big"))
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def parse(text: str, what: str = "address") -> tuple[int, int]:
    """(number, bits) of an address of either family. InvalidInput."""
    if ":" in text:
        return number6_of(text, what if what != "address" else "IPv6 address"), V6
    return number_of(text, what if what != "address" else "IPv4 address"), V4


def subnet_of(text: str, what: str = "subnet") -> Subnet:
    """The subnet "172.30.0.0/16" or "fd00::/64". InvalidInput where it is none, or has bits set behind its prefix."""
    address, slash, length = text.partition("/")
    bits = V6 if ":" in address else V4
    if not slash or not length.isdecimal() or not length.isascii() or len(length) > 3 or int(length) > bits:
        raise InvalidInput(f"invalid {what} {text!r}", "it must look like 172.30.0.0/16 or fd00::/64")
    number, _ = parse(address, what)
    network = enclosing(number, int(length), bits)
    if number != network.first:
        raise InvalidInput(f"invalid {what} {text!r}", f"it has host bits set: {network} is meant?")
    return network


def enclosing(address: int, prefix: int, bits: int = V4) -> Subnet:
    """The subnet of so many bits in which an address is."""
    return Subnet(address & ~((1 << bits - prefix) - 1), prefix, bits)


def mac_of(address: int) -> str:
    """The MAC address of a container: locally administered, with its IPv4 address in it, as docker's were."""
    return (b"\x02\x42" + address.to_bytes(4, "big")).hex(":")


def unique_local(random: bytes) -> Subnet:
    """A /64 of unique local addresses (RFC 4193): fd, and seven random bytes."""
    return Subnet((0xFD << 56 | int.from_bytes(random[:7], "big")) << 64, 64, V6)


def check_mac(mac: str) -> str:
    """A MAC address from outside in lower case, or InvalidInput: six pairs of hex digits, not a group's address."""
    try:
        packed = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    except ValueError:
        packed = b""
    if len(packed) != 6 or len(mac) != 17:
        raise InvalidInput(f"invalid MAC address {mac!r}", "it must look like 02:42:ac:1e:00:02")
    if packed[0] & 1:
        raise InvalidInput(f"invalid MAC address {mac!r}", "the lowest bit of its first byte marks a group (multicast)")
    return packed.hex(":")


# Private ranges (RFC 1918) in the order in which we like them. Not first what others take first: 172.17 docker, 10.88
# podman, 172.31 Amazon's default, 192.168.0 and .1 home routers.
CANDIDATES = (
    *(Subnet(172 << 24 | second << 16, 16) for second in (30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18)),
    *(Subnet(192 << 24 | 168 << 16 | third << 8, 20) for third in range(224, 31, -16)),
    *(Subnet(10 << 24 | second << 16, 16) for second in (230, 220, 210, 200, 190, 180, 170, 160)),
)


def choose(taken: Iterable[Subnet], start: int = 0) -> Subnet | None:
    """The first candidate, from a starting point on, that overlaps nothing taken; None if there is none."""
    busy = tuple(taken)
    for index in range(len(CANDIDATES)):
        candidate = CANDIDATES[(start + index) % len(CANDIDATES)]
        if not any(candidate.overlaps(other) for other in busy):
            return candidate
    return None
