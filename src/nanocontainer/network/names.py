"""/etc/hosts, /etc/resolv.conf and /etc/hostname of a container (hosts(5), resolv.conf(5), hostname(5)), as text.

The host's resolvers are only of use if the container can reach them. A resolver on a loopback address can't be reached
from another network namespace: systemd-resolved's stub (127.0.0.53) is replaced by the servers behind it, others are
left out, and where none is left public ones take their place, as docker does. With the host's network nothing changes.

On a network with names the container asks the resolver (resolver.py) on its gateway, and that asks others: the host's
own, wherever they listen, or those of --dns.
"""

from __future__ import annotations

import os

from ..errors import InvalidInput
from ..kernel.netlink import address_bytes
from ..paths import read_file
from .allot import named_endpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..container.spec import Spec
    from .allot import Allotment

PUBLIC = ("8.8.8.8", "8.8.4.4")
RESOLV = "/etc/resolv.conf"
BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
_STUBS = ("127.0.0.53", "127.0.0.54")
_LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def files(spec: Spec, allotment: Allotment, shared_with: str = "") -> dict[str, str]:
    """What is bound into the container's /etc: hostname, hosts, resolv.conf. Reads the host's own files.

    shared_with: the directory of the container whose network is shared. It asks whom that one asks, as docker's.
    """
    shared = allotment.mode == "host"
    gateways = [gateway for gateway in (allotment.gateway, allotment.gateway6) if gateway]
    extra = [line for text in spec.extra_hosts for line in extra_host(text, gateways)]
    hostname = spec.hostname or os.uname().nodename
    if shared:
        hosts = host_hosts(_read("/etc/hosts"), extra)
    else:
        hosts = container_hosts(hostname, spec.domainname, _addresses(allotment), extra)
    text = _read(RESOLV)
    if not shared and set(nameservers(text)) & set(_STUBS):
        text = _read(BEHIND_STUB) or text
    if shared_with and not spec.dns and not spec.dns_search and not spec.dns_options:
        resolv = _read(f"{shared_with}/resolv.conf")
    elif named := named_endpoints(allotment, spec.allow_out):
        resolv = of_resolver(text, named[0].network.gateway, spec.dns, spec.dns_search, spec.dns_options)
    else:
        resolv = resolv_conf(
            text, servers=spec.dns, search=spec.dns_search, options=spec.dns_options, shared=shared,
            ipv6=any(endpoint.ip6 for endpoint in allotment.endpoints),
        )  # fmt: skip
    return {"hostname": f"{hostname}\n", "hosts": hosts, "resolv.conf": resolv}


def _addresses(allotment: Allotment) -> list[str]:
    """Of all networks, both families."""
    if not allotment.endpoints:
        return [allotment.address] if allotment.address else []
    return [address for each in allotment.endpoints for address in (each.ip, each.ip6) if address]


def container_hosts(
    hostname: str, domainname: str, addresses: Iterable[str], extra: Iterable[tuple[str, str]] = ()
) -> str:
    """/etc/hosts of a container. Without an address its own name is 127.0.1.1, as Debian has it."""
    lines = [f"{address}\t{name}\n" for name, address in extra]
    named = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    lines += [f"{address}\t{named}\n" for address in tuple(addresses) or ("127.0.1.1",)]
    return f"{_LOCALHOST}{''.join(lines)}"


def host_hosts(text: str, extra: Iterable[tuple[str, str]] = ()) -> str:
    """/etc/hosts of a container in the host's network: the host's, and what was added."""
    lines = [f"{address}\t{name}\n" for name, address in extra]
    return (text if not text or text.endswith("\n") else f"{text}\n") + "".join(lines)


def extra_host(text: str, gateways: Iterable[str] = ()) -> list[tuple[str, str]]:
    """An --add-host as (name, address): NAME:ADDRESS or NAME=ADDRESS; "host-gateway" stands for the host as the
    container reaches it: the gateway's addresses, or 127.0.0.1 in the host's own network. InvalidInput."""
    at = min((place for place in (text.find(":"), text.find("=")) if place > 0), default=-1)
    name, address = (text[:at], text[at + 1 :].removeprefix("[").removesuffix("]")) if at > 0 else (text, "")
    if not address or any(letter.isspace() for letter in name):
        raise InvalidInput(f"invalid --add-host {text!r}", "it must look like NAME:ADDRESS")
    if address == "host-gateway":
        return [(name, gateway) for gateway in tuple(gateways) or ("127.0.0.1",)]
    return [(name, _address(address, "--add-host"))]


def nameservers(text: str) -> list[str]:
    """The resolvers that a resolv.conf names."""
    return [words[1] for words in _directives(text) if words[0] == "nameserver" and len(words) > 1]


def resolv_conf(
    text: str,
    *,
    servers: Iterable[str] = (),
    search: Iterable[str] = (),
    options: Iterable[str] = (),
    shared: bool = False,
    ipv6: bool = False,
) -> str:
    """A container's resolv.conf, from the host's and what was asked for with --dns, --dns-search and --dns-option.

    shared: the container is in the host's network, so the host's resolvers are right as they are. A search of "." is no
    search at all. ipv6: the container has an address to ask IPv6 resolvers from; link-local ones are left out, as they
    are on a link that the container is not on.
    """
    servers, search, options = tuple(servers), tuple(search), tuple(options)
    if shared and not servers and not search and not options:
        return text
    used = [_address(server, "--dns") for server in servers]
    if not used:
        used = [server for server in nameservers(text) if shared or _usable(server, ipv6)]
        used = used or ([] if shared else list(PUBLIC))
    if not options:
        options = _options(text)
    return _written(used, _search(text, search), options)


def of_resolver(
    text: str, gateway: str, servers: Iterable[str], search: Iterable[str] = (), options: Iterable[str] = ()
) -> str:
    """The resolv.conf of a container that asks our resolver; the arguments are as of resolv_conf.

    ndots:0, unless another one is asked for: a name without a dot is a container's, so it is asked for as it is before
    domains of the search list are tried behind it.
    """
    servers, options = tuple(_address(server, "--dns") for server in servers), tuple(options) or _options(text)
    if not any(word.startswith("ndots:") for word in options):
        options = (*options, "ndots:0")
    said = f"# The network's resolver. It asks {', '.join(servers)} for names of the world outside\n" if servers else ""
    return said + _written([gateway], _search(text, tuple(search)), options)


def _search(text: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The search list that is asked for, or the host's: of several lines the last one counts (resolv.conf(5))."""
    if asked:
        return asked
    found = [words[1:] for words in _directives(text) if words[0] in ("search", "domain")]
    return tuple(found[-1]) if found else ()


def _options(text: str) -> tuple[str, ...]:
    return tuple(word for words in _directives(text) if words[0] == "options" for word in words[1:])


def _written(servers: Iterable[str], search: tuple[str, ...], options: tuple[str, ...]) -> str:
    for word in (*search, *options):
        if not word or any(letter.isspace() for letter in word):
            raise InvalidInput(f"invalid DNS search domain or option {word!r}", "it is one word")
    lines = [f"nameserver {server}" for server in servers]
    if wanted := [domain for domain in search if domain != "."]:
        lines.append(f"search {' '.join(wanted)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "".join(f"{line}\n" for line in lines)


def _directives(text: str) -> list[list[str]]:
    lines = [line.split() for line in text.splitlines() if not line.startswith(("#", ";"))]
    return [words for words in lines if words]


def _usable(server: str, ipv6: bool) -> bool:
    if ":" in server:
        return ipv6 and "%" not in server and not server.lower().startswith("fe80:") and server not in ("::1", "::")
    return not server.startswith("127.") and server != "0.0.0.0"


def _address(text: str, option: str) -> str:
    try:
        address_bytes(text)
    except (OSError, ValueError):
        raise InvalidInput(f"invalid {option} address {text!r}", "it must be an IPv4 or IPv6 address") from None
    return text


def _read(path: str) -> str:
    """A file of the host that need not be there."""
    try:
        return read_file(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""
