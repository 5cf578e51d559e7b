"""The sockets that a network's resolver listens on: UDP and TCP port 53 of the gateway's addresses.

IP_FREEBIND (ip(7)) binds an address that is not there yet, or not any more: an IPv6 address that is still being checked
for duplicates, a bridge that goes and comes again. So a socket stays good as long as the network has this gateway.

Where another program holds port 53 of all addresses (dnsmasq, unbound), that bind is refused (EADDRINUSE). Then any
free port is taken, and the firewall leads there what containers send to port 53 of the gateway; answers go back as if
they came from there (connection tracking).
"""

from __future__ import annotations

import errno

from ..errors import NanoError, reason
from ..lean import sockets
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..kernel.calls import Kernel

PORT = 53
_FREEBIND, _FREEBIND6 = 15, 78  # linux/in.h, linux/in6.h
_BACKLOG = 128
_KINDS = {"udp": sockets.SOCK_DGRAM, "tcp": sockets.SOCK_STREAM}


class Place(Record):
    """Where a network is answered: an address of its gateway, "udp" or "tcp"; port: 53, or where that is taken another
    one."""

    address: str
    kind: str
    port: int = PORT


def places(*gateways: str) -> list[tuple[str, str]]:
    """(address, kind) of all sockets that a network needs."""
    return [(address, kind) for address in gateways if address for kind in ("udp", "tcp")]


def listen(address: str, kind: str) -> tuple[sockets.socket, Place]:
    """A bound socket that does not block, and where it is. NanoError in words."""
    family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
    sock = sockets.socket(family, _KINDS[kind] | sockets.SOCK_CLOEXEC | sockets.SOCK_NONBLOCK)
    try:
        if family == sockets.AF_INET6:
            sock.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, 1)
            sock.setsockopt(sockets.IPPROTO_IPV6, _FREEBIND6, 1)
        else:
            sock.setsockopt(sockets.IPPROTO_IP, _FREEBIND, 1)
        if kind == "tcp":
            sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)  # old connections may still be closing
        try:
            sock.bind((address, PORT))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            sock.bind((address, 0))
        if kind == "tcp":
            sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise NanoError(f"cannot listen on {address}, {kind} port {PORT}", *reason(error)) from None
    return sock, Place(address, kind, sock.getsockname()[1])


def detour(table: str) -> str:
    """The name of the table of such an engine (model.table_name)."""
    return f"{table}_dns"


def lead(kernel: Kernel, table: str, places: Iterable[Place]) -> None:
    """Lead port 53 to where we are, whatever was led where before. May be run at any time (nft(8))."""
    t = f"inet {detour(table)}"
    kinds = "{ type %s . inet_proto . inet_service : %s . inet_service; }"
    lines = [
        f"add table {t}",
        f"delete table {t}",
        f"add table {t}",
        f"add map {t} places {kinds % (('ipv4_addr',) * 2)}",
        f"add map {t} places6 {kinds % (('ipv6_addr',) * 2)}",
        f"add chain {t} prerouting {{ type nat hook prerouting priority -101; policy accept; }}",
        f"add rule {t} prerouting dnat ip to ip daddr . meta l4proto . th dport map @places",
        f"add rule {t} prerouting dnat ip6 to ip6 daddr . meta l4proto . th dport map @places6",
    ]
    for each in places:
        name = "places6" if ":" in each.address else "places"
        lines.append(
            f"add element {t} {name} {{ {each.address} . {each.kind} . {PORT} : {each.address} . {each.port} }}"
        )
    kernel.nft("".join(f"{line}\n" for line in lines))


def withdraw(kernel: Kernel, table: str) -> None:
    """Take the table away, if there is one."""
    with kernel.links() as links:
        if links.has_table(detour(table)):
            kernel.nft(f"delete table inet {detour(table)}\n")
