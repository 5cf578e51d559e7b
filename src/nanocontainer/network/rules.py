"""Our nftables rules as text: one table, in family inet, and never a word about anybody else's (nft(8)).

    guard        raw        what comes in from a bridge of ours and speaks of 127.0.0.0/8 is dropped
    prerouting   dstnat     a published port of a host address → the container   (from other machines and containers)
    output       dstnat     the same for the host's own connections, those to 127.0.0.1 and [::1] included
    forward      filter     to a bridge of ours: answers, its own containers, published ports; nothing else
    postrouting  srcnat     who leaves a subnet of ours takes the host's address; so do 127.0.0.1, ::1 and hairpins

The rules speak of sets and maps only. A bridge is an element of some sets; a published port is an element of a map: no
rule is ever added for a container, and looking one up costs the same for one port and for a thousand. Only our own
chains are ever refilled: others may keep more in this table.

The host's own loopback. 127.0.0.1 may not leave the host unless the bridge's route_localnet allows it (ip-sysctl.rst).
IPv6 has no such word, but it needs none: connections leave by our output chain and take the bridge's address, and only
their answers are a problem, which speak of ::1 again when the kernel looks for the way. It takes ::1 for the host's on
the interface of its route alone, so EnsureBridge adds one that leads out of the bridge. The kernel still drops all that
comes in from outside with ::1 in it (ip6_rcv_core), and that is the limit: where bridged packets pass the firewall
(br_netfilter, with bridge-nf-call-ip6tables=1) answers are translated back before that test, and could not be received.
There [::1] is left alone: nobody listens, the connection is refused at once, and clients go on to 127.0.0.1. It is
looked at when a bridge is made, and by `network reload`.

The host's own filter applies, and which part of it: a published packet is forwarded and not received, so the other
firewall's forward hook judges it and its input hook is never asked (docker's users know that from moby #22054). We
accept in our own table alone, and a packet must be accepted by all tables: what theirs drops or rejects stays so. By
the time the forward hook is asked the address is the container's; the port that was published is then
`ct original proto-dst`, for iptables `-m conntrack --ctorigdstport`; ufw's word for that hook is `ufw route`. A rule
for the input hook alone, `ufw deny 8080`, closes nothing that is published. Where a forward policy is drop, it must
also be told to let our bridges' packets pass.

Where forwarding was off, EnsureBridge turns it on and leaves it on: who else relies on it by then cannot be known.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .allot import Binding

MAPS = ("ports", "ports_at", "ports6", "ports6_at")  # of published ports; _at: of one address of the host
# Link-local addresses where clouds tell a machine its credentials: AWS, GCP, Azure and others; AWS's and GCP's of IPv6
_METADATA4, _METADATA6 = "169.254.0.0/16", "{ fd00:ec2::254, fd20:ce::254 }"


def base(
    table: str, interface: str, subnet: str, internal: bool = False, subnet6: str = "",
    *, icc: bool = True, masquerade: bool = True, metadata: bool = True,
) -> str:  # fmt: skip
    """The table with one bridge in it. May be run at any time, also when all of it is there: our chains are refilled in
    the same transaction, sets and maps keep what they have."""
    return frame(table) + bridge(table, interface, subnet, internal, subnet6, icc, masquerade, metadata)


def frame(table: str) -> str:
    """The table without any bridge."""
    t = f"inet {table}"
    chains = ("published", "guard", "prerouting", "output", "forward", "postrouting")
    return f"""\
add table {t}
add set {t} bridges {{ type ifname; }}
add set {t} internal {{ type ifname; }}
add set {t} closed {{ type ifname; }}
add set {t} same {{ type ifname . ifname; }}
add set {t} subnets {{ type ipv4_addr; flags interval; }}
add set {t} subnets6 {{ type ipv6_addr; flags interval; }}
add set {t} homes {{ type ipv4_addr . ifname; flags interval; }}
add set {t} homes6 {{ type ipv6_addr . ifname; flags interval; }}
add set {t} refused {{ type ipv6_addr; }}
add map {t} ports {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add map {t} ports_at {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
add map {t} ports6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
add map {t} ports6_at {{ type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }}
add chain {t} published
add chain {t} guard {{ type filter hook prerouting priority -300; policy accept; }}
add chain {t} prerouting {{ type nat hook prerouting priority -100; policy accept; }}
add chain {t} output {{ type nat hook output priority -100; policy accept; }}
add chain {t} forward {{ type filter hook forward priority 0; policy accept; }}
add chain {t} postrouting {{ type nat hook postrouting priority 100; policy accept; }}
{"".join(f"flush chain {t} {name}{chr(10)}" for name in chains)}\
add rule {t} published dnat ip to meta l4proto . ip daddr . th dport map @ports_at
add rule {t} published dnat ip to meta l4proto . th dport map @ports
add rule {t} published dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6_at
add rule {t} published dnat ip6 to meta l4proto . th dport map @ports6
add rule {t} guard iifname @bridges ip daddr 127.0.0.0/8 drop
add rule {t} guard iifname @bridges ip saddr 127.0.0.0/8 drop
add rule {t} prerouting fib daddr type local jump published
add rule {t} output ip6 daddr @refused accept
add rule {t} output fib daddr type local jump published
add rule {t} forward iifname @closed ip daddr {_METADATA4} reject
add rule {t} forward iifname @closed ip6 daddr {_METADATA6} reject
add rule {t} forward ct state established,related accept
add rule {t} forward iifname . oifname @same accept
add rule {t} forward iifname @internal drop
add rule {t} forward oifname @internal drop
add rule {t} forward oifname @bridges ct status dnat accept
add rule {t} forward oifname @bridges drop
add rule {t} postrouting ip saddr . oifname @homes ct status dnat masquerade
add rule {t} postrouting ip6 saddr . oifname @homes6 ct status dnat masquerade
add rule {t} postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade
add rule {t} postrouting oifname @bridges ip6 saddr ::1 masquerade
add rule {t} postrouting oifname != @bridges ip saddr @subnets masquerade
add rule {t} postrouting oifname != @bridges ip6 saddr @subnets6 masquerade
"""


def bridge(
    table: str, interface: str, subnet: str, internal: bool, subnet6: str, icc: bool, masquerade: bool, metadata: bool
) -> str:
    """One bridge in the table."""
    marks = {"bridges": True, "internal": internal, "closed": not metadata, "same": icc}
    marks |= {"subnets": masquerade, "subnets6": masquerade}
    return "".join(
        f"add element inet {table} {name} {{ {what} }}\n"
        for name, what in _places(interface, subnet, subnet6)
        if marks.get(name, True)
    )


def forget(table: str, interface: str, subnet: str, subnet6: str = "") -> str:
    """One bridge out of the table. Each element is added first: deleting one that is not there would be an error."""
    return "".join(
        f"{word} element inet {table} {name} {{ {what} }}\n"
        for name, what in _places(interface, subnet, subnet6)
        for word in ("add", "delete")
    )


def _places(interface: str, subnet: str, subnet6: str) -> Iterable[tuple[str, str]]:
    """(set, element) of a bridge."""
    yield "bridges", f'"{interface}"'
    yield "internal", f'"{interface}"'
    yield "closed", f'"{interface}"'
    yield "same", f'"{interface}" . "{interface}"'
    yield "subnets", subnet
    yield "homes", f'{subnet} . "{interface}"'
    if subnet6:
        yield "subnets6", subnet6
        yield "homes6", f'{subnet6} . "{interface}"'


def publish(table: str, ip: str, ports: Iterable[Binding], ip6: str = "") -> str:
    """The published ports of a container, as map elements."""
    return "".join(
        f"add element inet {table} {name} {{ {key} : {to} . {port.container_port} }}\n"
        for port in ports
        for name, key, to in _entries(port, ip, ip6)
    )


def loopback6(table: str, refused: bool) -> str:
    """Whether connections to [::1] are left alone, as their answers could not be received."""
    words = ("add",) if refused else ("add", "delete")
    return "".join(f"{word} element inet {table} refused {{ ::1 }}\n" for word in words)


def unpublish(table: str, ip: str, ports: Iterable[Binding], ip6: str = "") -> str:
    """The inverse of publish; right also where they are not there."""
    return "".join(
        f"{word} element inet {table} {name} {{ {key} : {to} . {port.container_port} }}\n"
        for port in ports
        for name, key, to in _entries(port, ip, ip6)
        for word in ("add", "delete")
    )


def withdraw(table: str, port: Binding, four: bool = True, six: bool = False) -> list[str]:
    """One published port out of the maps of IPv4 and of IPv6, whomever it leads to: a command for each map, refused
    where it is not there."""
    entries = _entries(port, "any" * four, "any" * six)
    return [f"delete element inet {table} {name} {{ {key} }}\n" for name, key, _ in entries]


def _entries(port: Binding, ip: str, ip6: str) -> Iterable[tuple[str, str, str]]:
    """(map, key, address that it leads to) of a published port, in each family in which it is one."""
    at, number = port.host_ip, f"{port.protocol} . {port.host_port}"
    if ip and at in ("", "0.0.0.0"):
        yield "ports", number, ip
    elif ip and ":" not in at:
        yield "ports_at", f"{port.protocol} . {at} . {port.host_port}", ip
    if ip6 and at in ("", "::"):
        yield "ports6", number, ip6
    elif ip6 and ":" in at:
        yield "ports6_at", f"{port.protocol} . {at} . {port.host_port}", ip6
