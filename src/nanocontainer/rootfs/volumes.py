"""Volumes: directories that outlive containers, below volumes/<name>/_data, and what fills a new one.

A volume belongs to nobody: containers name it. Anonymous ones have an id for a name and are removed with `rm -v`, or
with a container that was started with --rm.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import InvalidInput, NotFound
from ..kernel import safepath
from ..lean import dumps, loads
from ..paths import check_name, make_dirs, read_file, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.calls import Kernel
    from ..paths import Paths

_BLOCK = 1 << 20
_MOST_LINKED = 200  # files with several names that are kept open while a tree is copied; of more, each name is a copy
_DEEPEST = 100  # directories opened at once when a tree is removed


def ensure(paths: Paths, name: str, created: str, labels: dict[str, str] | None = None) -> tuple[str, bool]:
    """(the data directory, whether it is empty). The volume is made when it is missing; a name is taken once
    (mkdir)."""
    check_name(name, "volume name")
    directory = f"{paths.volumes}/{name}"
    data = f"{directory}/_data"
    if not os.path.isdir(data):
        make_dirs(paths.volumes)
        make_dirs(directory)
        try:
            os.mkdir(data, 0o755)
        except FileExistsError:
            pass
        write_file(f"{directory}/volume.json", dumps({"name": name, "created": created, "labels": labels or {}}))
    return data, not os.listdir(data)


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


def created(paths: Paths, name: str) -> str:
    """When a volume was made (RFC 3339), empty where its record is broken."""
    try:
        return str(loads(read_file(f"{paths.volumes}/{name}/volume.json")).get("created", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def copy_up(kernel: Kernel, rootfs: int, target: str, volume: str) -> None:
    """Copy what the image has at `target` into an empty volume directory, which also takes its mode and owner.

    The image is hostile: it is walked by open files only, links are copied and never followed. A target that is missing
    or no directory leaves the volume empty. Several names of one file stay that.
    """
    try:
        source = safepath.open_in(kernel, rootfs, target, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    into = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    first: dict[tuple[int, int], int] = {}
    try:
        if not os.listdir(into):
            _copy_directory(source, into, first)
    finally:
        for fd in first.values():
            os.close(fd)
        os.close(source)
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
    _like(into, source)


def _copy_file(source: int, into: int, name: str, found: os.stat_result) -> None:
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    write = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=into)
    try:
        while part := os.read(read, _BLOCK):
            while part:
                part = part[os.write(write, part) :]
        _like(write, read)
    finally:
        os.close(read)
        os.close(write)


def _like(made: int, source: int) -> None:
    """Owner, mode, times and extended attributes of an open file, as those of another."""
    found = os.fstat(source)
    os.fchown(made, found.st_uid, found.st_gid)
    os.fchmod(made, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        try:
            os.setxattr(made, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))


def finish_removals(paths: Paths) -> None:
    """Removals of volumes that were killed half-way are finished by whoever comes next."""
    try:
        names = os.listdir(paths.volumes)
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(".rm-"):
            remove_tree(f"{paths.volumes}/{name}")


def remove_tree(path: str) -> None:
    """Delete a directory tree by open directories: a link in it is deleted, not followed. Missing is fine, and several
    may do it at once.

    A container may nest directories as deep as it likes: what lies too deep for our stack and open files is moved up
    first (rename(2) within the tree).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(path)
        return
    try:
        while _empty(fd, fd, 0):
            pass
    finally:
        os.close(fd)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _empty(fd: int, top: int, depth: int) -> bool:
    """Empty an open directory. Whether something in it was too deep, and lies in the directory `top` now."""
    moved = False
    for name in os.listdir(fd):
        try:
            try:
                os.unlink(name, dir_fd=fd)
                continue
            except (IsADirectoryError, PermissionError):
                pass
            if depth == _DEEPEST:
                os.rename(name, f".{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                moved = True
                continue
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                moved |= _empty(below, top, depth + 1)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            pass  # somebody else is removing it too
    return moved


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
