"""Who works with a layer: one lock file per layer, beside it.

A pull that needs a layer holds its lock shared until the image is recorded; whoever makes the layer or deletes it holds
it alone. So two pulls unpack a common layer once, and a layer is never deleted between "already exists" and its use.

flock(2), not a fcntl(2) record lock: a record lock belongs to the process, and the daemon pulls in several threads. A
killed process loses its locks, so nothing can stay claimed. To wait for a lock alone while others hold theirs shared
could be a circle of waiting; therefore alone is only tried, and waiting is always for shared.

A layer must be whole on the disk before it has its name, or a power cut could leave one that looks whole and has empty
files. One syncfs(2) does that for a whole tree; fsync(2) of each of thousands of files takes many times as long. A
layer that is one file has been synced by who wrote it.

    layers/<hex>        the layer, a directory
    layers/<hex>.erofs  or this: one file that is mounted (erofs_layer.py)
    layers/<hex>.json   its size in bytes
    layers/<hex>.split  how to make the tar of a directory again (recipe.py)
    layers/<hex>.lock   the lock
    layers/<hex>.tmp    being made          layers/<hex>.gone  being deleted
"""

from __future__ import annotations

import fcntl
import os
import time

from .. import lean
from ..errors import NanoError
from ..kernel.calls import Kernel
from ..kernel.imagemount import drop_image
from ..paths import read_file, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_POLL = 0.02  # seconds; only in the short moment between another's lock alone and its lock shared


FORMS = {"directory": "", "erofs": ".erofs"}  # how a layer can lie there -> what its name ends in


def found_at(place: str) -> str:
    """The path of the layer that is at `place`, in whatever form; empty where there is none."""
    if os.path.isdir(place):
        return place
    return f"{place}.erofs" if os.path.isfile(f"{place}.erofs") else ""


def obtain(place: str, make: Callable[[str], int], form: str = "directory") -> tuple[int, bool]:
    """Hold the layer at `place` shared, making it first where it is missing.

    make(path) fills an empty directory, or writes a new file, as `form` says, and returns the layer's size in bytes; it
    may raise, then nothing is left.
    Returns the open lock (close it to let go) and whether it was this call that made the layer.
    """
    made = False
    while True:
        fd = _lock(place, fcntl.LOCK_SH)
        if fd is not None and found_at(place):
            return fd, made
        if fd is not None:
            os.close(fd)
        fd = _lock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if fd is None:
            time.sleep(_POLL)
            continue
        try:
            if not found_at(place):
                _make(place, make, form)
                made = True
        finally:
            release(place, fd)


def seize(place: str) -> int | None:
    """Hold the layer alone, or None when somebody works with it. Give back with `release`."""
    return _lock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)


def release(place: str, fd: int) -> None:
    """Let go of a layer held alone; its lock file goes when the layer is gone."""
    if not found_at(place):
        os.unlink(f"{place}.lock")  # who waits on it sees that the name is gone, and opens a new one
    os.close(fd)


def destroy(place: str, mounted: str = "") -> bool:
    """Delete the layer held alone, in all its forms, its mount (`mounted`: where that would be), and what killed work
    left beside it. Whether there was anything to delete."""
    found = False
    while path := found_at(place):
        _discard(place, path)
        found = True
    found |= drop_image(Kernel(), mounted)  # only now: who would mount it again does not find the file any more
    return scrub(place) or found


def exchange(place: str, make: Callable[[str], int], form: str, mounted: str, is_used: Callable[[], bool]) -> bool:
    """Give the layer held alone another form. False where the old one had to stay, because it is used.

    Who is killed leaves the old one, or both: they are the same. The image is what is used where there are both. A
    directory must stay while a container has it in its overlay; an image's file need not, since its mount keeps it.
    """
    if not os.path.exists(f"{place}{FORMS[form]}"):
        _make(place, make, form)
    if form == "erofs" and is_used():
        return False
    _discard(place, f"{place}.erofs" if form == "directory" else place)
    drop_image(Kernel(), mounted)
    if form == "erofs":
        _delete_tree(f"{place}.split")  # the archive itself is there now
    scrub(place)
    return True


def _discard(place: str, path: str) -> None:
    """Gone at once: what is half deleted is never taken for a layer."""
    _delete_tree(f"{place}.gone")
    os.rename(path, f"{place}.gone")


def scrub(place: str) -> bool:
    """Delete what killed work left beside a layer held alone. Whether there was anything."""
    found = _delete_tree(f"{place}.gone") | _delete_tree(f"{place}.tmp")
    if not found_at(place):
        found |= _delete_tree(f"{place}.json") | _delete_tree(f"{place}.split")
    return found


def layer_size(place: str) -> int:
    """Bytes of the regular files of a layer, as they were counted when it was unpacked."""
    try:
        return int(lean.loads(read_file(f"{place}.json"))["size"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return 0  # only a display value: a layer is not unusable for it


def _delete_tree(path: str) -> bool:
    """False where there was nothing. NanoError where it cannot be deleted."""
    if not os.path.lexists(path):
        return False
    try:
        remove_tree(path)
    except OSError as error:
        raise NanoError(f"cannot delete {path}", error.strerror or str(error)) from None
    return True


def _make(place: str, make: Callable[[str], int], form: str) -> None:
    temporary = f"{place}.tmp"
    _delete_tree(temporary)
    try:
        if form == "directory":
            os.mkdir(temporary, 0o755)
            os.chmod(temporary, 0o755)
        size = make(temporary)
        with open(f"{place}.json", "w", encoding="utf-8") as file:  # nobody reads it before the layer has its name
            file.write(lean.dumps({"size": size}))
        if form == "directory":
            _on_disk(temporary, Kernel().syncfs)
        os.rename(temporary, f"{place}{FORMS[form]}")
        _on_disk(os.path.dirname(place), os.fsync)  # the new name too, before a record relies on it
    except BaseException:
        scrub(place)
        raise


def _on_disk(directory: str, sync: Callable[[int], None]) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def _lock(place: str, kind: int) -> int | None:
    """The open lock file, locked; None where it is taken (with LOCK_NB)."""
    path = f"{place}.lock"
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            if not (os.path.islink(path) or os.path.isdir(path)):
                raise
            _delete_tree(path)  # something else in its place: nobody can hold that
            continue
        try:
            fcntl.flock(fd, kind)
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # another one deleted this file between our open and our lock
