"""Volumes: directories that outlive containers, below volumes/<name>/_data. What fills a new one is in filling.py.

A volume belongs to nobody: containers name it. Anonymous ones have an id for a name and are removed with `rm -v`, or
with a container that was started with --rm.
"""

from __future__ import annotations

import os
import stat

from ..errors import InvalidInput, NotFound
from ..lean import dumps
from ..paths import FileLock, check_name, is_there, make_dirs, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..paths import Paths

FILLED = "_filled"  # beside _data: a whole copy of what the image has, which is moved there piece by piece


def ensure(paths: Paths, name: str, created: str, labels: dict[str, str] | None = None) -> tuple[str, bool]:
    """(the data directory, whether it takes what an image has in its place: it is empty, or was not filled to the end).

    The volume is made when it is missing; a name is taken once (mkdir)."""
    check_name(name, "volume name")
    directory = f"{paths.volumes}/{name}"
    data = f"{directory}/_data"
    if not is_there(data):
        make_dirs(paths.volumes)
        make_dirs(directory)
        with FileLock(directory, directory=True):  # it is a volume when it has _data: nobody reads the file before
            if not is_there(data):
                with open(f"{directory}/volume.json", "w", encoding="utf-8") as file:
                    file.write(dumps({"name": name, "created": created, "labels": labels or {}}))
                os.mkdir(data, 0o755)
    return data, not os.listdir(data) or is_there(f"{directory}/{FILLED}")


def remove(paths: Paths, name: str) -> None:
    """Delete a volume and what is in it. NotFound where there is none. Whether it is in use is the caller's to know."""
    check_name(name, "volume name")
    directory = f"{paths.volumes}/{name}"
    gone = f"{paths.volumes}/.rm-{name}-{os.getpid()}"
    try:
        os.rename(directory, gone)
    except FileNotFoundError:
        raise NotFound(f"no such volume: {name}") from None
    remove_tree(gone)


def finish_removals(paths: Paths) -> None:
    """Removals of volumes that were killed half-way are finished by whoever comes next."""
    try:
        names = os.listdir(paths.volumes)
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(".rm-"):
            remove_tree(f"{paths.volumes}/{name}")


def check_subpath(path: str) -> None:
    """A subpath of a volume: relative, without "..". InvalidInput else."""
    if path.startswith("/") or ".." in path.split("/"):
        raise InvalidInput(f"invalid volume subpath {path!r}", "must be relative and without '..'")


def tree_size(path: str) -> int:
    """Bytes of the regular files below path; a file with several names counts once."""
    total, seen, stack = 0, set(), [path]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        stack.append(entry.path)
                    elif stat.S_ISREG(found.st_mode) and found.st_ino not in seen:
                        total += found.st_size
                        if found.st_nlink > 1:
                            seen.add(found.st_ino)
        except OSError:
            continue
    return total
