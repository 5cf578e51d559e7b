"""IPv4 arithmetic. An address is a number here and text at the edges; the ipaddress module costs 4 ms to import."""

from __future__ import annotations

from ..errors import InvalidInput
from ..lean import sockets
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Subnet(Record):
    """An IPv4 network: the number of its first address, and its prefix length."""

    first: int
    prefix: int

    @property
    def last(self) -> int:
        return self.first | (1 << 32 - self.prefix) - 1

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last

    def overlaps(self, other: Subnet) -> bool:
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{text_of(self.first)}/{self.prefix}"


def number_of(text: str, what: str = "IPv4 address") -> int:
    """The number of "172.30.0.1". InvalidInput where it is no dotted quad."""
    try:
        return int.from_bytes(sockets.inet_pton(sockets.AF_INET, text), "big")
    except (OSError, ValueError):
        raise InvalidInput(f"invalid {what} {text!r}", "it must look like 172.30.0.2") from None


def text_of(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def subnet_of(text: str) -> Subnet:
    """The subnet "172.30.0.0/16". InvalidInput where it is none, or has bits set behind its prefix."""
    address, slash, bits = text.partition("/")
    if not slash or not bits.isdecimal() or not bits.isascii() or int(bits) > 32:
        raise InvalidInput(f"invalid subnet {text!r}", "it must look like 172.30.0.0/16")
    subnet = Subnet(number_of(address, "subnet"), int(bits))
    network = enclosing(subnet.first, subnet.prefix)
    if subnet != network:
        raise InvalidInput(f"invalid subnet {text!r}", f"it has host bits set: {network} is meant?")
    return subnet


def enclosing(address: int, prefix: int) -> Subnet:
    """The subnet of so many bits in which an address is."""
    return Subnet(address & ~((1 << 32 - prefix) - 1), prefix)


def mac_of(address: int) -> str:
    """The MAC address of a container: locally administered, with its IPv4 address in it, as docker's."""
    return (b"\x02\x42" + address.to_bytes(4, "big")).hex(":")


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
