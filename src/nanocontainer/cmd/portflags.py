"""Readers of -p and --expose: [[IP:]HOST:]CONTAINER[/PROTOCOL], with ranges on both sides, as docker reads them."""

from __future__ import annotations

from ..container.spec import Port
from ..errors import InvalidInput, Unsupported
from ..lean import sockets

PROTOCOLS = ("tcp", "udp", "sctp")


def publish(items: list[str]) -> tuple[Port, ...]:
    """The ports of all -p flags. InvalidInput also where two ask for the same port of the host."""
    ports: list[Port] = []
    taken: set[tuple[str, int, str]] = set()
    for item in items:
        for port in _published(item):
            claim = (port.host_ip, port.host_port, port.protocol)
            if port.host_port and claim in taken:
                raise InvalidInput(
                    f"invalid --publish {item!r}", f"port {port.host_port}/{port.protocol} is given twice"
                )
            taken.add(claim)
            ports.append(port)
    return tuple(ports)


def expose(items: list[str]) -> tuple[str, ...]:
    """ "80/tcp" words of all --expose flags."""
    words: dict[str, None] = {}
    for item in items:
        text, protocol = _protocol("expose", item)
        first, last = _range("expose", item, text)
        for number in range(first, last + 1):
            words[f"{number}/{protocol}"] = None
    return tuple(words)


def is_address(text: str) -> bool:
    """Whether text is an IPv4 address of four numbers, or an IPv6 address."""
    try:
        sockets.inet_pton(sockets.AF_INET6 if ":" in text else sockets.AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def _published(item: str) -> list[Port]:
    text, protocol = _protocol("publish", item)
    host, _, container = text.rpartition(":")
    address, _, host = host.rpartition(":")
    if address[:1] == "[" and address[-1:] == "]":
        address = address[1:-1]
    elif ":" in address:
        raise InvalidInput(f"invalid --publish {item!r}", "an IPv6 address stands in brackets: [::1]:8080:80")
    if address and not is_address(address):
        raise InvalidInput(f"invalid --publish {item!r}", f"{address!r} is not an IP address")
    first, last = _range("publish", item, container)
    if not host:
        return [Port(number, 0, address, protocol) for number in range(first, last + 1)]
    host_first, host_last = _range("publish", item, host, least=0)
    if host_last - host_first != last - first:
        if first == last:
            raise Unsupported(
                f"--publish {item}: a port out of a range is not supported yet", "", "name one port, or none"
            )
        raise InvalidInput(f"invalid --publish {item!r}", "the two ranges have different lengths")
    return [Port(first + n, host_first + n, address, protocol) for n in range(last - first + 1)]


def _protocol(flag: str, item: str) -> tuple[str, str]:
    text, slash, protocol = item.partition("/")
    if slash and protocol.lower() not in PROTOCOLS:
        raise InvalidInput(f"invalid --{flag} {item!r}", f"{protocol!r} is not tcp, udp or sctp")
    return text, protocol.lower() or "tcp"


def _range(flag: str, item: str, text: str, least: int = 1) -> tuple[int, int]:
    """First and last of "80" or "80-90"."""
    first, dash, last = text.partition("-")
    numbers = []
    for part in (first, last) if dash else (first, first):
        if not (part.isascii() and part.isdigit() and len(part) <= 5 and least <= int(part) <= 65535):
            raise InvalidInput(
                f"invalid --{flag} {item!r}", f"{part!r} is not a port number" if part else "a port is missing"
            )
        numbers.append(int(part))
    if numbers[0] > numbers[1]:
        raise InvalidInput(f"invalid --{flag} {item!r}", f"the range {text!r} runs backwards")
    return numbers[0], numbers[1]
