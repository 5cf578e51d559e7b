"""The layers of an image as the tar archives they came as: what save and push send.

A layer's name, its diff id, is the digest of a tar. An EROFS layer holds that tar byte for byte (erofs_layer.py). One
that is a directory has lost it: a recipe beside it (recipe.py) puts it together again, and where there is none the
directory is written as a new tar. That one may differ in what has no meaning (order, padding, form of the headers), and
so has another diff id, and the image another id: this is never done silently.
"""

from __future__ import annotations

import os

from ..errors import Corrupt
from . import layertar
from .manifest import as_object, parse_json
from .pack import measured
from .streams import digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .model import Image
    from .store import ImageStore


class LayerTar:
    """One layer. diff_id: of what chunks() gives. size: bytes of it. was: the diff id that the image has for it."""

    def __init__(self, diff_id: str, size: int, was: str, open: Callable[[], Iterator[bytes]]) -> None:
        self.diff_id, self.size, self.was, self._open = diff_id, size, was, open

    def chunks(self) -> Iterator[bytes]:
        """The tar; Corrupt at its end where it is not what diff_id says."""
        try:
            yield from digested(self._open(), self.diff_id, f"layer {self.was[7:19]} in the store", self.size)
        except Corrupt as error:
            what = f"layer {self.was[7:19]} in the store is damaged"
            raise Corrupt(what, error.why, "remove the image, and pull it again") from None


class Sources:
    """What an image is made of. config: as bytes; id: its digest, another than image.id where a layer is made anew."""

    def __init__(self, image: Image, layers: list[LayerTar], config: bytes, anew: list[str]) -> None:
        from hashlib import sha256

        self.image, self.layers, self.config, self.anew = image, layers, config, anew
        self.id = f"sha256:{sha256(config).hexdigest()}"


def sources(store: ImageStore, image: Image, known: dict[str, LayerTar] | None = None) -> Sources:
    """Open an image for reading. Hold its layers meanwhile (claims). known: layers opened before, by diff id."""
    known = {} if known is None else known
    store.layer_paths(image)  # Corrupt where one is missing
    for diff_id in image.layers:
        if diff_id not in known:
            known[diff_id] = layer_tar(store, diff_id)
    layers = [known[diff_id] for diff_id in image.layers]
    config = store.blob(image.id)
    anew = [layer.was for layer in layers if layer.was != layer.diff_id]
    if anew:
        config = _renamed(config, [layer.diff_id for layer in layers])
    return Sources(image, layers, config, anew)


def layer_tar(store: ImageStore, diff_id: str) -> LayerTar:
    """A layer of the store, which is held; the tar it came as where that can be had back."""
    place = f"{store.layers}/{diff_id[7:]}"
    if os.path.exists(f"{place}.erofs"):
        from .erofs_layer import tar_chunks, tar_size

        with open(f"{place}.erofs", "rb") as file:
            size = tar_size(file.read(2048), file.name)
        return LayerTar(diff_id, size, diff_id, lambda: tar_chunks(f"{place}.erofs"))
    if os.path.exists(f"{place}.split"):
        from .recipe import put_together, size_of

        try:
            size = size_of(f"{place}.split")
        except Corrupt:
            pass  # the directory itself is still there
        else:
            return LayerTar(diff_id, size, diff_id, lambda: put_together(f"{place}.split", place))
    digest, size = measured(lambda: layertar.tar_of(place, layer=True))
    return LayerTar(digest, size, diff_id, lambda: layertar.tar_of(place, layer=True))


def _renamed(config: bytes, diff_ids: list[str]) -> bytes:
    """The configuration with other layers."""
    from .manifest import MAX_CONFIG
    from .writing import to_json

    what = "the image's configuration"
    fields = as_object(parse_json(config, MAX_CONFIG, what), what)
    rootfs = {**as_object(fields.get("rootfs"), what), "diff_ids": diff_ids}
    return to_json({**fields, "rootfs": rootfs})
