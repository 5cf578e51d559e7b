"""Readers of the flags that say on which networks a container is: --network, more than once and in its long form.

    --network web                                    the short form: none, host, container:NAME, or a network
    --network name=web,alias=db,ip=10.1.0.5,...      docker's long form, for what belongs to this network alone
    --ip, --ip6, --mac-address, --network-alias, --link-local-ip     belong to the first network

The first --network may be a mode, and then it is the only one.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..network.leases import Attachment
from .flags import read_int
from .portflags import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .flags import Given

_FORM = "write NAME, or name=NETWORK,alias=NAME,ip=ADDRESS,ip6=ADDRESS,mac-address=MAC,gw-priority=NUMBER"
_IFNAME = "com.docker.network.endpoint.ifname"
# Of the first network: the flag, its field, whether it can be repeated
_FIRST = (
    ("ip", "ip", False),
    ("ip6", "ip6", False),
    ("mac-address", "mac", False),
    ("network-alias", "aliases", True),
    ("link-local-ip", "link_local", True),
)


def networks(given: Given) -> dict[str, Any]:
    """The fields `network` and `networks` of a specification. InvalidInput."""
    items = given["network"] or ["bridge"]
    found = [_attachment(item) for item in items]
    modes = [each.network for each in found if each.network in ("none", "host") or ":" in each.network]
    if modes and len(found) > 1:
        raise InvalidInput(f"--network {modes[0]} cannot be used with another --network", f"{modes[0]} stands alone")
    first = found[0]
    if modes and first != Attachment(first.network):
        raise InvalidInput(f"invalid --network {items[0]!r}", f"options belong to a network, and {modes[0]} is none")
    wishes: dict[str, Any] = {}
    for flag, field, many in _FIRST:
        if flag not in given:
            continue
        if getattr(first, field):
            raise InvalidInput(f"--{flag} cannot be used with the same option of --network", "say it once")
        value = given[flag]
        wishes[field] = tuple(_checked(flag, each) for each in value) if many else _checked(flag, value)
        if modes:
            raise InvalidInput(f"--{flag} cannot be used with --network {modes[0]}", "it belongs to a network")
    names = [each.network for each in found]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"--network {name} is given twice", "a container is on a network once")
    if modes:
        return {"network": modes[0]}
    return {"network": first.network, "networks": (first.replace(**wishes), *found[1:])}


def _attachment(item: str) -> Attachment:
    """One --network. Which words it may have beside a mode is looked at later."""
    if "=" not in item:
        return Attachment(_name(item, item))
    fields: dict[str, Any] = {"aliases": (), "link_local": ()}
    for part in item.split(","):
        key, equals, value = part.partition("=")
        key = key.strip().lower()
        if not equals or not value:
            raise InvalidInput(f"invalid --network {item!r}", f"{part!r} is not of the form NAME=value", _FORM)
        if key == "name":
            fields["network"] = _name(value, item)
        elif key in ("ip", "ip6", "mac-address"):
            fields["mac" if key == "mac-address" else key] = _checked(key, value)
        elif key == "alias":
            fields["aliases"] += (_checked("network-alias", value),)
        elif key == "link-local-ip":
            fields["link_local"] += (_checked(key, value),)
        elif key == "gw-priority":
            try:
                fields["priority"] = read_int(value)
            except ValueError as error:
                raise InvalidInput(f"invalid --network {item!r}", f"gw-priority {error}") from None
        elif key == "interface-name":
            fields["interface"] = value
        elif key == "driver-opt":
            option, _, value = value.partition("=")
            if option != _IFNAME or not value:
                raise InvalidInput(f"invalid --network {item!r}", f"the one option there is: driver-opt={_IFNAME}=NAME")
            fields["interface"] = value
        else:
            raise InvalidInput(f"invalid --network {item!r}", f"there is no option {key!r}", _FORM)
    if "network" not in fields:
        raise InvalidInput(f"invalid --network {item!r}", "it does not name a network", _FORM)
    return Attachment(**fields)


def _name(value: str, item: str) -> str:
    if not value:
        raise InvalidInput(f"invalid --network {item!r}", "an empty name")
    return "bridge" if value == "default" else value


def _checked(flag: str, value: str) -> str:
    if flag == "mac-address":
        from .options import mac_address

        return mac_address(flag, value)
    if flag == "network-alias":
        if not value or len(value) > 253 or any(c.isspace() or c in ",\0" or not c.isprintable() for c in value):
            raise InvalidInput("invalid network alias", f"{value!r} is no name")
        return value
    six = ":" in value
    if not is_address(value) or (flag == "ip" and six) or (flag == "ip6" and not six):
        kind = {"ip": "an IPv4", "ip6": "an IPv6"}.get(flag, "an IP")
        raise InvalidInput(f"invalid --{flag}", f"{value!r} is not {kind} address")
    return value
