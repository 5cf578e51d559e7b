"""Manifests, indexes and configurations: JSON from strangers, made into values or refused.

OCI's image-spec and docker's "schema 2" are the same shapes under other media types. A manifest names one configuration
and the layers, bottom first; an index (docker: manifest list) names manifests by platform. Everything is checked here,
so that nothing behind it meets a wrong type, a negative size, a NUL, or a digest that is a path.
"""

from __future__ import annotations

import json
import os

from ..errors import Corrupt, InvalidInput, NotFound, Unsupported
from ..record import Record
from .model import ImageConfig
from .reference import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
ACCEPTED = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
MAX_MANIFEST = 4 << 20  # bytes; the limit registries have too
MAX_CONFIG = 16 << 20

_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_MACHINES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv8l": "arm/v7", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386",
    "i386": "386", "loongarch64": "loong64", "mips64": "mips64le",
}  # fmt: skip


class Platform(Record):
    """os/architecture/variant in Go's words: linux/arm64/v8."""

    os: str = "linux"
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(Record):
    """What a manifest or an index points at: content by digest and size (image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = {}


class Manifest(Record):
    """One image for one platform. layers: bottom first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


class Index(Record):
    """Several images: one per platform, or (in an OCI layout) one per name."""

    manifests: tuple[Descriptor, ...]


class Config(Record):
    """The parts of a configuration that we keep in short."""

    config: ImageConfig
    diff_ids: tuple[str, ...]
    architecture: str
    os: str
    variant: str
    created: str


def host_platform() -> Platform:
    """The platform of this machine."""
    machine = os.uname().machine
    return parse_platform(f"linux/{_MACHINES.get(machine, machine)}")


def parse_platform(text: str) -> Platform:
    """--platform: os[/arch[/variant]] or arch, as docker takes it. Normalised: x86_64 is amd64, arm64/v8 is arm64."""
    parts = text.lower().split("/")
    if len(parts) == 1 and parts[0] != "linux":
        parts.insert(0, "linux")
    if len(parts) > 3 or not all(part and part.replace("_", "").replace(".", "").isalnum() for part in parts):
        raise InvalidInput(
            f"invalid platform {text!r}", "it has the form os/architecture/variant", "for example linux/arm64/v8"
        )
    if len(parts) == 1:
        return host_platform()
    return _normal(Platform(parts[0], parts[1], parts[2] if len(parts) > 2 else ""))


def _normal(platform: Platform) -> Platform:
    architecture, variant = platform.architecture, platform.variant
    spelled = _MACHINES.get(architecture, architecture)
    if spelled != architecture:
        architecture, _, given = spelled.partition("/")
        variant = variant or given
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return Platform(platform.os, architecture, variant)


def choose(index: Index, platform: Platform, what: str) -> Descriptor:
    """The manifest for a platform. NotFound names the platforms there are."""
    wanted = [_normal(platform)]
    if platform.architecture == "arm":  # an older variant runs too, the newest of them first
        newest = int(wanted[0].variant[1:]) if wanted[0].variant[1:].isdigit() else 7
        wanted = [Platform(platform.os, "arm", f"v{number}") for number in range(newest, 4, -1)]
    there = [one for one in index.manifests if not _is_attestation(one)]
    for candidate in wanted:
        for one in there:
            if one.platform is not None and _normal(one.platform) == candidate:
                return one
    if len(there) == 1 and there[0].platform is None:
        return there[0]
    names = sorted({str(one.platform) for one in there if one.platform is not None})
    raise NotFound(
        f"no image for {platform} in {what}", f"there is {', '.join(names[:12]) or 'none for any platform'}",
        f"choose one: --platform {names[0]}" if names else "",
    )  # fmt: skip


def _is_attestation(descriptor: Descriptor) -> bool:
    """BuildKit puts statements about an image beside it, for the platform unknown/unknown."""
    platform = descriptor.platform
    unknown = platform is not None and "unknown" in (platform.os, platform.architecture)
    return unknown or descriptor.annotations.get("vnd.docker.reference.type") == "attestation-manifest"


def parse_manifest(data: bytes, media_type: str, what: str) -> Manifest | Index:
    """A manifest or an index. media_type: as the registry or the descriptor says, may be empty. what: for errors."""
    fields = as_object(parse_json(data, MAX_MANIFEST, what), what)
    media_type = media_type.split(";")[0].strip().lower()
    inner = fields.get("mediaType")
    if fields.get("schemaVersion") == 1 or media_type in _SCHEMA1:
        raise Unsupported(f"cannot use {what}", "it is of the old format schema 1", "push it again with a newer docker")
    if "manifests" in fields and "layers" in fields:  # CVE-2021-41190: it could be read as either
        raise Corrupt(f"{what} is damaged", "it is a manifest and an index at once")
    if isinstance(inner, str) and inner in ACCEPTED and media_type in ACCEPTED and inner != media_type:
        raise Corrupt(f"{what} is damaged", f"it came as {media_type} and calls itself {inner}")
    if "manifests" in fields:
        return Index(tuple(_descriptor(one, what) for one in as_array(fields["manifests"], what)))
    if "config" not in fields or "layers" not in fields:
        kind = str(inner or media_type or "unknown")[:100]
        raise Corrupt(f"{what} is damaged", f"it is no manifest of an image (its type is {kind})")
    config = _descriptor(fields["config"], what)
    if "image" not in config.media_type and config.media_type != "application/octet-stream":
        kind = as_text(fields.get("artifactType"), what) or config.media_type
        hint = "it is an artifact (a chart, a signature, a policy ...), for the tool that made it"
        raise Unsupported(f"cannot use {what}", f"it is no container image but {kind:.100}", hint)
    layers = tuple(_layer(one, what) for one in as_array(fields["layers"], what))
    return Manifest(config, layers)


def parse_layers(fields: Any, what: str) -> list[Descriptor]:
    """The layers of a manifest of any kind, also of what is no image (signatures)."""
    return [_descriptor(one, what) for one in as_array(as_object(fields, what).get("layers") or [], what)]


def parse_config(data: bytes, what: str = "the image's configuration") -> Config:
    """A configuration (image-spec, config.md); unknown fields are no error."""
    fields = as_object(parse_json(data, MAX_CONFIG, what), what)
    rootfs = as_object(fields.get("rootfs"), what)
    diff_ids = tuple(_digest(one, what) for one in as_array(rootfs.get("diff_ids") or [], what))
    run = as_object(fields.get("config") or {}, what)
    system = as_text(fields.get("os"), what)
    if system not in ("", "linux"):
        raise Unsupported("cannot use this image", f"it is for {system:.40}, not for linux")
    config = ImageConfig(
        entrypoint=_texts(run.get("Entrypoint"), what),
        cmd=_texts(run.get("Cmd"), what),
        env=_texts(run.get("Env"), what),
        cwd=as_text(run.get("WorkingDir"), what),
        user=as_text(run.get("User"), what),
        volumes=tuple(sorted(as_text(key, what) for key in as_object(run.get("Volumes") or {}, what))),
        stop_signal=as_text(run.get("StopSignal"), what),
        labels=_strings(run.get("Labels"), what),
        exposed=tuple(sorted(as_text(key, what) for key in as_object(run.get("ExposedPorts") or {}, what))),
    )
    architecture, variant = as_text(fields.get("architecture"), what), as_text(fields.get("variant"), what)
    return Config(config, diff_ids, architecture, system or "linux", variant, as_text(fields.get("created"), what))


def parse_json(data: bytes, limit: int, what: str) -> Any:
    """JSON from outside. Corrupt for anything that is none, too long or too deep."""
    if len(data) > limit:
        raise Corrupt(f"{what} is damaged", f"it is longer than {limit >> 20} MiB")
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} is damaged", f"it is no JSON ({error!s:.100})") from None


def _layer(value: Any, what: str) -> Descriptor:
    layer = _descriptor(value, what)
    if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
        raise Unsupported(f"cannot use {what}", "it has foreign layers (their content is not in the registry)")
    if "tar" not in layer.media_type:
        raise Unsupported(f"cannot use {what}", f"it has a layer of the unknown type {layer.media_type:.100}")
    if "encrypted" in layer.media_type:
        raise Unsupported(f"cannot use {what}", "its layers are encrypted")
    return layer


def _descriptor(value: Any, what: str) -> Descriptor:
    fields = as_object(value, what)
    size = fields.get("size")
    if type(size) is not int or not 0 <= size < 1 << 50:
        raise Corrupt(f"{what} is damaged", f"a size of {size!r:.50}")
    platform = None
    if fields.get("platform") is not None:
        given = as_object(fields["platform"], what)
        platform = Platform(*(as_text(given.get(key), what) for key in ("os", "architecture", "variant")))
    media_type, digest = as_text(fields.get("mediaType"), what), _digest(fields.get("digest"), what)
    return Descriptor(media_type, digest, size, platform, _strings(fields.get("annotations"), what))


def _digest(value: Any, what: str) -> str:
    digest = as_text(value, what)
    if is_digest(digest):
        return digest
    if digest.partition(":")[0] in ("sha512", "sha384", "blake3"):
        raise Unsupported(f"cannot use {what}", f"its digests are {digest.partition(':')[0]}; only sha256 is supported")
    raise Corrupt(f"{what} is damaged", f"{digest!r:.100} is no sha256 digest")


def as_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Corrupt(f"{what} is damaged", f"{value!r:.50} where an object should be")
    return value


def as_array(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise Corrupt(f"{what} is damaged", f"{value!r:.50} where a list should be")
    return value


def as_text(value: Any, what: str) -> str:
    """A string that a kernel can be given: no NUL, and writable as UTF-8. Missing is empty."""
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise Corrupt(f"{what} is damaged", f"{value!r:.50} where a text should be")
    return value


def _texts(value: Any, what: str) -> tuple[str, ...]:
    if isinstance(value, str):  # some writers give a Cmd of one word so
        value = [value]
    return tuple(as_text(one, what) for one in as_array(value or [], what) if one is not None)


def _strings(value: Any, what: str) -> dict[str, str]:
    return {as_text(key, what): as_text(one, what) for key, one in as_object(value or {}, what).items()}
