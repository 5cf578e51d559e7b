"""Our nftables rules as text: one table, in family inet, and never a word about anybody else's (nft(8)).

    guard        raw        what comes in from a bridge of ours and speaks of 127.0.0.0/8 is dropped
    prerouting   dstnat     a published port of a host address → the container   (from other machines and containers)
    output       dstnat     the same for the host's own connections, 127.0.0.1 included
    forward      filter     to a bridge of ours: answers, its own containers, published ports; nothing else
    postrouting  srcnat     who leaves a subnet of ours takes the host's address; so do 127.0.0.1 and hairpins

The rules speak of sets and maps only. A bridge is an element of some sets; a published port is an element of a map: no
rule is ever added for a container, and looking one up costs the same for one port and for a thousand.

Limits, by nature of nftables: a packet must be accepted by all tables, so where another firewall's forward chain drops
what it does not know (policy drop), it must be told of our bridges; we can't and don't override it. Where `ip_forward`
was off, EnsureBridge turns it on and leaves it on. IPv6 is not published: a connection to [::1] is refused, and clients
go on to 127.0.0.1.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .allot import Binding


def base(table: str, interface: str, subnet: str, internal: bool = False) -> str:
    """The table with one bridge in it. May be run at any time, also when all of it is there: chains are refilled in the
    same transaction, sets and maps keep what they have."""
    t = f"inet {table}"
    marks = f'add element {t} internal {{ "{interface}" }}\n' if internal else ""
    return f"""\
add table {t}
add set {t} bridges {{ type ifname; }}
add set {t} internal {{ type ifname; }}
add set {t} same {{ type ifname . ifname; }}
add set {t} subnets {{ type ipv4_addr; flags interval; }}
add set {t} homes {{ type ipv4_addr . ifname; flags interval; }}
add map {t} ports {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add map {t} ports_at {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
add chain {t} published
add chain {t} guard {{ type filter hook prerouting priority -300; policy accept; }}
add chain {t} prerouting {{ type nat hook prerouting priority -100; policy accept; }}
add chain {t} output {{ type nat hook output priority -100; policy accept; }}
add chain {t} forward {{ type filter hook forward priority 0; policy accept; }}
add chain {t} postrouting {{ type nat hook postrouting priority 100; policy accept; }}
flush table {t}
add rule {t} published dnat ip to meta l4proto . ip daddr . th dport map @ports_at
add rule {t} published dnat ip to meta l4proto . th dport map @ports
add rule {t} guard iifname @bridges ip daddr 127.0.0.0/8 drop
add rule {t} guard iifname @bridges ip saddr 127.0.0.0/8 drop
add rule {t} prerouting fib daddr type local jump published
add rule {t} output fib daddr type local jump published
add rule {t} forward ct state established,related accept
add rule {t} forward iifname . oifname @same accept
add rule {t} forward iifname @internal drop
add rule {t} forward oifname @internal drop
add rule {t} forward oifname @bridges ct status dnat accept
add rule {t} forward oifname @bridges drop
add rule {t} postrouting ip saddr . oifname @homes ct status dnat masquerade
add rule {t} postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade
add rule {t} postrouting oifname != @bridges ip saddr @subnets masquerade
add element {t} bridges {{ "{interface}" }}
add element {t} same {{ "{interface}" . "{interface}" }}
add element {t} subnets {{ {subnet} }}
add element {t} homes {{ {subnet} . "{interface}" }}
{marks}"""


def forget(table: str, interface: str, subnet: str) -> str:
    """One bridge out of the table. Each element is added first: deleting one that is not there would be an error."""
    t = f"inet {table}"
    elements = (
        ("bridges", f'"{interface}"'),
        ("internal", f'"{interface}"'),
        ("same", f'"{interface}" . "{interface}"'),
        ("subnets", subnet),
        ("homes", f'{subnet} . "{interface}"'),
    )
    commands = ("add", "delete")
    return "".join(f"{word} element {t} {name} {{ {what} }}\n" for name, what in elements for word in commands)


def publish(table: str, ip: str, ports: Iterable[Binding]) -> str:
    """The published ports of a container, as map elements."""
    return "".join(f"add element inet {table} {line}\n" for line in _elements(ip, ports))


def unpublish(table: str, ip: str, ports: Iterable[Binding]) -> str:
    """The inverse of publish; right also where they are not there."""
    lines = list(_elements(ip, ports))
    return "".join(f"add element inet {table} {line}\ndelete element inet {table} {line}\n" for line in lines)


def withdraw(table: str, port: Binding) -> str:
    """One published port out of the map, whomever it leads to; refused where it is not there."""
    name, at = ("ports_at", f" . {port.host_ip}") if port.host_ip else ("ports", "")
    return f"delete element inet {table} {name} {{ {port.protocol}{at} . {port.host_port} }}\n"


def _elements(ip: str, ports: Iterable[Binding]) -> Iterable[str]:
    for port in ports:
        name, at = ("ports_at", f" . {port.host_ip}") if port.host_ip else ("ports", "")
        yield f"{name} {{ {port.protocol}{at} . {port.host_port} : {ip} . {port.container_port} }}"
