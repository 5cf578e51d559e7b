"""Where the space of images goes: each layer is on the disk once, however many images are made of it."""

from __future__ import annotations

import os

from ..record import Record
from .claims import layer_size
from .partial import partials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .model import Image
    from .store import ImageStore


class LayerUse(Record):
    """One layer. size: bytes of its files; disk: what it takes on the disk. images: ids of those made of it."""

    diff_id: str
    kind: str  # EROFS, directory
    size: int = 0
    disk: int = 0
    images: tuple[str, ...] = ()


class Sharing(Record):
    """Of one image: bytes of the files in layers that other images have too, and of those that only it has."""

    shared: int = 0
    unique: int = 0


def sharing(store: ImageStore, images: list[Image]) -> dict[str, Sharing]:
    """By image id. images: all that there are."""
    users: dict[str, set[str]] = {}
    for image in images:
        for diff_id in image.layers:
            users.setdefault(diff_id, set()).add(image.id)
    sizes = {diff_id: layer_size(f"{store.layers}/{diff_id[7:]}") for diff_id in users}
    found = {}
    for image in images:
        own = sum(sizes[diff_id] for diff_id in set(image.layers) if len(users[diff_id]) == 1)
        found[image.id] = Sharing(sum(sizes[diff_id] for diff_id in set(image.layers)) - own, own)
    return found


def layers(store: ImageStore, images: list[Image]) -> list[LayerUse]:
    """All layers of these images that are there, the largest first."""
    users: dict[str, list[str]] = {}
    for image in images:
        for diff_id in dict.fromkeys(image.layers):
            users.setdefault(diff_id, []).append(image.id)
    found = []
    for diff_id, ids in users.items():
        place = f"{store.layers}/{diff_id[7:]}"
        kind = "directory" if os.path.isdir(place) else "EROFS"
        path = place if kind == "directory" else f"{place}.erofs"
        if os.path.exists(path):
            found.append(LayerUse(diff_id, kind, layer_size(place), disk_size(path), tuple(ids)))
    return sorted(found, key=lambda one: (-one.disk, one.diff_id))


def unfinished(store: ImageStore) -> int:
    """Bytes on the disk that pulls have left which broke off, or that are at work."""
    places = partials(store.root)
    try:
        places += [f"{store.layers}/{name}" for name in os.listdir(store.layers) if name.endswith((".tmp", ".gone"))]
    except FileNotFoundError:
        pass
    return sum(disk_size(place) for place in places if os.path.lexists(place))


def disk_size(path: str) -> int:
    """Bytes that a file, or a tree, takes on the disk; a file with several names counts once."""
    top = os.lstat(path)
    total, seen, stack = top.st_blocks * 512, {top.st_ino}, [path] if os.path.isdir(path) else []
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_ino not in seen:
                        total += found.st_blocks * 512
                        if found.st_nlink > 1:
                            seen.add(found.st_ino)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        except OSError:
            continue  # removed meanwhile
    return total
