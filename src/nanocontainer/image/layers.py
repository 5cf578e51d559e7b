"""Applying a layer: a tar stream from strangers becomes a directory that overlayfs can use as a lowerdir.

Safe: names in a layer are hostile. A parent directory is only ever reached by openat2(2) with RESOLVE_IN_ROOT and
RESOLVE_NO_MAGICLINKS, so neither "..", nor an absolute name, nor a link in the layer leads out of the directory; the
last component is only ever used by *at calls that do not follow links, and files are made with O_EXCL.

Fast: archives list a directory's content together, so the open parents are kept; most entries need no walk at all.

Whiteouts (image-spec, layer.md) become what overlayfs understands (kernel, filesystems/overlayfs): `.wh.name` a
character device 0/0 called name, `.wh..wh..opq` the xattr trusted.overlay.opaque=y on its directory. A whiteout only
hides what lower layers have; what the same layer has of that name stays.

Modes with setgid and the times of directories are set at the end: a setgid directory would give its group to what is
made in it, and making something in a directory changes its time.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import HINTS, Corrupt, NanoError, NotPermitted, Unsupported
from ..kernel import abi
from ..kernel.calls import Kernel
from .tar import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK, Source, TarReader
from .tree import check_target, device_of, inside, kept_xattrs, no_link, shown, time_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .recipe import Recipe
    from .tar import Entry

_RESOLVE = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS
_OPEN_PARENTS = 64  # open files at most
_SMALL = 1 << 17  # bytes that are written at once
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def apply_layer(chunks: Iterable[bytes], directory: str, recipe: str = "") -> int:
    """Unpack a tar stream into an empty directory, and read the stream to its end.

    recipe: where to write what it takes to make the same tar again (recipe.py), where that is possible.

    Returns the bytes of all regular files. Corrupt names the entry that is broken; NotPermitted without root;
    NanoError for a full disk and the like. What was written so far is for the caller to delete.
    """
    if not recipe:
        source = Source(chunks)
        with _Unpacker(directory) as unpacker:
            unpacker.unpack(TarReader(source))
        source.drain()
        return unpacker.size
    from .recipe import Recipe

    written, whole = Recipe(chunks, recipe), False
    try:
        with _Unpacker(directory, written) as unpacker:
            unpacker.unpack(written.reader)
        written.source.drain()
        whole = True
        return unpacker.size
    finally:
        written.close(whole)


class _Unpacker:
    def __init__(self, directory: str, recipe: Recipe | None = None) -> None:
        self.size = 0
        self._recipe = recipe
        self._kernel = Kernel()
        self._directory = directory
        self._parents: dict[bytes, int] = {}
        # name -> (mode, mtime), of directories and until the end
        self._late: dict[bytes, tuple[int, int]] = {}

    def __enter__(self) -> _Unpacker:
        self._root = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self._root)

    def unpack(self, archive: TarReader) -> None:
        for entry in archive:
            name = entry.name
            try:
                path = inside(name)
                if not path:
                    self._root_entry(entry)
                else:
                    self._entry(entry, path, archive)
            except OSError as error:
                raise _told(error, name) from None
        for path, (mode, mtime) in reversed(self._late.items()):
            try:
                self._finish_directory(path, mode, mtime)
            except OSError as error:
                raise _told(error, path) from None

    def _entry(self, entry: Entry, path: bytes, archive: TarReader) -> None:
        above, _, base = path.rpartition(b"/")
        parent = self._parents.get(above) or self._parent(above)
        if base.startswith(b".wh."):
            self._whiteout(parent, above, base[4:])
            return
        kind = entry.kind
        if kind == FILE:
            try:
                fd = os.open(base, _NEW, 0o600, dir_fd=parent)
            except FileExistsError:
                self._clear(parent, base, path)
                fd = os.open(base, _NEW, 0o600, dir_fd=parent)
            try:
                if self._recipe and entry.stored:
                    self._recipe.file(path, entry.sparse or [(0, entry.stored)])
                self._content(fd, entry, archive)
                if entry.uid or entry.gid:
                    os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)  # after chown, which clears setuid
                if entry.xattrs:
                    _set_xattrs(fd, entry)
                os.utime(fd, ns=(time_of(entry), time_of(entry)))
            finally:
                os.close(fd)
            self.size += entry.size
            return
        if kind == DIRECTORY:
            self._make_directory(parent, base, path, entry)
            return
        if kind == LINK:
            self._link(parent, base, path, entry)
            return
        try:
            self._make(parent, base, entry)
        except FileExistsError:
            self._clear(parent, base, path)
            self._make(parent, base, entry)
        if entry.uid or entry.gid:
            os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if kind != SYMLINK:  # a link has no mode; what _make has just made is no link
            os.chmod(base, entry.mode, dir_fd=parent)
        if entry.xattrs:
            _set_xattrs(f"/proc/self/fd/{parent}/".encode() + base, entry)
        os.utime(base, ns=(time_of(entry), time_of(entry)), dir_fd=parent, follow_symlinks=False)

    def _content(self, fd: int, entry: Entry, archive: TarReader) -> None:
        if entry.sparse is not None:
            for offset, length in entry.sparse:
                os.lseek(fd, offset, os.SEEK_SET)
                for piece in archive.source.pieces(length):
                    _write(fd, piece)
            archive.done()
            os.ftruncate(fd, entry.size)
        elif entry.stored <= _SMALL:
            if entry.stored:
                _write(fd, archive.small())
        else:
            for piece in archive.data():
                _write(fd, piece)

    def _make(self, parent: int, base: bytes, entry: Entry) -> None:
        kind = entry.kind
        if kind == SYMLINK:
            check_target(entry)
            os.symlink(entry.link, base, dir_fd=parent)
        elif kind == FIFO:
            os.mkfifo(base, 0o600, dir_fd=parent)
        elif kind in (CHAR, BLOCK_DEVICE):
            flag = stat.S_IFCHR if kind == CHAR else stat.S_IFBLK
            os.mknod(base, flag | 0o600, device_of(entry), dir_fd=parent)

    def _make_directory(self, parent: int, base: bytes, path: bytes, entry: Entry) -> None:
        """A directory joins one that is already there; anything else of that name gives way."""
        opaque = False
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                opaque = _is_whiteout(there)
                self._clear(parent, base, path)
                os.mkdir(base, 0o700, dir_fd=parent)
        fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode & 0o777)
            if entry.xattrs:
                _set_xattrs(fd, entry)
            if opaque:
                _set_opaque(fd)
        finally:
            os.close(fd)
        self._late[path] = (entry.mode, time_of(entry))

    def _root_entry(self, entry: Entry) -> None:
        """`./`: the directory itself."""
        if entry.kind != DIRECTORY:
            raise Corrupt(f"broken layer: {shown(entry.name)}", "the root of a layer must be a directory")
        os.fchown(self._root, entry.uid, entry.gid)
        if entry.xattrs:
            _set_xattrs(self._root, entry)
        os.fchmod(self._root, entry.mode & 0o777)
        self._late[b""] = (entry.mode, time_of(entry))

    def _finish_directory(self, path: bytes, mode: int, mtime: int) -> None:
        if not path:
            os.fchmod(self._root, mode)
            os.utime(self._root, ns=(mtime, mtime))
            return
        above, _, base = path.rpartition(b"/")
        parent = self._parents.get(above) or self._parent(above)
        if mode & 0o7000:
            fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
        os.utime(base, ns=(mtime, mtime), dir_fd=parent, follow_symlinks=False)

    def _link(self, parent: int, base: bytes, path: bytes, entry: Entry) -> None:
        """A hard link, to something of this layer that was unpacked before."""
        target = inside(entry.link)
        if target == path:
            return
        above, _, name = target.rpartition(b"/")
        try:
            source = self._walk(above) if above else os.dup(self._root)
            try:
                try:
                    os.link(name, base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
                except FileExistsError:
                    os.stat(name, dir_fd=source, follow_symlinks=False)  # before the old one goes
                    self._clear(parent, base, path)
                    os.link(name, base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise no_link(entry, error) from None

    def _whiteout(self, parent: int, above: bytes, name: bytes) -> None:
        if name == b".wh..opq":
            # the parent is open with O_PATH only, and setxattr(2) wants more
            _set_opaque(f"/proc/self/fd/{parent}" if above else self._root)
            return
        if name.startswith(b".wh."):
            return  # aufs's own notes, of old images
        if name in (b"", b".", b".."):
            raise Corrupt("broken layer", f"a whiteout of {shown(name)} in {shown(above)}")
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):  # it stays, but nothing below shines through
                _set_opaque(f"/proc/self/fd/{parent}/".encode() + name)

    def _clear(self, parent: int, base: bytes, path: bytes) -> None:
        """Something else of that name is in the way, from earlier in this layer."""
        if self._recipe:
            self._recipe.exact = False
        there = os.stat(base, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(there.st_mode):
            os.unlink(base, dir_fd=parent)
            if stat.S_ISLNK(there.st_mode):
                self._forget(keep=parent)
            if stat.S_ISREG(there.st_mode) and there.st_nlink == 1:
                self.size -= there.st_size
            return
        import shutil

        self._forget(keep=parent)
        self.size -= _size_of_tree(base, parent)
        shutil.rmtree(base, dir_fd=parent)
        for late in [late for late in self._late if late == path or late.startswith(path + b"/")]:
            del self._late[late]

    # --- parents

    def _parent(self, path: bytes) -> int:
        """The open directory at path, made if it is missing (archives need not list parents)."""
        if not path:
            return self._root
        fd = self._parents.get(path)
        if fd is None:
            try:
                fd = self._walk(path)
            except FileNotFoundError:
                fd = self._make_parent(path)
            except NotADirectoryError:
                fd = self._make_parent(path)
            if len(self._parents) >= _OPEN_PARENTS:
                os.close(self._parents.pop(next(iter(self._parents))))
            self._parents[path] = fd
        return fd

    def _make_parent(self, path: bytes) -> int:
        above, _, base = path.rpartition(b"/")
        parent = self._parent(above)
        try:
            os.mkdir(base, 0o755, dir_fd=parent)
            os.chmod(base, 0o755, dir_fd=parent)
        except FileExistsError:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if not _is_whiteout(there):
                raise Corrupt(
                    f"broken layer: {shown(path)}", "something is to be put into it, and it is no directory"
                ) from None
            os.unlink(base, dir_fd=parent)
            os.mkdir(base, 0o755, dir_fd=parent)
            os.chmod(base, 0o755, dir_fd=parent)
            _set_opaque(f"/proc/self/fd/{parent}/".encode() + base)
        return self._walk(path)

    def _walk(self, path: bytes) -> int:
        """openat2 below the root. EAGAIN is its answer when anything was renamed anywhere while it passed a ".."."""
        for _ in range(1000):
            try:
                return self._kernel.openat2(self._root, os.fsdecode(path), abi.O_PATH | os.O_DIRECTORY, 0, _RESOLVE)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno == errno.ENOSYS:
                    raise Unsupported(
                        "cannot unpack layers", "openat2(2) is missing", "Linux 5.6 or newer is needed"
                    ) from None
                raise
        raise OSError(errno.EAGAIN, "openat2: too many renames meanwhile")

    def _forget(self, keep: int = -1) -> None:
        """Close the open parents: after a removal a kept one could be a directory that is gone, or have been reached
        through what is gone. The one that is in use is kept, under no path."""
        for path, fd in list(self._parents.items()):
            del self._parents[path]
            if fd == keep:
                self._parents[b"/"] = fd
            else:
                os.close(fd)


def _size_of_tree(name: bytes, parent: int) -> int:
    """Bytes of the regular files below a directory that have no name elsewhere."""
    found: dict[int, tuple[int, int, int]] = {}  # inode → size, names, names seen here
    for _, _, files, fd in os.fwalk(name, dir_fd=parent):
        for file in files:
            there = os.stat(file, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(there.st_mode):
                seen = found.get(there.st_ino, (0, 0, 0))[2]
                found[there.st_ino] = (there.st_size, there.st_nlink, seen + 1)
    return sum(size for size, names, seen in found.values() if names == seen)


def _write(fd: int, data: memoryview | bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        data = data[done:]
        done = os.write(fd, data)


def _set_xattrs(where: int | bytes, entry: Entry) -> None:
    for name, value in kept_xattrs(entry):
        try:
            os.setxattr(where, name, value, follow_symlinks=isinstance(where, int))
        except OSError as error:
            # user.* is for files and directories only; GNU tar stores it for others all the same
            if not (name.startswith(b"user.") and error.errno == errno.EPERM):
                raise


def _set_opaque(where: int | str | bytes) -> None:
    os.setxattr(where, "trusted.overlay.opaque", b"y")


def _is_whiteout(there: os.stat_result) -> bool:
    return stat.S_ISCHR(there.st_mode) and there.st_rdev == 0


def _told(error: OSError, name: bytes) -> NanoError:
    """An error of the host's file system, in words."""
    what, why = f"cannot unpack {shown(name)}", error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NanoError(what, why, HINTS[error.errno])
    if error.errno in (errno.EPERM, errno.EACCES):
        return NotPermitted(what, why, "unpacking owners and devices needs root")
    if error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL, errno.EISDIR):
        return Corrupt(f"broken layer: {shown(name)}", why)
    if error.errno == errno.EOPNOTSUPP:
        return Unsupported(what, f"{why}: extended attributes", "use a file system that has them (ext4, xfs, btrfs)")
    return NanoError(what, why)
