"""system df: where the space went: images by their layers, what containers have written, volumes."""

from __future__ import annotations

import os

from ..image import usage as images
from ..record import Record
from ..rootfs.volumes import tree_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.model import Image
    from ..image.usage import LayerUse, Sharing
    from .lifecycle import Lifecycle
    from .spec import Container


class ContainerUse(Record):
    """One container. written: bytes of its own files; log: of its log; volumes: how many it uses."""

    container: Container
    written: int = 0
    log: int = 0
    volumes: int = 0


class VolumeUse(Record):
    """One volume. containers: names of those that use it."""

    name: str
    size: int = 0
    containers: tuple[str, ...] = ()


class Usage(Record):
    """images: with how much of each is shared. used: ids of images and the names of the containers made of them."""

    images: tuple[tuple[Image, Sharing], ...] = ()
    layers: tuple[LayerUse, ...] = ()
    containers: tuple[ContainerUse, ...] = ()
    volumes: tuple[VolumeUse, ...] = ()
    used: dict[str, tuple[str, ...]] = {}
    partial: int = 0  # bytes on the disk of pulls that broke off, with which the next ones go on

    @property
    def reclaimable(self) -> int:
        """Bytes on the disk of layers that no image with a container needs, and of pulls that broke off."""
        free = sum(layer.disk for layer in self.layers if not any(id in self.used for id in layer.images))
        return free + self.partial


def usage(life: Lifecycle) -> Usage:
    """Look at everything there is. Broken records are left out: doctor names them."""
    containers = life.containers(lambda error: None)
    found = life.images.list(lambda error: None)
    used: dict[str, tuple[str, ...]] = {}
    holders: dict[str, list[str]] = {}
    for one in containers:
        used[one.spec.image_id] = (*used.get(one.spec.image_id, ()), one.name)
        for mount in one.spec.mounts:
            if mount.kind == "volume":
                holders.setdefault(mount.source, []).append(one.name)
    shared = images.sharing(life.images, found)
    return Usage(
        images=tuple((image, shared[image.id]) for image in found),
        layers=tuple(images.layers(life.images, found)),
        containers=tuple(_container(life, one) for one in containers),
        volumes=tuple(_volumes(life, holders)),
        used=used,
        partial=images.unfinished(life.images),
    )


def _container(life: Lifecycle, one: Container) -> ContainerUse:
    directory = life.paths.container(one.id)
    log = sum(entry.stat().st_size for entry in _entries(directory) if entry.name.startswith("log.json"))
    volumes = sum(mount.kind == "volume" for mount in one.spec.mounts)
    return ContainerUse(one, tree_size(f"{directory}/upper"), log, volumes)


def _volumes(life: Lifecycle, holders: dict[str, list[str]]) -> list[VolumeUse]:
    return [
        VolumeUse(entry.name, tree_size(f"{entry.path}/_data"), tuple(holders.get(entry.name, ())))
        for entry in sorted(_entries(life.paths.volumes), key=lambda entry: entry.name)
        if entry.is_dir(follow_symlinks=False)
    ]


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError:
        return []
