"""What crashes have left: found without touching anything, and cleared away when that is asked for.

Every command sweeps what it touches, with the functions of lifecycle.py and the journals. This looks at all there is,
also at what no journal names, and clears with the same functions. Two rules:

 1. Found is what is so twice, a moment apart. Others start and end containers meanwhile, and what they are just doing
    is no leftover; what a living process holds the lock of is not looked at.
 2. Cleared is only what nothing can need any more. Volumes, writable layers and images are the user's: what is broken
    there is named, with what a person can do. Whether a cure has worked is seen by looking once more.
"""

from __future__ import annotations

import os
import time
from functools import partial

from ..errors import Corrupt, NanoError, NotFound, Unsupported, reason
from ..image import checkup
from ..lean import loads
from ..network.leases import ports_directory
from ..network.model import NetworkStore
from ..paths import check_format, claims, is_id, is_locked, is_there, owner_of, read_file, release, remove_tree
from ..plan.journal import read
from ..record import Record
from ..rootfs import filling
from . import (
    imagemounts,
    names_checkup,
    residues,  # noqa: F401 (so that the journals' steps are known)
    traces,
    traces_egress,
)
from .leftover import Found, Leftover
from .locks import Lock
from .offers import Feature  # noqa: TC001 (Record.from_dict looks it up here)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .lifecycle import Lifecycle

OLD = 60.0  # seconds after which a temporary file is nobody's work any more
_MOMENT = 0.1  # seconds between two looks


class Diagnosis(Record):
    """features: what this host offers. leftovers: what was found. unseen: why nothing was looked for, or empty.

    fine: nothing needs attention: what a plain run needs is there, there is room on the disk, and nothing is left over.
    """

    features: tuple[Feature, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    unseen: str = ""
    fine: bool = True


def diagnose(life: Lifecycle, features: tuple[Feature, ...], *, repair: bool = False) -> Diagnosis:
    """Look for leftovers; with repair, clear away what can be."""
    unseen = ""
    leftovers: tuple[Leftover, ...] = ()
    if os.geteuid() != 0:
        unseen = "only root can look into the state directory"
    elif not os.path.isdir(life.paths.state):
        unseen = f"there is no state directory {life.paths.state} yet"
        leftovers = tuple(one.leftover for one in _twice(lambda: list(traces.others(life))))
    else:
        leftovers = _mend(life) if repair else tuple(one.leftover for one in look(life))
    return Diagnosis(features, leftovers, unseen, _fine(features, leftovers))


def _fine(features: tuple[Feature, ...], leftovers: tuple[Leftover, ...]) -> bool:
    lacking = any(one.status == "missing" and one.needed for one in features)
    full = any(one.status == "limited" and one.name in ("disk-space", "inodes") for one in features)
    return not (lacking or full or any(one.outcome != "repaired" for one in leftovers))


def look(life: Lifecycle) -> list[Found]:
    """All leftovers, each seen twice."""
    return _twice(lambda: list(_all(life)))


def _twice(find: Callable[[], list[Found]]) -> list[Found]:
    first = {one.key for one in find()}
    if not first:
        return []
    time.sleep(_MOMENT)
    return [one for one in find() if one.key in first]


def _mend(life: Lifecycle) -> tuple[Leftover, ...]:
    """Look, cure, and look again: what is still there is left."""
    found = look(life)
    said: dict[tuple[str, str], str] = {}
    for one in found:
        if one.cure is not None:
            try:
                one.cure()
            except (NanoError, OSError) as error:
                said[one.key] = str(error)
    still = {one.key: one.leftover for one in look(life)} if found else {}
    ended = []
    for one in found:
        if one.key in still:
            why = said.get(one.key) or ("it is still there" if one.cure else "nothing can be done about it safely")
            ended.append(one.leftover.replace(outcome="left", why=why))
        else:
            ended.append(one.leftover.replace(outcome="repaired"))
    known = {one.key for one in found}
    return (*ended, *(one.replace(outcome="left") for key, one in still.items() if key not in known))


def _all(life: Lifecycle) -> Iterator[Found]:
    try:
        check_format(life.paths)
    except (Unsupported, Corrupt) as error:  # what is there is not ours to understand
        yield Found(Leftover("format", life.paths.state, str(error), hint=error.hint))
        return
    sick: set[str] = set()  # containers that are down with all that belongs to them once they are settled
    finders: tuple[tuple[str, Callable[[], Iterator[Found]]], ...] = (
        ("the directories", lambda: _places(life)),
        ("the containers", lambda: _containers(life, sick)),
        ("half removed things", lambda: _removals(life)),
        ("names, addresses and ports", lambda: _claims(life, sick)),
        ("the directories of running containers", lambda: _live_directories(life)),
        ("the cgroups", lambda: traces.groups(life, sick)),
        ("interfaces and firewall rules", lambda: traces.network(life, sick)),
        ("what containers may reach", lambda: traces_egress.policies(life, sick)),
        ("the networks", lambda: _networks(life)),
        ("names on networks", lambda: names_checkup.names(life)),
        ("the images", lambda: _images(life)),
        ("the mounts of images", lambda: imagemounts.leftovers(life)),
        ("the volumes", lambda: _volumes(life)),
        ("temporary files", lambda: _temporary(life)),
        ("what else there is", lambda: traces.others(life)),
    )
    for what, find in finders:
        try:
            yield from find()
        except OSError as error:  # one sick corner must not hide the others
            why, hint = reason(error)
            yield Found(Leftover("unseen", what, f"cannot look through them: {why}", hint=hint))
        except NanoError as error:
            yield Found(Leftover("unseen", what, f"cannot look through them: {error}", hint=error.hint))


def _places(life: Lifecycle) -> Iterator[Found]:
    paths = life.paths
    for path in (paths.containers, paths.names, paths.networks, paths.images, paths.volumes, paths.run,
                 ports_directory(paths), f"{paths.run}/containers"):  # fmt: skip
        if is_there(path) and not os.path.isdir(path):
            hint = "look what it is, and move it away; or put the directory back that it was"
            yield Found(Leftover("no-directory", path, "it must be a directory, and is none", hint=hint))


# --- containers


def _containers(life: Lifecycle, sick: set[str]) -> Iterator[Found]:
    for id in life.store.ids():
        if life.running(id):
            continue
        half = not is_there(f"{life.paths.container(id)}/state.json")
        try:
            found = None if half else _of_container(life, id)
        except NotFound:
            continue  # removed meanwhile
        if half:
            found = Found(
                Leftover("half-made-container", id[:12], "its creation was killed half-way", "removed"), life.sweep
            )
        if found and not life.running(id):
            sick.add(id)
            yield found


def _of_container(life: Lifecycle, id: str) -> Found | None:
    try:
        container = life.store.load(id)
    except NotFound:
        raise
    except NanoError as error:
        return Found(Leftover("broken-container", id[:12], f"{error.what}: {error.why}", hint=error.hint))
    journal = f"{life.paths.container(id)}/journal"
    left = is_there(journal)
    unknown, garbage = _journal(journal) if left else ([], 0)
    if unknown:
        return Found(Leftover(
            "unknown-steps", container.name,
            f"its journal has steps that this version does not know: {', '.join(unknown)}",
            hint=f"the version that wrote {journal} can undo them: use that to remove the container",
        ))  # fmt: skip
    noted = f"; {garbage} lines of its journal are broken" if garbage else ""
    then = "taken down and removed (--rm)" if container.spec.auto_remove else "taken down"

    def settle() -> None:
        try:
            life.settle(id)
        except NotFound:
            pass  # it was started with --rm

    if container.state.status in ("running", "paused"):
        why = "ended, and could not be taken down" if not container.state.keeper else life.why_lost(container.state)
        return Found(Leftover("lost-keeper", container.name, f"it ran: {why}{noted}", then), settle)
    if left:
        detail = f"its start or end was killed half-way{noted}"
        return Found(Leftover("killed-start", container.name, detail, then), settle)
    return None


def _journal(path: str) -> tuple[list[str], int]:
    """Names of the steps that we do not know, and the number of whole lines that say nothing."""
    unknown = sorted({entry.name for entry in read(path) if entry.step is None})
    garbage = 0
    try:
        lines = read_file(path).split("\n")
    except ValueError:
        return unknown, 1
    except OSError:
        return unknown, 0
    for line in lines[:-1]:  # the last one may be cut off: a step that never ran
        try:
            if line and not isinstance(loads(line), dict):
                garbage += 1
        except ValueError:
            garbage += 1
    return unknown, garbage


def _removals(life: Lifecycle) -> Iterator[Found]:
    for directory in (life.paths.containers, life.paths.volumes):
        for name in claims(directory):
            if not name.startswith(".rm-"):
                continue
            id, pid = name[4:], name.rpartition("-")[2]
            busy = life.running(id) if is_id(id) else pid.isdigit() and is_there(f"/proc/{pid}")
            if not busy:
                detail = "its removal was killed half-way"
                yield Found(Leftover("half-removed", f"{directory}/{name}", detail, "removed"), life.sweep)


# --- claims: names, addresses, ports


def _claims(life: Lifecycle, sick: set[str]) -> Iterator[Found]:
    yield from _stale(life, life.paths.names, "stale-name", life.store.exists)
    leases = [f"{life.paths.networks}/{name}/leases" for name in claims(life.paths.networks)]
    for directory in leases:
        if os.path.isdir(directory):
            yield from _stale(life, directory, "stale-lease", lambda id: id in sick)
    yield from _stale(life, ports_directory(life.paths), "stale-port", lambda id: id in sick)


def _stale(life: Lifecycle, directory: str, kind: str, kept: Callable[[str], bool]) -> Iterator[Found]:
    for name in claims(directory):
        path = f"{directory}/{name}"
        owner = owner_of(path)
        if not is_id(owner):
            if is_there(path):
                detail = "it is no claim: no symbolic link to a container's id"
                yield Found(Leftover("stray-file", path, detail, hint="look what it is, and remove it"))
            continue
        if life.running(owner) or kept(owner):  # in this order: see Lifecycle.kept
            continue
        there = life.store.exists(owner)
        detail = f"container {owner[:12]} {'does not run' if there else 'is not there'}"
        yield Found(Leftover(kind, path, detail, "given back"), partial(_give_back, life, owner, path))


def _give_back(life: Lifecycle, owner: str, path: str) -> None:
    """Under the owner's lock: nobody starts it just now, and relies on what it has claimed."""
    there = life.store.exists(owner)
    lock = Lock(life.paths, owner)
    if lock.take():
        try:
            release(path, owner)
            if not there:
                remove_tree(life.paths.live(owner))  # the lock has made it anew
        finally:
            lock.release()


def _live_directories(life: Lifecycle) -> Iterator[Found]:
    directory = f"{life.paths.run}/containers"
    for id in claims(directory):
        path = f"{directory}/{id}"
        if not is_id(id):
            yield Found(Leftover("stray-file", path, "it is no container's", hint="look what it is, and remove it"))
        elif not life.running(id) and not life.store.exists(id):
            detail = "lock and socket of a container that is not there"
            yield Found(Leftover("stale-live-directory", path, detail, "removed"), partial(remove_tree, path))


# --- what lies on the disk beside the containers


def _networks(life: Lifecycle) -> Iterator[Found]:
    store = NetworkStore(life.paths)
    for name in claims(life.paths.networks):
        if name.startswith(".") or not os.path.isdir(f"{life.paths.networks}/{name}"):
            continue
        try:
            store.find(name, save=False)
        except NotFound:
            path = f"{life.paths.networks}/{name}"
            hint = "remove it when no container uses the network"
            yield Found(Leftover("broken-network", path, "it has no network.json", hint=hint))
        except NanoError as error:
            yield Found(Leftover("broken-network", name, str(error), hint=error.hint))


def _images(life: Lifecycle) -> Iterator[Found]:
    for path, what in checkup.leftovers(life.images):
        yield Found(Leftover("image-leftover", path, what, "removed"), life.images.sweep)
    for name, what, hint in checkup.damage(life.images):
        yield Found(Leftover("damaged-image", name, what, hint=hint))


def _volumes(life: Lifecycle) -> Iterator[Found]:
    for name in claims(life.paths.volumes):
        directory = f"{life.paths.volumes}/{name}"
        if _is_directory(directory) and _is_directory(f"{directory}/_filling") and not is_locked(directory):
            detail = "a copy of an image's files that was killed half-way; the volume has none of it"
            yield Found(
                Leftover("half-filled-volume", f"{directory}/_filling", detail, "removed"),
                partial(filling.clear, life.kernel, directory),
            )


def _temporary(life: Lifecycle) -> Iterator[Found]:
    """Files that were to replace others by rename (paths.write_file), and probes (kernel/probes.py)."""
    paths = life.paths
    places = [paths.state, paths.run, f"{paths.run}/cache/seccomp", paths.networks, paths.volumes]
    for above in (paths.containers, paths.networks, paths.volumes):
        places += [f"{above}/{name}" for name in claims(above) if _is_directory(f"{above}/{name}")]
    for place in dict.fromkeys(places):
        for name in claims(place):
            path = f"{place}/{name}"
            if _is_temporary(name) and _age(path) > OLD:
                detail = "a file that was not written to its end"
                yield Found(Leftover("half-written-file", path, detail, "removed"), partial(os.unlink, path))
            elif name.startswith(".probe-") and not is_there(f"/proc/{name[7:]}"):
                detail = "a question to the file system that was killed half-way"
                yield Found(Leftover("half-written-file", path, detail, "removed"), partial(remove_tree, path))


def _is_directory(path: str) -> bool:
    """No link to one: what lies behind it is not in our directories, and not ours to clear."""
    return os.path.isdir(path) and not os.path.islink(path)


def _is_temporary(name: str) -> bool:
    before, _, hex = name.removesuffix(".tmp").rpartition(".")
    return name.endswith(".tmp") and bool(before) and len(hex) == 16 and set(hex) <= set("0123456789abcdef")


def _age(path: str) -> float:
    try:
        return time.time() - os.lstat(path).st_mtime
    except OSError:
        return 0.0
