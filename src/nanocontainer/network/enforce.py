"""The step that puts a container's policy in force, and what brings policies back when somebody has flushed them.

It stands before the cable is laid: there is no moment in which the container could send and the policy were not there.
The rules are egress_rules.py's; the addresses of names come later, from the resolver (gate.py).
"""

from __future__ import annotations

from ..errors import NanoError
from ..paths import FileLock, Paths, claims
from ..plan.step import Step, World
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

    @property
    def policy(self) -> Policy:
        return parse(self.allowed)

    @property
    def script(self) -> str:
        return egress_rules.enforce(self.table, self.id, self.policy, self.legs)

    def do(self, world: World) -> None:
        with FileLock(self.lock), world.kernel.links() as links:
            begin = "" if links.has_table(self.table) else egress_rules.base(self.table)
            world.kernel.nft(begin + self.script)

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
        return f"nft delete table inet {self.table}\nnft delete table bridge {self.table}"

    def undo(self, world: World) -> None:
        """The container's rules, sets and addresses go; with the last container the tables."""
        try:
            with FileLock(self.lock):
                self._release(world.kernel)
        except FileNotFoundError:  # the state directory is gone
            self._release(world.kernel)

    def _release(self, kernel: Kernel) -> None:
        with kernel.links() as links:
            if not links.has_table(self.table):
                return
        kernel.nft(egress_rules.release(self.table, self.id, self.legs))
        maps = (f"list map inet {self.table} from4", f"list map inet {self.table} from6")
        if not any("elements" in kernel.nft(each) for each in maps):
            kernel.nft(f"delete table inet {self.table}\ndelete table bridge {self.table}\n")


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
                old = [element for element, name in elements_of(said) if not _allows(policy, element, name)]
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


def elements_of(said: str) -> Iterable[tuple[str, str]]:
    """(element, comment) of each element that `nft list set` shows."""
    _, _, rest = said.partition("elements = {")
    for part in rest.rpartition("}")[0].rpartition("}")[0].rpartition("}")[0].split(","):
        words = part.split()
        if not words:
            continue
        end = next((at for at, word in enumerate(words) if word in ("timeout", "expires", "counter", "comment")), None)
        _, found, comment = part.partition('comment "')
        yield " ".join(words[:end]), comment.partition('"')[0] if found else ""


def legs_of(endpoints: Iterable[Endpoint]) -> tuple[Leg, ...]:
    """A container's places on its networks, as far as a policy is concerned with them."""
    found = []
    for one in endpoints:
        net, six = one.network, bool(one.ip6)
        own = (link_local_of(one.mac), *(address for address in one.link_local if ":" in address)) if six else ()
        found.append(
            Leg(
                net.interface, one.link, (one.ip, *(text for text in one.link_local if ":" not in text)),
                (one.ip6, *own) if six else (), net.gateway, net.gateway6 if six else "", net.subnet,
                net.subnet6 if six else "",
            )
        )  # fmt: skip
    return tuple(found)


def restoration(paths: Paths, alive: Callable[[str], bool] | None = None) -> str:
    """The text that puts all policies in force again, for when the tables were flushed: to be run before, or together
    with, whatever lets packets out. From the journals of the containers, which name what was enforced."""
    from ..plan.journal import boot_id, read

    boot, lines = boot_id(), []
    for id in claims(paths.containers):
        for entry in read(f"{paths.containers}/{id}/journal"):
            if isinstance(entry.step, EnforceEgress) and entry.boot == boot and (alive is None or alive(id)):
                lines.append(entry.step.script)
                break  # the newest is the one in force
    return egress_rules.base(table_of(table_name(paths))) + "".join(lines) if lines else ""


def step(paths: Paths, id: str, rules: tuple[str, ...], legs: Iterable[Leg]) -> EnforceEgress:
    """The step for a container."""
    return EnforceEgress(table_of(table_name(paths)), id, rules, tuple(legs), lock_path(paths))


def link_local_of(mac: str) -> str:
    """The address that the kernel gives an interface with this MAC (EUI-64, RFC 4291 appendix A)."""
    b = bytes.fromhex(mac.replace(":", ""))
    packed = bytes.fromhex("fe80000000000000") + bytes((b[0] ^ 2, b[1], b[2], 0xFF, 0xFE, *b[3:]))
    from ..lean import sockets

    return sockets.inet_ntop(sockets.AF_INET6, packed)
