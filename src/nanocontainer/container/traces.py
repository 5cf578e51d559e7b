"""What crashes leave in the kernel: cgroups, processes in them, bridges, firewall entries; ours, and of other engines.

Ours have our mark (paths.py) and the id of a container in their names: whether that lives, its lock says. An engine
with another state directory has another mark, of which that directory cannot be found out: such things are named, and
only what is provably dead is taken away: a cgroup that has been empty for a while, and whose container no keeper has.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial

from ..errors import NanoError
from ..network import rules
from ..network.allot import Binding
from ..network.leases import port_name, ports_directory
from ..network.model import NetworkStore, lock_path, table_name
from ..network.plan import ensure_bridge
from ..network.restore import restore
from ..paths import FileLock, Paths, claims, is_id, is_locked, owner_of, read_file
from ..plan.step import World
from ..runtime import cgroup
from .leftover import Found, Leftover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..network.model import Network
    from .lifecycle import Lifecycle

_OLD = 60.0  # seconds
_ELEMENT = re.compile(r"(\w+) \. (?:([\da-f]*[.:][\da-f.:]*) \. )?(\d+) : ([\da-f.:]+) \. (\d+)")


def _found(
    kind: str, subject: str, detail: str, action: str = "", hint: str = "", cure: Callable[[], object] | None = None
) -> Found:
    return Found(Leftover(kind, subject, detail, action, hint), cure)


# --- cgroups


def hierarchies() -> list[str]:
    """The mount points of cgroup2 and of all version 1 hierarchies that are mounted whole (proc_pid_mountinfo(5))."""
    found = []
    for line in read_file("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] in ("cgroup", "cgroup2") and left.split()[3] == "/":
            found.append(left.split()[4])
    return list(dict.fromkeys(found))


def groups(life: Lifecycle, sick: set[str]) -> Iterator[Found]:
    """Of our containers, where nobody keeps them."""
    for root in hierarchies():
        top = f"{root}/{life.paths.group}"
        below = _below(top)
        for name in below:
            path = f"{top}/{name}"
            if not is_id(name):
                yield _found("stray-group", path, "it is no container's", hint=f"rmdir {path}")
                continue
            if name in sick or life.running(name):
                continue
            pids = processes(path)
            what = _told(pids) if pids else "no process is in it"
            yield _found(
                "processes-without-keeper" if pids else "orphan-cgroup", path, f"nobody keeps its container; {what}",
                "killed, and the group removed" if pids else "removed",
                cure=partial(_clear_group, life, path, name),
            )  # fmt: skip
        if not below and os.path.isdir(top):
            yield _found("orphan-cgroup", top, "no container is in it", "removed", cure=partial(_rmdir, top))


def _clear_group(life: Lifecycle, path: str, id: str) -> None:
    if life.running(id):
        return
    for pid in processes(path):  # version 1 has no cgroup.kill
        if not os.path.exists(f"{path}/cgroup.kill"):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
    cgroup.kill_all(life.kernel, path)
    cgroup.remove(life.kernel, path)
    cgroup.remove_parent(life.kernel, path)


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass


def processes(path: str) -> list[int]:
    """The processes of a cgroup and of those below it."""
    found = []
    for place, _, files in os.walk(path):
        if "cgroup.procs" in files:
            try:
                found += [int(line) for line in read_file(f"{place}/cgroup.procs").split()]
            except OSError:
                continue
    return found


def _told(pids: list[int]) -> str:
    shown = ", ".join(f"{pid} ({_name(pid)})" for pid in pids[:3])
    if len(pids) == 1:
        return f"process {shown} is in it"
    return f"{len(pids)} processes are in it: {shown}{', ...' if len(pids) > 3 else ''}"


def _name(pid: int) -> str:
    try:
        return read_file(f"/proc/{pid}/comm").strip()
    except (OSError, ValueError):
        return "gone"


def _below(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


# --- bridges and the firewall


def network(life: Lifecycle, sick: set[str]) -> Iterator[Found]:
    """Bridges on which no container is, published ports of none, and a table of rules for no bridge."""
    table, lingers = table_name(life.paths), os.environ.get("NANOCONTAINER_LINGER", "").startswith("-")
    networks = NetworkStore(life.paths).all()
    used = any(_used(life.paths, each) for each in networks)
    with life.kernel.links() as links:
        up = {link.name for link in links.links()}
        has_table = links.has_table(table)
    for each in networks:
        if each.interface in up and not _used(life.paths, each) and not lingers and not _lingering(life.paths, each):
            yield _found(
                "idle-bridge", each.interface, f"bridge of network {each.name}, on which no container is", "removed",
                cure=partial(ensure_bridge(life.paths, each).undo, World(life.kernel)),
            )  # fmt: skip
    if not has_table:
        if _flushed(life, table, networks, sick):
            yield _found(
                "lost-rules", f"inet {table}", "somebody has flushed the firewall: published ports lead nowhere, and "
                "nothing outside is reached", "put back", cure=partial(restore, life.paths, life.kernel, life.running),
            )  # fmt: skip
        return
    yield from _rules(life, table, up, networks, sick)
    if not used and not any(each.interface in up for each in networks) and not lingers:
        yield _found(
            "idle-table", f"inet {table}", "firewall rules for networks that are not there", "removed",
            cure=partial(_drop_table, life, table),
        )  # fmt: skip


def _flushed(life: Lifecycle, table: str, networks: list[Network], sick: set[str]) -> bool:
    """Whether a running container's bridge is there and no rules. Under the lock under which both are made."""
    owners = set()
    try:
        with FileLock(lock_path(life.paths), shared=True), life.kernel.links() as links:
            up = {link.name for link in links.links()}
            if links.has_table(table):
                return False
            for each in networks:
                leases = f"{life.paths.networks}/{each.name}/leases"
                owners |= {owner_of(f"{leases}/{name}") for name in claims(leases) if each.interface in up}
    except FileNotFoundError:
        return False  # there are no networks
    return any(life.running(owner) for owner in owners - sick if owner)


def _used(paths: Paths, network: Network) -> bool:
    return bool(claims(f"{paths.networks}/{network.name}/leases"))


def _lingering(paths: Paths, network: Network) -> bool:
    """Whether a process waits to remove the bridge (network/bridge.py). Asked under the lock under which one is left to
    wait: to ask is to hold its lock for an instant, and whoever met that would think that somebody waits already."""
    try:
        with FileLock(lock_path(paths), shared=True):
            return is_locked(f"{paths.networks}/{network.name}/linger")
    except FileNotFoundError:
        return False  # there are no networks


def _rules(life: Lifecycle, table: str, up: set[str], networks: list[Network], sick: set[str]) -> Iterator[Found]:
    try:
        # each by itself: of two lists in one script some versions find only one
        text = "".join(life.kernel.nft(f"list map inet {table} {name}\n") for name in rules.MAPS)
        bridges = set(re.findall(r'"([^"]+)"', life.kernel.nft(f"list set inet {table} bridges\n")))
    except NanoError as error:
        hint = "with no container running: nft delete table inet " + table
        yield _found("broken-table", f"inet {table}", str(error), hint=hint)
        return
    for protocol, address, port, ip, inner in _ELEMENT.findall(text):
        binding = Binding(int(inner), int(port), address, protocol)
        anywhere = ("",) if address else ("", "::" if ":" in ip else "0.0.0.0")
        owner = next(
            filter(None, (owner_of(f"{ports_directory(life.paths)}/{port_name(protocol, each or address, int(port))}")
                          for each in anywhere)), "",
        )  # fmt: skip
        if owner in sick or (owner and life.running(owner) and _holds(life.paths, networks, ip, owner)):
            continue
        yield _found(
            "stale-port-rule", f"{address or '*'}:{port}/{protocol}", f"leads to {ip}:{inner}, where no container is",
            "removed", cure=partial(_withdraw, life, table, binding, ":" in ip),
        )  # fmt: skip
    subnets = {each.interface: (each.subnet, each.subnet6) for each in networks}
    for interface in sorted(bridges - up):
        cure = None
        if interface in subnets:
            cure = partial(life.kernel.nft, rules.forget(table, interface, *subnets[interface]))
        yield _found(
            "stale-bridge-rule", interface, f"table {table} has rules for this bridge, which is not there",
            "removed" if cure else "", "" if cure else f"with no container running: nft delete table inet {table}",
            cure,
        )  # fmt: skip


def _withdraw(life: Lifecycle, table: str, port: Binding, six: bool) -> None:
    for line in rules.withdraw(table, port, not six, six):
        life.kernel.nft(line)


def _holds(paths: Paths, networks: list[Network], ip: str, owner: str) -> bool:
    return any(owner_of(f"{paths.networks}/{each.name}/leases/{ip}") == owner for each in networks)


def _drop_table(life: Lifecycle, table: str) -> None:
    """Under the lock under which bridges are made: nobody adds one to it just now."""
    store = NetworkStore(life.paths)
    with FileLock(lock_path(life.paths)), life.kernel.links() as links:
        up = {link.name for link in links.links()}
        if links.has_table(table) and not any(each.interface in up or _used(life.paths, each) for each in store.all()):
            life.kernel.nft(f"delete table inet {table}\n")


# --- other engines


def others(life: Lifecycle) -> Iterator[Found]:
    """What carries the mark of an engine of which no keeper is there."""
    keepers = _keepers()
    for root in hierarchies():
        for name in _below(root):
            if not _is_mark(name, "nanocontainer", "-") or name == life.paths.group:
                continue
            top = f"{root}/{name}"
            inside = _below(top)
            if any(id[:9] in keepers for id in inside) or not all(map(_old, (top, *(f"{top}/{id}" for id in inside)))):
                continue
            pids = processes(top)
            what = _told(pids) if pids else "no process is in it"
            detail = f"of another engine, none of whose keepers is there; {what}"
            if pids:
                hint = "if its state directory is gone: kill them, and remove the groups"
                yield _found("foreign-cgroup", top, detail, hint=hint)
            else:
                yield _found("foreign-cgroup", top, detail, "removed", cure=partial(_rmdir_tree, top))
    if "linger" in keepers:
        return  # a bridge without containers is about to go
    with life.kernel.links() as links:
        found = links.links()
    ours = {"nano0" if not life.paths.mark else f"nano-{life.paths.mark}"}
    for link in found:
        another = _is_mark(link.name, "nano", "-", "nano0") and link.name not in ours and link.kind == "bridge"
        if another and not any(other.master == link.index for other in found):
            hint = f"if its state directory is gone: ip link delete {link.name}"
            yield _found("foreign-bridge", link.name, "of another engine; no container is on it", hint=hint)


def _rmdir_tree(top: str) -> None:
    """rmdir(2) refuses a group in which a process is."""
    for place, _, _ in os.walk(top, topdown=False):
        _rmdir(place)


def _is_mark(name: str, stem: str, joint: str, plain: str = "") -> bool:
    """Whether a kernel name is an engine's: the plain one, or the stem with eight hex digits."""
    mark = name.removeprefix(f"{stem}{joint}")
    return name == (plain or stem) or (mark != name and len(mark) == 8 and set(mark) <= set("0123456789abcdef"))


def _old(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > _OLD
    except OSError:
        return False  # gone by itself


def _keepers() -> set[str]:
    """What keepers (and those who start one) call themselves: the first nine digits of the id, or "linger"."""
    names = (_name(int(pid)) for pid in os.listdir("/proc") if pid.isdigit())
    return {name[6:] for name in names if name.startswith("nanoc:")}
