"""A new volume starts with what the image has in its place, as in docker.

Whoever is killed while it copies must not leave half of a volume that nobody ever completes, and of two containers that
use a new volume first, one must wait for the other. So the copy is made beside the data, under a lock on the volume
(flock(2): it goes with its holder), and when it is whole it gets another name. From then on it is moved into the data
directory piece by piece, and whoever comes next goes on with that:

    _filling    a copy that is being made; worth nothing when its maker is dead
    _filled     a whole copy, some of it may be in _data already
    _data       the volume; never exchanged itself: another container may have it mounted, if only empty
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from ..kernel import safepath
from ..paths import remove_tree
from .volumes import FILLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.calls import Kernel

_BLOCK = 1 << 20  # bytes that are copied at a time
_MOST_LINKED = 200  # files with several names that are kept open while a tree is copied; of more, each name is a copy


def fill(kernel: Kernel, rootfs: int, target: str, volume: str) -> None:
    """Fill the volume (its directory, with _data in it), if it is empty, with what the root file system has at target.

    A target that is missing or no directory leaves it empty. Waits for others who fill it.
    """
    lock = kernel.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        filled = f"{volume}/{FILLED}"
        if kernel.exists(filled) or _copied(kernel, rootfs, target, volume):
            _move(kernel, filled, f"{volume}/_data")
    finally:
        kernel.close(lock)


def clear(kernel: Kernel, volume: str) -> None:
    """A half-made copy goes. A whole one stays for the next who uses the volume."""
    try:
        lock = kernel.open(volume, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return  # the volume is removed
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_tree(f"{volume}/_filling")
    except BlockingIOError:
        pass  # somebody fills it just now, and has begun with removing what was left
    finally:
        kernel.close(lock)


def _copied(kernel: Kernel, rootfs: int, target: str, volume: str) -> bool:
    """Copy, unless there is nothing to be copied, or somebody has put something into the volume by now."""
    if kernel.listdir(f"{volume}/_data"):
        return False
    try:
        source = safepath.open_in(kernel, rootfs, target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    try:
        filling = f"{volume}/_filling"
        remove_tree(filling)
        kernel.mkdir(filling, 0o700)
        _copy(source, filling)
        kernel.rename(filling, f"{volume}/{FILLED}")
        return True
    finally:
        kernel.close(source)


def _move(kernel: Kernel, filled: str, data: str) -> None:
    """Move what is in one directory into another, with owner, mode and times of the directory itself.

    What somebody has made there under the same name in the meantime stays as it is.
    """
    source, into = (kernel.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (filled, data))
    try:
        found = os.fstat(source)
        for name in kernel.listdir(filled):
            if not kernel.exists(f"{data}/{name}"):
                kernel.rename(f"{filled}/{name}", f"{data}/{name}")
        _like(into, source, found)
    finally:
        kernel.close(source)
        kernel.close(into)
    remove_tree(filled)


def _copy(source: int, directory: str) -> None:
    """Copy an open directory of the image into an empty one of ours, which also takes its mode and owner.

    The image is hostile: it is walked by open files only, links are copied and never followed. Several names of one
    file stay that.
    """
    into = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    first: dict[tuple[int, int], int] = {}
    try:
        _copy_directory(source, into, first)
    finally:
        for fd in first.values():
            os.close(fd)
        os.close(into)


def _copy_directory(source: int, into: int, first: dict[tuple[int, int], int]) -> None:
    """first: of files with several names the copies, open: a name of ours could be somebody's link by now."""
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=into)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=into)
            try:
                _copy_directory(below, made, first)
            finally:
                os.close(below)
                os.close(made)
            continue
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=into)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=into, follow_symlinks=False)
        elif kind == stat.S_IFREG:
            one = found.st_dev, found.st_ino
            if one in first:
                os.link(f"/proc/self/fd/{first[one]}", name, dst_dir_fd=into, follow_symlinks=True)
                continue
            _copy_file(source, into, name, found)
            if found.st_nlink > 1 and len(first) < _MOST_LINKED:
                first[one] = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=into)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=into)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=into)
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=into)
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=into, follow_symlinks=False)
    _like(into, source, os.fstat(source))


def _copy_file(source: int, into: int, name: str, found: os.stat_result) -> None:
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    write = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=into)
    try:
        while part := os.read(read, _BLOCK):
            while part:
                part = part[os.write(write, part) :]
        _like(write, read, os.fstat(read))
    finally:
        os.close(read)
        os.close(write)


def _like(made: int, source: int, found: os.stat_result) -> None:
    """Owner, mode, times and extended attributes of an open file, as those of another, which was found like this."""
    os.fchown(made, found.st_uid, found.st_gid)
    os.fchmod(made, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        try:
            os.setxattr(made, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
