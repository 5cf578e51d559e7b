"""What the resolver asks before it answers a container that has a policy: may it know this name, and if it may, open
the way to its addresses. Runs in the resolver's process (one, without threads), which knows the policy from the names
file that the container's start has written.

The sets are filled before the answer is sent: whoever has an answer can connect. Where that fails there is no answer.
What was refused is kept in memory, and written beside the container's socket at most once a second, for `egress ls` and
`why`.
"""

from __future__ import annotations

import time

from ..errors import NanoError
from ..kernel.netlink import address_bytes
from ..lean import dumps, loads
from ..paths import FileLock, Paths, read_file, write_file
from ..record import Record
from . import egress_rules
from .egress import Policy, is_public, parse
from .enforce import restoration
from .model import NetworkStore, lock_path, table_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ..kernel.calls import Kernel

_MOST = 256  # refused names that are kept of a container
_AGAIN = 1.0  # seconds between two writings
_policies: dict[tuple[str, ...], Policy] = {}
_refused: dict[str, dict[tuple[str, str], RefusedName]] = {}  # file → (name, address) → what is known of it
_unsaved: set[str] = set()
_written = 0.0


class RefusedName(Record):
    """A name that the resolver did not answer; or one that it did, and whose address no name opens. last: nanoseconds
    since 1970."""

    name: str
    count: int
    last: int
    address: str = ""


def registered(paths: Paths, id: str, rules: Sequence[str]) -> dict[str, Any]:
    """What a container's names file says of its policy; {} without rules."""
    return {"rules": list(rules), "id": id, "state": paths.state, "run": paths.run} if rules else {}


def may_ask(egress: dict[str, Any], name: str) -> bool:
    """Whether the container may know anything of a name (in lower case, without a dot at its end)."""
    if _policy(egress).names(name):
        return True
    _note(refused_path(_paths(egress), str(egress["id"])), name)
    return False


def admit(kernel: Kernel, egress: dict[str, Any], id: str, name: str, answers: Iterable[tuple[str, int]]) -> bool:
    """Open the way to a name's addresses (address, lifetime in seconds), before the container knows them.

    Those that are not public, the host's own, or another container's are left out: no name opens them.
    """
    paths, policy = _paths(egress), _policy(egress)
    table = egress_rules.table_of(table_name(paths))
    forbidden = _Forbidden(paths, kernel)
    open_to = []
    for address, lifetime in answers:
        if not forbidden.holds(address):
            open_to.append((address, lifetime))
        elif not policy.places(address_bytes(address)[1]):
            _note(refused_path(paths, id), name, address)
    script = egress_rules.admit(table, id, policy, name, open_to)
    if not script:
        return True
    try:
        kernel.nft(script)
    except NanoError:
        with kernel.links() as links:
            if links.has_table(table):
                raise
        with FileLock(lock_path(paths)):  # somebody has flushed all tables
            kernel.nft(restoration(paths))
        kernel.nft(script)
    return True


class _Forbidden:
    """The addresses that no name opens, on this host and now."""

    def __init__(self, paths: Paths, kernel: Kernel) -> None:
        with kernel.links() as links:
            self.own = {address_bytes(each.address)[1] for each in links.addresses()}
        self.subnets = []
        for network in NetworkStore(paths, kernel).all():
            texts = (network.subnet, getattr(network, "subnet6", ""))
            self.subnets += [rule for rule in map(_block, texts) if rule]

    def holds(self, address: str) -> bool:
        packed = address_bytes(address)[1]
        return packed in self.own or not is_public(packed) or any(block.holds(packed) for block in self.subnets)


def _block(text: str) -> Any:
    from .egress import rule

    return rule(text) if text else None


def _policy(egress: dict[str, Any]) -> Policy:
    rules = tuple(egress["rules"])
    if rules not in _policies:
        if len(_policies) > 1000:
            _policies.clear()
        _policies[rules] = parse(rules)
    return _policies[rules]


def _paths(egress: dict[str, Any]) -> Paths:
    return Paths(str(egress["state"]), str(egress["run"]))


def refused_path(paths: Paths, id: str) -> str:
    """Where the refused names of a container are written."""
    return f"{paths.live(id)}/refused"


def _note(path: str, name: str, address: str = "") -> None:
    names = _refused.get(path)
    if names is None:
        names = _refused[path] = {(one.name, one.address): one for one in refused_names(path)}
    old = names.pop((name, address), None)
    if len(names) >= _MOST:
        del names[next(iter(names))]  # the one that was asked for the longest ago
    names[name, address] = RefusedName(name, old.count + 1 if old else 1, time.time_ns(), address)
    _unsaved.add(path)


def flush() -> None:
    """Write down what was refused, if there is something new and some time has passed."""
    global _written
    if not _unsaved or time.monotonic() - _written < _AGAIN:
        return
    _written = time.monotonic()
    for path in list(_unsaved):
        try:
            write_file(path, dumps([one.as_dict() for one in _refused[path].values()]))
        except OSError:
            del _refused[path]  # the container is gone
    _unsaved.clear()


def refused_names(path: str) -> list[RefusedName]:
    """What the resolver has written of a container, the latest last."""
    try:
        return [RefusedName.from_dict(one) for one in loads(read_file(path))]
    except (OSError, ValueError, TypeError, AttributeError):
        return []
