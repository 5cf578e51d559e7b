"""What an image is to the rest of the engine: plain values, read from the store.

An image's id is the digest of its configuration (image-spec, config.md); its layers are named by their diff ids, the
digests of the uncompressed tar archives, because that is what lies unpacked on the disk.
"""

from __future__ import annotations

from ..record import Record


class ImageConfig(Record):
    """How a container of this image runs unless the user says otherwise (image-spec, config.md, "config").

    env: "NAME=value" items. volumes: absolute paths. exposed: "80/tcp". All texts are free of NUL.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: dict[str, str] = {}
    exposed: tuple[str, ...] = ()


class Image(Record):
    """One image in the store.

    id: "sha256:<hex>" of the configuration. names: full references that point here. digests: "repository@sha256:<hex>"
    of the manifests it was pulled by. layers: diff ids, "sha256:<hex>", bottom first. created: RFC 3339 or empty.
    size: bytes of all regular files in its layers. manifest: the digest of the one it was last made by, or empty.
    """

    id: str
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    config: ImageConfig = ImageConfig()
    layers: tuple[str, ...] = ()
    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str = ""
    size: int = 0
    manifest: str = ""
