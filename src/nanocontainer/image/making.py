"""Images made here: what a container has changed on top of its image (commit), and a root file system (import).

What decides an image's id is its configuration: layers' diff ids, times, history. With SOURCE_DATE_EPOCH set, the same
files, words and parent give the same id.
"""

from __future__ import annotations

from ..errors import Corrupt, InvalidInput
from ..paths import make_dirs
from .changes import apply_changes
from .install import Blob, Wanted, install
from .manifest import host_platform, parse_platform
from .pack import Kept
from .progress import Progresses
from .reference import parse_reference
from .streams import ahead, decompressed, file_chunks
from .tar import archived
from .writing import created_now, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any, BinaryIO

    from .model import Image
    from .progress import Progress
    from .store import ImageStore

_EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # a tar with nothing in it


def new_name(name: str) -> tuple[str, ...]:
    """The full reference for a new image, none for an empty name. InvalidInput; a digest cannot be chosen."""
    if not name:
        return ()
    reference = parse_reference(name)
    if reference.digest:
        raise InvalidInput(f"cannot call an image {name!r}", "a digest follows from the content", "give a tag")
    return (str(reference),)


def import_image(
    store: ImageStore,
    source: str | BinaryIO,
    name: str = "",
    *,
    changes: Sequence[str] = (),
    message: str = "",
    platform: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> Image:
    """docker import: a root file system as a tar (a path or an open file, perhaps compressed) becomes an image of one
    layer. changes: see changes.py. InvalidInput, Corrupt; then nothing was added."""
    names = new_name(name)
    run = apply_changes({}, changes)
    wanted = parse_platform(platform) if platform else host_platform()
    if wanted.os != "linux":
        raise InvalidInput(f"invalid platform {platform!r}", "containers here are of linux")
    what = source if isinstance(source, str) else "the archive"
    if isinstance(source, str):
        try:
            opened: BinaryIO = open(source, "rb")
        except OSError as error:
            raise InvalidInput(f"cannot read {source}", error.strerror or str(error)) from None
    else:
        opened = source
    try:
        make_dirs(store.root)
        kept = Kept(archived(decompressed(ahead(file_chunks(opened)), what)), store.root, what)
    finally:
        if opened is not source:
            opened.close()
    try:
        if not kept.size:
            raise Corrupt(f"{what} is damaged", "it is empty: no tar archive")
        created = created_now()
        config: dict[str, Any] = {
            "architecture": wanted.architecture, "os": wanted.os, "created": created, "config": run,
            "history": [{"created": created, "comment": message or f"Imported from {'-' if what != source else what}"}],
            "rootfs": {"type": "layers", "diff_ids": [kept.digest]},
        }  # fmt: skip
        if wanted.variant:
            config["variant"] = wanted.variant
        blob = Blob(kept.chunks, kept.size, name=what)
        return install(store, [Wanted(to_json(config), [blob], names=names)], Progresses(on_progress))[0]
    finally:
        kept.close()


def commit_image(
    store: ImageStore,
    parent: Image,
    layer: Iterable[bytes],
    name: str = "",
    *,
    run: dict[str, Any],
    created_by: str = "",
    message: str = "",
    author: str = "",
) -> Image:
    """An image of the parent's layers and one more; without that one where it has nothing in it.

    layer: a plain tar with whiteouts. run: the new "config". The other fields of the parent's configuration stay.
    """
    names = new_name(name)
    make_dirs(store.root)
    kept = Kept(layer, store.root, "the new layer")
    try:
        created = created_now()
        base = store.raw_config(parent)
        said = {"created_by": created_by, "comment": message, "author": author, "created": created}
        history = {key: value for key, value in said.items() if value}
        empty = kept.digest == _EMPTY
        added = [] if empty else [kept.digest]
        config = {
            **{key: value for key, value in base.items() if key not in ("container", "container_config", "parent")},
            "created": created, "config": run,
            "history": [*(base.get("history") or []), {**history, **({"empty_layer": True} if empty else {})}],
            "rootfs": {"type": "layers", "diff_ids": [*parent.layers, *added]},
        }  # fmt: skip
        if author:
            config["author"] = author
        blobs = [Blob(lambda id=diff_id: _missing(id), 0, name=f"layer {diff_id[7:19]}") for diff_id in parent.layers]  # type: ignore[misc]
        if added:
            blobs.append(Blob(kept.chunks, kept.size, name="the new layer"))
        return install(store, [Wanted(to_json(config), blobs, names=names)], Progresses(None))[0]
    finally:
        kept.close()


def _missing(diff_id: str) -> Iterator[bytes]:
    raise Corrupt(f"layer {diff_id[7:19]} of the image is missing", "", "pull the image again")
