"""A container's names on a network, as a file: networks/<network>/names/<id>.

There is no other registry. A start writes the file (RegisterNames), a renamed container is a new file over the old one
(rename(2)), an end unlinks it. The resolver looks at the directory's time of change at every question (resolver_view),
so nobody has to tell it, and a resolver that was killed has forgotten nothing.
"""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..paths import Paths


class Registration(Record):
    """One container on one network.

    names: as DNS knows it, its own first; empty where the network has no names (the default one). ip, ip6: its
    addresses there, empty for none. servers: who is asked for all other names (--dns), empty for the host's. egress:
    what it may reach outside, in the words of gate.py; empty for anything.
    """

    id: str
    network: str
    names: tuple[str, ...] = ()
    ip: str = ""
    ip6: str = ""
    servers: tuple[str, ...] = ()
    egress: dict[str, Any] = {}


class Naming(Record):
    """What the resolver must know of a container, beside its addresses. name: its own; servers: --dns; egress: as
    gate.registered() has it. run: the engine's run directory, where the resolver is found."""

    name: str
    run: str
    servers: tuple[str, ...] = ()
    egress: dict[str, Any] = {}


def names_of(id: str, name: str, aliases: tuple[str, ...] = ()) -> tuple[str, ...]:
    """All names of a container: its own, its short id, its aliases, each once."""
    return tuple(dict.fromkeys(each for each in (name, id[:12], *aliases) if each))


def names_directory(paths: Paths, network: str) -> str:
    return f"{paths.networks}/{network}/names"


def path_of(paths: Paths, network: str, id: str) -> str:
    return f"{names_directory(paths, network)}/{id}"
