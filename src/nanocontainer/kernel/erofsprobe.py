"""Whether layers can be images here: a tiny EROFS image is written where layers would be, and mounted.

A version number would not tell: the kernel may be built without EROFS, or without mounting it from files (Linux 6.12,
CONFIG_EROFS_FS_BACKED_BY_FILE), and not every file system can hold such files (tmpfs and overlayfs cannot).
"""

from __future__ import annotations

import os

from ..paths import make_dirs
from .calls import Kernel

_BLOCK = 4096


def mounts_erofs(directory: str) -> bool:
    """For files in this directory, which is made. Needs root. Nothing is left behind: the mount is never put in place,
    and the file has no name when it is mounted."""
    kernel = Kernel()
    try:
        make_dirs(directory)
        file = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        os.write(file, _image())
        fd = kernel.fsopen("erofs")
        try:
            kernel.fsconfig(fd, "source", f"/proc/self/fd/{file}")
            kernel.fsconfig_create(fd)
            os.close(kernel.fsmount(fd))
        finally:
            os.close(fd)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _image() -> bytes:
    """A superblock, and a root directory that is empty (image/erofs.py says what is what)."""

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    root = number(2, 8) + number(24, 2) + b"\2\0" + number(2, 8) + number(25, 2) + b"\2\0" + b"..."
    superblock = b"\xe2\xe1\xf5\xe0" + bytes(8) + b"\x0c\0" + number(2, 2) + number(1, 8)
    superblock += bytes(12) + number(3, 4) + number(1, 4)
    inode = b"\1\0" + bytes(2) + number(0o40755, 2) + bytes(2) + number(len(root), 8) + number(2, 4) + number(1, 4)
    inode += bytes(8 + 12) + number(2, 4)
    blocks = (bytes(1024) + superblock, bytes(64) + inode, root)
    return b"".join(block.ljust(_BLOCK, b"\0") for block in blocks)
