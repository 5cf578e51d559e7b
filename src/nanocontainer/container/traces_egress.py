"""Policies that are in force for nobody, and containers whose policy somebody has flushed: for doctor."""

from __future__ import annotations

from functools import partial

from ..errors import NanoError
from ..network import egress_rules, enforce
from ..network.model import lock_path, table_name
from ..paths import FileLock
from ..plan.step import World
from .leftover import Found, Leftover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .lifecycle import Lifecycle


def policies(life: Lifecycle, sick: set[str]) -> Iterator[Found]:
    """Of containers that do not run; of those that run, and whose rules are not there."""
    table = egress_rules.table_of(table_name(life.paths))
    with life.kernel.links() as links:
        has_table = links.has_table(table)
    chains = {to.removeprefix("to_") for to in enforce.senders(life.kernel, table).values()} if has_table else set()
    running = {id for id in life.store.ids() if life.running(id)}
    kept = {egress_rules.key_of(id) for id in (*running, *sick)}
    stale = sorted(chains - kept) if chains or not has_table else [] if running else [""]
    for key in stale:
        step = enforce.EnforceEgress(table, key or "0", ("none",), (), lock_path(life.paths))
        detail = "limits of what a container may reach, which does not run" if key else "limits for nobody"
        left = Leftover("stale-egress", f"inet {table} {key}".rstrip(), detail, "removed")
        yield Found(left, partial(step.undo, World(life.kernel)))
    for id in sorted(running - sick):
        if egress_rules.key_of(id) in chains:
            continue
        try:
            spec = life.store.spec(id)
            if not spec.allow_out or life.store.state(id).status != "running":
                continue
        except NanoError:
            continue  # who cannot be read is found elsewhere
        detail = "somebody has flushed the firewall: its --allow-out is not in force, and it may reach everything"
        yield Found(Leftover("lost-egress", spec.name, detail, "put in force again"), partial(_restore, life))


def _restore(life: Lifecycle) -> None:
    with FileLock(lock_path(life.paths)):
        life.kernel.nft(enforce.restoration(life.paths, life.running))
