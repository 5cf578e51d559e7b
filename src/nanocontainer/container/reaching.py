"""What a container may reach is changed while it runs, or written down for its next start.

A rule that is added counts at once; one that is taken away ends connections too, with their next packet: each packet is
looked at (network/egress_rules.py). The policy in force is never absent meanwhile: the new one takes its place in one
transaction.
"""

from __future__ import annotations

from ..errors import Conflict, InvalidInput, NotFound
from ..network import allot, enforce, gate
from ..network.allot import Allotment
from ..network.egress import NONE, Policy, parse
from ..network.enforce import EnforceEgress, ExtendEgress, ForgetNames
from ..network.model import NetworkStore
from ..network.plan import guard, naming_steps
from .amending import Amendment, Change
from .connecting import endpoints_of, files
from .planner import naming_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..plan.step import Step
    from .amending import Live
    from .spec import Container, Spec


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
        store = NetworkStore(live.paths, live.kernel)
        endpoints = endpoints_of(live, store)
        if not endpoints:
            return Amendment(live.state)  # it holds on the first network that it is connected to
        steps: list[Step] = [guard(each) for each in endpoints if not each.network.guarded]
        steps.append(enforce.step(live.paths, live.id, spec.allow_out, enforce.legs_of(endpoints)))
        whole = Allotment("bridge", 0, endpoints, (), live.paths.state, allot.linger(), ipv6=store.ipv6)
        if naming := naming_of(spec, whole, live.paths):
            told = {vars(step)["registration"].network for step in _registrations(live)}
            new = tuple(
                each for each in allot.named_endpoints(whole, spec.allow_out) if each.network.name not in told
            )
            steps += naming_steps(live.paths, new, live.id, naming, whole.linger) if new else []
        text = files(live, endpoints, spec, endpoints, store)  # its name server is ours from now on
        return Amendment(live.state, steps, after=_registered(live, spec), files=text)


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
        if held is None:  # it is on no network
            return Amendment(live.state)
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


def _in_force(live: Live) -> EnforceEgress | None:
    """The step that has put its policy in force, with all networks that came later."""
    steps = live.journalled()
    found = next((step for step in steps if isinstance(step, EnforceEgress)), None)
    if found is None:
        return None
    return found.replace(legs=enforce.legs_of(endpoints_of(live)))


def _registered(live: Live, spec: Spec) -> list[Step]:
    """Its names files, with the policy as it is then: the resolver sees them at the next question."""
    told = gate.registered(live.paths, live.id, spec.allow_out)
    return [
        step.replace(registration=vars(step)["registration"].replace(egress=told)) for step in _registrations(live)
    ]


def _registrations(live: Live) -> list[Step]:
    """The step that wrote its names file last, of each network: each change journals them once more."""
    found: dict[str, Step] = {}
    for step in live.journalled():
        if type(step).__name__ == "RegisterNames":
            found.setdefault(vars(step)["registration"].network, step)
    return list(found.values())
