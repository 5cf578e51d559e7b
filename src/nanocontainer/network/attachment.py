"""What a container wishes of a network it is on: a part of its specification (container/spec.py)."""

from __future__ import annotations

from ..record import Record

DEFAULT = "bridge"  # the network that containers are on which ask for none


class Attachment(Record):
    """One --network that is a network: what a container wants on it, empty where it does not mind.

    network: its name. mac: "02:42:…". aliases: other names for the container, on this network. link_local: further
    addresses, which no network hands out. priority: of several networks the highest has the default route (docker's
    gw-priority). interface: its name inside, empty for eth0 and so on in their order.
    """

    network: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()
    link_local: tuple[str, ...] = ()
    priority: int = 0
    interface: str = ""
