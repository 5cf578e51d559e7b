"""Layers that are images: each is mounted once, below the run directory, for all containers of all images that have it.

One mount is one page cache. It stays when the last container has ended, so that the next start finds it; it goes with
its layer (rmi, image prune, system convert), and with the machine. A layer is mounted straight from its file, without a
loop device (EROFS, Linux 6.12).

Who mounts or unmounts holds the lock of the directory of all mounts. A mount is made as an open file, and put in place
whole (fsmount(2), move_mount(2)): who is killed leaves none, or a whole one.
"""

from __future__ import annotations

import errno
import os

from ..paths import FileLock
from . import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .calls import Kernel


def mount_images(kernel: Kernel, images: Iterable[tuple[str, str]]) -> None:
    """Mount each (file, place) that is not mounted; the places lie in one directory. OSError."""
    for file, place in images:
        directory = os.path.dirname(place)
        if _is_mounted(kernel, place, directory):
            continue
        _make(kernel, os.path.dirname(directory))
        _make(kernel, directory)
        with FileLock(directory, directory=True):
            if not _is_mounted(kernel, place, directory):
                _make(kernel, place)
                _mount(kernel, file, place)


def drop_image(kernel: Kernel, place: str) -> bool:
    """Unmount what is mounted there. Whether there was anything. What is open in it stays so until it is closed."""
    if not os.path.isdir(place):
        return False
    with FileLock(os.path.dirname(place), directory=True):
        while True:  # another mount namespace may have given us a second one
            try:
                kernel.umount2(place, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                break
        try:
            kernel.rmdir(place)
        except FileNotFoundError:
            pass
    return True


def _is_mounted(kernel: Kernel, place: str, directory: str) -> bool:
    """Another device than that of the directory that it is in."""
    try:
        return kernel.stat(place).st_dev != kernel.stat(directory).st_dev
    except FileNotFoundError:
        return False


def _make(kernel: Kernel, path: str) -> None:
    try:
        kernel.mkdir(path, 0o700)
    except FileExistsError:
        pass


def _mount(kernel: Kernel, file: str, place: str) -> None:
    fd = kernel.fsopen("erofs")
    try:
        kernel.fsconfig(fd, "source", file)
        kernel.fsconfig_create(fd)
        mount = kernel.fsmount(fd)
    finally:
        kernel.close(fd)
    try:
        kernel.move_mount(mount, abi.AT_FDCWD, place)
    finally:
        kernel.close(mount)
