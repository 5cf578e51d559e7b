"""doctor: whether containers hear names. Looked for is what they would notice: a resolver that is not there, or does
not answer; questions that a firewall of the host drops on their way to it; and names of containers that do not run.

A packet must be accepted by every table of the firewall (nft(8)): a rule of ours cannot let in what a rule of another
program drops. So a container's way to the resolver is tried out, as it would: with a question, from its own network.
"""

from __future__ import annotations

import os
from functools import partial

from ..errors import NanoError
from ..lean import sockets
from ..network import resolver_call
from ..network.allot import linger
from ..network.leases import DEFAULT
from ..network.registration import names_directory
from ..paths import claims, is_id
from .leftover import Found, Leftover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lifecycle import Lifecycle
    from .spec import EndpointState

_PATIENCE = 0.5  # seconds that a question may take on its way through this host
_OLD = 60.0


def names(life: Lifecycle) -> Iterator[Found]:
    """Names of nobody, and what is wrong with the resolver."""
    asking: dict[str, tuple[int, EndpointState]] = {}  # network → a container on it that asks the resolver
    known = 0
    for network in claims(life.paths.networks):
        directory = names_directory(life.paths, network)
        for id in claims(directory) if os.path.isdir(directory) else ():
            if not is_id(id):
                continue
            known += 1
            if not life.running(id):
                detail = f"names of container {id[:12]}, which does not run"
                path = f"{directory}/{id}"
                yield Found(Leftover("stale-names", path, detail, "removed"), partial(_forget, life, path))
            elif network not in asking and network != DEFAULT:
                place = _place(life, id, network)
                if place:
                    asking[network] = place
    yield from _resolver(life, known, asking)


def _forget(life: Lifecycle, path: str) -> None:
    os.unlink(path)
    resolver_call.tell(life.paths)


def _place(life: Lifecycle, id: str, network: str) -> tuple[int, EndpointState] | None:
    """The first process of a running container, and its place on the network."""
    try:
        state = life.store.state(id)
    except NanoError:
        return None
    return next(((state.pid, each) for each in state.endpoints if each.network == network and state.pid), None)


def _resolver(life: Lifecycle, known: int, asking: dict[str, tuple[int, EndpointState]]) -> Iterator[Found]:
    paths = life.paths
    if not resolver_call.runs(paths):
        if asking:
            detail = "containers that run have nobody to ask for names: it was killed"
            yield Found(Leftover("no-resolver", "nanoc:dns", detail, "started again"), partial(_revive, life))
        return
    try:
        trouble = resolver_call.trouble(paths)
    except NanoError as error:
        yield Found(Leftover("silent-resolver", "nanoc:dns", f"{error.what}: {error.why}", hint=error.hint))
        return
    if trouble:
        hint = "this is a bug: please report it"
        yield Found(Leftover("sick-resolver", "nanoc:dns", f"it had to give up on something: {trouble}", hint=hint))
    if not known and linger() >= 0 and _age(resolver_call.lock_path(paths)) > _OLD:
        detail = "it answers, and no container has names that it could tell"
        yield Found(Leftover("idle-resolver", "nanoc:dns", detail, hint="kill it: it is started when it is needed"))
    for network, (pid, endpoint) in asking.items():
        for gateway in filter(None, (endpoint.gateway, endpoint.gateway6)):
            if _is_deaf(life, pid, gateway):
                hint = f"let the bridge's containers ask: allow UDP and TCP port 53 to {gateway} in the host's firewall"
                detail = f"questions of its containers to {gateway} get lost: a firewall of this host drops them"
                yield Found(Leftover("blocked-resolver", f"network {network}", detail, hint=hint))


def _revive(life: Lifecycle) -> None:
    from ..network.resolver_steps import revive

    revive(life.paths, life.kernel, linger())


def _is_deaf(life: Lifecycle, pid: int, gateway: str) -> bool:
    """Whether a question from a process's network to its gateway gets no answer. It is one that is never asked on:
    "version.bind" of class CHAOS."""
    question = os.urandom(2) + b"\0\0\0\1\0\0\0\0\0\0\7version\4bind\0\0\x10\0\3"
    try:
        netns = life.kernel.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    except OSError:
        return False  # it has just ended
    try:
        with life.kernel.links(netns) as links:
            sock = links.socket(sockets.AF_INET6 if ":" in gateway else sockets.AF_INET, sockets.SOCK_DGRAM)
    finally:
        life.kernel.close(netns)
    try:
        sock.settimeout(_PATIENCE)
        sock.connect((gateway, 53))
        sock.send(question)
        return sock.recv(512)[:2] != question[:2]
    except TimeoutError:
        return True
    except OSError:
        return False  # refused: the resolver was just killed, which is seen elsewhere
    finally:
        sock.close()


def _age(path: str) -> float:
    import time

    try:
        return time.time() - os.stat(path).st_ctime
    except OSError:
        return 0.0
