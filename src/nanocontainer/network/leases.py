"""Addresses and ports: claims (paths.py) of the container's id on names that say which."""

from __future__ import annotations

from ..errors import Conflict, InvalidInput
from ..paths import Paths, claim, claims, owner_of
from .addresses import number_of, subnet_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Network


def claim_address(
    directory: str, network: Network, owner: str, alive: Callable[[str], bool], wanted: str = "", names: str = ""
) -> str:
    """An address of the network for owner, e.g. "172.30.0.2": the wanted one, or the lowest free after the gateway.

    directory: the network's leases. names: the directory of container names, to say who has a wanted address.
    Conflict where it is taken or none is free; InvalidInput where it cannot be given.
    """
    subnet, gateway = subnet_of(network.subnet), number_of(network.gateway)
    if wanted:
        number = number_of(wanted)
        if number not in subnet:
            raise InvalidInput(f"cannot give address {wanted}", f"it is not in {subnet}, the subnet of {network.name}")
        if number in (gateway, subnet.first, subnet.last):
            raise InvalidInput(f"cannot give address {wanted}", "it is the gateway's, or the subnet's first or last")
        holder = claim(f"{directory}/{wanted}", owner, alive)
        if holder:
            raise Conflict(f"address {wanted} is in use", f"container {name_of(names, holder)} has it")
        return wanted
    taken = set(claims(directory))
    for first, last in ((gateway + 1, subnet.last), (subnet.first + 1, gateway)):
        for number in range(first, last):
            address = text_of(number)
            if address not in taken and not claim(f"{directory}/{address}", owner, alive):
                return address
    for address in taken:  # all taken: perhaps by containers that are no more
        if not claim(f"{directory}/{address}", owner, alive):
            return address
    raise Conflict(
        f"network {network.name} has no free address", f"all of {subnet} are in use", "remove containers of it"
    )  # fmt: skip


def ports_directory(paths: Paths) -> str:
    """Claims of the host's ports: one directory for all networks, for the host has each port once."""
    return f"{paths.state}/ports"


def port_name(protocol: str, address: str, port: int) -> str:
    """The name of a port's claim: "tcp-any-8080", "udp-127.0.0.1-53"."""
    return f"{protocol}-{address or 'any'}-{port}"


def port_owner(directory: str, protocol: str, port: int, *, besides: str = "") -> str:
    """The id of a container that has this port of any host address; empty where none of ours has."""
    for name in claims(directory):
        if name.startswith(f"{protocol}-") and name.endswith(f"-{port}"):
            holder = owner_of(f"{directory}/{name}")
            if holder and holder != besides:
                return holder
    return ""


def name_of(names: str, id: str) -> str:
    """A container's name for an error message: looked for in the directory of names, else its short id."""
    for name in claims(names) if names else ():
        if owner_of(f"{names}/{name}") == id:
            return name
    return id[:12]
