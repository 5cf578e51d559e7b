"""What is not as it should be among the images: what killed work has left, and what is damaged. Changes nothing.

`leftovers` are what ImageStore.sweep takes away, and `damage` is what nobody can mend but a new pull.
"""

from __future__ import annotations

import os

from ..errors import Corrupt, NanoError
from ..paths import is_locked
from .claims import found_at, layer_size
from .erofs_layer import shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .model import Image
    from .store import ImageStore


def leftovers(store: ImageStore) -> list[tuple[str, str]]:
    """(path, what it is) of what no image needs. What somebody works with just now is not among them."""
    if not os.path.isdir(store.root):
        return []
    found = []
    broken: list[NanoError] = []
    with store.locked():
        images = store.list(broken.append)
        layers = {diff_id[7:] for image in images for diff_id in image.layers}
        blobs = {digest[7:] for image in images for digest in (image.id, image.manifest) if digest}
        blobs |= {digest.split("@sha256:")[1] for image in images for digest in image.digests}
        for entry in _entries(store.layers):
            hex, _, ending = entry.partition(".")
            path = f"{store.layers}/{entry}"
            if is_locked(f"{store.layers}/{hex}.lock"):
                continue
            if ending in ("tmp", "gone"):
                found.append((path, "a half-written layer" if ending == "tmp" else "a half-deleted layer"))
            elif ending in ("json", "split") and not found_at(f"{store.layers}/{hex}"):
                what = "the size" if ending == "json" else "the recipe"
                found.append((path, f"{what} of a layer that is not there"))
            elif ending in ("", "erofs") and hex not in layers and not broken:  # a broken record may need any layer
                found.append((path, "a layer that no image needs"))
        stray = [hex for hex in _entries(store.mounts) if not os.path.lexists(f"{store.layers}/{hex}.erofs")]
        found += [(f"{store.mounts}/{hex}", "the mount of a layer that is not there") for hex in stray]
        for directory in ("refs", "ids", "blobs/sha256"):
            for entry in _entries(f"{store.root}/{directory}"):
                path = f"{store.root}/{directory}/{entry}"
                if entry.endswith(".tmp"):  # such files are made under the lock that we hold
                    found.append((path, "a half-written file"))
                elif directory == "blobs/sha256" and entry not in blobs and not broken:
                    found.append((path, "a configuration or manifest that no image needs"))
    return found


def damage(store: ImageStore) -> list[tuple[str, str, str]]:
    """(image or name, what is wrong, what to do) of images that cannot be used as they are."""
    if not os.path.isdir(store.root):
        return []
    found = []
    broken: list[NanoError] = []
    with store.locked():
        for image in store.list(broken.append):
            found += _of_image(store, image)
        found += [(error.what, error.why, error.hint) for error in broken]
        for entry in _entries(f"{store.root}/refs"):
            path = f"{store.root}/refs/{entry}"
            if entry.endswith(".tmp"):
                continue
            if not os.path.islink(path):
                found.append((path, "it is no name of an image", "remove it"))
            elif not os.path.exists(path):
                name = entry.replace("%", "/")
                found.append((name, "the name leads to no image", f"pull it again, or: rmi {name}"))
    return found


def _of_image(store: ImageStore, image: Image) -> list[tuple[str, str, str]]:
    shown = image.names[0] if image.names else image.id[7:19]
    hint = f"rmi {image.id[7:19]}, and pull it again"
    wrong = []
    try:
        store.layer_paths(image)
    except Corrupt as error:
        wrong.append((shown, error.why, hint))
    for diff_id in image.layers:
        place = f"{store.layers}/{diff_id[7:]}"
        if os.path.isfile(f"{place}.erofs"):
            if why := shortened(f"{place}.erofs"):
                wrong.append((shown, why, hint))
            continue
        said, there = layer_size(place), tree_size(place)
        if said and os.path.isdir(place) and there != said:  # power cuts did that before layers were synced
            wrong.append((shown, f"the files of its layer {place} have {there} bytes, and had {said}", hint))
    for digest in (image.id, image.manifest):
        if digest:
            try:
                store.blob(digest)
            except (Corrupt, OSError) as error:
                wrong.append((shown, str(error), hint))
    return wrong


def tree_size(place: str) -> int:
    """Bytes of the regular files of a layer, as layers.py counts them: one with several names once."""
    total, seen, directories = 0, set(), [place]
    while directories:
        try:
            with os.scandir(directories.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        there = entry.stat(follow_symlinks=False)
                        if there.st_ino not in seen:
                            total += there.st_size
                        if there.st_nlink > 1:
                            seen.add(there.st_ino)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total


def _entries(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
