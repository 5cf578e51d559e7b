"""Looking at every byte of an image again: `image verify`. Changes nothing.

A configuration and a manifest are files whose names are the digests of their content. A layer is named by the digest
of the tar that it was made of (its diff id): an EROFS image has that tar inside, and the index that the kernel reads
can be made again from it. A directory has a recipe beside it that puts the tar together again: that proves the content
of the files, but headers come from the recipe, so a mode that somebody changed goes unseen. Where no recipe could be
made, only what was counted at the unpacking can be compared. The verdict says which of these it was.
"""

from __future__ import annotations

import os

from ..errors import Corrupt, NanoError
from ..record import Record
from .checkup import tree_size
from .claims import found_at, layer_size
from .streams import digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Image
    from .store import ImageStore

PROVEN, PLAUSIBLE, DAMAGED = "proven", "plausible", "damaged"


class Check(Record):
    """One part of an image. part: configuration, manifest or layer. digest: its name. result: proven (its bytes have
    this digest), plausible (nothing speaks against it) or damaged. note: why."""

    part: str
    digest: str
    result: str
    note: str = ""


class Verdict(Record):
    """An image and its parts, the layers bottom first."""

    image: Image
    checks: tuple[Check, ...]

    @property
    def result(self) -> str:
        """The worst of its parts'."""
        results = {check.result for check in self.checks}
        return next(result for result in (DAMAGED, PLAUSIBLE, PROVEN) if result in results)


def verify(store: ImageStore, images: Sequence[Image]) -> list[Verdict]:
    """A verdict for each image; a layer that several have is looked at once."""
    layers: dict[str, Check] = {}
    verdicts = []
    for image in images:
        checks = [_blob(store, "configuration", image.id)]
        if image.manifest:
            checks.append(_blob(store, "manifest", image.manifest))
        for diff_id in image.layers:
            if diff_id not in layers:
                layers[diff_id] = _layer(store, diff_id)
            checks.append(layers[diff_id])
        verdicts.append(Verdict(image, tuple(checks)))
    return verdicts


def _blob(store: ImageStore, part: str, digest: str) -> Check:
    try:
        store.blob(digest)
    except (NanoError, OSError) as error:
        return Check(part, digest, DAMAGED, error.why if isinstance(error, NanoError) else str(error))
    return Check(part, digest, PROVEN)


def _layer(store: ImageStore, diff_id: str) -> Check:
    place = f"{store.layers}/{diff_id[7:]}"
    try:
        return Check("layer", diff_id, *_looked_at(place, diff_id))
    except (Corrupt, OSError) as error:
        return Check("layer", diff_id, DAMAGED, str(error))


def _looked_at(place: str, diff_id: str) -> tuple[str, str]:
    """(result, note) of a layer; Corrupt or OSError where it is damaged."""
    path = found_at(place)
    if not path:
        return DAMAGED, "it is missing"
    if path.endswith(".erofs"):
        from .erofs_layer import verify_layer

        verify_layer(path, diff_id)
        return PROVEN, "EROFS: archive and index"
    said, there = layer_size(place), tree_size(place)
    if said and there != said:
        return DAMAGED, f"its files have {there} bytes, and had {said} when it was unpacked"
    if not os.path.exists(f"{place}.split"):
        return PLAUSIBLE, "directory without a recipe: the size is right, the content cannot be proven"
    from .recipe import put_together

    for _ in digested(put_together(f"{place}.split", place), diff_id, "its content"):
        pass
    return PROVEN, "directory: content, not owners, modes"
