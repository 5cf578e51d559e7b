"""`Flows`: what the kernel's connection tracking remembers, listed and forgotten (ctnetlink: conntrack(8), netlink(7)).

A packet is translated (NAT) as the first one of its flow was: rules are not asked again. For TCP that is right, its
flows begin and end. A UDP flow is only a habit: as long as a client goes on asking from one port, what was once sent to
a container goes there, whatever the rules say by now, or whoever has that address; and what was once sent to nobody
goes on to nobody. So where a rule changes, what is remembered of it must be forgotten.

The kernel is asked for the flows to one port (CTA_FILTER, Linux 5.8); an older one answers with all, so that we look
ourselves too.
"""

from __future__ import annotations

import errno
from _struct import pack

from ..lean import sockets
from ..record import Record
from .netlink import Links, _attr, _attrs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
_NETFILTER, _DUMP = 12, 0x300
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_ORIG, _FILTER, _NESTED = 1, 25, 0x8000
_IP, _PROTO, _NUMBER, _DESTINATION_PORT = 1, 2, 1, 3
_V4_DESTINATION, _V6_DESTINATION = 2, 4
_ORIG_FLAGS, _BY_NUMBER, _BY_DESTINATION_PORT = 1, 1 << 3, 1 << 5
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_ABSENT = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)


class Flow(Record):
    """A flow as its first packet had it. destination: the address it was sent to. key: for the kernel."""

    family: int
    destination: str
    port: int
    key: bytes


class Flows(Links):
    """A client for the connection tracking of our own network namespace. A context manager."""

    def __init__(self) -> None:
        self._netns, self._sequence = -1, 0
        self._sock = self._open(_NETFILTER)

    def __enter__(self) -> Self:
        return self

    def to_port(self, protocol: str, port: int) -> list[Flow]:
        """The flows that were sent to a port of any address. None where the kernel has no ctnetlink: then only its own
        time-outs forget them (30 seconds after the last packet; 2 minutes, where there were answers)."""
        number = _PROTOCOLS[protocol]
        proto = _attr(_NUMBER, bytes([number])) + _attr(_DESTINATION_PORT, port.to_bytes(2, "big"))
        flags = _attr(_ORIG_FLAGS, (_BY_NUMBER | _BY_DESTINATION_PORT).to_bytes(4, "little"))
        wanted = _nest(_ORIG, _nest(_PROTO, proto)) + _nest(_FILTER, flags)
        found = []
        for family in (sockets.AF_INET, sockets.AF_INET6):
            try:
                answers = self._ask(f"list flows to port {port}", _GET, _DUMP, pack("=BBH", family, 0, 0) + wanted)
            except OSError as error:
                if error.errno in _ABSENT:
                    continue
                raise
            found += [flow for answer in answers if (flow := _flow(answer, number)) and flow.port == port]
        return found

    def forget(self, flow: Flow) -> None:
        """Forget a flow; one that is gone is no error."""
        try:
            self._ask(f"forget a flow to port {flow.port}", _DELETE, 0, pack("=BBH", flow.family, 0, 0) + flow.key)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def _flow(answer: bytes, number: int) -> Flow | None:
    """None where it is of another protocol."""
    orig = dict(_attrs(answer, 4)).get(_ORIG, b"")
    parts = dict(_attrs(orig, 0))
    proto = dict(_attrs(parts.get(_PROTO, b""), 0))
    addresses = dict(_attrs(parts.get(_IP, b""), 0))
    packed = addresses.get(_V4_DESTINATION) or addresses.get(_V6_DESTINATION)
    if proto.get(_NUMBER, b"")[:1] != bytes([number]) or not packed:
        return None
    port = int.from_bytes(proto.get(_DESTINATION_PORT, b"")[:2], "big")
    return Flow(answer[0], sockets.inet_ntop(answer[0], packed), port, _nest(_ORIG, orig))


def _nest(kind: int, data: bytes) -> bytes:
    return _attr(kind | _NESTED, data)
