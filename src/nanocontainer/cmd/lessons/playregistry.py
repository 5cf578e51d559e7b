"""A registry on the play host's loopback that serves one image, and lies about its layer.

It speaks the two requests of a pull (OCI distribution-spec): manifests and blobs. The manifest names the layer by the
digest of the true file; what it serves under that name is another file of the same length.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .stage import Stage

PORT = 5000
IMAGE = f"127.0.0.1:{PORT}/hello:latest"
TRUE, EVIL = "hello from the image", "hello from a burglar"  # of the same length
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def serve(stage: Stage) -> None:
    """Start it. notes: digest, what the manifest names; served, the digest of what comes (hex digits). LAYER, in the
    container's environment: digest, as the manifest has it."""
    true, evil = _layer(TRUE), _layer(EVIL)
    digest, served = (hashlib.sha256(data).hexdigest() for data in (true, evil))
    machine = stage.engine.image("tiny").architecture
    config = json.dumps(
        {
            "architecture": machine, "os": "linux", "config": {"Cmd": ["/bin/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()  # fmt: skip
    config_digest = hashlib.sha256(config).hexdigest()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": f"sha256:{config_digest}",
                "size": len(config),
            },
            "layers": [{"mediaType": _LAYER, "digest": f"sha256:{digest}", "size": len(true)}],
        },
        indent=1,
    ).encode()
    answers = {
        "/v2/": (b"{}", "application/json"),
        "/v2/hello/manifests/latest": (manifest, _MANIFEST),
        f"/v2/hello/blobs/sha256:{config_digest}": (config, "application/octet-stream"),
        f"/v2/hello/blobs/sha256:{digest}": (evil, "application/octet-stream"),
    }
    stage.notes.update(digest=digest, served=served)
    stage.env["LAYER"] = f"sha256:{digest}"
    stage.serve(PORT, answers)


def _layer(words: str) -> bytes:
    script = f"#!/bin/sh\necho {words}\n".encode()
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        info = tarfile.TarInfo("bin/hello")
        info.mode, info.size = 0o755, len(script)
        tar.addfile(info, io.BytesIO(script))
    return output.getvalue()
