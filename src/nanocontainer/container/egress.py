"""What a container may reach, what it has reached by name, and what it was refused: for `egress ls` and `why`.

Names are refused by the resolver, which writes them down (network/gate.py); packets by the kernel, which counts them in
sets, or has done so until the container ended (network/enforce.py).
"""

from __future__ import annotations

from ..errors import NanoError
from ..lean import loads
from ..network import egress_rules
from ..network.egress import Policy, parse
from ..network.enforce import Element, Refusal, elements_of, refusals
from ..network.gate import RefusedName, refused_names, refused_path
from ..network.model import table_name
from ..paths import read_file
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lifecycle import Lifecycle
    from .spec import Container


class Opened(Record):
    """An address that a name has opened. seconds: that new connections may still be made; 0: only those that exist go
    on. port 0: all."""

    name: str
    address: str
    port: int
    protocol: str
    seconds: int


class Refused(Record):
    """Something that was refused. what: a name, or an address with its port; why: in words; allow: the rule that would
    allow it; count, last (nanoseconds since 1970)."""

    what: str
    why: str
    allow: str
    count: int
    last: int


class Egress(Record):
    """rules: of the specification; () where everything may be reached. opened: by name, in a running container.
    refused: the latest first, without what is allowed by now."""

    id: str
    name: str
    rules: tuple[str, ...] = ()
    opened: tuple[Opened, ...] = ()
    refused: tuple[Refused, ...] = ()


def look(life: Lifecycle, container: Container) -> Egress:
    """All that is known of a container's policy. NotPermitted without root."""
    spec, running = container.spec, container.state.status in ("running", "paused")
    if not spec.allow_out:
        return Egress(spec.id, spec.name)
    policy = parse(spec.allow_out)
    table = egress_rules.table_of(table_name(life.paths))
    known = _opened(life, table, spec.id) if running else []
    names = {one.address: one.name for one in known}
    try:
        packets = refusals(life.kernel, table, spec.id) if running else _kept(life, spec.id)
    except NanoError:
        packets = []  # it has just ended, or somebody has flushed all tables
    found = [_of_name(one) for one in refused_names(refused_path(life.paths, spec.id)) if not _knows(policy, one)]
    found += [_of_packets(one, names.get(one.address, "")) for one in packets if not _lets(policy, one, names)]
    found.sort(key=lambda one: -one.last)
    return Egress(spec.id, spec.name, spec.allow_out, tuple(known), tuple(found))


def _opened(life: Lifecycle, table: str, id: str) -> list[Opened]:
    key, found = egress_rules.key_of(id), []
    for new, old in (("fresh", "open"), ("any", "stay")):
        for family in (4, 6):
            left = {one.key: one.expires for one in _elements(life, f"{table} {new}{family}_{key}")}
            for one in _elements(life, f"{table} {old}{family}_{key}"):
                address, *behind = one.key.split(" . ")
                protocol, port = (behind[0], int(behind[1])) if behind else ("", 0)
                found.append(Opened(one.comment, address, port, protocol, round(left.get(one.key, 0))))
    return sorted(found, key=lambda one: (one.name, one.address, one.port))


def _elements(life: Lifecycle, named: str) -> list[Element]:
    try:
        return elements_of(life.kernel.nft(f"list set inet {named}"))
    except NanoError:
        return []  # no rule needs it


def _kept(life: Lifecycle, id: str) -> list[Refusal]:
    """What was written down at its end."""
    try:
        return [Refusal.from_dict(one) for one in loads(read_file(f"{life.paths.container(id)}/refused"))]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def _knows(policy: Policy, one: RefusedName) -> bool:
    """Whether a name that was refused is allowed by now."""
    if one.address:
        from ..kernel.netlink import address_bytes

        return bool(policy.places(address_bytes(one.address)[1]))
    return bool(policy.names(one.name))


def _lets(policy: Policy, one: Refusal, names: dict[str, str]) -> bool:
    """Whether packets that were refused would be allowed by now."""
    from ..kernel.netlink import address_bytes

    rules = (*policy.places(address_bytes(one.address)[1]), *policy.names(names.get(one.address, "")))
    return any(not rule.port or (rule.port, rule.protocol) == (one.port, one.protocol) for rule in rules)


def _of_name(one: RefusedName) -> Refused:
    if one.address:
        why = f"the name leads to {one.address}, an address of the host or of a private network: no name opens those"
        return Refused(one.name, why, one.address, one.count, one.last)
    return Refused(one.name, "no rule has this name: it was not resolved", one.name, one.count, one.last)


def _of_packets(one: Refusal, name: str) -> Refused:
    place = f"[{one.address}]" if ":" in one.address and one.port else one.address
    behind = f":{one.port}" + (f"/{one.protocol}" if one.protocol != "tcp" else "") if one.port else ""
    if not one.port:
        return Refused(f"{one.address} ({one.protocol})", "no rule allows it", one.address, one.count, one.last)
    if name:
        why = f"{name} is allowed, on other ports"
        return Refused(f"{name}{behind}", why, f"{name}{behind}", one.count, one.last)
    return Refused(f"{place}{behind}", "no rule allows it", f"{place}{behind}", one.count, one.last)
