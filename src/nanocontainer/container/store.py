"""The containers on disk: a directory each, found by id, prefix or name.

    containers/<id>/spec.json    written before the container has a name; replaced by rename when it is amended
                    state.json   replaced by rename; its presence means that the container is whole
                    journal      what must be undone (plan/journal.py)
                    upper/ work/ the container's own files
    names/<name> → <id>          a claim (paths.py)

A directory without state.json belongs to a create that is under way (its lock is held) or that was killed.
Broken files are named and stand in nobody's way: a list reports them and goes on.
"""

from __future__ import annotations

import os

from ..errors import Conflict, Corrupt, InvalidInput, NanoError, NotFound, is_shortage, reason
from ..lean import dumps, loads
from ..paths import (
    check_name,
    claim,
    claims,
    is_id,
    is_there,
    make_dirs,
    owner_of,
    read_file,
    release,
    remove_tree,
    write_file,
)
from ..record import Record
from .naming import random_name
from .spec import Container, Spec, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..paths import Paths

    T = TypeVar("T", Spec, State)


_REMOVE = "remove it: rm -f {}"


class ContainerStore:
    """Where containers are kept. All methods may be called by several processes at once."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    # --- finding

    def resolve(self, ref: str) -> str:
        """The id for a name, an id or a unique prefix of one. NotFound; InvalidInput where several fit."""
        if is_id(ref) and os.path.isdir(self.paths.container(ref)):
            return ref
        if ref and "/" not in ref and "\0" not in ref:
            try:
                found = os.readlink(f"{self.paths.names}/{ref.removeprefix('/')}")
                if is_id(found):
                    return found
            except OSError as error:
                if is_shortage(error):
                    raise NanoError(f"cannot look up container {ref}", *reason(error)) from None
            fitting = [id for id in self.ids() if self._calls_itself(id, ref)]  # its claim is lost, or broken
            if len(fitting) == 1:
                return fitting[0]
            fitting = [id for id in self.ids() if id.startswith(ref)]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                raise InvalidInput(
                    f"container {ref!r} is ambiguous", f"{len(fitting)} ids begin with it", "give more digits"
                )
        raise NotFound(f"no such container: {ref}", "", "`nanocontainer ps -a` lists all")

    def _calls_itself(self, id: str, name: str) -> bool:
        try:
            return self.spec(id).name == name
        except NanoError:
            return False

    def ids(self) -> list[str]:
        return [name for name in _entries(self.paths.containers) if is_id(name)]

    def spec(self, id: str) -> Spec:
        """NotFound, or Corrupt naming the file."""
        return self._read(id, "spec.json", Spec)

    def state(self, id: str) -> State:
        """NotFound where there is no such container, or it is only half made; Corrupt naming the file.

        A state is not fsynced: no start waits for a disk. After a power cut some file systems have an empty file or
        zeros in its place; what the container has written is there, so it counts as one that has exited.
        """
        try:
            return self._read(id, "state.json", State)
        except Corrupt:
            if not _emptied(f"{self.paths.container(id)}/state.json"):
                raise
            return State(status="exited", exit_code=255, error="its state was lost in a power cut")

    def _read(self, id: str, name: str, kind: type[T]) -> T:
        path = f"{self.paths.container(id)}/{name}"
        try:
            data = loads(read_file(path))
            if not isinstance(data, dict):
                raise ValueError("it holds no JSON object")
            found = kind.from_dict(data)
            _check(found)
            if getattr(found, "status", "created") not in ("created", "running", "paused", "exited"):
                raise ValueError("no status that a container can have")
            if getattr(found, "id", id) != id or "/" in getattr(found, "name", ""):
                raise ValueError("it belongs to another container")
            return found
        except FileNotFoundError:
            if name == "spec.json" and is_there(f"{self.paths.container(id)}/state.json"):  # it was whole
                raise Corrupt(f"container {id[:12]} is broken", f"{path} is missing", _REMOVE.format(id[:12])) from None
            raise NotFound(f"no such container: {id[:12]}") from None
        except (ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
            if isinstance(error, OSError) and is_shortage(error):
                raise NanoError(f"cannot read container {id[:12]}", *reason(error)) from None
            why = reason(error)[0] if isinstance(error, OSError) else f"{path}: {error}"
            raise Corrupt(f"container {id[:12]} is broken", why, _REMOVE.format(id[:12])) from None

    def load(self, id: str) -> Container:
        return Container(self.spec(id), self.state(id))

    def list(self, on_broken: Callable[[NanoError], None] | None = None) -> list[Container]:
        """All whole containers, newest first. Broken ones go to on_broken."""
        found = []
        for id in self.ids():
            try:
                found.append(self.load(id))
            except NotFound:
                continue
            except NanoError as error:
                if on_broken:
                    on_broken(error)
        found.sort(key=lambda container: container.spec.created, reverse=True)
        return found

    # --- making

    def claim_name(self, name: str, id: str, alive: Callable[[str], bool]) -> str:
        """Take a name for an id, a random one where name is empty. Conflict where a container has it."""
        wanted = check_name(name) if name else random_name()
        for attempt in range(1000):
            owner = claim(f"{self.paths.names}/{wanted}", id, alive)
            if not owner:
                return wanted
            if name:
                raise Conflict(
                    f"the container name {wanted!r} is already in use",
                    f"by container {owner[:12]}",
                    "remove that container, or choose another name",
                )
            wanted = f"{random_name()}{attempt % 10 if attempt > 20 else ''}"
        raise Conflict(f"cannot find a free name like {wanted!r}")

    def name_owner(self, name: str) -> str:
        return owner_of(f"{self.paths.names}/{name}")

    def claims(self) -> tuple[tuple[str, str], ...]:
        """(id, name) of all claimed names, and (id, "") of all directories of this boot."""
        found = [(self.name_owner(entry), entry) for entry in claims(self.paths.names)]
        found += [(entry, "") for entry in _entries(f"{self.paths.run}/containers")]
        return tuple((id, name) for id, name in found if is_id(id))

    def release_name(self, name: str, id: str) -> None:
        """Give a name back, if it is this id's."""
        if name:
            release(f"{self.paths.names}/{name}", id)

    def make(self, spec: Spec, root_like: str | tuple[int, int, int]) -> None:
        """Write a container down: directories first, the specification last. root_like: the image's top layer, whose
        root directory's owner and mode the container's has; or those themselves (mode, owner, group)."""
        directory = self.paths.container(spec.id)
        make_dirs(self.paths.containers)
        os.mkdir(directory, 0o700)
        os.mkdir(f"{directory}/work", 0o700)
        upper = f"{directory}/upper"
        os.mkdir(upper, 0o755)
        if isinstance(root_like, str):
            like = os.stat(root_like)
            root_like = like.st_mode, like.st_uid, like.st_gid
        mode, uid, gid = root_like
        os.chown(upper, uid, gid)
        os.chmod(upper, mode & 0o7777)
        write_file(f"{directory}/spec.json", dumps(spec.as_dict()), durable=not spec.auto_remove)

    def amend(self, id: str, spec: Spec) -> None:
        """Replace the specification, by rename(2). The caller holds the container's change lock, or its keeper.lock."""
        write_file(f"{self.paths.container(id)}/spec.json", dumps(spec.as_dict()), durable=not spec.auto_remove)

    def save(self, id: str, state: State) -> None:
        write_file(f"{self.paths.container(id)}/state.json", dumps(state.as_dict()))

    def exists(self, id: str) -> bool:
        return is_there(self.paths.container(id))

    # --- removing

    def remove(self, id: str, name: str) -> None:
        """Delete a container's directories and its name. First a rename: from then on it does not exist any more."""
        gone = f"{self.paths.containers}/.rm-{id}"
        try:
            os.rename(self.paths.container(id), gone)
        except FileNotFoundError:
            pass
        self.release_name(name, id)
        remove_tree(gone)
        remove_tree(self.paths.live(id))

    def finish_removals(self) -> None:
        """Removals that were killed half-way are finished by whoever comes next."""
        for name in _entries(self.paths.containers):
            if name.startswith(".rm-"):
                remove_tree(f"{self.paths.containers}/{name}")
                remove_tree(self.paths.live(name[4:]))


_PLAIN: dict[type, str] = {str: "str", int: "int", bool: "bool", float: "float"}


def _check(record: Record) -> None:
    """TypeError where a field does not have the type of its annotation: JSON can say anything."""
    values = record.__dict__
    for name, kind in record._types.items():
        value = values[name]
        if _PLAIN.get(type(value)) != kind and not _fits(value, kind):
            raise TypeError(f"{name} is not of type {kind}")


def _fits(value: object, kind: str) -> bool:
    if isinstance(value, tuple):
        inner = kind.removeprefix("tuple[").partition(",")[0]
        return kind.startswith("tuple[") and all(_fits(item, inner) for item in value)
    if isinstance(value, dict):
        inner = kind.removeprefix("dict[str, ").removesuffix("]")
        return kind.startswith("dict[str, ") and all(_fits(item, inner) for item in value.values())
    if value is None:
        return kind.endswith(" | None")
    if isinstance(value, Record):
        _check(value)
        return type(value).__name__ == kind.removesuffix(" | None")
    return _PLAIN.get(type(value)) == kind or (type(value) is int and kind == "float")


def _emptied(path: str) -> bool:
    try:
        return not read_file(path).strip("\0")
    except (OSError, ValueError):
        return False


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
