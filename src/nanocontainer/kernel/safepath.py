"""Paths inside a root file system are hostile: an image chose them, or a running container changes them as we look.

openat2(2) with RESOLVE_IN_ROOT treats a directory as the root: no "..", no absolute link leads out. NO_MAGICLINKS
forbids /proc/*/fd links, which lead out whatever the root is. What is opened is then used by its fd, never by its name
again: a name could be exchanged between two looks (CVE-2021-30465, CVE-2019-14271).
"""

from __future__ import annotations

import errno
import os
import stat

from .abi import O_PATH, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .calls import Kernel

IN_ROOT = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
EXACT = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS


def open_in(kernel: Kernel, root: int, path: str, flags: int = O_PATH) -> int:
    """Open path as a process would whose root directory is `root`. OSError as open(2), ELOOP for magic links."""
    return kernel.openat2(root, path.lstrip("/") or ".", flags, 0, IN_ROOT)


def make_dirs_in(kernel: Kernel, root: int, path: str, mode: int = 0o755) -> int:
    """Open the directory `path` in root and make what is missing of it, owned by root. Links in it are followed inside.

    A component that is a dangling link stays one: ENOENT, as in docker.
    """
    at = kernel.openat2(root, ".", O_PATH | os.O_DIRECTORY, 0, IN_ROOT)
    done = ""
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            raise OSError(errno.EINVAL, "'..' in a path inside the container", path)
        done = f"{done}/{part}"
        try:
            below = kernel.openat2(root, done.lstrip("/"), O_PATH | os.O_DIRECTORY, 0, IN_ROOT)
        except FileNotFoundError:
            try:
                kernel.mkdir(part, mode, at)
            except FileExistsError:
                pass  # a dangling link, or somebody was faster: the next open tells
            below = kernel.openat2(root, done.lstrip("/"), O_PATH | os.O_DIRECTORY, 0, IN_ROOT)
        kernel.close(at)
        at = below
    return at


def make_file_in(kernel: Kernel, root: int, path: str) -> int:
    """Open the file `path` in root, made empty if it is missing: what a bind mount of a file is put on."""
    try:
        return kernel.openat2(root, path.lstrip("/"), O_PATH, 0, IN_ROOT)
    except FileNotFoundError:
        parent, _, name = path.rstrip("/").rpartition("/")
        kernel.close(make_dirs_in(kernel, root, parent))
        flags = os.O_CREAT | os.O_WRONLY | os.O_NONBLOCK
        kernel.close(kernel.openat2(root, f"{parent}/{name}".lstrip("/"), flags, 0o644, IN_ROOT))
        return kernel.openat2(root, path.lstrip("/"), O_PATH, 0, IN_ROOT)


def make_target_in(kernel: Kernel, root: int, path: str, source: int) -> int:
    """The place for a mount at `path`: a directory or a file, as `source`, the open mount, is."""
    if stat.S_ISDIR(kernel.stat(source).st_mode):
        return make_dirs_in(kernel, root, path)
    return make_file_in(kernel, root, path)


def read_small_in(kernel: Kernel, root: int, path: str, most: int = 1 << 20) -> bytes:
    """A regular file of at most `most` bytes inside root; empty where there is none. Never hangs on a fifo or
    device. OSError where one is there and cannot be opened: a user must not lose groups for want of an open file."""
    try:
        fd = kernel.openat2(root, path.lstrip("/"), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, IN_ROOT)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):  # ENXIO: a socket
            return b""
        raise
    try:
        if not stat.S_ISREG(kernel.stat(fd).st_mode):
            return b""
        parts, size = [], 0
        while size < most and (part := kernel.read(fd, most - size)):
            parts.append(part)
            size += len(part)
        return b"".join(parts)
    finally:
        kernel.close(fd)
