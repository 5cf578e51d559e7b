"""What a container may reach: the rules of --allow-out, read and compared. Their firewall text is in egress_rules.py.

    NAME[:PORT[/PROTOCOL]]       a host name; *.example.com: all names below it, not itself; *: any name
    ADDRESS[:PORT[/PROTOCOL]]    IPv6 in brackets where a port follows: [2001:db8::1]:443
    SUBNET[:PORT[/PROTOCOL]]     10.0.0.0/8:5432, [2001:db8::/32]:443
    none                         nothing

A port without a protocol is one of tcp. Without any rule all may be reached; with one, only what a rule names. A rule
of a name is one of the addresses that our resolver gives for it, as long as they are valid: the kernel sees addresses
only. So what another name's server has at the same address is reached, too (virtual hosts, content networks): a policy
by name keeps a program from talking to strangers, it does not make two servers of a shared one.

A name must not become a way in: its owner may let it point at 127.0.0.1, at 10.0.0.5 or at the cloud's metadata (DNS
rebinding). Addresses that are not public never count as a name's; a rule with an address or a subnet allows them.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..lean import sockets
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NONE = "none"
PROTOCOLS = ("tcp", "udp", "sctp")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_NAMED = _LETTERS | {"."}
_FORMS = "it is NAME, *.NAME, ADDRESS or SUBNET, each with :PORT or :PORT/PROTOCOL behind it, or none"


class Rule(Record):
    """One thing that may be reached. name: in lower case, "" for a rule of addresses. first: the first address as
    packed bytes in hex, prefix: its length in bits. port 0: all ports and protocols."""

    name: str = ""
    first: str = ""
    prefix: int = 0
    port: int = 0
    protocol: str = ""

    @property
    def family(self) -> int:
        """4 or 6; 0 for a rule of a name."""
        return {0: 0, 8: 4, 32: 6}[len(self.first)]

    @property
    def place(self) -> str:
        """The address or subnet as nft and people write it; "" for a rule of a name."""
        if not self.first:
            return ""
        kind = sockets.AF_INET if self.family == 4 else sockets.AF_INET6
        address = sockets.inet_ntop(kind, bytes.fromhex(self.first))
        return address if self.prefix == len(self.first) * 4 else f"{address}/{self.prefix}"

    def __str__(self) -> str:
        said = self.name or self.place
        if self.port:
            said = f"[{said}]" if self.family == 6 else said
            said += f":{self.port}" + (f"/{self.protocol}" if self.protocol != "tcp" else "")
        return said

    def fits(self, name: str) -> bool:
        """Whether it is a rule of this host name (in lower case, without a dot at its end)."""
        if self.name == "*":
            return bool(name)
        return name.endswith(self.name[1:]) if self.name.startswith("*.") else bool(name) and name == self.name

    def holds(self, address: bytes) -> bool:
        """Whether a packed address is in its subnet."""
        return len(address) * 2 == len(self.first) and _cut(address, self.prefix).hex() == self.first

    def covers(self, other: Rule) -> bool:
        """Whether all that the other one allows is allowed by this one, both being rules of addresses, or both of
        names."""
        if self.port and (self.port, self.protocol) != (other.port, other.protocol):
            return False
        if self.name or other.name:
            same = self.name == other.name or self.name == "*"
            return bool(other.name) and (same or (self.name.startswith("*.") and other.name.endswith(self.name[1:])))
        return self.prefix <= other.prefix and self.holds(bytes.fromhex(other.first))


class Policy(Record):
    """All rules of a container; none of them allows nothing."""

    rules: tuple[Rule, ...] = ()

    def names(self, name: str) -> tuple[Rule, ...]:
        """The rules that a host name has; () where it is not allowed. A name in DNS may hold any byte, also a dot or a
        quote within a label, and the text of a firewall is made of these: what is no host name has no rules."""
        if not _NAMED.issuperset(name):
            return ()
        return tuple(rule for rule in self.rules if rule.name and rule.fits(name))

    def places(self, address: bytes) -> tuple[Rule, ...]:
        """The rules that allow a packed address by itself."""
        return tuple(rule for rule in self.rules if rule.first and rule.holds(address))

    @property
    def texts(self) -> tuple[str, ...]:
        """The rules in their one form, as Spec.allow_out keeps them; what another one covers is left out."""
        return tuple(str(rule) for rule in lean_rules(self.rules)) or (NONE,)


def lean_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules without those that another one covers, in their order."""
    listed = tuple(dict.fromkeys(rules))
    return tuple(rule for rule in listed if not any(one != rule and one.covers(rule) for one in listed))


def parse(texts: Iterable[str]) -> Policy:
    """The policy of all --allow-out, each a list with commas. InvalidInput, also where none stands beside others."""
    words = [word.strip() for text in texts for word in text.split(",")]
    if not words:
        raise InvalidInput("invalid --allow-out", "it is empty", _FORMS)
    if NONE in words:
        if set(words) != {NONE}:
            raise InvalidInput("conflicting --allow-out", "none allows nothing, and other rules stand beside it")
        return Policy()
    return Policy(lean_rules(rule(word) for word in words))


def rule(text: str) -> Rule:
    """One rule. InvalidInput."""
    if "://" in text:
        raise _invalid(text, "it is a URL", "give its host name, and its port: api.example.com:443")
    rest, slash, protocol = text.rpartition("/")
    if not slash or protocol.isdigit() or protocol.rpartition(":")[2].isdigit() or "]" in protocol:
        rest, protocol = text, ""
    elif protocol.lower() not in PROTOCOLS:
        raise _invalid(text, f"{protocol!r} is not tcp, udp or sctp")
    place, port = _split(text, rest)
    if protocol and not port:
        raise _invalid(text, "a protocol stands behind a port")
    number = 0
    if port:
        number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
        if not 0 < number < 65536:
            raise _invalid(text, f"{port!r} is no port number (1 to 65535)")
    kind = (protocol.lower() or "tcp") if number else ""
    found = _subnet(text, place)
    if found:
        return Rule("", *found, port=number, protocol=kind)
    return Rule(_name(text, place), port=number, protocol=kind)


def _split(text: str, rest: str) -> tuple[str, str]:
    """(name, address or subnet; port or "")"""
    if rest.startswith("["):
        place, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not (port.startswith(":") and port[1:])):
            raise _invalid(text, "an IPv6 address stands in brackets: [2001:db8::1]:443")
        if ":" not in place:
            raise _invalid(text, f"{place!r} is no IPv6 address")
        return place, port[1:]
    if rest.count(":") > 1:
        return rest, ""  # IPv6 without a port
    place, colon, port = rest.partition(":")
    if colon and not port:
        raise _invalid(text, "there is no port behind the colon")
    return place, port


def _subnet(text: str, place: str) -> tuple[str, int] | None:
    """(first address in hex, prefix length) of an address or subnet; None where it is neither."""
    address, slash, bits = place.partition("/")
    kind = sockets.AF_INET6 if ":" in address else sockets.AF_INET
    try:
        packed = sockets.inet_pton(kind, address)
    except (OSError, ValueError):
        if slash or ":" in address:
            raise _invalid(text, f"{place!r} is no address or subnet") from None
        return None
    most = len(packed) * 8
    prefix = most
    if slash:
        if not (bits.isascii() and bits.isdigit() and len(bits) < 4 and int(bits) <= most):
            raise _invalid(text, f"{bits!r} is no prefix length (0 to {most})")
        prefix = int(bits)
    if packed[:12] == bytes(10) + b"\xff\xff" and prefix >= 96:
        raise _invalid(text, "it is an IPv4 address in IPv6 clothes", f"write {'.'.join(map(str, packed[12:]))}")
    first = _cut(packed, prefix)
    if first != packed:
        meant = f"{sockets.inet_ntop(kind, first)}/{prefix}"
        raise _invalid(text, f"the subnet has host bits set: {meant} is meant?")
    return first.hex(), prefix


def _cut(packed: bytes, prefix: int) -> bytes:
    """An address with all bits behind the prefix zero."""
    size = len(packed)
    mask = ((1 << prefix) - 1) << (size * 8 - prefix)
    return (int.from_bytes(packed, "big") & mask).to_bytes(size, "big")


def _name(text: str, name: str) -> str:
    """A host name or pattern in lower case, in ASCII (IDNA), without a dot at its end."""
    if name == "*":
        return name
    stem = name.removesuffix(".")
    wild = stem.startswith("*.")
    stem = stem[2:] if wild else stem
    if not stem.isascii():
        try:
            stem = stem.encode("idna").decode()
        except UnicodeError:
            raise _invalid(text, f"{name!r} is no host name") from None
    stem = stem.lower()
    labels = stem.split(".")
    fine = all(0 < len(label) < 64 and _LETTERS.issuperset(label) and label.strip("-") == label for label in labels)
    if not fine or len(stem) > 253:
        raise _invalid(text, f"{name!r} is no host name" if name else "a name or address is missing")
    if labels[-1].isdigit():
        raise _invalid(text, f"{name!r} is neither an address nor a host name")
    return f"*.{stem}" if wild else stem


def _invalid(text: str, why: str, hint: str = _FORMS) -> InvalidInput:
    return InvalidInput(f"invalid --allow-out {text!r}", why, hint)


# Blocks that lead nowhere in the internet, or to somewhere of the host's own: IANA's special-purpose registries
# (RFC 6890), the range of carriers (RFC 6598; metadata of one cloud is there), and what carries an IPv4 address in an
# IPv6 one past the eye (mapped, 6to4, Teredo; RFC 6052's translation with a private address is looked into below).
_PRIVATE = tuple(
    rule(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3", "::/64", "64:ff9b:1::/48", "100::/64", "2001::/32",
        "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
_TRANSLATED = bytes.fromhex("0064ff9b" + "00" * 8)


def is_public(address: bytes) -> bool:
    """Whether a packed address is one that a name may open."""
    if address.startswith(_TRANSLATED) and len(address) == 16:
        address = address[12:]
    return not any(block.holds(address) for block in _PRIVATE)
