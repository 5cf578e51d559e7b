"""image prune: images that nobody needs, by what containers there are and by filters."""

from __future__ import annotations

import os
import time

from ..clock import parse_time
from ..errors import InvalidInput, NanoError
from ..image import partial
from ..image.claims import layer_size
from ..image.removal import sweep
from ..image.usage import unfinished
from .imagemounts import mounted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..image.model import Image
    from .lifecycle import Lifecycle


def prune_images(
    life: Lifecycle,
    remove: Callable[[str], list[str]],
    *,
    all: bool,
    until: str,
    labels: Sequence[str],
    without: Sequence[str],
    on_error: Callable[[NanoError], None] | None,
) -> tuple[list[str], int]:
    """See Engine.image_prune. remove: takes one name or id away, and says what was done."""
    used = {container.spec.image_id for container in life.containers(lambda error: None)} | mounted(life).keys()
    before = parse_time(until, time.time_ns()) if until else None
    freed, lines = 0, []
    for image in life.images.list(on_error):
        if image.id in used or (image.names and not all) or not _fits(image, before, labels, without):
            continue
        sizes = {diff_id: layer_size(f"{life.images.layers}/{diff_id[7:]}") for diff_id in image.layers}
        try:
            for name in image.names or (image.id,):
                done = remove(name)
                freed += sum(sizes.get(line.removeprefix("Deleted: "), 0) for line in done)
                lines += done
        except NanoError as error:  # in use since a moment ago
            if on_error:
                on_error(error)
    unfinished_before = unfinished(life.images)
    try:
        filtered = bool(until or labels or without)
        if sweep(life.images, 0) if all and not filtered else sweep(life.images):
            freed += max(0, unfinished_before - unfinished(life.images))
    except NanoError as error:
        if on_error:
            on_error(error)
    if all and not (before or labels or without):  # what broken pulls have left is no image, but nobody needs it
        sizes = {path: _size(path) for path in partial.partials(life.images.root)}
        freed += sum(sizes.get(path, 0) for path in partial.sweep(life.images.root, older=0))
    return lines, freed


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0  # its pull has just ended


def _fits(image: Image, before: int | None, labels: Sequence[str], without: Sequence[str]) -> bool:
    if before is not None:
        try:
            if parse_time(image.created, 0) >= before:
                return False
        except InvalidInput:
            return False  # it does not say when it was made
    return all(map(_labelled(image), labels)) and not any(map(_labelled(image), without))


def _labelled(image: Image) -> Callable[[str], bool]:
    def has(item: str) -> bool:
        name, equals, value = item.partition("=")
        return name in image.config.labels and (not equals or image.config.labels[name] == value)

    return has
