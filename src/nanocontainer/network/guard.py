"""Source guard: what comes out of a container's cable bears the container's own addresses, or it is dropped.

A bridge believes what it is told: whoever answers for the gateway's address gets everybody's traffic (ARP and
neighbour discovery have no signatures: RFC 826, RFC 4861), whoever sends a router advertisement becomes a router
(CVE-2020-10749, CVE-2020-13401). Switches of data centres stop this at the port, by a filter that knows the address
behind it ("IP source guard", "dynamic ARP inspection", "RA guard", "DHCP snooping"). So do we.

The filter is a program of classic BPF at the host's end of the cable: tc(8)'s hook "clsact", tc-bpf(8) in direct-action
mode. The container cannot reach it, whatever capabilities it has. It dies with the cable: nothing is to be undone, a
flush of nftables does not hurt it, and no set has to be kept that names all containers. It costs two messages a start.

    frame        sender must be the cable's MAC; no VLAN tag; IPv4, ARP or IPv6 and nothing else
    ARP          the sender's MAC and address must be own; a probe (RFC 5227) asks for an own address only
    IPv4         source must be own; nobody answers as a DHCP server
    IPv6         source must be own (the link-local one is made of the MAC, RFC 4291), or :: where an own address is
                 looked for twice (DAD); neighbour advertisements speak of own addresses; no router advertisements, no
                 redirects, no multicast queries, no DHCPv6 answers, no headers behind which all that could hide

The kernel itself drops neighbour discovery in fragments (RFC 6980).
"""

from __future__ import annotations

from _struct import pack

from ..errors import Unsupported
from ..kernel.netlink import address_bytes, mac_bytes
from ..plan.step import Step, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import ClassVar

    from ..plan.step import Side

    Instruction = tuple[int, int, int, int]  # struct sock_filter: code, jump if true, jump if false, k

# linux/bpf_common.h: loads of 1, 2, 4 bytes of the frame; of 2 behind X; X = 4 * the low half of a byte (IPv4's length)
_BYTE, _HALF, _WORD, _HALF_X, _LENGTH_X = 0x30, 0x28, 0x20, 0x48, 0xB1
_EQUAL, _ANY_BIT, _JUMP, _RETURN = 0x15, 0x45, 0x05, 0x06
_VLAN_TAG = 0xFFFFF000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT (linux/filter.h)
_PASS, _DROP = 0xFFFFFFFF, 2  # TC_ACT_UNSPEC: on to whoever else has a filter here; TC_ACT_SHOT (linux/pkt_cls.h)
_SOURCE4, _SOURCE6, _ICMP6, _TARGET6 = 26, 22, 54, 62  # offsets in the frame
_ARP_MAC, _ARP_SENDER, _ARP_TARGET = 22, 28, 38


class _Program:
    """Instructions with named places to jump to, always forward."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, str, str]] = []
        self.places: dict[str, int] = {}

    def put(self, op: int, k: int, yes: str = "", no: str = "") -> None:
        """One instruction; an empty name is the next one."""
        self.code.append((op, k, yes, no))

    def at(self, place: str) -> None:
        self.places[place] = len(self.code)

    def finish(self, verdict: int) -> None:
        self.put(_RETURN, verdict)

    def here(self) -> str:
        """A name for a place to come."""
        return f"#{len(self.code)}"

    def must(self, load: int, offset: int, value: int) -> None:
        """Drop the frame unless this is there."""
        self.put(load, offset)
        on = self.here()
        self.put(_EQUAL, value, on)
        self.finish(_DROP)
        self.at(on)

    def when(self, value: int, place: str) -> None:
        """Go there, however far it is, where this was loaded."""
        on = self.here()
        self.put(_EQUAL, value, "", on)
        self.put(_JUMP, 0, place)
        self.at(on)

    def must_not(self, *values: int) -> None:
        """Drop the frame where what was loaded is one of these."""
        for value in values:
            on = self.here()
            self.put(_EQUAL, value, "", on)
            self.finish(_DROP)
            self.at(on)

    def among(self, offset: int, addresses: Iterable[bytes], found: str) -> None:
        """Go to `found` if one of the addresses stands at offset, else on."""
        for address in addresses:
            other = f"{found} {offset} {len(self.code)}"
            for at in range(len(address) - 4, -1, -4):  # the last word differs first
                self.put(_WORD, offset + at)
                self.put(_EQUAL, int.from_bytes(address[at : at + 4], "big"), "", other)
            self.put(_JUMP, 0, found)
            self.at(other)

    def resolved(self) -> list[Instruction]:
        done = []
        for number, (op, k, yes, no) in enumerate(self.code):
            to_yes, to_no = (self.places[name] - number - 1 if name else 0 for name in (yes, no))
            done.append((op, 0, 0, to_yes) if op == _JUMP else (op, to_yes, to_no, k))
        return done


def program(mac: str, addresses: Iterable[str]) -> list[Instruction]:
    """The filter for a cable whose container has this MAC address and these IPv4 and IPv6 addresses."""
    packed = [address_bytes(address)[1] for address in addresses]
    own4 = [address for address in packed if len(address) == 4]
    hardware = mac_bytes(mac)
    own6 = [link_local(hardware), *(address for address in packed if len(address) == 16)]
    first, rest = int.from_bytes(hardware[:4], "big"), int.from_bytes(hardware[4:], "big")
    p = _Program()
    p.must(_WORD, 6, first)
    p.must(_HALF, 10, rest)
    p.must(_WORD, _VLAN_TAG, 0)
    p.put(_HALF, 12)
    for kind, place in ((0x0800, "ip"), (0x86DD, "ip6"), (0x0806, "arp")):
        p.when(kind, place)
    p.finish(_DROP)

    p.at("arp")
    p.must(_WORD, 14, 0x00010800)  # Ethernet and IPv4
    p.must(_HALF, 18, 0x0604)
    p.must(_WORD, _ARP_MAC, first)
    p.must(_HALF, _ARP_MAC + 4, rest)
    p.among(_ARP_SENDER, own4, "pass arp")
    p.must(_WORD, _ARP_SENDER, 0)
    p.among(_ARP_TARGET, own4, "pass arp")
    p.finish(_DROP)
    p.at("pass arp")
    p.finish(_PASS)

    p.at("ip")
    p.among(_SOURCE4, own4, "own ip")
    p.finish(_DROP)
    p.at("own ip")
    p.put(_BYTE, 23)
    p.put(_EQUAL, 17, "", "pass ip")
    p.put(_HALF, 20)
    p.put(_ANY_BIT, 0x1FFF, "pass ip")  # a later fragment has no ports
    p.put(_LENGTH_X, 14)
    p.put(_HALF_X, 14 + 2)
    p.must_not(68)
    p.at("pass ip")
    p.finish(_PASS)

    p.at("ip6")
    p.among(_SOURCE6, own6, "own ip6")
    for at in range(0, 16, 4):
        p.must(_WORD, _SOURCE6 + at, 0)
    p.put(_BYTE, 20)
    p.when(0, "multicast")
    p.must(_BYTE, 20, 58)
    p.put(_BYTE, _ICMP6)
    p.when(133, "pass ip6")  # router solicitation
    p.must(_BYTE, _ICMP6, 135)
    p.among(_TARGET6, own6, "pass ip6")
    p.finish(_DROP)
    p.at("own ip6")
    p.put(_BYTE, 20)
    p.when(0, "multicast")
    p.when(58, "icmp6")
    p.when(17, "udp6")
    p.when(44, "fragment")
    p.must_not(43, 60)  # routing header, destination options
    p.at("pass ip6")
    p.finish(_PASS)
    p.at("icmp6")
    p.put(_BYTE, _ICMP6)
    p.must_not(130, 134, 137)  # multicast query, router advertisement, redirect
    p.when(136, "advertised")
    p.finish(_PASS)
    p.at("advertised")
    p.among(_TARGET6, own6, "pass icmp6")
    p.finish(_DROP)
    p.at("pass icmp6")
    p.finish(_PASS)
    p.at("fragment")
    p.put(_BYTE, 54)
    p.must_not(43, 60)
    p.put(_EQUAL, 17, "", "pass udp6")
    p.put(_HALF, 56)
    p.put(_ANY_BIT, 0xFFF8, "pass udp6")
    p.put(_HALF, 64)
    p.put(_JUMP, 0, "dhcp6")
    p.at("udp6")
    p.put(_HALF, 56)
    p.at("dhcp6")
    p.must_not(546)
    p.at("pass udp6")
    p.finish(_PASS)
    p.at("multicast")  # who listens to which group (MLD, RFC 3810), behind the header that all routers look at
    p.must(_BYTE, 54, 58)
    p.must(_BYTE, 55, 0)
    p.put(_BYTE, 62)
    for kind in (131, 132, 143):
        p.when(kind, "pass multicast")
    p.finish(_DROP)
    p.at("pass multicast")
    p.finish(_PASS)
    return p.resolved()


def link_local(mac: bytes) -> bytes:
    """The address that the kernel makes of a MAC address: fe80:: and the modified EUI-64 (RFC 4291, 2.5.6 and A)."""
    return b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


class GuardSource(Step):
    """A filter at the host's end of the cable: the container can speak with its own addresses only."""

    side: ClassVar[Side] = "host"

    link: str
    mac: str
    addresses: tuple[str, ...]  # IPv4 and IPv6, without prefix; the link-local one of the MAC is always allowed

    def do(self, world: World) -> None:
        code = b"".join(pack("=HBBI", *each) for each in program(self.mac, self.addresses))
        with world.kernel.links() as host:
            try:
                host.filter_ingress(host.index(self.link), code)
            except FileNotFoundError as error:
                raise Unsupported(
                    "cannot guard the container's cable against false addresses", error.strerror or "",
                    "load the kernel's modules: modprobe -a sch_ingress cls_bpf",
                ) from None  # fmt: skip

    def explain(self) -> str:
        return (
            f"Hang a filter at {self.link}, before it is plugged in and out of the container's reach: "
            f"frames whose source is not {self.mac} with {', '.join(self.addresses) or 'an address made of it'} are "
            "dropped, and so are answers about others' addresses and router advertisements: nobody can pass for the "
            "gateway or a neighbour (tc-bpf(8))."
        )

    def shell(self) -> str:
        code = program(self.mac, self.addresses)
        words = ",".join(f"{op} {yes} {no} {k}" for op, yes, no, k in code)
        return (
            f"tc qdisc add dev {self.link} clsact\n"
            f"tc filter add dev {self.link} ingress bpf direct-action bytecode '{len(code)},{words}'"
        )
