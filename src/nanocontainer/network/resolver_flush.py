"""Policies that outlive `nft flush ruleset`: the resolver hears of it, and puts them in force again at once.

The kernel tells who is in the multicast group NFNLGRP_NFTABLES of every change (netlink(7), nf_tables_api.c). Only that
a table has gone is looked at; where messages were lost, one may have. Without this a container with a policy could send
until the next command of ours restores everything (restore.py): without address translation, but to the host itself.

Both of our tables gone, and a container with a policy on a network: that is a flush. In the life of a container it does
not come about: its policy comes before its bridge and its names, its names go before both, and where a policy is lifted
while it runs its bridge is in the other table. So we do not bring back what somebody is taking down.
"""

from __future__ import annotations

from _struct import unpack_from

from ..lean import sockets
from ..paths import FileLock
from .egress_rules import table_of
from .enforce import restoration
from .model import lock_path, table_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.calls import Kernel
    from ..paths import Paths
    from .resolver_view import View

_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP = 12, 270, 1
_GROUP = 7  # NFNLGRP_NFTABLES
_TABLE_GONE = 10 << 8 | 2  # NFNL_SUBSYS_NFTABLES, NFT_MSG_DELTABLE


class Flushes:
    """The kernel's messages about changes of rules. sock does not block."""

    def __init__(self) -> None:
        self.sock = sockets.socket(
            sockets.AF_NETLINK, sockets.SOCK_RAW | sockets.SOCK_CLOEXEC | sockets.SOCK_NONBLOCK, _NETFILTER
        )
        self.sock.bind((0, 0))
        self.sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)

    def table_gone(self) -> bool:
        """Whether a table has gone since it was last asked, or may have."""
        gone = False
        while True:
            try:
                data = self.sock.recv(1 << 16)
            except BlockingIOError:
                return gone
            except OSError:  # ENOBUFS: more than there is room for
                gone = True
                continue
            gone = gone or _TABLE_GONE in kinds(data)


def kinds(data: bytes) -> list[int]:
    """The types of the netlink messages in a datagram."""
    found, at = [], 0
    while at + 16 <= len(data):
        size, kind = unpack_from("=IH", data, at)
        found.append(kind)
        at += max(size, 16) + 3 & ~3
    return found


def put_back(paths: Paths, kernel: Kernel, view: View) -> None:
    """Put policies in force again, if somebody has flushed all rules. NanoError, OSError."""
    if not _flushed(paths, kernel):
        return
    with FileLock(lock_path(paths)):
        view.refresh()
        ids = policed(view)
        script = restoration(paths, ids.__contains__) if ids and _flushed(paths, kernel) else ""
        if script:
            kernel.nft(script)


def policed(view: View) -> set[str]:
    """The containers that have a policy, and are on a network."""
    return {id for zone in view.zones.values() for id, registered in zone.all.items() if registered.egress}


def _flushed(paths: Paths, kernel: Kernel) -> bool:
    table = table_name(paths)
    with kernel.links() as links:
        return not links.has_table(table) and not links.has_table(table_of(table))
