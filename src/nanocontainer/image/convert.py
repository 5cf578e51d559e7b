"""`system convert`: layers that are here get the other form, an image or a directory (formats.py), with the same name.

Both forms come from the same tar archive, and its digest, the layer's name, is checked on the way. Who is killed leaves
the layer in its old form, or in both, which are the same; the next convert goes on.
"""

from __future__ import annotations

import os

from ..errors import Busy, Conflict, NanoError, Unsupported
from ..kernel.facts import facts
from ..plan.journal import boot_id
from . import claims
from .erofs_layer import tar_chunks, write_layer
from .formats import checked
from .layers import apply_layer
from .sources import layer_tar
from .streams import digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .model import Image
    from .progress import Progresses
    from .store import ImageStore

    Refused = list[tuple[str, NanoError]]


def convert(
    store: ImageStore,
    images: Iterable[Image],
    form: str,
    users: Callable[[str], Sequence[str]],
    report: Progresses,
) -> tuple[list[str], Refused]:
    """Give all layers of these images this form. users(diff id): the running containers that have it.

    Returns the diff ids of those that were converted, and of those that could not be, with the reason. InvalidInput,
    and Unsupported where this host cannot mount images.
    """
    if checked(form) == "erofs" and not facts(store.paths, boot_id()).erofs:
        why = "this kernel does not mount EROFS from a file on the file system of the layers"
        raise Unsupported("cannot convert layers to images", why, "Linux 6.12, and ext4, xfs or btrfs are needed")
    done: list[str] = []
    refused: Refused = []
    for diff_id in dict.fromkeys(diff_id for image in images for diff_id in image.layers):
        try:
            if _convert(store, diff_id, form, users, report):
                done.append(diff_id)
                report(diff_id[7:19], "Converted")
        except NanoError as error:
            refused.append((diff_id, error))
    return done, refused


def _convert(
    store: ImageStore, diff_id: str, form: str, users: Callable[[str], Sequence[str]], report: Progresses
) -> bool:
    place = f"{store.layers}/{diff_id[7:]}"
    if _forms(place) == [form]:
        return False
    what = f"cannot convert layer {diff_id[7:19]}"
    if form == "erofs" and (names := users(diff_id)):
        raise _used(what, names)
    lock = claims.seize(place)
    if lock is None:
        raise Busy(what, "a pull or another command works with it", "try again")
    try:
        if _forms(place) in ([], [form]):  # another command was faster
            return False

        def make(path: str) -> int:
            if form == "erofs":
                tar = layer_tar(store, diff_id)
                if tar.diff_id != diff_id:
                    why = "its archive cannot be put together again byte for byte"
                    raise Unsupported(what, why, "remove the image and pull it again: it comes in the new form")
                return write_layer(_counted(tar.chunks(), diff_id, tar.size, report), path, diff_id)
            size = os.stat(f"{place}.erofs").st_size
            chunks = digested(tar_chunks(f"{place}.erofs"), diff_id, f"layer {diff_id[7:19]} in the store")
            return apply_layer(_counted(chunks, diff_id, size, report), path, f"{place}.split")

        mounted = f"{store.mounts}/{diff_id[7:]}"
        if not claims.exchange(place, make, form, mounted, lambda: bool(users(diff_id))):
            raise _used(what, users(diff_id))
    finally:
        claims.release(place, lock)
    return True


def _forms(place: str) -> list[str]:
    return [one for one, ending in claims.FORMS.items() if os.path.exists(place + ending)]


def _used(what: str, names: Sequence[str]) -> Conflict:
    several = len(names) > 1
    why = f"container{'s' * several} {', '.join(names) or '(just ended)'} {'run' if several else 'runs'} on it"
    return Conflict(what, why, "stop what runs on it, and convert again")


def _counted(chunks: Iterator[bytes], diff_id: str, total: int, report: Progresses) -> Iterator[bytes]:
    current = 0
    for chunk in chunks:
        current += len(chunk)
        report(diff_id[7:19], "Extracting", min(current, total), total)
        yield chunk
