"""Networks as people handle them: created, listed with who is on them, removed, pruned. How they are kept and checked
is in network/making.py; who lives is asked here.

A network is in use while a running container has an address on it. `prune` is more careful than that, and lets stand
what any container names, so that a stopped one can be started again.
"""

from __future__ import annotations

import time

from ..clock import parse_time, rfc3339
from ..errors import NanoError, NotFound, reason
from ..network import making
from ..network.allot import attachments
from ..network.model import DEFAULT, Network, NetworkStore, lock_path
from ..network.plan import ensure_bridge
from ..paths import FileLock, make_dirs
from ..plan.execute import Execution
from ..plan.explanation import NOTES, Explanation, act, explain
from ..plan.plan import Plan
from ..plan.rehearsal import Rehearsal
from ..plan.step import World
from ..record import Record
from .events import emit
from .spec import EndpointState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..network.making import Wish
    from .lifecycle import Lifecycle
    from .spec import Container

# What docker lists beside its bridges: modes of --network that are no networks here, but have a name that is understood
MODES = {"host": "host", "none": "null"}


class NetworkView(Record):
    """A network, and who is on it: container id → (its name, its endpoint)."""

    network: Network
    endpoints: tuple[tuple[str, str, EndpointState], ...] = ()  # container's id, its name, its place


def create(life: Lifecycle, wish: Wish) -> Network:
    """Make a network; see network/making.py."""
    paths = life.paths
    make_dirs(paths.networks)
    with FileLock(lock_path(paths)):
        making.sweep(paths)
        store = NetworkStore(paths, life.kernel)
        network = making.draft(store, wish)
        step = making.make_network(store, network)
        try:
            Execution(Plan((step,)).validate(), World(life.kernel)).run()
        except BaseException:
            step.undo(World(life.kernel))
            raise
    emit(paths, "network", "create", network.id, name=network.name, type=network.driver)
    return network


def find(life: Lifecycle, ref: str) -> Network:
    """A network by name, id or a beginning of its id; host and none too, which are none of ours. NotFound."""
    for network in _modes(life):
        if ref == network.name or (len(ref) > 3 and network.id.startswith(ref)):
            return network
    return NetworkStore(life.paths, life.kernel).find(ref)


def networks(life: Lifecycle) -> list[Network]:
    """All networks, and what docker lists beside them: host and none. By name."""
    store = NetworkStore(life.paths, life.kernel)
    default = store.find(DEFAULT)
    return sorted([default, *(one for one in store.all() if one.name != DEFAULT), *_modes(life)], key=lambda n: n.name)


def _modes(life: Lifecycle) -> list[Network]:
    from hashlib import sha256

    return [
        Network(name, sha256(f"{life.paths.state}:{name}".encode()).hexdigest(), "", "", "", driver)
        for name, driver in MODES.items()
    ]


def view(life: Lifecycle, ref: str) -> NetworkView:
    """A network with the running containers on it, by their names."""
    network = find(life, ref)
    found = []
    for container in life.containers():
        if container.state.status not in ("running", "paused"):
            continue
        if network.name in MODES and container.spec.network == network.name:
            found.append((container.id, container.name, EndpointState(network.name, network.id, "", "", "")))
        found += [(container.id, container.name, each) for each in endpoints(container) if each.network == network.name]
    return NetworkView(network, tuple(sorted(found, key=lambda one: one[1])))


def endpoints(container: Container) -> tuple[EndpointState, ...]:
    """Where a running container is."""
    return container.state.endpoints if container.state.status in ("running", "paused") else ()


def remove(life: Lifecycle, ref: str) -> Network:
    """Remove a network on which nobody is. NotFound, Conflict."""
    paths = life.paths
    network = find(life, ref)
    if network.name in MODES:
        raise making.kept(network.name)
    _settle_leases(life, network)
    with FileLock(lock_path(paths)):
        making.sweep(paths)
        try:
            making.remove(NetworkStore(paths, life.kernel), network, life.running, life.kernel)
        except OSError as error:
            what = f"cannot remove network {network.name}"
            if isinstance(error, FileNotFoundError):
                raise NotFound(what, "it has just been removed") from None
            raise NanoError(what, *reason(error)) from None
    emit(paths, "network", "destroy", network.id, name=network.name, type=network.driver)
    return network


def _settle_leases(life: Lifecycle, network: Network) -> None:
    """Sweep the containers of lost keepers that have an address: they leave what stands for them on the host."""
    store = NetworkStore(life.paths)
    for id in making.users(f"{store.directory(network)}/leases", lambda _: True):
        try:
            life.settle(id)
        except (NanoError, OSError):
            pass  # it is no more, or broken; what it had is no address any more


def prune(
    life: Lifecycle, *, until: str = "", labels: tuple[str, ...] = (), without: tuple[str, ...] = ()
) -> list[str]:
    """Remove all networks that no container names, made before a time, with (or without) labels; their names.

    until: RFC 3339, Unix seconds, or a duration back from now. labels: NAME or NAME=VALUE, all of them; without: none.
    """
    now = time.time_ns()
    before = rfc3339(parse_time(until, now)) if until else ""
    named = {
        each.network
        for container in life.containers()
        for each in (container.spec.networks or attachments(container.spec))
    }
    removed = []
    for network in NetworkStore(life.paths, life.kernel).all():
        if network.name == DEFAULT or network.name in named or network.id in named:
            continue
        if (before and network.created >= before) or not all(_has(network, label) for label in labels):
            continue
        if any(_has(network, label) for label in without):
            continue
        try:
            removed.append(remove(life, network.name).name)
        except NanoError:
            pass  # somebody is on it since a moment ago, or has removed it
    return removed


def _has(network: Network, label: str) -> bool:
    name, equals, value = label.partition("=")
    return name in network.labels and (not equals or network.labels[name] == value)


# --- for --explain


def explain_create(life: Lifecycle, wish: Wish) -> Explanation:
    """What create() would do; nothing is made."""
    store = NetworkStore(life.paths, life.kernel)
    plan = Plan((making.make_network(store, making.draft(store, wish)),)).validate()
    about = "One act on the disk; nothing of the kernel's is made. network rm takes it back."
    return explain(plan, "network create", about)


def explain_remove(life: Lifecycle, ref: str) -> Explanation:
    """What remove() would do."""
    network = find(life, ref)
    if network.name in MODES or network.name == DEFAULT:
        raise making.kept(network.name)
    paths = life.paths
    stage = Rehearsal()
    step = stage.twin(ensure_bridge(paths, network))
    directory, gone = f"{paths.networks}/{network.name}", f"{paths.networks}/.rm-{network.id}"
    remove_tree, kernel = stage.copy_of("paths").remove_tree, stage.kernel

    def bring_out() -> None:
        kernel.rename(directory, gone)
        remove_tree(gone)

    steps = (
        act(stage, "RemoveBridge", f"Take the bridge {network.interface} and its rules away, if they linger from the "
            "last container (rtnetlink(7), nft(8)).", lambda: step.remove(kernel)),
        act(stage, "RemoveNetwork", "Rename the network's directory, from which moment the network does not exist any "
            "more, and delete it (rename(2), unlink(2)).", bring_out),
    )  # fmt: skip
    numbered = tuple(each.replace(number=number) for number, each in enumerate(steps, 1))
    about = f"Network {network.name} is removed, if no container is on it."
    return Explanation("network rm", about, numbered, notes=NOTES)


def reload(life: Lifecycle, refs: tuple[str, ...] = ()) -> list[str]:
    """Put back the firewall rules of all running containers, as one transaction; the names of those that have some.

    refs: networks and containers, whose names are asked for; () for all. NotFound where one is neither.
    """
    from ..network.restore import restore

    wanted = [_network_or_container(life, ref) for ref in refs]
    restore(life.paths, life.kernel, life.running)
    names = []
    for id in filter(life.running, life.store.ids()):
        try:
            state, spec = life.store.state(id), life.store.spec(id)
        except NanoError:
            continue  # it has just been removed
        if state.endpoints and (not refs or id in wanted or any(each.network in wanted for each in state.endpoints)):
            names.append(spec.name)
    return sorted(names)


def _network_or_container(life: Lifecycle, ref: str) -> str:
    """The name of a network, or the id of a container. NotFound."""
    try:
        return life.store.resolve(ref)
    except NotFound:
        return NetworkStore(life.paths).find(ref).name
