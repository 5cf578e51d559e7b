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
    from collections.abc import Mapping

    from .calls import Kernel


def mount_images(kernel: Kernel, images: Mapping[str, str]) -> None:
    """Mount each file at its place (place -> file) where nothing is mounted; the places lie in one directory. OSError.
    """
    places = kernel.unmounted(list(images)) if images else []
    if not places:
        return
    directory = os.path.dirname(places[0])
    _make(kernel, os.path.dirname(directory))
    _make(kernel, directory)
    with FileLock(directory, directory=True):
        for place in kernel.unmounted(places):
            _make(kernel, place)
            _mount(kernel, images[place], place)


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
