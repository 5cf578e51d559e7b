"""A container joins a network while it runs, or leaves one; or that is written down for its next start.

To join is the part of a start that is for one network, with a cable that can be pulled out again. To leave is the undo
of all steps in the journal that are that network's. Then what depends on all networks of the container is set anew: its
default route, where its published ports lead to, what it may reach, its names in its own /etc/hosts.
"""

from __future__ import annotations

from ..errors import Conflict, NotFound
from ..network import allot, names
from ..network.allot import Allotment, Endpoint, exit_of
from ..network.leases import DEFAULT, Attachment
from ..network.live import PlugCable, SetDefaultRoute, TurnBack
from ..network.model import NetworkStore, lock_path, table_name
from ..network.plan import endpoint_steps, naming_steps, port_steps
from ..paths import read_file
from .amending import Amendment, Change
from .planner import naming_of
from .spec import Port
from .starting import endpoint_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..network.model import Network
    from ..paths import Paths
    from ..plan.step import Step
    from .amending import Live
    from .spec import Container, Spec, State


class Connect(Change):
    """Join one more network. wish.network: its name or id."""

    def __init__(self, paths: Paths, wish: Attachment) -> None:
        """NotFound: no such network."""
        if wish.network in ("host", "none"):
            raise _no_network(wish.network)
        self.store = NetworkStore(paths)
        self.network = self.store.find(DEFAULT if wish.network == "default" else wish.network)
        self.wish = wish.replace(network=self.network.name)

    def amended(self, container: Container) -> Spec:
        spec, name = container.spec, self.network.name
        mode, _ = allot.parse_mode(spec.network)
        what = f"cannot connect container {spec.name} to network {name}"
        if mode in ("host", "container"):
            why = "it is in the host's network" if mode == "host" else "it shares another container's network"
            raise Conflict(what, why, "only a container with a network of its own can be connected to more")
        if mode == "none" and not spec.unplugged:
            hint = f"network disconnect none {spec.name} makes it one that may be connected"
            raise Conflict(what, "it is in private mode (--network none)", hint)
        had = allot.attachments(spec)
        if any(_is(each, self.network) for each in had) or any(
            each.network == name for each in container.state.endpoints
        ):
            raise Conflict(f"container {spec.name} is already connected to network {name}")
        changed = spec.replace(
            network=had[0].network if had else name, networks=(*had, self.wish), ip="", mac="", unplugged=False
        )
        allot.interfaces(allot.attachments(changed))
        allot.imagine_endpoint(self.network, self.wish, "eth0", "veth0")  # all that was wished can be given
        return changed

    def live(self, live: Live, spec: Spec) -> Amendment:
        paths, state = live.paths, live.state
        before = endpoints_of(live, self.store)
        (interface,) = allot.interfaces((self.wish,), tuple(each.interface for each in before))
        new = live.claim_endpoint(self.network, self.wish, interface)
        endpoints = (*before, new)
        steps: list[Step] = enforcement(live, spec, new, first=not before)
        steps += [
            PlugCable(**vars(step)) if type(step).__name__ == "ConnectVeth" else step
            for step in endpoint_steps(paths, new, live.id, allot.linger(), limited=bool(spec.allow_out))
        ]
        alone = Allotment("bridge", 0, (new,), (), paths.state, allot.linger(), ipv6=self.store.ipv6)
        if naming := naming_of(spec, alone, paths):
            named = allot.named_endpoints(alone, spec.allow_out)
            steps += naming_steps(paths, named, live.id, naming, allot.linger())
        ports = state.ports
        after: list[Step] = []
        if not before:
            wishes = allot.wishes(spec)
            allot.fits(wishes, bool(new.ip6))
            bindings = live.claim_ports(wishes, ipv6=bool(new.ip6))
            steps += port_steps(paths, endpoints, bindings, live.id)
            if bindings:
                after.append(TurnBack(new.interface))
            ports = tuple(Port.from_dict(one.as_dict()) for one in bindings)
        undo, moved = move_ports(live, before, endpoints)
        after += [*routes(before, endpoints), *moved]
        state = placed(state, endpoints).replace(ports=ports)
        return Amendment(state, steps, undo=undo, after=after, files=files(live, before, spec, endpoints, self.store))


class Disconnect(Change):
    """Leave a network."""

    def __init__(self, paths: Paths, network: str) -> None:
        self.store = NetworkStore(paths)
        self.none, self.name = network == "none", network
        if network == "host":
            raise _no_network(network)
        self.network: Network | None = None
        self.missing: NotFound | None = None
        try:
            if not self.none:
                self.network = self.store.find(DEFAULT if network == "default" else network)
        except NotFound as error:  # it has been removed: a container that does not run may still name it
            self.missing = error

    def amended(self, container: Container) -> Spec:
        spec = container.spec
        mode, _ = allot.parse_mode(spec.network)
        if mode == "none" and self.none and not spec.unplugged:
            return spec.replace(unplugged=True)
        name = self.network.name if self.network else self.name
        had = allot.attachments(spec)
        left = tuple(
            each for each in had if each.network != name and not (self.network and _is(each, self.network))
        )
        if len(left) == len(had):
            if self.missing:
                raise self.missing
            hint = f"see: inspect -f '{{{{json .NetworkSettings.Networks}}}}' {spec.name}"
            raise Conflict(f"container {spec.name} is not connected to network {name}", "", hint)
        first = left[0].network if left else "none"
        return spec.replace(network=first, networks=left, ip="", mac="", unplugged=not left)

    def live(self, live: Live, spec: Spec) -> Amendment:
        if self.network is None:
            return Amendment(live.state)
        before = endpoints_of(live, self.store)
        endpoints = tuple(each for each in before if each.network.name != self.network.name)
        undo: list[Step] = []
        for each in before:
            if each not in endpoints:
                undo += [*leaving(live, each), *enforcement(live, spec, each, first=False)]
        after: list[Step] = routes(before, endpoints)
        ports = live.state.ports
        if endpoints:
            withdrawn, moved = move_ports(live, before, endpoints)
            undo, after = [*withdrawn, *undo], [*after, *moved]
        else:
            undo = [*_kinds(live, "PublishPorts", "ReservePort"), *undo, *_kinds(live, "ExtendEgress", "EnforceEgress")]
            ports = ()
        state = placed(live.state, endpoints).replace(ports=ports)
        return Amendment(state, undo=undo, after=after, files=files(live, before, spec, endpoints, self.store))


def _no_network(mode: str) -> Conflict:
    if mode == "host":
        why = "a container cannot be connected to the host's network, or be disconnected from it"
        return Conflict("cannot change who is in the host's network", why, "use run --network host")
    why = "it is no network: network disconnect takes a container off one"
    return Conflict("a container cannot be connected to none", why)


def _is(wish: Attachment, network: Network) -> bool:
    """Whether a wish of a specification, which may name it by its id, means this network."""
    return wish.network == network.name or (len(wish.network) > 3 and network.id.startswith(wish.network))


# --- what depends on all networks of a container


def endpoints_of(live: Live, store: NetworkStore | None = None) -> tuple[Endpoint, ...]:
    """The places that a running container has, from its state."""
    return places(store or NetworkStore(live.paths), live.spec, live.state)


def places(store: NetworkStore, spec: Spec, state: State) -> tuple[Endpoint, ...]:
    wishes = allot.attachments(spec)
    found = []
    for each in state.endpoints:
        network = store.find(each.network)
        wish = next((wish for wish in wishes if _is(wish, network)), Attachment(network.name))
        found.append(
            Endpoint(
                network, each.interface, each.link, each.mac, each.ip, each.ip6, each.aliases, wish.link_local,
                wish.priority,
            )
        )  # fmt: skip
    return tuple(found)


def doors(endpoints: tuple[Endpoint, ...]) -> list[Endpoint]:
    """Where its published ports lead to: as network/plan.py has it."""
    return [each for each in endpoints if each in allot.published_on(endpoints)]


def routes(before: tuple[Endpoint, ...], after: tuple[Endpoint, ...]) -> list[Step]:
    """The default route, where the one that has it is another one by now."""
    old, new = (
        tuple((way.network.gateway6 if six else way.network.gateway) if way else "" for six, way in ways)
        for ways in (
            [(six, exit_of(endpoints, six=six)) for six in (False, True)] for endpoints in (before, after)
        )
    )  # fmt: skip
    return [SetDefaultRoute(*new)] if old != new else []


def move_ports(
    live: Live, before: tuple[Endpoint, ...], after: tuple[Endpoint, ...]
) -> tuple[list[Step], list[Step]]:
    """(what is taken back, what is done instead) where published ports lead to another address from now on."""
    had, have = (
        (four.ip if four else "", six.ip6 if six else "") for four, six in map(allot.published_on, (before, after))
    )
    if not before or not after or had == have:
        return [], []
    old = _kinds(live, "PublishPorts")
    moved = [step.replace(ip=have[0], ip6=have[1]) for step in old]
    return old, [*(TurnBack(each.interface) for each in doors(after)), *moved] if moved else []


def enforcement(live: Live, spec: Spec, endpoint: Endpoint, *, first: bool) -> list[Step]:
    """The step by which what it may reach holds on a network too. first: it is the only one."""
    if not spec.allow_out:
        return []
    from ..network import enforce
    from ..network.egress_rules import table_of

    legs = enforce.legs_of((endpoint,))
    if first:
        return [enforce.step(live.paths, live.id, spec.allow_out, legs)]
    table = table_of(table_name(live.paths))
    return [enforce.ExtendEgress(table, live.id, leg, lock_path(live.paths)) for leg in legs]


def leaving(live: Live, endpoint: Endpoint) -> list[Step]:
    """The steps in the journal that put the container on a network, newest first; and its cable, of whatever kind."""
    network = endpoint.network
    directory = f"{live.paths.networks}/{network.name}"
    found = [step for step in live.journalled() if _is_of(step, directory)]
    cable = PlugCable(endpoint.link, endpoint.mac, network.mtu, endpoint.interface)
    named = [step for step in live.journalled() if isinstance(step, PlugCable) and step.link == endpoint.link]
    return [*(named or [cable]), *found]


def _is_of(step: Step, directory: str) -> bool:
    """Whether a step is a network's: it names the network's directory, or a file in it."""
    said = (*vars(step).values(), getattr(step, "path", ""))
    return any(value == directory or (isinstance(value, str) and value.startswith(f"{directory}/")) for value in said)


def _kinds(live: Live, *kinds: str) -> list[Step]:
    steps = live.journalled()
    return [step for kind in kinds for step in steps if type(step).__name__ == kind]


def placed(state: State, endpoints: tuple[Endpoint, ...]) -> State:
    """The state with these places."""
    first = endpoints[0] if endpoints else None
    return state.replace(
        endpoints=tuple(map(endpoint_state, endpoints)), ip=first.ip if first else "", mac=first.mac if first else ""
    )


def files(
    live: Live, before: tuple[Endpoint, ...], spec: Spec, after: tuple[Endpoint, ...], store: NetworkStore
) -> dict[str, str]:
    """/etc/hosts with the container's addresses as they are then, and all else as it is there; /etc/resolv.conf where
    it would be another one, unless the container has written into it."""
    paths = live.paths
    directory = paths.container(live.id)

    def made(spec: Spec, endpoints: tuple[Endpoint, ...]) -> dict[str, str]:
        mode = "bridge" if endpoints else "none"
        return names.files(spec, Allotment(mode, 0, endpoints, (), paths.state, ipv6=store.ipv6))

    old, new = made(live.spec, before), made(spec, after)
    found = {}
    try:
        hosts, resolv = read_file(f"{directory}/hosts"), read_file(f"{directory}/resolv.conf")
    except (OSError, ValueError):
        return {}  # it was started without them: --without WriteFile
    gone = set(old["hosts"].splitlines()) - set(new["hosts"].splitlines())
    lines = [line for line in hosts.splitlines() if line not in gone]
    lines += [line for line in new["hosts"].splitlines() if line not in lines]
    text = "".join(f"{line}\n" for line in lines)
    if text != hosts:
        found["hosts"] = text
    if resolv == old["resolv.conf"] and resolv != new["resolv.conf"]:
        found["resolv.conf"] = new["resolv.conf"]
    return found
