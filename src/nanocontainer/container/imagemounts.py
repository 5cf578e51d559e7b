"""image mount: an image's files at a place where any program can look at them, read-only.

The layers are stacked without an upper directory (rootfs/view.py) at <run>/mounts/<image id>. The kernel's table of
mounts is the only record: what is mounted there is listed, and it is gone after a reboot. An image that is mounted
cannot be deleted: its layers are what is seen.
"""

from __future__ import annotations

import errno
import os
from functools import partial

from ..errors import Conflict, NanoError, NotFound, reason
from ..image.holding import held
from ..kernel.abi import AT_FDCWD, MNT_DETACH
from ..paths import is_id, make_dirs
from ..rootfs.view import view
from .leftover import Found, Leftover

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..image.model import Image
    from .lifecycle import Lifecycle

_ESCAPED = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}  # proc_pid_mountinfo(5)


def place(life: Lifecycle, image_id: str) -> str:
    return f"{life.paths.run}/mounts/{image_id.removeprefix('sha256:')}"


def mounted(life: Lifecycle) -> dict[str, str]:
    """Image id → where it is mounted now."""
    above = f"{os.path.realpath(life.paths.run)}/mounts/"
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            path = line.split()[4]
            for escape, char in _ESCAPED.items():
                path = path.replace(escape, char)
            if path.startswith(above) and is_id(path[len(above) :]):
                found[f"sha256:{path[len(above) :]}"] = path
    return found


def mount(life: Lifecycle, image: Image) -> str:
    """Have an image mounted; where. Once, however often it is asked for. NotPermitted, Corrupt."""
    facts = life.facts()
    path = place(life, image.id)
    if image.id in mounted(life):
        return path
    spare = f"{life.paths.run}/empty"
    make_dirs(spare)
    with held(life.images, [image]), life.images.locked():  # who deletes images has the lock too, and asks for mounts
        if image.id in mounted(life):
            return path
        life.images.find(image.id)
        fd = view(life.kernel, life.images.open_layers(image)[::-1], append=facts.since(6, 5), spare=spare)
        try:
            make_dirs(path)
            life.kernel.move_mount(fd, AT_FDCWD, path)
        except OSError as error:
            raise NanoError(f"cannot mount image {image.id[7:19]}", *reason(error)) from None
        finally:
            os.close(fd)
    return path


def unmount(life: Lifecycle, image_id: str, *, force: bool = False) -> None:
    """Undo it. force: also while somebody is in it; then it goes when the last one has left. NotFound, Conflict."""
    path = mounted(life).get(image_id)
    if path is None:
        raise NotFound(f"image {image_id[7:19]} is not mounted", "", "image mount lists those that are")
    try:
        life.kernel.umount2(path, MNT_DETACH if force else 0)
        os.rmdir(path)
    except OSError as error:
        if error.errno == errno.EBUSY:
            hint = "leave it, or: image unmount --force"
            raise Conflict(f"cannot unmount image {image_id[7:19]}", f"somebody uses {path}", hint) from None
        raise NanoError(f"cannot unmount image {image_id[7:19]}", *reason(error)) from None


def leftovers(life: Lifecycle) -> Iterator[Found]:
    """Mounts of images that are not there any more, and places where nothing is mounted."""
    there = mounted(life)
    images = {image.id for image in life.images.list(lambda error: None)}
    for id, path in there.items():
        if id not in images:
            detail = "an image is mounted that has been removed"
            yield Found(
                Leftover("stale-image-mount", path, detail, "unmounted"), partial(unmount, life, id, force=True)
            )
    above = f"{life.paths.run}/mounts"
    for name in sorted(os.listdir(above)) if os.path.isdir(above) else ():
        if is_id(name) and f"sha256:{name}" not in there and os.path.isdir(f"{above}/{name}"):
            detail = "the place of an image that is not mounted"
            yield Found(
                Leftover("stale-image-mount", f"{above}/{name}", detail, "removed"),
                partial(os.rmdir, f"{above}/{name}"),
            )
