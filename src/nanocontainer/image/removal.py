"""Taking images away: docker's rules for names, and the deletion of layers that no image needs any more.

Order, so that a crash leaves nothing wrong behind: a name goes first, then the record, then layers and blobs. What a
crash leaves is only unneeded, never half: `sweep` finds it, because a layer exists only because a record names it.
"""

from __future__ import annotations

import os

from ..errors import Conflict, Corrupt, NanoError, NotFound
from ..kernel.calls import Kernel
from ..kernel.imagemount import drop_image
from ..paths import remove_tree
from . import claims, partial
from .reference import familiar, parse_reference
from .store import ImageStore, _named, _quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def remove(
    store: ImageStore, name: str, force: bool, in_use: Mapping[str, Sequence[str]], taken: Callable[[str], bool]
) -> list[str]:
    """See ImageStore.remove."""
    lines = _remove(store, name, force, in_use, taken)
    tidy(store)
    return lines


def _remove(
    store: ImageStore, name: str, force: bool, in_use: Mapping[str, Sequence[str]], taken: Callable[[str], bool]
) -> list[str]:
    """The rules are those of moby's ImageDelete."""
    with store.locked():
        store.mend()
        hex, named = store._resolve(name)
        references = set(store._refs().get(hex, ()))
        users = in_use.get(f"sha256:{hex}", ())
        tags = {reference for reference in references if "@" not in reference}
        repositories = {_repository(reference) for reference in references}
        if not named:
            if (len(tags) > 1 or len(repositories) > 1) and not force:
                raise Conflict(
                    f"cannot delete image {hex[:12]}", "it has several names", "remove them one by one, or all with -f"
                )
            if users and not (force and references):
                raise _used(f"cannot delete image {hex[:12]}", users, force)
            going = references
        else:
            going = {named}
            repository = _repository(named)
            if "@" not in named and not any(_repository(tag) == repository for tag in tags - going):
                going = {named, *(other for other in references - tags if _repository(other) == repository)}
            if users and not force and references == going:
                raise _used(f"cannot remove the name {familiar(named)}", users, force)
        lines = []
        for reference in sorted(going, key=lambda text: ("@" in text, text)):
            remove_tree(f"{store.root}/refs/{_quote(reference)}")
            lines.append(f"Untagged: {familiar(reference)}")
        left = references - going
        if left or users:
            store._rewrite(hex, left)
            return lines
        return lines + _delete(store, hex, taken)


def tidy(store: ImageStore) -> None:
    """Sweep after something else that has succeeded, and stays so: what cannot be deleted now is tried again then."""
    try:
        sweep(store)
    except NanoError:
        pass


def sweep(store: ImageStore, older: float = partial.KEPT) -> list[str]:
    """See ImageStore.sweep. older: seconds since the last byte of a pull that broke off."""
    if not os.path.isdir(store.root):
        return []
    swept = []
    with store.locked():
        needed, blobs = _needed(store)
        for hex in sorted({entry.split(".")[0] for entry in _entries(store.layers)}):
            place = f"{store.layers}/{hex}"
            lock = claims.seize(place)
            if lock is None:
                continue  # a pull works with it
            unneeded = needed is not None and hex not in needed
            if claims.destroy(place, f"{store.mounts}/{hex}") if unneeded else claims.scrub(place):
                swept.append(place)
            claims.release(place, lock)
        stray = [hex for hex in _entries(store.mounts) if not os.path.lexists(f"{store.layers}/{hex}.erofs")]
        swept += [f"{store.mounts}/{hex}" for hex in stray if drop_image(Kernel(), f"{store.mounts}/{hex}")]
        store.mend()
        for directory, wanted in (("refs", None), ("ids", None), ("blobs/sha256", blobs), ("packed", needed)):
            for entry in _entries(f"{store.root}/{directory}"):
                unneeded = wanted is not None and entry not in wanted
                if unneeded or entry.endswith(".tmp"):  # temporary files are made under the lock that we hold
                    remove_tree(f"{store.root}/{directory}/{entry}")
                    swept.append(f"{store.root}/{directory}/{entry}")
    return swept + partial.sweep(store.root, older)


def take_back(store: ImageStore, ids: Sequence[str], diff_ids: Sequence[str]) -> None:
    """After a pull or load failed: delete what it has added, except for layers that others need or work with.

    ids: hex ids of the images that were not there before. diff_ids: of the layers it has made.
    """
    with store.locked():
        references = store._refs()
        for hex in ids:
            for reference in references.get(hex, ()):
                remove_tree(f"{store.root}/refs/{_quote(reference)}")
            remove_tree(f"{store.root}/ids/{hex}.json")
        _delete_layers(store, diff_ids)
        _, blobs = _needed(store)
        for entry in _entries(f"{store.root}/blobs/sha256"):
            if blobs is not None and entry not in blobs:
                remove_tree(f"{store.root}/blobs/sha256/{entry}")


def _delete(store: ImageStore, hex: str, taken: Callable[[str], bool]) -> list[str]:
    """The record, then layers and blobs that nothing needs any more. The lock is held.

    Who makes a container holds no lock of ours: it writes the container down, and then reads the record (again). We
    delete the record, and then ask for containers. So one of the two learns of the other, whoever is faster.
    """
    path = f"{store.root}/ids/{hex}.json"
    try:
        image = store._read(path, hex)
        layers, manifests = image.layers, {image.manifest, *(digest.split("@")[1] for digest in image.digests)}
    except Corrupt:
        image, layers, manifests = None, (), set()  # sweep finds its layers
    except NotFound:  # names without a record: they are gone now
        return []
    remove_tree(path)
    if image and taken(f"sha256:{hex}"):
        store._write(_named(image, ()))
        return []
    lines = [f"Deleted: sha256:{hex}"]
    deleted = _delete_layers(store, layers)
    _, blobs = _needed(store)
    for digest in {f"sha256:{hex}", *manifests}:
        if blobs is not None and digest and digest[7:] not in blobs:  # not all images have a manifest
            remove_tree(f"{store.root}/blobs/sha256/{digest[7:]}")
    return lines + [f"Deleted: {diff_id}" for diff_id in reversed(deleted)]


def _delete_layers(store: ImageStore, diff_ids: Sequence[str]) -> list[str]:
    needed, _ = _needed(store)
    deleted: list[str] = []
    if needed is None:
        return deleted  # a record is broken: it may need any layer
    for diff_id in dict.fromkeys(diff_ids):
        place = f"{store.layers}/{diff_id[7:]}"
        if diff_id[7:] in needed or not claims.found_at(place):
            continue
        lock = claims.seize(place)
        if lock is None:
            continue  # a pull that goes on needs it, or `sweep` finds it later
        claims.destroy(place, f"{store.mounts}/{diff_id[7:]}")
        claims.release(place, lock)
        deleted.append(diff_id)
    return deleted


def _needed(store: ImageStore) -> tuple[set[str] | None, set[str] | None]:
    """hex names of the layers and of the blobs that images need; None where a broken record hides what it needs."""
    layers: set[str] = set()
    blobs: set[str] = set()
    try:
        for image in store.list():
            layers.update(diff_id[7:] for diff_id in image.layers)
            blobs.update(digest[7:] for digest in (image.id, image.manifest) if digest)
            blobs.update(digest.split("@sha256:")[1] for digest in image.digests)
    except Corrupt:
        return None, None
    return layers, blobs


def _repository(reference: str) -> str:
    return parse_reference(reference).name


def _used(what: str, users: Sequence[str], force: bool) -> Conflict:
    if mounts := [user for user in users if user.startswith("/")]:
        return Conflict(what, f"it is mounted at {mounts[0]}", "unmount it first: image unmount")
    several = len(users) > 1
    named = f"container{'s' if several else ''} {', '.join(users[:3])}{' and others' if len(users) > 3 else ''}"
    hint = f"remove the container{'s' if several else ''} first" + ("" if force else ", or only untag with -f")
    return Conflict(what, f"{named} {'use' if several else 'uses'} it", hint)


def _entries(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
