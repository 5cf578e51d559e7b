"""What else is known of an image beside its record: its history, who made it, where its layers lie.

A configuration's history (image-spec, config.md) tells of each step that made the image; those that changed files stand
for the layers, in their order. Writers may leave out history, or have more or less of it than layers: layers that
nobody speaks of are listed all the same.
"""

from __future__ import annotations

import os

from ..record import Record
from .claims import layer_size
from .manifest import as_array, as_object, as_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .model import Image
    from .store import ImageStore


class HistoryLine(Record):
    """One step of an image's making. layer: its diff id, empty where it changed no file. size: bytes of its files."""

    created: str = ""
    created_by: str = ""
    comment: str = ""
    layer: str = ""
    size: int = 0


class Details(Record):
    """image: its record. config: the whole "config" as it came. layers: where they lie, bottom first. tagged: when it
    was given its last name, nanoseconds since 1970, or 0."""

    image: Image
    config: dict[str, Any] = {}
    comment: str = ""
    author: str = ""
    docker_version: str = ""
    layers: tuple[str, ...] = ()
    tagged: int = 0


def history(store: ImageStore, image: Image) -> list[HistoryLine]:
    """The steps that made an image, the newest first. Corrupt."""
    what = f"the configuration of image {image.id[7:19]}"
    left = list(image.layers)
    lines = []
    for one in as_array(store.raw_config(image).get("history") or [], what):
        fields = as_object(one, what)
        layer = left.pop(0) if left and fields.get("empty_layer") is not True else ""
        size = layer_size(f"{store.layers}/{layer[7:]}") if layer else 0
        created, by, comment = (as_text(fields.get(name), what) for name in ("created", "created_by", "comment"))
        lines.append(HistoryLine(created, by, comment, layer, size))
    lines += [HistoryLine(layer=layer, size=layer_size(f"{store.layers}/{layer[7:]}")) for layer in left]
    return lines[::-1]


def details(store: ImageStore, image: Image) -> Details:
    """All of it. Corrupt where the configuration is damaged or a layer is missing."""
    what = f"the configuration of image {image.id[7:19]}"
    fields = store.raw_config(image)
    comment = as_text(fields.get("comment"), what)
    if not comment:
        steps = as_array(fields.get("history") or [], what)
        comment = as_text(as_object(steps[-1], what).get("comment"), what) if steps else ""
    tagged = 0
    for name in image.names:
        try:
            tagged = max(tagged, os.lstat(f"{store.root}/refs/{name.replace('/', '%')}").st_mtime_ns)
        except OSError:
            pass  # untagged meanwhile
    return Details(
        image=image, config=as_object(fields.get("config") or {}, what), comment=comment,
        author=as_text(fields.get("author"), what), docker_version=as_text(fields.get("docker_version"), what),
        layers=store.layer_paths(image), tagged=tagged,
    )  # fmt: skip
