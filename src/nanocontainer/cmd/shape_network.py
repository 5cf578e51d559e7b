"""Networks, and a container's places on them, in the shape of docker's JSON (its API: GET /networks/ID, and
NetworkSettings of GET /containers/ID/json)."""

from __future__ import annotations

from .template import FreeMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..container.networks import NetworkView
    from ..container.spec import Container, EndpointState, Spec
    from ..network.leases import Attachment
    from ..network.model import Network
    from ..paths import Paths


def network(view: NetworkView) -> dict[str, Any]:
    """A network, and the running containers on it."""
    found = view.network
    aux: dict[bool, dict[str, str]] = {False: {}, True: {}}
    for name, address in found.aux.items():
        aux[":" in address][name] = address
    four, six = (found.subnet, found.ip_range, found.gateway), (found.subnet6, found.ip_range6, found.gateway6)
    return {
        "Name": found.name,
        "Id": found.id,
        "Created": found.created,
        "Scope": "local",
        "Driver": found.driver,
        "EnableIPv4": True,
        "EnableIPv6": bool(found.subnet6),
        "IPAM": {
            "Driver": "default",
            "Options": FreeMap({}),
            "Config": [_ipam(*part, aux[part is six]) for part in (four, six) if part[0]],
        },
        "Internal": found.internal,
        "Attachable": found.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": FreeMap(
            {id: _member(found, id, name, endpoint) for id, name, endpoint in view.endpoints}
        ),
        "Options": FreeMap(_options(found)),
        "Labels": FreeMap(found.labels),
    }


def _options(found: Network) -> dict[str, str]:
    """Those that were given, and what the bridge is called, which docker says of its default network only."""
    return {"com.docker.network.bridge.name": found.interface, **found.options} if found.interface else {}


def _ipam(subnet: str, part: str, gateway: str, aux: dict[str, str]) -> dict[str, Any]:
    return {
        "Subnet": subnet,
        **({"IPRange": part} if part else {}),
        "Gateway": gateway,
        **({"AuxiliaryAddresses": FreeMap(aux)} if aux else {}),
    }


def _member(found: Network, id: str, name: str, endpoint: EndpointState) -> dict[str, str]:
    return {
        "Name": name,
        "EndpointID": endpoint_id(found.id, id),
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.ip}/{endpoint.prefix}" if endpoint.ip else "",
        "IPv6Address": f"{endpoint.ip6}/{endpoint.prefix6}" if endpoint.ip6 else "",
    }


def endpoint_id(network: str, container: str) -> str:
    """64 hex digits for a container's place on a network: docker numbers them, to us the two ids say all."""
    from hashlib import sha256

    return sha256(f"{network} {container}".encode()).hexdigest()


def settings(found: Container, paths: Paths, ports: FreeMap) -> dict[str, Any]:
    """NetworkSettings of a container. ports: as they are bound."""
    spec, state = found.spec, found.state
    places = {endpoint.network: endpoint for endpoint in state.endpoints}
    if state.ip and not places and not spec.network.startswith("container:"):
        places = _of_old(found, paths)
    names = tuple(each.network for each in spec.networks) or (() if spec.unplugged else (spec.network,))
    wishes = {each.network: each for each in spec.networks}
    shown = {} if spec.network.startswith("container:") else {
        name: _endpoint(spec, wishes.get(name), places.get(name)) for name in dict.fromkeys((*names, *places))
    }  # fmt: skip
    first = next(iter(shown.values()), {})
    same = (
        "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway",
        "MacAddress",
    )  # fmt: skip
    return {
        "Bridge": "",
        "SandboxID": found.id if state.pid else "",
        "SandboxKey": f"/proc/{state.pid}/ns/net" if state.pid else "",
        "Ports": ports,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: first.get(name, 0 if name.endswith("Len") else "") for name in same},
        **({"IPAddress": state.ip} if state.ip else {}),
        "Networks": FreeMap(shown),
    }


def _endpoint(spec: Spec, wish: Attachment | None, place: EndpointState | None) -> dict[str, Any]:
    """One of Networks; without a place the container does not run."""
    wanted = {}
    if wish:
        wanted = {
            **({"IPv4Address": wish.ip} if wish.ip else {}),
            **({"IPv6Address": wish.ip6} if wish.ip6 else {}),
            **({"LinkLocalIPs": list(wish.link_local)} if wish.link_local else {}),
        }
    aliases = wish.aliases if wish else place.aliases if place else ()
    named = (spec.name, *aliases, spec.id[:12], spec.hostname)
    return {
        "IPAMConfig": wanted or None,
        "Links": None,
        "Aliases": list(aliases) or None,
        "DriverOpts": None,
        "GwPriority": wish.priority if wish else 0,
        "NetworkID": place.id if place else "",
        "EndpointID": endpoint_id(place.id, spec.id) if place else "",
        "Gateway": place.gateway if place else "",
        "IPAddress": place.ip if place else "",
        "IPPrefixLen": place.prefix if place else 0,
        "IPv6Gateway": place.gateway6 if place else "",
        "GlobalIPv6Address": place.ip6 if place else "",
        "GlobalIPv6PrefixLen": place.prefix6 if place else 0,
        "MacAddress": place.mac if place else wish.mac if wish else "",
        "DNSNames": [name for name in dict.fromkeys(named) if name] if place and place.network != "bridge" else None,
    }


def _of_old(found: Container, paths: Paths) -> dict[str, EndpointState]:
    """The place of a container that an older version started, which knew of one network."""
    from ..container.spec import EndpointState
    from ..network.model import NetworkStore

    spec, state = found.spec, found.state
    place = EndpointState(spec.network, "", "eth0", "", state.mac, state.ip)
    for network in NetworkStore(paths).all():
        if network.name == spec.network:
            place = place.replace(id=network.id, prefix=network.prefix, gateway=network.gateway)
    return {spec.network: place}
