"""Holding images while they are read: nobody deletes a layer that save or push is sending (claims.py)."""

from __future__ import annotations

import os
from contextlib import contextmanager

from ..errors import Corrupt
from . import claims

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .model import Image
    from .store import ImageStore


@contextmanager
def held(store: ImageStore, images: Sequence[Image]) -> Iterator[None]:
    """Hold all layers of these images. Corrupt where one is missing."""
    locks = []
    try:
        for diff_id in dict.fromkeys(diff_id for image in images for diff_id in image.layers):
            lock, _ = claims.obtain(f"{store.layers}/{diff_id[7:]}", _missing)
            locks.append(lock)
        yield
    finally:
        for lock in locks:
            os.close(lock)


def _missing(place: str) -> int:
    raise Corrupt(f"layer {os.path.basename(place)[:12]} is missing", "", "pull the image again")
