"""A directory as a tar stream: what a container has changed (its upper directory), or a whole root file system.

The same tree gives the same bytes: names are sorted bytewise, a hard link points to the first of its names, and nothing
of the disk it lies on (inode numbers, access times, holes) is written. What overlayfs keeps in its own way becomes what
image-spec's layer.md says: a character device 0/0, a whiteout, is the empty file .wh.NAME, and a directory with the
xattr trusted.overlay.opaque=y has .wh..wh..opq in it. Whiteouts have no time: they tell of nothing but a name.

Whatever lies in the tree was written by strangers: everything is opened by its name in an open directory, links are not
followed, and only regular files are read.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import NanoError, Unsupported, reason
from ..kernel import abi
from ..kernel.calls import Kernel
from .streams import CHUNK
from .tar import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Entry
from .tarwrite import END, entry, header, padding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_KINDS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK_DEVICE, stat.S_IFIFO: FIFO,
}  # fmt: skip
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)  # removed or replaced while we look
_NO_XATTRS = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.ENOENT)
_OPAQUE = "trusted.overlay.opaque"
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def tar_of(
    root: int | str,
    *,
    layer: bool = False,
    merged: int = -1,
    newest: int | None = None,
    skip: Callable[[bytes], bool] | None = None,
) -> Iterator[bytes]:
    """The tree below a directory (a path, or an open one) as a whole tar archive, in chunks.

    layer: an upper directory of overlayfs, whose whiteouts are to be translated; without it they are devices like
    others. merged: the open root of what a container sees with that upper directory on top: where overlayfs has written
    a reference to a lower layer in place of a copy (a renamed directory), it is read there, whole. newest: nanoseconds;
    later times become this one (SOURCE_DATE_EPOCH). skip(name): leave that out, with what is below it. A file that
    shrinks while it is read is filled up with zeros, as tar(1) does. NanoError.
    """
    try:
        top = os.open(root, _DIR) if isinstance(root, str) else os.open(".", _DIR, dir_fd=root)
        try:
            yield from _Tree(merged, newest, skip or (lambda name: False)).walk(top, layer)
        finally:
            os.close(top)
    except OSError as error:
        raise NanoError("cannot read the files for the archive", *reason(error)) from None
    yield END


class _Tree:
    def __init__(self, merged: int, newest: int | None, skip: Callable[[bytes], bool]) -> None:
        self._merged, self._newest, self._skip = merged, newest, skip
        self._links: dict[tuple[int, int], bytes] = {}  # (device, inode) → its first name

    def walk(self, top: int, layer: bool) -> Iterator[bytes]:
        """Depth first, without recursion: a tree may be deeper than Python's stack."""
        stack = [(b"", top, layer, iter(_sorted(top)))]
        try:
            while stack:
                above, fd, layer, names = stack[-1]
                base = next(names, None)
                if base is None:
                    stack.pop()
                    if fd != top:
                        os.close(fd)
                    continue
                name = above + base
                if self._skip(name):
                    continue
                try:
                    below, layer = yield from self._one(fd, base, name, layer)
                except OSError as error:
                    if error.errno in _GONE:
                        continue
                    raise
                if below >= 0:
                    stack.append((name + b"/", below, layer, iter(_sorted(below))))
        finally:
            for _, fd, _, _ in stack:
                if fd != top:
                    os.close(fd)

    def _one(self, parent: int, base: bytes, name: bytes, layer: bool) -> Generator[bytes, None, tuple[int, bool]]:
        """What stands for one name; returns the open directory to go on in, or -1, and whether that is a layer's."""
        found = os.stat(base, dir_fd=parent, follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return -1, layer  # a socket: nothing of it lies on the disk
        if layer and kind == CHAR and found.st_rdev == 0:
            yield header(entry(name[: len(name) - len(base)] + b".wh." + base))
            return -1, layer
        one = self._entry(found, kind, name)
        first = self._links.get((found.st_dev, found.st_ino)) if kind != DIRECTORY and found.st_nlink > 1 else None
        if first is not None:
            one.kind, one.link = LINK, first
            yield header(one)
            return -1, layer
        if kind in (FILE, DIRECTORY):
            fd = os.open(base, _READ if kind == FILE else _DIR, dir_fd=parent)
        else:
            fd = -1
        try:
            if kind == FILE:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    return -1, layer  # replaced between two calls
                one = self._entry(found, kind, name)
                if layer and not found.st_size and _has(fd, "trusted.overlay.whiteout"):
                    yield header(entry(name[: len(name) - len(base)] + b".wh." + base))
                    return -1, layer
            elif kind == SYMLINK:
                one.link = os.readlink(base, dir_fd=parent)
            if found.st_nlink > 1 and kind != DIRECTORY:
                self._links[found.st_dev, found.st_ino] = name
            one.xattrs = _xattrs(fd if fd >= 0 else f"/proc/self/fd/{parent}/".encode() + base) or None
            reference = layer and fd >= 0 and _is_reference(fd)
            if reference:
                os.close(fd)
                fd = -1
                fd = self._open_merged(name, _READ if kind == FILE else _DIR)
            yield header(one)
            if kind == FILE:
                yield from _content(fd, one.size)
            elif kind == DIRECTORY:
                if layer and (reference or _has(fd, _OPAQUE)):
                    yield header(entry(name + b"/.wh..wh..opq"))
                fd, below = -1, fd
                return below, layer and not reference
            return -1, layer
        finally:
            if fd >= 0:
                os.close(fd)

    def _open_merged(self, name: bytes, flags: int) -> int:
        if self._merged < 0:
            raise Unsupported(f"cannot write {os.fsdecode(name)!r} into a layer", "overlayfs keeps it as a reference")
        resolve = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS | abi.RESOLVE_NO_SYMLINKS
        return Kernel().openat2(self._merged, os.fsdecode(name), flags, 0, resolve)

    def _entry(self, found: os.stat_result, kind: bytes, name: bytes) -> Entry:
        one = entry(name, kind, size=found.st_size if kind == FILE else 0, mode=stat.S_IMODE(found.st_mode))
        one.uid, one.gid = found.st_uid, found.st_gid
        one.mtime = found.st_mtime_ns if self._newest is None else min(found.st_mtime_ns, self._newest)
        if kind in (CHAR, BLOCK_DEVICE):
            one.major, one.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
        return one


def _is_reference(fd: int) -> bool:
    """Whether overlayfs has its content in another layer (docs: "redirect_dir", "metadata only copy up")."""
    for attribute in ("trusted.overlay.redirect", "trusted.overlay.metacopy"):
        try:
            os.getxattr(fd, attribute)
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                raise
        else:
            return True
    return False


def _sorted(fd: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(fd))


def _content(fd: int, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = os.read(fd, min(CHUNK, left))
        if not piece:
            break
        left -= len(piece)
        yield piece
    while left:
        piece = bytes(min(CHUNK, left))
        left -= len(piece)
        yield piece
    if size % 512:
        yield padding(size)


def _has(fd: int, name: str) -> bool:
    try:
        return os.getxattr(fd, name) in (b"y", b"")
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return False
        raise


def _xattrs(where: int | bytes) -> dict[bytes, bytes]:
    """Those that mean the same on every host, as layers.py takes them: not overlayfs's own, and no labels."""
    try:
        names = os.listxattr(where, follow_symlinks=isinstance(where, int))
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return {}
        raise
    found = {}
    for name in sorted(names):
        own = name.startswith(("trusted.overlay.", "user.overlay."))
        if not own and (name == "security.capability" or name.startswith(("user.", "trusted.", "system.posix_acl_"))):
            try:
                found[os.fsencode(name)] = os.getxattr(where, name, follow_symlinks=isinstance(where, int))
            except OSError as error:
                if error.errno not in _NO_XATTRS:
                    raise
    return found
