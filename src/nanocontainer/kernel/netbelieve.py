"""Sockets of the make-believe machine (makebelieve.py): a netlink request is taken apart, and answered with an ACK.

netlink(7), rtnetlink(7): a request is a header, a fixed struct, and attributes. It is written down with the names of
the kernel's headers; the numbers of interfaces become names again.
"""

from __future__ import annotations

import errno
from _struct import pack, unpack_from

from ..lean import sockets
from .notation import Word, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .makebelieve import Machine

_TYPES = {
    16: "RTM_NEWLINK", 17: "RTM_DELLINK", 18: "RTM_GETLINK", 19: "RTM_SETLINK", 20: "RTM_NEWADDR", 22: "RTM_GETADDR",
    24: "RTM_NEWROUTE", 25: "RTM_DELROUTE", 26: "RTM_GETROUTE", 28: "RTM_NEWNEIGH", 36: "RTM_NEWQDISC",
    44: "RTM_NEWTFILTER", 1 << 8 | 1: "IPCTNL_MSG_CT_GET", 10 << 8 | 1: "NFT_MSG_GETTABLE",
    10 << 8 | 13: "NFT_MSG_GETSETELEM",
}  # fmt: skip
_LINK, _ADDRESS, _ROUTE, _NEIGHBOUR, _TRAFFIC = range(5)
_FAMILIES = {
    16: _LINK, 17: _LINK, 18: _LINK, 19: _LINK, 20: _ADDRESS, 24: _ROUTE, 25: _ROUTE, 26: _ROUTE, 28: _NEIGHBOUR,
    36: _TRAFFIC, 44: _TRAFFIC,
}  # fmt: skip
_HEADS = {_LINK: 16, _ADDRESS: 8, _ROUTE: 12, _NEIGHBOUR: 12, _TRAFFIC: 20}  # bytes of the fixed struct
# attribute → (its name, how its value is shown)
_ATTRIBUTES: dict[int, dict[int, tuple[str, str]]] = {
    _LINK: {
        1: ("IFLA_ADDRESS", "mac"), 3: ("IFLA_IFNAME", "text"), 4: ("IFLA_MTU", "number"), 10: ("IFLA_MASTER", "index"),
        12: ("IFLA_PROTINFO", "port"), 18: ("IFLA_LINKINFO", "info"), 19: ("IFLA_NET_NS_PID", "known"),
        28: ("IFLA_NET_NS_FD", "known"), 29: ("IFLA_EXT_MASK", "skip"),
    },
    _ADDRESS: {1: ("IFA_ADDRESS", "address"), 2: ("IFA_LOCAL", "address"), 4: ("IFA_BROADCAST", "address")},
    _ROUTE: {
        1: ("RTA_DST", "address"), 4: ("RTA_OIF", "index"), 5: ("RTA_GATEWAY", "address"),
        6: ("RTA_PRIORITY", "number"),
    },
    _NEIGHBOUR: {2: ("NDA_LLADDR", "mac")},
    _TRAFFIC: {1: ("TCA_KIND", "text"), 2: ("TCA_OPTIONS", "filter")},
}  # fmt: skip
_HOOKS = {0xFFFFFFF1: "TC_H_CLSACT", 0xFFFFFFF2: "TC_H_CLSACT+TC_H_MIN_INGRESS"}
_PORT = {4: ("IFLA_BRPORT_MODE", "bit"), 33: ("IFLA_BRPORT_ISOLATED", "bit")}
_CREATE, _EXCLUSIVE, _REPLACE, _DUMP = 0x400, 0x200, 0x100, 0x300
_PROTOCOLS = {0: "NETLINK_ROUTE", 12: "NETLINK_NETFILTER"}
_DOMAINS: dict[int, str] = {
    sockets.AF_NETLINK: "AF_NETLINK", sockets.AF_INET: "AF_INET", sockets.AF_INET6: "AF_INET6",
    sockets.AF_UNIX: "AF_UNIX",
}  # fmt: skip
_KINDS: dict[int, str] = {
    sockets.SOCK_RAW: "SOCK_RAW", sockets.SOCK_STREAM: "SOCK_STREAM", sockets.SOCK_DGRAM: "SOCK_DGRAM",
    sockets.SOCK_SEQPACKET: "SOCK_SEQPACKET",
}  # fmt: skip
_IP = {6: "IPPROTO_TCP", 17: "IPPROTO_UDP", 132: "IPPROTO_SCTP"}
_OF_IP = {
    (0, 15): "SOL_IP, IP_FREEBIND", (41, 26): "SOL_IPV6, IPV6_V6ONLY", (41, 78): "SOL_IPV6, IPV6_FREEBIND",
}  # fmt: skip
_OPTIONS = {10: "NETLINK_CAP_ACK", 11: "NETLINK_EXT_ACK", 12: "NETLINK_GET_STRICT_CHK"}


class FakeSocket:
    """A socket whose requests are noted; netlink ones are answered."""

    def __init__(self, machine: Machine, family: int, kind: int, protocol: int = 0) -> None:
        self.machine, self.netlink = machine, family == sockets.AF_NETLINK
        word = _KINDS[kind & 0xF] + ("|SOCK_CLOEXEC" if kind & sockets.SOCK_CLOEXEC else "")
        word += "|SOCK_NONBLOCK" if kind & sockets.SOCK_NONBLOCK else ""
        self.family = _DOMAINS[family]
        shown = _PROTOCOLS[protocol] if self.netlink else _IP.get(protocol, str(protocol))
        label = "netlink" if self.netlink else "socket"
        args = (Word(_DOMAINS[family]), Word(word), Word(shown))
        self.fd = machine.opened("socket", *args, label=label)
        self.answer = b""

    def fileno(self) -> int:
        return self.fd

    def detach(self) -> int:
        return self.fd

    def close(self) -> None:
        self.machine.note("close", self.fd)

    def setsockopt(self, level: int, option: int, number: int) -> None:
        if self.netlink:
            self.machine.note("setsockopt", self.fd, Word("SOL_NETLINK"), Word(_OPTIONS[option]), [number])
        else:
            which = _OF_IP.get((level, option), "SOL_SOCKET, SO_REUSEADDR")
            self.machine.note("setsockopt", self.fd, *map(Word, which.split(", ")), [number])

    def settimeout(self, seconds: float) -> None:
        """No call but what waits."""

    def bind(self, place: tuple[str, int] | str) -> None:
        self.machine.note("bind", self.fd, self._address(place))

    def connect(self, place: tuple[str, int] | str) -> None:
        """Nobody listens yet: what is connected to is started by who finds nobody."""
        self.machine.note("connect", self.fd, self._address(place), result=Word("ENOENT"))
        raise FileNotFoundError(errno.ENOENT, "nobody listens there", place)

    def listen(self, most: int) -> None:
        self.machine.note("listen", self.fd, most)

    def getsockname(self) -> tuple[str, int]:
        """Where it was to be bound."""
        self.machine.note("getsockname", self.fd, Word("..."))
        return "", 53

    def _address(self, place: tuple[str, int] | str) -> Word:
        said = f'"{place}"' if isinstance(place, str) else f"{place[0]}, {place[1]}"
        return Word(f"{{{self.family}, {said}}}")

    def send(self, data: bytes) -> int:
        size, kind, flags, sequence, _ = unpack_from("=IHHII", data)
        body = data[16:size]
        self.machine.note("sendto", self.fd, Word(self._shown(kind, flags, body)))
        self.answer = self._answer(kind, flags, sequence, body)
        return len(data)

    def recv(self, size: int) -> bytes:
        self.machine.note("recvfrom", self.fd, Word("..."))
        return self.answer

    # --- what a request says

    def _shown(self, kind: int, flags: int, body: bytes) -> str:
        parts = [_TYPES.get(kind, str(kind)), "|".join(_flags(flags, kind))]
        family = _FAMILIES.get(kind)
        if kind in (22, 1 << 8 | 1):  # of all addresses; of the flows to one port, in both families
            parts += [f"nfgen_family={_DOMAINS[body[0]]}"] if kind >> 8 else []
            return f"{{{', '.join(parts)}}}"
        if kind == 10 << 8 | 13:
            table, name = (body[at + 4 : at + size].rstrip(b"\0").decode() for at, size in _outline(body)[:2])
            return f"{{{', '.join(parts)}, NFTA_SET_ELEM_LIST_TABLE={table}, NFTA_SET_ELEM_LIST_SET={name}}}"
        if family is None:
            return f"{{{', '.join(parts)}, NFTA_TABLE_NAME={value(body[8:].rstrip(bytes(1)), self.machine.names)}}}"
        parts += self._head(family, body)
        parts += self._attributes(_ATTRIBUTES[family], body, _HEADS[family])
        return f"{{{', '.join(parts)}}}"

    def _head(self, family: int, body: bytes) -> list[str]:
        if family == _LINK:
            _, _, index, up, change = unpack_from("=BxHiII", body)
            said = [f"ifi_index={self._index(index)}"] if index else []
            return said + (["ifi_flags=IFF_UP" if up & 1 else "ifi_flags=0"] if change & 1 else [])
        if family == _ADDRESS:
            _, prefix, _, _, index = unpack_from("=BBBBI", body)
            return [f"ifa_index={self._index(index)}", f"ifa_prefixlen={prefix}"]
        if family == _NEIGHBOUR:
            _, _, index, _, flags, _ = unpack_from("=BxHiHBB", body)
            names = "NTF_MASTER" + ("|NTF_STICKY" if flags & 0x40 else "")
            return [f"ndm_ifindex={self._index(index)}", "ndm_state=NUD_NOARP", f"ndm_flags={names}"]
        if family == _TRAFFIC:
            _, index, _, parent, _ = unpack_from("=BxxxiIII", body)
            return [f"tcm_ifindex={self._index(index)}", f"tcm_parent={_HOOKS.get(parent, parent)}"]
        return [f"rtm_dst_len={body[1]}"] + (["rtm_type=RTN_LOCAL"] if body[7] == 2 else [])

    def _attributes(self, table: dict[int, tuple[str, str]], body: bytes, at: int) -> list[str]:
        said = []
        while at + 4 <= len(body):
            size, kind = unpack_from("=HH", body, at)
            data = body[at + 4 : at + size]
            at += max(size, 4) + 3 & ~3
            name, how = table.get(kind & 0x3FFF, (str(kind & 0x3FFF), "skip"))
            if how != "skip":
                said.append(f"{name}={self._value(how, data)}")
        return said

    def _value(self, how: str, data: bytes) -> str:
        names = self.machine.names
        if how == "text":
            return value(data, names)
        if how == "mac":
            return data.hex(":")
        if how == "address":
            return sockets.inet_ntop(sockets.AF_INET if len(data) == 4 else sockets.AF_INET6, data)
        if how == "index":
            return self._index(int.from_bytes(data, "little"))
        if how == "known":
            return value(int.from_bytes(data, "little"), names)
        if how == "port":
            return f"{{{', '.join(self._attributes(_PORT, data, 0))}}}"
        if how == "filter":
            return f"{{TCA_BPF_OPS={unpack_from('=H', data, 4)[0]} instructions, TCA_BPF_FLAG_ACT_DIRECT}}"
        if how == "info":
            return self._link_info(data)
        return str(int.from_bytes(data, "little"))

    def _link_info(self, data: bytes) -> str:
        """IFLA_LINKINFO: the kind of link, and for a veth the other end, a struct of a link by itself."""
        size, _ = unpack_from("=HH", data)
        kind = data[4:size].rstrip(b"\0").decode()
        if kind != "veth":
            return f'{{IFLA_INFO_KIND="{kind}"}}'
        at = size + 3 & ~3
        peer = data[at + 4 + 4 :]
        said = ", ".join(self._attributes(_ATTRIBUTES[_LINK], peer, 16))
        return f'{{IFLA_INFO_KIND="veth", VETH_INFO_PEER={{{said}}}}}'

    def _index(self, number: int) -> str:
        name = self.machine.names.interfaces.get(number)
        return f'if_nametoindex("{name}")' if name else str(number)

    # --- what is answered

    def _answer(self, kind: int, flags: int, sequence: int, body: bytes) -> bytes:
        code, reply = 0, b""
        name = self._name(body, 16) if _FAMILIES.get(kind) == _LINK else ""
        if kind == 18:
            if index := self.machine.interface(name):
                content = pack("=BxHiII", 0, 0, index, 1, 0) + _text(3, name)
                reply = pack("=IHHII", 16 + len(content), 16, 0, sequence, 0) + content + bytes(-len(content) & 3)
            else:
                code = errno.ENODEV
        elif kind == 26 and flags & _DUMP != _DUMP:
            code = errno.ENETUNREACH
        elif kind in (10 << 8 | 1, 10 << 8 | 13):
            code = 0 if self.machine.tables else errno.ENOENT
        elif kind == 16 and flags & _CREATE:
            for made in (name, self._peer(body)):
                if made:
                    self.machine.absent.discard(made)
                    self.machine.interface(made)
        if code:
            self.machine.calls[-1].result = Word(errno.errorcode[code])
        return reply + pack("=IHHII", 36, 2, 0, sequence, 0) + pack("=i", -code) + bytes(16)

    def _name(self, body: bytes, at: int) -> str:
        while at + 4 <= len(body):
            size, kind = unpack_from("=HH", body, at)
            if kind == 3:
                return body[at + 4 : at + size].rstrip(b"\0").decode()
            at += max(size, 4) + 3 & ~3
        return ""

    def _peer(self, body: bytes) -> str:
        """The name of a veth's other end: IFLA_LINKINFO, IFLA_INFO_DATA, VETH_INFO_PEER, ifinfomsg, IFLA_IFNAME."""
        at = 16
        while at + 4 <= len(body):
            size, kind = unpack_from("=HH", body, at)
            if kind == 18 and b"veth" in body[at : at + size]:
                first, _ = unpack_from("=HH", body, at + 4)
                return self._name(body[at + 4 + (first + 3 & ~3) + 8 : at + size], 16)
            at += max(size, 4) + 3 & ~3
        return ""


def _flags(flags: int, kind: int) -> list[str]:
    said = ["NLM_F_REQUEST"] + (["NLM_F_ACK"] if flags & 4 else [])
    if kind in (18, 22, 26) or kind >> 8:
        return said + (["NLM_F_DUMP"] if flags & _DUMP == _DUMP else [])
    for bit, name in ((_CREATE, "NLM_F_CREATE"), (_EXCLUSIVE, "NLM_F_EXCL"), (_REPLACE, "NLM_F_REPLACE")):
        if flags & bit:
            said.append(name)
    return said


def _outline(body: bytes) -> list[tuple[int, int]]:
    """(place, size) of the attributes behind a struct nfgenmsg."""
    found, at = [], 4
    while at + 4 <= len(body):
        size = unpack_from("=H", body, at)[0]
        found.append((at, size))
        at += max(size, 4) + 3 & ~3
    return found


def _text(kind: int, text: str) -> bytes:
    data = text.encode() + b"\0"
    return pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) & 3)
