"""The policies of containers as firewall text (nft(8)): a table of their own, for a packet must pass all tables, so it
can forbid and never allow. What other tables do, ours or anybody's, and what becomes of them, opens nothing here.

    inet    out      prerouting, behind conntrack and before any address translation: the destination is what the
                     container asked for, be it in the world, the host itself, or another container's published port.
                     Who it is says its bridge and source address, in a map that leads to the container's own chain
            near     what is the same for all of them: answers, neighbours, the resolver
            refuse   a reset for TCP, "administratively prohibited" (ICMP) for the rest: nobody waits for a timeout
Who it is can be told by the source address, because what comes by a container's cable bears its own ones only: the
filter at its end sees to that (guard.py).

What a container has, its chain to_KEY, and sets (KEY is the beginning of its id)
    fresh4_KEY    address, protocol, port that a new connection may have: filled by the resolver, for the lifetime of
                  its answer; any4_KEY: the same for rules without a port
    open4_KEY     the same, and kept alive by the packets of connections that exist: those go on when the name's
                  lifetime is over, and end when its rule is taken away (stay4_KEY: without a port)
    refused4_KEY  what was refused, with a count; other4_KEY: of protocols without ports
and all of them again for IPv6. A comment says which name has opened it.

The order of things in a chain is that of their frequency; each packet of the container's direction is looked at, and
none is let through because its connection once was: that is what makes a rule taken away take effect at once.
"""

from __future__ import annotations

from ..record import Record
from .egress import Policy, lean_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FLOOR, GRACE = 60, 30  # seconds that an answer counts at least, and beyond its lifetime: clients keep what they got
KEPT = 5 * 86400  # seconds that an idle connection is remembered, as conntrack does it
REMEMBERED = 86400  # seconds that a refusal is
_MOST = {"fresh": 16384, "any": 16384, "open": 16384, "stay": 16384, "refused": 256, "other": 64}
NAMED = ("fresh", "open", "any", "stay")
_ADDRESS = {4: ("ipv4_addr", "ip"), 6: ("ipv6_addr", "ip6")}


class Leg(Record):
    """One of a container's places on networks. interface: the bridge; own4, own6: its addresses there, of a family
    that it has; gateway and subnet are empty where it has not."""

    interface: str
    own4: tuple[str, ...] = ()
    own6: tuple[str, ...] = ()
    gateway: str = ""
    gateway6: str = ""
    subnet: str = ""
    subnet6: str = ""


def key_of(id: str) -> str:
    """What stands for a container in the names of its sets."""
    return id[:12]


def table_of(table: str) -> str:
    """The table of policies beside an engine's table."""
    return f"{table}_egress"


def base(table: str) -> str:
    """What is the same for all containers. May be run at any time: chains are refilled in the same transaction."""
    t = f"inet {table}"
    discovery = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255"
    groups = "ip6 daddr ff02::/16 icmpv6 type { nd-router-solicit, mld-listener-report, mld2-listener-report }"
    return f"""\
add table {t}
add map {t} from4 {{ type ifname . ipv4_addr : verdict; }}
add map {t} from6 {{ type ifname . ipv6_addr : verdict; }}
add set {t} dns4 {{ type ifname . ipv4_addr; }}
add set {t} dns6 {{ type ifname . ipv6_addr; }}
add set {t} near4 {{ type ifname . ipv4_addr; flags interval; }}
add set {t} near6 {{ type ifname . ipv6_addr; flags interval; }}
add chain {t} out {{ type filter hook prerouting priority -150; policy accept; }}
add chain {t} near
add chain {t} refuse
flush chain {t} out
flush chain {t} near
flush chain {t} refuse
add rule {t} out iifname . ip saddr vmap @from4
add rule {t} out iifname . ip6 saddr vmap @from6
add rule {t} near ct direction reply ct state established,related accept
add rule {t} near meta l4proto {{ icmp, ipv6-icmp }} ct state related accept
add rule {t} near {discovery} accept
add rule {t} near {groups} accept
add rule {t} near ct state invalid drop
add rule {t} near iifname . ip daddr @dns4 meta l4proto {{ tcp, udp }} th dport 53 accept
add rule {t} near iifname . ip6 daddr @dns6 meta l4proto {{ tcp, udp }} th dport 53 accept
add rule {t} near iifname . ip daddr @near4 fib daddr type != {{ local, broadcast, multicast }} accept
add rule {t} near iifname . ip6 daddr @near6 fib daddr type != {{ local, anycast, multicast }} accept
add rule {t} near ip6 daddr fe80::/10 fib daddr . iif type != {{ local, anycast }} accept
add rule {t} refuse meta l4proto tcp reject with tcp reset
add rule {t} refuse reject with icmpx type admin-prohibited
"""


def enforce(table: str, id: str, policy: Policy, legs: Iterable[Leg]) -> str:
    """A container's policy, whole: run again with another one it takes its place, in one transaction. What names have
    opened stays (ForgetNames)."""
    t, key = f"inet {table}", key_of(id)
    return "".join((
        *(f"add set {t} {line}\n" for line in _sets(key, policy)),
        f"add chain {t} to_{key}\nflush chain {t} to_{key}\n",
        *(f"add rule {t} to_{key} {line}\n" for line in _chain(key, policy)),
        extend(table, id, legs),
    ))  # fmt: skip


def extend(table: str, id: str, legs: Iterable[Leg]) -> str:
    """A container's policy holds on these of its networks."""
    key, lines = key_of(id), []
    for leg in legs:
        lines += [f"inet {table} {senders} : goto to_{key} }}" for senders in _senders(leg)]
        lines += [f"inet {table} {line}" for line in _places(leg)]
    return "".join(f"add element {line}\n" for line in lines)


def release(table: str, id: str, held: Iterable[str], empty: Iterable[Leg]) -> str:
    """The inverse of enforce. held: the elements of from4 and from6 that lead to the container's chain, as keys_of()
    has them; empty: networks on which no other container has a policy."""
    t, key = f"inet {table}", key_of(id)
    sets = [line.partition(" ")[0] for line in _sets(key, None)]
    return "".join((
        shrink(table, held, empty),
        f"add chain {t} to_{key}\nflush chain {t} to_{key}\ndelete chain {t} to_{key}\n",
        *(f"add set {t} {line}\n" for line in _sets(key, None)),
        *(f"delete set {t} {name}\n" for name in sets),
    ))  # fmt: skip


def shrink(table: str, held: Iterable[str], empty: Iterable[Leg]) -> str:
    """The inverse of extend: these elements, and these networks, which may be out already."""
    lines = [f"delete element inet {table} {key} }}\n" for key in held]
    for leg in empty:
        lines += [f"{word} element inet {table} {line}\n" for line in _places(leg) for word in ("add", "delete")]
    return "".join(lines)


def keys_of(legs: Iterable[Leg]) -> list[str]:
    """The elements of from4 and from6 that these are, without their verdict."""
    return [sender for leg in legs for sender in _senders(leg)]


def _senders(leg: Leg) -> Iterator[str]:
    for family, own in ((4, leg.own4), (6, leg.own6)):
        for address in own:
            yield f'from{family} {{ "{leg.interface}" . {address}'


def _places(leg: Leg) -> Iterator[str]:
    """The network as its containers see it: who answers names there, and who is near."""
    for family, gateway, subnet in ((4, leg.gateway, leg.subnet), (6, leg.gateway6, leg.subnet6)):
        if gateway:
            yield f'dns{family} {{ "{leg.interface}" . {gateway} }}'
        if subnet:
            yield f'near{family} {{ "{leg.interface}" . {subnet} }}'


def _sets(key: str, policy: Policy | None) -> Iterator[str]:
    """The sets that a policy needs; None: all that one could have."""
    kinds = ["refused", "other"]
    if policy is None or any(rule.name and rule.port for rule in policy.rules):
        kinds += ["fresh", "open"]
    if policy is None or any(rule.name and not rule.port for rule in policy.rules):
        kinds += ["any", "stay"]
    flags = {
        "fresh": "flags timeout;", "any": "flags timeout;",
        "open": f"flags timeout,dynamic; timeout {KEPT}s;", "stay": f"flags timeout,dynamic; timeout {KEPT}s;",
        "refused": f"flags timeout,dynamic; timeout {REMEMBERED}s; counter;",
        "other": f"flags timeout,dynamic; timeout {REMEMBERED}s; counter;",
    }  # fmt: skip
    for kind in kinds:
        for family, (address, _) in _ADDRESS.items():
            more = {"any": "", "stay": "", "other": " . inet_proto"}.get(kind, " . inet_proto . inet_service")
            yield f"{kind}{family}_{key} {{ type {address}{more}; {flags[kind]} size {_MOST[kind]}; }}"


def _chain(key: str, policy: Policy) -> Iterator[str]:
    """The rules of a container's chain."""
    yield "jump near"
    rules = lean_rules(policy.rules)
    for family, (_, ip) in _ADDRESS.items():
        whole = [rule.place for rule in rules if rule.family == family and not rule.port]
        ported = [rule for rule in rules if rule.family == family and rule.port]
        triple = f"{ip} daddr . meta l4proto . th dport"
        if whole:
            yield f"{ip} daddr {{ {', '.join(whole)} }} accept"
        if ported:
            listed = ", ".join(f"{rule.place} . {rule.protocol} . {rule.port}" for rule in ported)
            yield f"{triple} {{ {listed} }} accept"
        for new, old, what in (("fresh", "open", triple), ("any", "stay", f"{ip} daddr")):
            if any(rule.name and bool(rule.port) is (new == "fresh") for rule in rules):
                held = f"@{old}{family}_{key}"
                yield f"ct state established {what} {held} update {held} {{ {what} }} accept"
                yield f"ct state new {what} @{new}{family}_{key} accept"
    for family, (_, ip) in _ADDRESS.items():
        triple, pair = f"{ip} daddr . meta l4proto . th dport", f"{ip} daddr . meta l4proto"
        yield f"meta l4proto {{ tcp, udp, sctp }} update @refused{family}_{key} {{ {triple} }}"
        yield f"meta l4proto != {{ tcp, udp, sctp }} update @other{family}_{key} {{ {pair} }}"
    yield "goto refuse"


def admit(table: str, id: str, policy: Policy, name: str, answers: Iterable[tuple[str, int]]) -> str:
    """A name's addresses, with their lifetimes in seconds, into the sets of the rules that allow it."""
    key = key_of(id)
    comment = f' comment "{name}"' if len(name) < 120 else ""
    lines = []
    for address, ttl in answers:
        family = 6 if ":" in address else 4
        lifetime = min(max(ttl, FLOOR), REMEMBERED) + GRACE
        for rule in policy.names(name):
            element = f"{address} . {rule.protocol} . {rule.port}" if rule.port else address
            new, old = ("fresh", "open") if rule.port else ("any", "stay")
            for kind, seconds in ((new, lifetime), (old, KEPT)):
                place = f"element inet {table} {kind}{family}_{key}"
                whole = f"{place} {{ {element} timeout {seconds}s{comment} }}\n"
                # What is there already would keep its lifetime: it must go, and to go it must be there
                lines.append(f"add {whole}delete {place} {{ {element} }}\nadd {whole}")
    return "".join(lines)
