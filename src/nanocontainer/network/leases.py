"""Claims: an address or a port of the host belongs to whom the symlink of its name points at.

symlink(2) makes a claim or says that there is one: no lock, 0.01 ms. Only taking away needs a lock (flock(2) on the
directory), because looking and unlinking are two calls: a stale claim, whose owner is no more, and one's own. A stale
claim is only removed; who gets it then is again decided by symlink(2).
"""

from __future__ import annotations

import fcntl
import os

from ..errors import Conflict, InvalidInput
from ..paths import Paths, make_dirs
from .addresses import number_of, subnet_of, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Network


class Lock:
    """`with Lock(path)`: the file or directory locked (flock(2)); let go whatever happens to the process.

    The file is made if it is not there, its directory is not. Not to be held across user code or the network.
    """

    def __init__(self, path: str, *, shared: bool = False, directory: bool = False) -> None:
        self.path, self.shared = path, shared
        self.flags = os.O_RDONLY | (os.O_DIRECTORY if directory else os.O_CREAT) | os.O_CLOEXEC
        self.fd = -1

    def __enter__(self) -> Lock:
        fd = os.open(self.path, self.flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd
        return self

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)  # a child forked meanwhile has it open too
        os.close(self.fd)
        self.fd = -1


def owner_of(path: str) -> str:
    """Whom a claim points at; empty where there is no claim."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def claim(path: str, owner: str, alive: Callable[[str], bool]) -> str:
    """Claim path for owner. Empty when it is ours now (or was before), else the id of the living owner.

    alive: whether a container of that id still exists. The directory is made if it is not there.
    """
    while True:
        try:
            os.symlink(owner, path)
            return ""
        except FileExistsError:
            pass
        except FileNotFoundError:
            make_dirs(os.path.dirname(path))
            continue
        holder = owner_of(path)
        if holder == owner:
            return ""
        if holder and alive(holder):
            return holder
        if holder:
            _remove(path, holder)


def release(path: str, owner: str) -> bool:
    """Give a claim up, if it is owner's; whether it was. May be called twice."""
    return _remove(path, owner)


def _remove(path: str, holder: str) -> bool:
    """Remove a claim that points at holder; under the lock, so that nobody's newer claim is hit."""
    try:
        with Lock(os.path.dirname(path), directory=True):
            if owner_of(path) != holder:
                return False
            os.unlink(path)
            return True
    except FileNotFoundError:
        return False


def claims(directory: str) -> list[str]:
    """The names claimed in a directory."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


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
