"""What brings our firewall rules back when somebody has flushed them (`nft flush ruleset`, a firewall that reloads).

Nothing has to be remembered for that: the journals of the running containers name every step that has left something
in the kernel, with all its data. Their text is put together and run as one transaction; policies of what may go out
come first, so that there is no moment in which rules let out what they forbid.
"""

from __future__ import annotations

from ..paths import FileLock, Paths, claims
from ..plan.journal import boot_id, read
from . import rules
from .bridge import EnsureBridge, answers_lost
from .model import lock_path, table_name
from .publish import PublishPorts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.calls import Kernel


def restoration(paths: Paths, kernel: Kernel, alive: Callable[[str], bool] | None = None) -> str:
    """The text that puts back all that containers of this engine have in the firewall, or "". May also be run when it
    is there. alive(id): whether a container runs; None: all whose journal is of this boot."""
    from .enforce import restoration as policies

    boot = boot_id()
    bridges: dict[str, str] = {}
    ports: list[str] = []
    for id in claims(paths.containers):
        if alive and not alive(id):
            continue
        mine = []
        for entry in read(f"{paths.containers}/{id}/journal"):
            if entry.boot != boot:
                continue
            if isinstance(entry.step, EnsureBridge):
                bridges[entry.step.interface] = entry.step.script
            elif isinstance(entry.step, PublishPorts):
                mine.append(entry.step.script)
        ports += reversed(mine)
    if not bridges:
        return ""
    table = table_name(paths)
    emptied = "".join(f"flush map inet {table} {name}\n" for name in rules.MAPS)
    loopback6 = rules.loopback6(table, answers_lost(kernel))
    return "".join([policies(paths, alive), rules.frame(table), *bridges.values(), emptied, loopback6, *ports])


def restore(paths: Paths, kernel: Kernel, alive: Callable[[str], bool] | None = None) -> None:
    """Put back all that is missing, in one transaction under the lock of all networks; and have the resolver do it."""
    from .resolver_call import tell

    try:
        with FileLock(lock_path(paths)):
            script = restoration(paths, kernel, alive)
            if script:
                kernel.nft(script)
    except FileNotFoundError:
        return  # there are no networks
    if script:
        tell(paths)
