"""What all writers of images have in common: JSON of one form, the time that is written, manifests.

SOURCE_DATE_EPOCH (reproducible-builds.org): seconds since 1970; whoever sets it wants the same bytes from the same
content, whenever it is written.
"""

from __future__ import annotations

import json
import os
import time

from ..clock import rfc3339
from ..errors import InvalidInput
from .manifest import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST, Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LAYERS = {  # (docker's types?, compression) → media type
    (False, "none"): "application/vnd.oci.image.layer.v1.tar",
    (False, "gzip"): "application/vnd.oci.image.layer.v1.tar+gzip",
    (False, "zstd"): "application/vnd.oci.image.layer.v1.tar+zstd",
    (True, "none"): "application/vnd.docker.image.rootfs.diff.tar",
    (True, "gzip"): "application/vnd.docker.image.rootfs.diff.tar.gzip",
    (True, "zstd"): "application/vnd.docker.image.rootfs.diff.tar.zstd",
}


def to_json(value: object) -> bytes:
    """One form for one value: keys sorted, no blanks."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def source_date() -> int | None:
    """SOURCE_DATE_EPOCH in nanoseconds, None where it is not set. InvalidInput where it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInput("invalid SOURCE_DATE_EPOCH", f"{text[:40]!r} is no number of seconds since 1970")
    return int(text) * 1_000_000_000


def created_now() -> str:
    """The time of what is made now, RFC 3339: SOURCE_DATE_EPOCH, or the clock's."""
    given = source_date()
    return rfc3339(time.time_ns() if given is None else given)


def layer_type(kind: str, *, docker: bool = False) -> str:
    """The media type of a layer; kind: its compression."""
    return _LAYERS[docker, kind]


def manifest(config: Descriptor, layers: Sequence[Descriptor], *, docker: bool = False) -> bytes:
    """A manifest of OCI's type or docker's (schema 2)."""
    return to_json({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
        "config": descriptor(config),
        "layers": [descriptor(layer) for layer in layers],
    })  # fmt: skip


def config_type(*, docker: bool = False) -> str:
    return DOCKER_CONFIG if docker else OCI_CONFIG


def descriptor(one: Descriptor) -> dict[str, object]:
    """As it stands in a manifest or index."""
    found: dict[str, object] = {"mediaType": one.media_type, "digest": one.digest, "size": one.size}
    if one.platform is not None:
        found["platform"] = {
            name: value
            for name, value in (
                ("architecture", one.platform.architecture), ("os", one.platform.os), ("variant", one.platform.variant)
            )
            if value
        }  # fmt: skip
    if one.annotations:
        found["annotations"] = dict(one.annotations)
    return found
