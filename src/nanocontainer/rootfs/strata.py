"""Which layer of an overlay stack a file comes from: the rules of overlayfs, walked by hand, top down.

For a name the topmost layer that has it decides: a file there hides what lower layers have; a character device 0/0 (a
whiteout) or an empty file with the xattr trusted.overlay.whiteout says that the name is deleted; directories of the
same name are merged, unless one is opaque (xattr trusted.overlay.opaque=y): then nothing of lower layers shows through
(docs.kernel.org/filesystems/overlayfs.html, "whiteouts and opaque directories", "merged directories").

Layers are hostile: every name is looked up by one *at call in an open directory, and the kernel follows no link. Links
in the path are followed here, in the merged tree, as the container would.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import InvalidInput, NotFound
from ..kernel.abi import O_PATH
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LINKS = 40  # as many as the kernel follows (path_resolution(7))
_OPEN = O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip


class Finding(Record):
    """What one layer has at a path. layer: its place in the stack, 0 on top.

    role: "provides" (this is what the container sees), "merges" (its directory is part of what is seen), "deletes" (a
    whiteout), "opaque" (a directory that hides all lower ones), "hidden" (something above decides). kind: file,
    directory, link, ...; size: bytes; mode: octal; target: of a link.
    """

    layer: int
    role: str
    kind: str = ""
    size: int = 0
    mode: str = ""
    target: str = ""
    path: str = ""


class Trace(Record):
    """Where a path leads. resolved: after links; exists: whether the container sees something there; findings: what
    decides on the way, and what the layers have there, top first; links: those that were followed, 41 of them for a
    circle."""

    path: str
    resolved: str
    exists: bool
    findings: tuple[Finding, ...] = ()
    links: tuple[Finding, ...] = ()


def trace(layers: Sequence[str], path: str) -> Trace:
    """Walk a path through directories of layers, top first. InvalidInput for a relative path or one with NUL; NotFound
    where a layer's directory is missing."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidInput(f"invalid path {path!r}", "it must be absolute: as the container sees it, from / on")
    stack = _Stack(layers)
    try:
        return stack.trace(path)
    finally:
        stack.close()


class _Stack:
    """Layers, opened. opened: the directories of the walk that is under way."""

    def __init__(self, layers: Sequence[str]) -> None:
        self.roots: list[int] = []
        self.opened: list[int] = []
        for path in layers:
            try:
                self.roots.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except OSError as error:
                self.close()
                raise NotFound(f"cannot look into layer {path}", error.strerror or "", "pull the image again") from None

    def close(self) -> None:
        for fd in (*self.roots, *self.opened):
            os.close(fd)

    def trace(self, path: str, *, follow: bool = True) -> Trace:
        """follow: a link at the end of the path too, as stat(2) does and lstat(2) does not."""
        done: list[str] = []  # a path without links and dots
        pending = path.split("/")
        links: list[Finding] = []
        while pending:
            part = pending.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                if done and not self._at(done, "directory"):
                    return Trace(path, f"/{'/'.join(done)}", False, tuple(self._walk(done)[0]), tuple(links))
                done = done[:-1]
                continue
            link = self._at([*done, part], "link") if follow or any(pending) else None
            if link is None:
                done.append(part)
                continue
            links.append(link)
            if len(links) > _LINKS:  # ELOOP: they lead in a circle
                return Trace(path, path, False, (), tuple(links))
            done = [] if link.target.startswith("/") else done
            pending = [*link.target.split("/"), *pending]
        above, found, ended = self._walk(done)
        exists = ended and found[0].role in ("provides", "opaque")
        return Trace(path, "/" + "/".join(done), exists, (*above, *found), tuple(links))

    def _at(self, parts: list[str], kind: str) -> Finding | None:
        """What the container sees at a path, if it is of that kind."""
        _, found, ended = self._walk(parts)
        top = found[0] if ended else None
        return top if top and top.role in ("provides", "opaque") and top.kind == kind else None

    def _walk(self, parts: list[str]) -> tuple[list[Finding], list[Finding], bool]:
        """(what decided on the way, what the layers have at the end, whether some have something there)."""
        for fd in self.opened:
            os.close(fd)
        self.opened.clear()
        # the directory of each layer, and whether it is part of the merged one: or it lies hidden
        here = [(layer, fd, True) for layer, fd in enumerate(self.roots)]
        above: list[Finding] = []
        found = [Finding(layer, "merges" if layer else "provides", "directory", path="/") for layer, _, _ in here]
        for at, name in enumerate(parts):
            looked, here = self._look(here, name)
            place = "/" + "/".join(parts[: at + 1])
            found = [one.replace(path=place) for one in looked]
            if at < len(parts) - 1:
                above += [
                    one
                    for one in found
                    if one.role in ("deletes", "opaque") or (one is found[0] and one.kind != "directory")
                ]
        return above, found, bool(found)

    def _look(self, here: list[tuple[int, int, bool]], name: str) -> tuple[list[Finding], list[tuple[int, int, bool]]]:
        """One name in the layers' directories: what each has, and the directories to go on in."""
        found: list[Finding] = []
        below: list[tuple[int, int, bool]] = []
        open_above = True  # nothing above has decided yet
        for layer, directory, seen in here:
            open_above = open_above and seen
            entry = self._entry(layer, directory, name)
            if entry is None:
                continue
            one, fd = entry
            decided = one.role in ("deletes", "opaque") or one.kind != "directory"
            if not open_above or (found and one.kind != "directory" and one.role != "deletes"):
                one = one.replace(role="hidden")
                decided = True
            elif one.role == "merges" and not any(other.role in ("provides", "merges", "opaque") for other in found):
                one = one.replace(role="provides")
            found.append(one)
            if fd >= 0:
                self.opened.append(fd)
                below.append((layer, fd, open_above and one.role != "hidden"))
            if decided:
                open_above = False
        return found, below

    def _entry(self, layer: int, directory: int, name: str) -> tuple[Finding, int] | None:
        try:
            fd = os.open(name, _OPEN, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                return None
            raise
        found = os.fstat(fd)
        kind = _NAMES.get(stat.S_IFMT(found.st_mode), "something")
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        if kind == "directory":
            role = "opaque" if _xattr(fd, "trusted.overlay.opaque") == b"y" else "merges"
            return Finding(layer, role, kind, 0, mode), fd
        try:
            if kind == "character device" and found.st_rdev == 0:
                return Finding(layer, "deletes", "whiteout"), -1
            if kind == "file" and not found.st_size and _xattr(fd, "trusted.overlay.whiteout") is not None:
                return Finding(layer, "deletes", "whiteout"), -1
            target = os.readlink("", dir_fd=fd) if kind == "link" else ""
            return Finding(layer, "provides", kind, found.st_size, mode, target), -1
        finally:
            os.close(fd)


def _xattr(fd: int, name: str) -> bytes | None:
    """An extended attribute of what an O_PATH file stands for; None where it has none."""
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
            return None
        raise


class Changes(Record):
    """What a container has done to its image: numbers of names in its own layer. size: bytes of its files."""

    size: int = 0
    added: int = 0
    changed: int = 0
    deleted: int = 0
    paths: tuple[str, ...] = ()  # "A /new", "C /changed", "D /deleted", as docker diff has it; some, not all


def changes(upper: str, lower: Sequence[str], most: int = 40) -> Changes:
    """Walk the writable layer. lower: directories of layers, top first. most: how many paths are listed.

    A directory that only leads to something changed is not counted.
    """
    below = _Stack(lower)
    try:
        return _changes(upper, below, most)
    finally:
        below.close()


def _changes(upper: str, below: _Stack, most: int) -> Changes:
    added = changed = deleted = size = 0
    shown: list[str] = []
    pending = [""]
    while pending:
        directory = pending.pop()
        try:
            entries = sorted(os.scandir(upper + directory), key=lambda entry: entry.name)
        except OSError:
            continue  # it has gone meanwhile: the container lives
        for entry in entries:
            path = f"{directory}/{entry.name}"
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            is_directory = stat.S_ISDIR(found.st_mode)
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                letter, deleted = "D", deleted + 1
            elif below.trace(path, follow=False).exists:
                letter = "" if is_directory else "C"
                changed += letter == "C"
            else:
                letter, added = "A", added + 1
            if is_directory:
                pending.append(path)
            elif stat.S_ISREG(found.st_mode):
                size += found.st_size
            if letter and len(shown) < most:
                shown.append(f"{letter} {path}")
    return Changes(size, added, changed, deleted, tuple(shown))
