"""The step that puts a container's policy in force, and what brings policies back when somebody has flushed them.

It stands before the cable is laid: there is no moment in which the container could send and the policy were not there.
The rules are egress_rules.py's; the addresses of names come later, from the resolver (gate.py).
"""

from __future__ import annotations

import time

from ..errors import NanoError
from ..lean import dumps, loads
from ..paths import FileLock, Paths, claims, read_file
from ..plan.step import Step, World
from ..record import Record
from . import egress_rules
from .egress import NONE, Policy, parse
from .egress_rules import Leg, table_of
from .model import lock_path, table_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..plan.step import Residue, Side
    from .allot import Endpoint


class EnforceEgress(Step):
    """What the container may reach, and a reset or an ICMP error for all else, before its cable is laid."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "kernel"

    table: str
    id: str
    allowed: tuple[str, ...]  # of --allow-out; ("none",): nothing
    legs: tuple[Leg, ...]
    lock: str  # under which the table is made and removed
    record: str = ""  # the file in which refusals are kept when the sets are gone

    @property
    def policy(self) -> Policy:
        return parse(self.allowed)

    @property
    def script(self) -> str:
        return egress_rules.enforce(self.table, self.id, self.policy, self.legs)

    def do(self, world: World) -> None:
        with FileLock(self.lock), world.kernel.links() as links:
            begin = "" if links.has_table(self.table) else egress_rules.base(self.table)
            _take_over(world.kernel, self.table, self.id, self.legs, begin + self.script)

    def explain(self) -> str:
        own = ", ".join(address for leg in self.legs for address in (*leg.own4[:1], *leg.own6[:1]))
        if self.allowed == (NONE,):
            reached = "nothing but their neighbours on the network and the resolver"
        else:
            named = " (names: the addresses that the resolver gives for them)" * any(r.name for r in self.policy.rules)
            reached = f"{', '.join(self.allowed)}{named}, their neighbours on the network and the resolver"
        return (
            f"Let {own or 'the container'} reach {reached}; all else is answered with a reset or an ICMP error, by "
            "rules that see each packet before any address translation (nft(8))."
        )

    def shell(self) -> str:
        lines = [f"nft -f - <<'END'\n{egress_rules.base(self.table)}{self.script}END"]
        key = egress_rules.key_of(self.id)
        for rule in self.policy.rules:
            if not rule.name or rule.name.startswith("*"):
                continue
            behind, kind = (f" . {rule.protocol} . {rule.port}", "fresh") if rule.port else ("", "any")
            old = {"fresh": "open", "any": "stay"}[kind]
            lines.append(
                f"for address in $(getent ahosts {rule.name} | awk '{{ print $1 }}' | sort -u); do # as it is now\n"
                f"    case $address in *:*) v=6 ;; *) v=4 ;; esac\n"
                f'    nft "add element inet {self.table} {kind}${{v}}_{key} {{ $address{behind} }}"\n'
                f'    nft "add element inet {self.table} {old}${{v}}_{key} {{ $address{behind} }}"\n'
                "done"
            )
        return "\n".join(lines)

    def undone(self) -> str:
        return f"nft delete table inet {self.table}"

    def undo(self, world: World) -> None:
        """The container's rules, sets and addresses go; with the last container the table."""
        try:
            with FileLock(self.lock):
                self._release(world.kernel)
        except FileNotFoundError:  # the state directory is gone
            self._release(world.kernel)

    def _release(self, kernel: Kernel) -> None:
        with kernel.links() as links:
            if not links.has_table(self.table):
                return
        self._keep_refusals(kernel)
        chain = f"to_{egress_rules.key_of(self.id)}"
        held = senders(kernel, self.table)
        others = [key for key, to in held.items() if to != chain]
        empty = [leg for leg in self.legs if not any(f'"{leg.interface}"' in key for key in others)]
        kernel.nft(egress_rules.release(self.table, self.id, [key for key, to in held.items() if to == chain], empty))
        if not others:
            kernel.nft(f"delete table inet {self.table}\n")

    def _keep_refusals(self, kernel: Kernel) -> None:
        """For who asks later why it has failed. A disk that is full keeps nobody from taking a container down."""
        try:
            found = [one.as_dict() for one in refusals(kernel, self.table, self.id)]
            if found:
                kernel.write_file(self.record, dumps(found).encode(), create=True)
        except (OSError, NanoError):
            pass


class ExtendEgress(Step):
    """The container's policy holds on one more network, before its cable there is laid."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "kernel"

    table: str
    id: str
    leg: Leg
    lock: str

    def do(self, world: World) -> None:
        script = egress_rules.extend(self.table, self.id, (self.leg,))
        with FileLock(self.lock):
            _take_over(world.kernel, self.table, self.id, (self.leg,), script)

    def explain(self) -> str:
        own = " and ".join((*self.leg.own4[:1], *self.leg.own6[:1])) or "the new addresses"
        return f"Let the rules of what the container may reach hold for {own} too, before there is a cable (nft(8))."

    def shell(self) -> str:
        return f"nft -f - <<'END'\n{egress_rules.extend(self.table, self.id, (self.leg,))}END"

    def undone(self) -> str:
        keys = egress_rules.keys_of((self.leg,))
        return "\n".join(f"nft 'delete element inet {self.table} {key} }}'" for key in keys)

    def undo(self, world: World) -> None:
        """Its addresses on this network go from the map."""
        kernel = world.kernel
        with FileLock(self.lock), kernel.links() as links:
            if links.has_table(self.table):
                chain, keys = f"to_{egress_rules.key_of(self.id)}", set(egress_rules.keys_of((self.leg,)))
                held = senders(kernel, self.table)
                ours = [key for key, to in held.items() if to == chain and key in keys]
                if ours:
                    left = [key for key in held if key not in ours]
                    empty = () if any(f'"{self.leg.interface}"' in key for key in left) else (self.leg,)
                    kernel.nft(egress_rules.shrink(self.table, ours, empty))


def senders(kernel: Kernel, table: str) -> dict[str, str]:
    """The elements of from4 and from6, as egress_rules.keys_of() has them → the chain that each leads to."""
    found = {}
    for name in ("from4", "from6"):
        for one in elements_of(kernel.nft(f"list map inet {table} {name}")):
            key, _, chain = one.key.partition(" : goto ")
            found[f"{name} {{ {key}"] = chain
    return found


def _take_over(kernel: Kernel, table: str, id: str, legs: Iterable[Leg], script: str) -> None:
    """Run a script that adds addresses. We hold their leases: what else leads from them somewhere is left from a
    container that was killed, and not swept yet."""
    try:
        kernel.nft(script)
    except NanoError as error:
        if "File exists" not in error.why:
            raise
        chain, keys = f"to_{egress_rules.key_of(id)}", set(egress_rules.keys_of(legs))
        stale = [key for key, to in senders(kernel, table).items() if key in keys and to != chain]
        kernel.nft(egress_rules.shrink(table, stale, ()) + script)


class Refusal(Record):
    """Packets to an address that were refused. port 0: of a protocol without ports; last: nanoseconds since 1970."""

    address: str
    protocol: str
    port: int
    count: int
    last: int


def refusals(kernel: Kernel, table: str, id: str) -> list[Refusal]:
    """What the kernel has refused to a running container, the latest last. NanoError where it has no policy."""
    key, now, found = egress_rules.key_of(id), time.time_ns(), []
    for kind in ("refused4", "refused6", "other4", "other6"):
        for one in elements_of(kernel.nft(f"list set inet {table} {kind}_{key}")):
            address, protocol, *port = one.key.split(" . ")
            since = int((egress_rules.REMEMBERED - one.expires) * 1e9)
            found.append(Refusal(address, protocol, int(port[0]) if port else 0, one.packets, now - since))
    return sorted(found, key=lambda each: each.last)


class ForgetNames(Step):
    """What names have opened that are allowed no more is closed; connections to it end with their next packet."""

    side: ClassVar[Side] = "host"

    table: str
    id: str
    allowed: tuple[str, ...]

    def do(self, world: World) -> None:
        kernel, policy, key = world.kernel, parse(self.allowed), egress_rules.key_of(self.id)
        for kind in egress_rules.NAMED:
            for family in (4, 6):
                try:
                    said = kernel.nft(f"list set inet {self.table} {kind}{family}_{key}")
                except NanoError:
                    continue  # no rule has ever needed it
                old = [one.key for one in elements_of(said) if not _allows(policy, one.key, one.comment)]
                if old:
                    kernel.nft(f"delete element inet {self.table} {kind}{family}_{key} {{ {', '.join(old)} }}\n")

    def explain(self) -> str:
        return (
            "Take the addresses out that names have opened which are allowed no more: a connection to them is reset "
            "with its next packet (nft(8))."
        )

    def shell(self) -> str:
        return "# No name has opened anything yet."


def _allows(policy: Policy, element: str, name: str) -> bool:
    words = element.split(" . ")
    rules = policy.names(name)
    if len(words) == 1:
        return any(not rule.port for rule in rules)
    return any((rule.protocol, str(rule.port)) == tuple(words[1:]) for rule in rules)


class Element(Record):
    """An element of a set. key: as nft writes it; expires: seconds until it goes, 0 for never."""

    key: str
    comment: str = ""
    packets: int = 0
    expires: float = 0.0


def elements_of(said: str) -> list[Element]:
    """The elements that `nft list set` shows."""
    _, _, rest = said.partition("elements = {")
    listed, found = rest.partition("}")[0], []
    for part in listed.split(","):
        words = part.split()
        if not words:
            continue
        more = [at for at, word in enumerate(words) if word in ("counter", "timeout", "expires", "comment")]
        behind = {words[at]: words[at + 1 :] for at in more}
        found.append(
            Element(
                " ".join(words[: more[0]] if more else words),
                behind["comment"][0].strip('"') if "comment" in behind else "",
                int(behind["counter"][1]) if "counter" in behind else 0,
                _seconds(behind["expires"][0]) if "expires" in behind else 0.0,
            )
        )
    return found


def _seconds(text: str) -> float:
    """Of 1d2h3m4s5ms, as nft writes a time."""
    total, number = 0.0, ""
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
    for at, letter in enumerate(text):
        if letter.isdigit():
            number += letter
        elif number:
            total += int(number) * (0.001 if text[at : at + 2] == "ms" else units.get(letter, 0.0))
            number = ""
    return total


def legs_of(endpoints: Iterable[Endpoint]) -> tuple[Leg, ...]:
    """A container's places on its networks, as far as a policy is concerned with them."""
    found = []
    for one in endpoints:
        net, six = one.network, bool(one.ip6)
        own = (link_local_of(one.mac), *(address for address in one.link_local if ":" in address)) if six else ()
        found.append(
            Leg(
                net.interface, (one.ip, *(text for text in one.link_local if ":" not in text)),
                (one.ip6, *own) if six else (), net.gateway, net.gateway6 if six else "", net.subnet,
                net.subnet6 if six else "",
            )
        )  # fmt: skip
    return tuple(found)


def restoration(paths: Paths, alive: Callable[[str], bool] | None = None) -> str:
    """The text that puts all policies in force again, for when the tables were flushed: to be run before, or together
    with, whatever lets packets out. "" where there are none.

    The journals of the containers say what was enforced, their specifications what it has been changed to.
    """
    from ..plan.journal import boot_id, read

    boot, lines = boot_id(), []
    for id in claims(paths.containers):
        steps = [one for one in read(f"{paths.container(id)}/journal") if one.boot == boot]
        found = next((one.step for one in steps if isinstance(one.step, EnforceEgress)), None)
        if found and (alive is None or alive(id)):
            lines.append(found.replace(allowed=_amended(paths, id) or found.allowed).script)
    return egress_rules.base(table_of(table_name(paths))) + "".join(lines) if lines else ""


def _amended(paths: Paths, id: str) -> tuple[str, ...]:
    """The rules in a container's specification; () where it cannot be read."""
    try:
        return tuple(map(str, loads(read_file(f"{paths.container(id)}/spec.json"))["allow_out"]))
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def step(paths: Paths, id: str, rules: tuple[str, ...], legs: Iterable[Leg]) -> EnforceEgress:
    """The step for a container."""
    record = f"{paths.container(id)}/refused"
    return EnforceEgress(table_of(table_name(paths)), id, rules, tuple(legs), lock_path(paths), record)


def link_local_of(mac: str) -> str:
    """The address that the kernel gives an interface with this MAC (EUI-64, RFC 4291 appendix A)."""
    b = bytes.fromhex(mac.replace(":", ""))
    packed = bytes.fromhex("fe80000000000000") + bytes((b[0] ^ 2, b[1], b[2], 0xFF, 0xFE, *b[3:]))
    from ..lean import sockets

    return sockets.inet_ntop(sockets.AF_INET6, packed)
