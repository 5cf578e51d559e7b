"""Pulling an image: resolve the reference to a manifest for a platform, then its configuration and layers.

Every byte is held against a digest: the manifest's comes from the index or from the user, or is what the registry calls
it; the configuration's and the blobs' come from the manifest, the plain layers' (diff ids) from the configuration.
"""

from __future__ import annotations

import hashlib

from ..errors import Corrupt, NotFound
from .install import Blob, Wanted, install
from .manifest import (
    MAX_CONFIG,
    Descriptor,
    Index,
    Manifest,
    choose,
    host_platform,
    parse_config,
    parse_manifest,
    parse_platform,
)
from .progress import Progresses
from .reference import parse_reference
from .registry import Access, Registry
from .streams import digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Image
    from .progress import Progress
    from .store import ImageStore


def pull(
    store: ImageStore,
    name: str,
    *,
    platform: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    authfile: str = "",
    state: str = "",
) -> Image:
    """Bring an image into the store, or find that it is up to date.

    name: a reference in any form. platform: os/arch/variant, empty for the host's. state: where a missing HTTP library
    may be installed, by default beside the images. Errors: InvalidInput, NotFound, NotPermitted, Unreachable, Corrupt,
    Unsupported, and NanoError for a full disk; none of them leaves anything behind.
    """
    import os

    reference = parse_reference(name)
    wanted = parse_platform(platform) if platform else host_platform()
    report = Progresses(on_progress)
    access = Access(state=state or os.path.dirname(store.root), authfile=authfile)
    registry = Registry(reference.host, reference.path, access)
    try:
        what = reference.familiar
        report(reference.digest or reference.tag, f"Pulling from {reference.path}")
        raw, digest, top = _manifest(registry, reference.digest or reference.tag, "", what)
        top_digest = digest
        if isinstance(top, Index):
            chosen = choose(top, wanted, what)
            raw, digest, top = _manifest(registry, chosen.digest, chosen.media_type, what)
            if isinstance(top, Index):
                raise Corrupt(f"{what} is damaged", "its index names another index")
        config = _config(registry, top, what)
        parsed = parse_config(config)
        if platform and parsed.architecture and parsed.architecture != wanted.architecture:
            raise NotFound(
                f"no image for {wanted} in {what}",
                f"there is only {parsed.os}/{parsed.architecture}",
                "leave out --platform",
            )
        names = () if reference.digest else (str(reference),)
        image_id = f"sha256:{hashlib.sha256(config).hexdigest()}"
        known = _known(store, str(reference))
        blobs = [_blob(registry, layer) for layer in top.layers]
        digests = (f"{reference.name}@{top_digest}",)
        (image,) = install(
            store, [Wanted(config, blobs, names=names, digests=digests, manifest=raw, what=what)], report
        )
        report("", f"Digest: {top_digest}")
        fresh = "Image is up to date for" if known == image_id else "Downloaded newer image for"
        report("", f"Status: {fresh} {what}")
        return image
    finally:
        registry.close()


def _manifest(registry: Registry, wanted: str, media_type: str, what: str) -> tuple[bytes, str, Manifest | Index]:
    """Bytes, digest and content of a manifest or an index, its digest checked where one was asked for."""
    raw, said = registry.manifest(wanted)
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if wanted.startswith("sha256:") and wanted != digest:
        raise Corrupt(
            f"the manifest of {what} is damaged",
            f"its digest is {digest} and should be {wanted}",
            "try again, or ask who runs the registry",
        )
    return raw, digest, parse_manifest(raw, media_type or said, f"the manifest of {what}")


def _config(registry: Registry, manifest: Manifest, what: str) -> bytes:
    descriptor = manifest.config
    if descriptor.size > MAX_CONFIG:
        raise Corrupt(f"the manifest of {what} is damaged", f"a configuration of {descriptor.size} bytes")
    chunks = digested(
        registry.blob(descriptor.digest, descriptor.size),
        descriptor.digest,
        f"the configuration of {what}",
        descriptor.size,
    )
    return b"".join(chunks)


def _blob(registry: Registry, layer: Descriptor) -> Blob:
    return Blob(lambda: registry.blob(layer.digest, layer.size), layer.size, layer.digest)


def _known(store: ImageStore, name: str) -> str:
    """The id of the image that has this name now, or empty."""
    try:
        return store.find(name).id
    except (Corrupt, NotFound):
        return ""
