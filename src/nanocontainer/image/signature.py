"""Signatures of images as cosign writes them: an artifact beside the image, in the same repository.

The image sha256:<hex> has its signatures under the tag sha256-<hex>.sig: a manifest whose "layers" are payloads, each
with the signature as an annotation. A payload says what is signed, as JSON ("simple signing", containers-signature(5)):

    {"critical": {"type": "cosign container image signature", "image": {"docker-manifest-digest": "sha256:..."},
                  "identity": {"docker-reference": "registry.example.com/app"}}, "optional": {...}}

So a signature is good when its bytes verify with a key that the policy names, and the payload speaks of this very
digest and of a name that the policy lets stand for the one we asked for. The arithmetic is openssl's (openssl-dgst(1),
openssl-pkeyutl(1)): hosts that verify TLS have it, and keys of every kind (P-256, Ed25519, RSA) go the same way.
"""

from __future__ import annotations

import base64
import binascii
import os

from ..errors import Corrupt, NanoError, NotFound, Unsupported
from ..record import Record
from .manifest import MAX_MANIFEST, parse_json, parse_layers
from .streams import digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .policy import Identity
    from .reference import Reference
    from .repository import Repository

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"
_MOST = 50  # signatures of one image; each costs a request
_LARGEST = 1 << 20  # bytes of a payload
_SECONDS = 30


class Signature(Record):
    """One signature of one digest: the payload's bytes, and what was signed with them."""

    digest: str
    payload: bytes
    signature: bytes

    def verdict(self, keys: Sequence[bytes], identity: Identity, wanted: Reference) -> str:
        """Empty where it is good, else what is wrong with it. The key first: no stranger's payload is read."""
        if not any(verify(key, self.payload, self.signature) for key in keys):
            return "a signature is there, by none of the keys that the policy names"
        try:
            digest, name = parse_payload(self.payload)
        except Corrupt as error:
            return error.why
        if digest != self.digest:
            return f"a signature is for {digest}, and not for {self.digest}"
        if not identity.matches(name, wanted):
            return f"a signature is for the name {name!r:.100}, which the policy ({identity}) does not let stand for it"
        return ""


def find_signatures(repository: Repository, digests: Sequence[str]) -> list[Signature]:
    """All signatures that the repository has of these digests. Unreachable, Corrupt; one that is not there is none."""
    found = []
    for digest in digests:
        tag = digest.replace(":", "-") + ".sig"
        what = f"the signatures of {digest[:19]}"
        try:
            raw, _ = repository.manifest(tag)
        except NotFound:
            continue
        for layer in parse_layers(parse_json(raw, MAX_MANIFEST, what), what)[:_MOST]:
            text = layer.annotations.get(_ANNOTATION, "")
            if layer.media_type != _PAYLOAD or not text:
                continue
            if layer.size > _LARGEST:
                raise Corrupt(f"{what} are damaged", f"a payload of {layer.size} bytes")
            try:
                signature = base64.b64decode(text, validate=True)
            except binascii.Error:
                raise Corrupt(f"{what} are damaged", "one of them is not base64") from None
            chunks = repository.blob(layer.digest, layer.size, 0, lambda: None)
            payload = b"".join(digested(chunks, layer.digest, f"a payload of {what}", layer.size))
            found.append(Signature(digest, payload, signature))
    return found


def parse_payload(data: bytes) -> tuple[str, str]:
    """(digest, docker-reference) of a payload; Corrupt for anything that is none, also with one field more."""
    what = "the payload of a signature"
    fields = parse_json(data, _LARGEST, what)
    critical = (
        fields.get("critical") if isinstance(fields, dict) and fields.keys() <= {"critical", "optional"} else None
    )
    if isinstance(critical, dict) and critical.keys() == {"type", "image", "identity"}:
        image, identity = critical["image"], critical["identity"]
        if critical["type"] != _TYPE:
            raise Corrupt(f"{what} is damaged", f"a signature is of the type {critical['type']!r:.60}")
        if isinstance(image, dict) and isinstance(identity, dict):
            digest, name = image.get("docker-manifest-digest"), identity.get("docker-reference")
            if isinstance(digest, str) and isinstance(name, str) and len(image) == len(identity) == 1:
                return digest, name
    raise Corrupt(f"{what} is damaged", "a signature has a payload of another form")


def verify(key: bytes, payload: bytes, signature: bytes) -> bool:
    """Whether a signature of the payload was made with the private half of this key (PEM). NanoError for no key."""
    kind = _openssl(["pkey", "-pubin", "-in", "{0}", "-noout", "-text"], key)
    if kind is None:
        raise NanoError("cannot verify signatures", "a key that the policy names is no public key in PEM form")
    if b"ED25519" in kind:
        command = ["pkeyutl", "-verify", "-pubin", "-inkey", "{0}", "-rawin", "-in", "{1}", "-sigfile", "{2}"]
    else:
        command = ["dgst", "-sha256", "-verify", "{0}", "-signature", "{2}", "{1}"]
    return _openssl(command, key, payload, signature) is not None


def _openssl(command: list[str], *files: bytes) -> bytes | None:
    """What openssl prints, None where it fails. "{0}" in the command stands for the first file, and so on; they lie in
    memory (memfd_create(2)), so nothing is left on any disk."""
    import shutil
    import subprocess

    program = shutil.which("openssl")
    if program is None:
        raise Unsupported("cannot verify signatures", "the program openssl is missing", "apt install openssl")
    fds = []
    try:
        for data in files:
            fds.append(fd := os.memfd_create("signature", os.MFD_CLOEXEC))
            os.write(fd, data)
        words = [word.format(*(f"/proc/self/fd/{fd}" for fd in fds)) for word in command]
        done = subprocess.run(
            [program, *words],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NanoError("cannot verify signatures", f"openssl: {error}") from None
    finally:
        for fd in fds:
            os.close(fd)
    return None if done.returncode else done.stdout
