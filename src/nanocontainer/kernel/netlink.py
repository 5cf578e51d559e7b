"""`Links`: what we ask the kernel's network of, in one network namespace; our own small netlink client.

netlink(7) is the kernel's configuration interface: a request is one datagram (a header, a fixed struct, attributes as
type-length-value), the answer is zero or more messages and then an ACK or an error. rtnetlink(7) has links, addresses
and routes. A socket belongs for life to the namespace in which it was opened, so the way to configure another namespace
is to visit it for the length of one socket(2): setns(2) there, open, setns back. It moves only the calling thread.

Three habits. Every request asks for an ACK and reads up to it, or the next request would read the last one's answer.
Extended ACKs are on: the kernel says in words what it did not like. Checking is strict, so that a dump is filtered.
"""

from __future__ import annotations

import errno
import os
import sys
from _struct import pack, unpack_from

from ..lean import sockets
from ..record import Record
from . import abi
from .calls import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# linux/netlink.h
_ROUTE, _NETFILTER = 0, 12
_REQUEST, _ACK, _DUMP, _CREATE, _CREATE_EXCL, _CREATE_REPLACE = 0x1, 0x4, 0x300, 0x400, 0x600, 0x500
_DUMP_INTERRUPTED, _CAPPED, _ACK_TLVS, _NESTED = 0x10, 0x100, 0x200, 0x8000
_ERROR, _DONE, _ERROR_TEXT = 2, 3, 1
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12

# linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, if_bridge.h, veth.h
_NEWLINK, _DELLINK, _GETLINK, _SETLINK, _NEWADDR, _GETADDR = 16, 17, 18, 19, 20, 22
_NEWROUTE, _DELROUTE, _GETROUTE, _NEWNEIGH = 24, 25, 26, 28
_ADDRESS, _IFNAME, _MTU, _PEER, _MASTER, _PROTINFO, _LINKINFO, _NET_NS_PID, _EXT_MASK, _NET_NS_FD = (
    1, 3, 4, 5, 10, 12, 18, 19, 29, 28
)  # fmt: skip
_INFO_KIND, _INFO_DATA, _VETH_PEER, _SKIP_STATS = 1, 2, 1, 8
_PORT_HAIRPIN, _PORT_ISOLATED = 4, 33
_IFF_UP = 1
_AF_BRIDGE = 7
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _NODAD = 1, 2, 4, 2
_AF_SPEC, _ADDR_GEN_MODE = 26, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY = 1, 4, 5, 6
_TABLE_LOCAL, _TABLE_MAIN, _PROTO_BOOT = 255, 254, 3
_SCOPE_GLOBAL, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_FIB_MATCH = 0x2000
_ROUTE_KINDS = {"unicast": 1, "local": 2, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_NUD_NOARP, _NTF_MASTER, _NTF_STICKY, _NDA_LLADDR = 0x40, 0x4, 0x40, 2

# linux/pkt_sched.h, pkt_cls.h
_NEWQDISC, _NEWTFILTER, _TCA_KIND, _TCA_OPTIONS = 36, 44, 1, 2
_CLSACT, _CLSACT_INGRESS = 0xFFFFFFF1, 0xFFFFFFF2
_BPF_OPS_LEN, _BPF_OPS, _BPF_FLAGS, _DIRECT_ACTION = 4, 5, 8, 1
_ALL_FRAMES = int.from_bytes(b"\0\3", sys.byteorder)  # ETH_P_ALL, in network order

LOOPBACK = 1  # the index of lo, in every namespace


class Link(Record):
    """A network interface. index: its number in its namespace; master: the index of the bridge it is a port of, or 0.
    mac: "02:42:…", empty where it has none. peer: the index of the cable's other end, in that end's namespace, or 0."""

    index: int
    name: str
    up: bool
    mtu: int = 0
    master: int = 0
    mac: str = ""
    kind: str = ""
    peer: int = 0


class Route(Record):
    """An IPv4 or IPv6 route. destination: "10.0.0.0", empty for the default; gateway: empty for a direct one;
    index: the interface's, 0 for none; kind: unicast, local, blackhole, unreachable, prohibit, or a number."""

    destination: str
    prefix: int
    gateway: str = ""
    index: int = 0
    kind: str = "unicast"


class Address(Record):
    """An address of an interface: "172.30.0.1", with its prefix length."""

    index: int
    address: str
    prefix: int


class Links:
    """A netlink client for one network namespace: an open nsfs file, or -1 for our own. A context manager.

    Errors are OSError: the operation, the kernel's error and, where it gives one, its own explanation.
    """

    def __init__(self, netns: int = -1) -> None:
        self._netns = netns
        self._sequence = 0
        self._sock = self._open(_ROUTE)

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    # --- links

    def link(self, name: str) -> Link | None:
        """The interface of this name, or None."""
        body = _ifinfo() + _text(_IFNAME, name) + _number(_EXT_MASK, _SKIP_STATS)
        try:
            answers = self._ask(f"look up {name}", _GETLINK, 0, body)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _link(answers[0])

    def index(self, name: str) -> int:
        """The number of the interface of this name. OSError(ENODEV) where there is none."""
        found = self.link(name)
        if found is None:
            raise OSError(errno.ENODEV, f"look up {name}: {os.strerror(errno.ENODEV)}")
        return found.index

    def links(self) -> list[Link]:
        """All interfaces of the namespace."""
        body = _ifinfo() + _number(_EXT_MASK, _SKIP_STATS)
        return [_link(answer) for answer in self._ask("list links", _GETLINK, _DUMP, body)]

    def add_bridge(self, name: str, *, mac: str = "", mtu: int = 0) -> None:
        """A bridge: a switch in the kernel, still down. With mac it keeps that address whatever ports it gets."""
        body = _ifinfo() + _text(_IFNAME, name) + _hardware(mac, mtu)
        body += _attr(_LINKINFO, _text(_INFO_KIND, "bridge"))
        self._ask(f"add bridge {name}", _NEWLINK, _CREATE_EXCL, body)

    def add_veth(self, name: str, peer: str, *, peer_netns: int = -1, mac: str = "", mtu: int = 0) -> None:
        """Two interfaces joined by a cable: `name` here, up, and `peer` in another namespace, still down (veth(4)).

        peer_netns: an open nsfs file, or -1 for the namespace of the calling process. mac is that of `name`. When one
        end goes, the other goes with it. (The kernel cannot make the peer up: it has no cable yet when it is born.)
        """
        where = _number(_NET_NS_FD, peer_netns) if peer_netns >= 0 else _number(_NET_NS_PID, os.getpid())
        other = _ifinfo() + _text(_IFNAME, peer) + _hardware("", mtu) + where
        kind = _text(_INFO_KIND, "veth") + _attr(_INFO_DATA, _attr(_VETH_PEER, other))
        body = _ifinfo(flags=_IFF_UP, change=_IFF_UP) + _text(_IFNAME, name) + _hardware(mac, mtu)
        self._ask(f"add veth pair {name}, {peer}", _NEWLINK, _CREATE_EXCL, body + _attr(_LINKINFO, kind))

    def set_link(self, link: str | int, *, up: bool | None = None, master: int = -1) -> None:
        """Change an interface, by name or index. master: the index of a bridge, or 0 to leave it."""
        index, name = (link, b"") if isinstance(link, int) else (0, _text(_IFNAME, link))
        change = 0 if up is None else _IFF_UP
        body = _ifinfo(index, flags=_IFF_UP if up else 0, change=change) + name
        if master >= 0:
            body += _number(_MASTER, master)
        self._ask(f"set link {link}", _NEWLINK, 0, body)

    def set_port(self, index: int, *, isolated: bool | None = None, hairpin: bool | None = None) -> None:
        """Options of a bridge port. isolated: isolated ports do not reach each other; hairpin: frames may return."""
        options = b""
        for kind, value in ((_PORT_HAIRPIN, hairpin), (_PORT_ISOLATED, isolated)):
            if value is not None:
                options += _attr(kind, bytes([value]))
        body = _ifinfo(index, family=_AF_BRIDGE) + _attr(_PROTINFO | _NESTED, options)
        self._ask(f"set bridge port {index}", _SETLINK, 0, body)

    def delete_link(self, name: str) -> None:
        """Delete an interface; one that is not there is no error. Waits for the kernel's grace period (30-60 ms)."""
        try:
            self._ask(f"delete link {name}", _DELLINK, 0, _ifinfo() + _text(_IFNAME, name))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def pin_mac(self, port: int, mac: str) -> None:
        """Tell a bridge behind which port a MAC address is, whatever it learns (bridge(8), fdb static sticky; 4.20)."""
        body = pack("=BxHiHBB", _AF_BRIDGE, 0, port, _NUD_NOARP, _NTF_MASTER | _NTF_STICKY, 0)
        body += _attr(_NDA_LLADDR, mac_bytes(mac))
        self._ask(f"pin {mac} to bridge port {port}", _NEWNEIGH, _CREATE_REPLACE, body)

    def forgo_ipv6(self, link: str | int) -> None:
        """An interface that is not up on both ends yet gets no link-local address: it stays out of IPv6 as long as it
        is given none (IN6_ADDR_GEN_MODE_NONE). Where the kernel has no IPv6 nothing happens."""
        index, name = (link, b"") if isinstance(link, int) else (0, _text(_IFNAME, link))
        mode = _attr(_AF_SPEC | _NESTED, _attr(sockets.AF_INET6 | _NESTED, _attr(_ADDR_GEN_MODE, b"\1")))
        try:
            self._ask(f"keep {link} out of IPv6", _NEWLINK, 0, _ifinfo(index) + name + mode)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise

    def filter_ingress(self, index: int, program: bytes) -> None:
        """Let a program of classic BPF (struct sock_filter[]) judge each frame that comes in by an interface; what it
        returns is done (tc-bpf(8), direct-action). Replaces the one that is there. OSError(ENOENT): the kernel lacks
        sch_ingress or cls_bpf."""
        hook = pack("=BxxxiIII", 0, index, 0xFFFF0000, _CLSACT, 0) + _text(_TCA_KIND, "clsact")
        try:
            self._ask(f"open the hook of link {index}", _NEWQDISC, _CREATE_EXCL, hook)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        options = _attr(_BPF_OPS_LEN, pack("=H", len(program) // 8)) + _attr(_BPF_OPS, program)
        options += _number(_BPF_FLAGS, _DIRECT_ACTION)
        body = pack("=BxxxiIII", 0, index, 1, _CLSACT_INGRESS, 1 << 16 | _ALL_FRAMES) + _text(_TCA_KIND, "bpf")
        body += _attr(_TCA_OPTIONS | _NESTED, options)
        self._ask(f"filter what comes in by link {index}", _NEWTFILTER, _CREATE_REPLACE, body)

    # --- addresses

    def add_addresses(self, link: str, addresses: list[tuple[str, int]]) -> None:
        """Give an interface several addresses, of either family."""
        index = self.index(link)
        for address, prefix in addresses:
            self.add_address(index, address, prefix)

    def add_address(self, link: str | int, address: str, prefix: int) -> None:
        """Give an interface, by name or index, an IPv4 or IPv6 address. An IPv6 one can be used at once: nobody is
        asked for a second whether he has it too (IFA_F_NODAD)."""
        index = link if isinstance(link, int) else self.index(link)
        family, packed = address_bytes(address)
        flags = _NODAD if family == sockets.AF_INET6 else 0
        body = pack("=BBBBI", family, prefix, flags, _SCOPE_GLOBAL, index)
        body += _attr(_IFA_LOCAL, packed) + _attr(_IFA_ADDRESS, packed)
        if family == sockets.AF_INET and prefix < 31:
            last = int.from_bytes(packed, "big") | (1 << (32 - prefix)) - 1
            body += _attr(_IFA_BROADCAST, last.to_bytes(4, "big"))
        self._ask(f"add address {address}/{prefix} to {link}", _NEWADDR, _CREATE_EXCL, body)

    def addresses(self) -> list[Address]:
        """All addresses of the namespace."""
        found = []
        for answer in self._ask("list addresses", _GETADDR, _DUMP, bytes(8)):
            family, prefix, _, _, index = unpack_from("=BBBBI", answer)
            attrs = dict(_attrs(answer, 8))
            packed = attrs.get(_IFA_LOCAL) or attrs.get(_IFA_ADDRESS)
            if packed:
                found.append(Address(index, sockets.inet_ntop(family, packed), prefix))
        return found

    # --- routes

    def add_route(
        self, destination: str = "", prefix: int = 0, *, gateway: str = "", link: str | int = 0, kind: str = "unicast"
    ) -> None:
        """A route; without a destination the default one. It leads to a gateway, out of an interface, or (kind
        unreachable, blackhole, prohibit) nowhere."""
        family, packed = address_bytes(destination or gateway or "0.0.0.0")
        scope = _SCOPE_LINK if link and not gateway else _SCOPE_GLOBAL
        body = pack("=BBBBBBBBI", family, prefix, 0, 0, _TABLE_MAIN, _PROTO_BOOT, scope, _ROUTE_KINDS[kind], 0)
        if destination:
            body += _attr(_RTA_DST, packed)
        if gateway:
            body += _attr(_RTA_GATEWAY, address_bytes(gateway)[1])
        if link:
            body += _number(_RTA_OIF, link if isinstance(link, int) else self.index(link))
        self._ask(f"add route {destination or 'default'}", _NEWROUTE, _CREATE_EXCL, body)

    def delete_route(self, *, gateway: str) -> None:
        """Delete the default route by a gateway; one that is not there is no error."""
        family, packed = address_bytes(gateway)
        body = pack("=BBBBBBBBI", family, 0, 0, 0, _TABLE_MAIN, 0, _SCOPE_NOWHERE, 0, 0) + _attr(_RTA_GATEWAY, packed)
        try:
            self._ask(f"delete the default route by {gateway}", _DELROUTE, 0, body)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise

    def receive(self, address: str, link: str) -> None:
        """Let an address be one of the host's also for what comes in by another interface: a route of kind "local" that
        leads out of it, behind all others (ip-route(8)). One that is there is no error."""
        family, packed = address_bytes(address)
        body = pack("=BBBBBBBBI", family, len(packed) * 8, 0, 0, _TABLE_LOCAL, _PROTO_BOOT, 0, _ROUTE_KINDS["local"], 0)
        body += _attr(_RTA_DST, packed) + _number(_RTA_OIF, self.index(link)) + _number(_RTA_PRIORITY, 4096)
        try:
            self._ask(f"receive {address} by {link}", _NEWROUTE, _CREATE, body)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise

    def routes(self) -> list[Route]:
        """All routes of the namespace, of all tables, its own addresses ("local") among them."""
        return [_route(answer) for answer in self._ask("list routes", _GETROUTE, _DUMP, bytes(12))]

    def route_to(self, address: str) -> Route | None:
        """The route that a packet to address would take now, as it stands in the table; None: there is none."""
        family, packed = address_bytes(address)
        body = pack("=BBBBBBBBI", family, len(packed) * 8, 0, 0, 0, 0, 0, 0, _FIB_MATCH) + _attr(_RTA_DST, packed)
        try:
            return _route(self._ask(f"look up the route to {address}", _GETROUTE, 0, body)[0])
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
                return None
            raise

    # --- what is not rtnetlink, and belongs to the same namespace

    def has_table(self, name: str) -> bool:
        """Whether nftables has a table of this name in family inet. 0.03 ms, where loading libnftables costs 1."""
        body = pack("=BBH", 1, 0, 0) + _attr(1, name.encode() + b"\0")  # nfgenmsg: NFPROTO_INET; NFTA_TABLE_NAME
        return self._knows(f"look up nftables table {name}", 1, body)  # NFT_MSG_GETTABLE

    def has_element(self, table: str, name: str, interface: str) -> bool:
        """Whether the set of this name in a table of family inet holds an interface's name; not where there is no such
        table or set, either."""
        key = _attr(_NESTED | 1, _attr(1, interface.encode().ljust(16, b"\0")))  # NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
        body = pack("=BBH", 1, 0, 0) + _text(1, table) + _text(2, name) + _attr(_NESTED | 3, _attr(_NESTED | 1, key))
        return self._knows(f"look up {interface} in set {name}", 13, body)  # NFT_MSG_GETSETELEM

    def _knows(self, what: str, kind: int, body: bytes) -> bool:
        """Whether nftables finds what is asked for."""
        route, self._sock = self._sock, self._open(_NETFILTER)
        try:
            self._ask(what, 10 << 8 | kind, 0, body)  # NFNL_SUBSYS_NFTABLES
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                return False
            raise
        finally:
            self._sock.close()
            self._sock = route
        return True

    def bind_port(self, protocol: str, address: str, port: int) -> int:
        """An open socket bound to a port and not listening: nobody else can have the port while it is open.

        protocol: tcp, udp, sctp; address: IPv4 or IPv6 (of that family alone: "::" is all of IPv6), empty for all of
        IPv4, "*" for all of both. OSError(EADDRINUSE) where it is taken. Close-on-exec.
        """
        family = sockets.AF_INET6 if ":" in address or address == "*" else sockets.AF_INET
        kind = sockets.SOCK_DGRAM if protocol == "udp" else sockets.SOCK_STREAM
        number = {"tcp": sockets.IPPROTO_TCP, "udp": sockets.IPPROTO_UDP, "sctp": 132}[protocol]
        place = ("::" if address == "*" else address or "0.0.0.0", port)
        try:
            sock = sockets.socket(family, kind | sockets.SOCK_CLOEXEC, number)
            if family == sockets.AF_INET6:
                sock.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, address != "*")
            try:
                sock.bind(place)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or protocol != "tcp":
                    raise
                # Connections of the last minute (TIME_WAIT) also hold a port; with this option they do not.
                sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
                sock.bind(place)
            return sock.detach()
        except OSError as error:
            shown = f"{place[0]}:{port}/{protocol}"
            raise OSError(error.errno, f"bind {shown}: {os.strerror(error.errno or 0)}") from None

    # --- the wire

    def socket(self, family: int, kind: int, protocol: int = 0) -> sockets.socket:
        """A socket of any family in this network namespace (socket(2)). Close-on-exec."""
        kind |= sockets.SOCK_CLOEXEC
        if self._netns < 0:
            return sockets.socket(family, kind, protocol)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscall("setns", self._netns, abi.CLONE_NEWNET)
            try:
                return sockets.socket(family, kind, protocol)
            finally:
                syscall("setns", home, abi.CLONE_NEWNET)
        finally:
            os.close(home)

    def _open(self, protocol: int) -> sockets.socket:
        sock = self.socket(sockets.AF_NETLINK, sockets.SOCK_RAW, protocol)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            sock.setsockopt(_SOL_NETLINK, option, 1)
        return sock

    def _ask(self, what: str, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Send one request; the answers' bodies (after the 16 bytes of header), once the ACK has come."""
        while True:
            self._sequence += 1
            flags |= _REQUEST | (0 if flags & _DUMP == _DUMP else _ACK)
            self._sock.send(pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0) + body)
            answers, whole = self._read(what)
            if whole:
                return answers

    def _read(self, what: str) -> tuple[list[bytes], bool]:
        """The answers up to the ACK; False where a dump was overtaken by a change and must be asked for again."""
        answers: list[bytes] = []
        whole = True
        while True:
            data = self._sock.recv(1 << 16)
            at = 0
            while at + 16 <= len(data):
                size, kind, flags, sequence, _ = unpack_from("=IHHII", data, at)
                body = data[at + 16 : at + size]
                at += size + 3 & ~3
                if sequence != self._sequence:
                    continue
                if flags & _DUMP_INTERRUPTED:
                    whole = False
                if kind not in (_ERROR, _DONE):
                    answers.append(body)
                    continue
                code = -unpack_from("=i", body)[0] if len(body) >= 4 else 0
                if code > 0:
                    raise OSError(code, f"{what}: {os.strerror(code)}{_said(kind, flags, body)}")
                return answers, whole


def mac_bytes(mac: str) -> bytes:
    """Six bytes of "02:42:ac:1e:00:02". ValueError where it is none."""
    packed = bytes.fromhex(mac.replace(":", ""))
    if len(packed) != 6 or len(mac) != 17:
        raise ValueError(f"{mac!r} is no MAC address")
    return packed


def address_bytes(address: str) -> tuple[int, bytes]:
    """Address family and packed form of an IPv4 or IPv6 address. OSError where it is none."""
    family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
    return family, sockets.inet_pton(family, address)


def _said(kind: int, flags: int, body: bytes) -> str:
    """The kernel's own words in an extended ACK, in brackets, or nothing."""
    if flags & _ACK_TLVS:
        # an error carries the request's header, or all of the request where that was not capped (CAP_ACK)
        skip = 4
        if kind == _ERROR:
            skip += 16 if flags & _CAPPED else unpack_from("=I", body, 4)[0] + 3 & ~3
        for name, value in _attrs(body, skip):
            if name == _ERROR_TEXT:
                return f" ({value.rstrip(bytes(1)).decode(errors='replace')})"
    return ""


def _ifinfo(index: int = 0, *, family: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return pack("=BxHiII", family, 0, index, flags, change)


def _attr(kind: int, data: bytes) -> bytes:
    size = len(data) + 4
    return pack("=HH", size, kind) + data + bytes(-size & 3)


def _number(kind: int, value: int) -> bytes:
    return pack("=HHI", 8, kind, value)


def _text(kind: int, text: str) -> bytes:
    return _attr(kind, text.encode() + b"\0")


def _hardware(mac: str, mtu: int) -> bytes:
    return (_attr(_ADDRESS, mac_bytes(mac)) if mac else b"") + (_number(_MTU, mtu) if mtu else b"")


def _attrs(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(data):
        size, kind = unpack_from("=HH", data, at)
        if size < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + size]
        at += size + 3 & ~3


def _u32(data: bytes | None) -> int:
    return int.from_bytes(data or b"", sys.byteorder)


def _link(body: bytes) -> Link:
    index, flags = unpack_from("=iI", body, 4)
    attrs = dict(_attrs(body, 16))
    info = dict(_attrs(attrs.get(_LINKINFO, b""), 0))
    return Link(
        index,
        attrs.get(_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        bool(flags & _IFF_UP),
        _u32(attrs.get(_MTU)),
        _u32(attrs.get(_MASTER)),
        attrs.get(_ADDRESS, b"").hex(":"),
        info.get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace"),
        _u32(attrs.get(_PEER)),
    )


def _route(body: bytes) -> Route:
    family, prefix = body[0], body[1]
    attrs = dict(_attrs(body, 12))
    destination, gateway = attrs.get(_RTA_DST), attrs.get(_RTA_GATEWAY)
    return Route(
        sockets.inet_ntop(family, destination) if destination else "",
        prefix,
        sockets.inet_ntop(family, gateway) if gateway else "",
        _u32(attrs.get(_RTA_OIF)),
        next((name for name, number in _ROUTE_KINDS.items() if number == body[7]), str(body[7])),
    )
