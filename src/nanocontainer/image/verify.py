"""Looking at every byte of an image again: `image verify`. Changes nothing.

A configuration and a manifest are files whose names are the digests of their content. A layer is named by the digest of
the tar that it was made of (its diff id); as far as that tar can be had back, byte for byte, its digest is the proof.
Where it cannot, only what was counted when it was unpacked can be compared, and the verdict says so.
"""

from __future__ import annotations

import os

from ..errors import Corrupt, NanoError
from ..record import Record
from .checkup import tree_size
from .claims import layer_size
from .erofs_layer import verify_layer

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
    if os.path.isfile(f"{place}.erofs"):
        try:
            verify_layer(f"{place}.erofs", diff_id)
        except (NanoError, OSError) as error:
            return Check("layer", diff_id, DAMAGED, str(error))
        return Check("layer", diff_id, PROVEN)
    if not os.path.isdir(place):
        return Check("layer", diff_id, DAMAGED, "it is missing")
    try:
        said, there = layer_size(place), tree_size(place)
    except (Corrupt, OSError) as error:
        return Check("layer", diff_id, DAMAGED, str(error))
    if said and there != said:
        return Check("layer", diff_id, DAMAGED, f"its files have {there} bytes, and had {said} when it was unpacked")
    return Check("layer", diff_id, PLAUSIBLE, "unpacked files: their sizes are right, their content cannot be proven")
