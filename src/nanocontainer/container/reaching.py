"""What a container may reach is changed while it runs, or written down for its next start.

A rule that is added counts at once; one that is taken away ends connections too, with their next packet: each packet is
looked at (network/egress_rules.py). The policy in force is never absent meanwhile: the new one takes its place in one
transaction.
"""

from __future__ import annotations

from ..errors import Conflict, InvalidInput, NotFound
from ..network import allot, enforce, gate
from ..network.egress import NONE, Policy, parse
from ..network.enforce import EnforceEgress, ExtendEgress, ForgetNames
from ..network.model import DEFAULT, NetworkStore
from .amending import Amendment, Change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..network.egress_rules import Leg
    from ..plan.step import Step
    from .amending import Live
    from .spec import Container, EndpointState, Spec


class Allow(Change):
    """More may be reached. For a container that may reach everything this is the first limit."""

    def __init__(self, rules: Policy) -> None:
        self.rules = rules

    def amended(self, container: Container) -> Spec:
        spec = container.spec
        mode, _ = allot.parse_mode(spec.network)
        if mode != "bridge":
            why = "the container whose network it shares decides that" if mode == "container" else "it has none of ours"
            raise Conflict(f"cannot limit what container {spec.name} reaches by its network", why)
        old = parse(spec.allow_out).rules if spec.allow_out else ()
        return spec.replace(allow_out=Policy((*old, *self.rules.rules)).texts)

    def live(self, live: Live, spec: Spec) -> Amendment:
        held = _in_force(live)
        if held is not None:
            return Amendment(live.state, after=(held.replace(allowed=spec.allow_out), *_registered(live, spec)))
        _check_resolver(live, spec)
        legs = legs_of(live)
        begin = enforce.step(live.paths, live.id, spec.allow_out, legs)
        return Amendment(live.state, (begin,), after=_registered(live, spec))


class Forbid(Change):
    """Some rules count no more; without any rule nothing may be reached."""

    def __init__(self, rules: Policy) -> None:
        self.rules = rules

    def amended(self, container: Container) -> Spec:
        spec = container.spec
        have = parse(spec.allow_out).rules if spec.allow_out else ()
        for one in self.rules.rules:
            if one in have:
                continue
            wider = next((str(other) for other in have if bool(other.name) == bool(one.name) and other.covers(one)), "")
            why = f"rule {wider} allows it, and more" if wider else ""
            shown = f"its rules: egress ls {spec.name}"
            raise NotFound(f"container {spec.name} has no rule {one}", why, shown)
        return spec.replace(allow_out=tuple(str(one) for one in have if one not in self.rules.rules) or (NONE,))

    def live(self, live: Live, spec: Spec) -> Amendment:
        held = _in_force(live)
        if held is None:
            raise Conflict(f"cannot change what container {spec.name} reaches", "no policy of it is in force")
        forget = ForgetNames(held.table, live.id, spec.allow_out)
        return Amendment(
            live.state, after=(*_registered(live, spec), held.replace(allowed=spec.allow_out), forget)
        )


class Lift(Change):
    """No limit any more: everything may be reached."""

    def amended(self, container: Container) -> Spec:
        if not container.spec.allow_out:
            raise NotFound(f"container {container.spec.name} has no rules", "it may reach everything")
        return container.spec.replace(allow_out=())

    def live(self, live: Live, spec: Spec) -> Amendment:
        held = [step for step in live.journalled() if isinstance(step, (EnforceEgress, ExtendEgress))]
        return Amendment(live.state, undo=held, after=_registered(live, spec))


def rules(texts: Iterable[str]) -> Policy:
    """The rules of a command line. InvalidInput where there are none."""
    texts = list(texts)
    if not texts:
        raise InvalidInput("no rule is given", "", "such as api.example.com:443, 10.0.0.0/8 or none")
    return parse(texts)


def legs_of(live: Live) -> tuple[Leg, ...]:
    """A running container's places on its networks, as far as a policy is concerned with them."""
    store = NetworkStore(live.paths, live.kernel)
    return enforce.legs_of(_endpoint(store, live, one) for one in live.state.endpoints)


def _endpoint(store: NetworkStore, live: Live, one: EndpointState) -> allot.Endpoint:
    wish = next((each for each in live.spec.networks if each.network == one.network), None)
    more = wish.link_local if wish else ()
    return allot.Endpoint(store.find(one.network), one.interface, one.link, one.mac, one.ip, one.ip6, (), more)


def _in_force(live: Live) -> EnforceEgress | None:
    """The step that has put its policy in force, with all networks that came later."""
    steps = live.journalled()
    found = next((step for step in steps if isinstance(step, EnforceEgress)), None)
    if found is None:
        return None
    return found.replace(legs=legs_of(live))


def _registered(live: Live, spec: Spec) -> list[Step]:
    """Its names files, with the policy as it is then: the resolver sees them at the next question."""
    told = gate.registered(live.paths, live.id, spec.allow_out)
    found = [step for step in live.journalled() if type(step).__name__ == "RegisterNames"]
    return [step.replace(registration=vars(step)["registration"].replace(egress=told)) for step in found]


def _check_resolver(live: Live, spec: Spec) -> None:
    """Names open nothing where the container asks other name servers than ours: then it must be started anew."""
    asks_us = any(type(step).__name__ == "RegisterNames" for step in live.journalled())
    if any(rule.name for rule in parse(spec.allow_out).rules) and not asks_us:
        where = "the default network" if spec.network == DEFAULT else f"network {spec.network}"
        raise Conflict(
            f"cannot allow names only to container {spec.name} while it runs",
            f"on {where}, without rules, it asks the host's name servers itself",
            f"stop {spec.name}, add the rule, and start it; or rules of addresses alone: egress add {spec.name} none",
        )
