"""Pulling an image: resolve the reference to a manifest for a platform, then its configuration and layers.

Every byte is held against a digest: the manifest's comes from the index or from the user, or is what the registry calls
it; the configuration's and the blobs' come from the manifest, the plain layers' (diff ids) from the configuration. Who
may have made the image is the policy's affair (policy.py), asked before anything but the manifest is fetched.

What is here already is not asked for: a pull that finds its image up to date sends one request, a fresh one of an image
with n layers and one platform n + 2. A layer that broke off goes on where it was (partial.py).
"""

from __future__ import annotations

import hashlib
import os

from ..errors import Corrupt, NanoError, NotFound
from .install import Blob, Wanted, install
from .manifest import (
    INDEXES,
    MAX_CONFIG,
    Descriptor,
    Index,
    Manifest,
    Platform,
    choose,
    host_platform,
    parse_config,
    parse_manifest,
    parse_platform,
)
from .mirrors import candidates, read_registries
from .partial import Partial
from .policy import read_policy
from .progress import Progresses
from .reference import Reference, parse_reference
from .registry import Access
from .repository import Repository
from .streams import digested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .model import Image
    from .progress import Progress
    from .store import ImageStore

_DEEPEST = 3  # indexes in indexes
_BEYOND = 500  # overlayfs takes no more directories (OVL_MAX_STACK)


def pull(
    store: ImageStore,
    name: str,
    *,
    platform: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    access: Access | None = None,
) -> Image:
    """Bring an image into the store, or find that it is up to date.

    name: a reference in any form; a short one is looked for where registries.conf says. platform: os/arch/variant,
    empty for the host's. access: how registries are spoken to. Errors: InvalidInput, NotFound, NotPermitted,
    Unreachable, Corrupt, Unsupported, and NanoError for a full disk; none of them leaves anything behind but parts of
    layers, with which the next pull goes on.
    """
    registries = read_registries()
    failures: list[NanoError] = []
    references = candidates(name, registries)
    for reference in references:
        repository = Repository(reference, _complete(access, store), registries)
        try:
            return _Pull(store, repository, platform, Progresses(on_progress)).image(reference)
        except NotFound as error:
            failures.append(error)
        finally:
            repository.close()
    if len(failures) == 1:
        raise failures[0]
    told = "; ".join(str(error) for error in failures)
    raise NotFound(f"cannot pull {name}", f"no registry of registries.conf has it: {told}", failures[-1].hint)


def pull_all(
    store: ImageStore,
    name: str,
    *,
    platform: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    access: Access | None = None,
) -> list[Image]:
    """Every tag of a repository; name: without a tag. As pull()."""
    registries = read_registries()
    reference = candidates(name, registries)[0]
    repository = Repository(reference, _complete(access, store), registries)
    try:
        one = _Pull(store, repository, platform, Progresses(on_progress))
        tags = repository.tags()
        if not tags:
            raise NotFound(f"cannot pull {reference.familiar_name}", "it has no tags", "check the name")
        return [one.image(parse_reference(f"{reference.name}:{tag}")) for tag in tags]
    finally:
        repository.close()


def _complete(access: Access | None, store: ImageStore) -> Access:
    access = access or Access()
    return access if access.state else access.replace(state=os.path.dirname(store.root))


class _Pull:
    def __init__(self, store: ImageStore, repository: Repository, platform: str, report: Progresses) -> None:
        self._store, self._repository, self._report = store, repository, report
        self._asked = bool(platform)
        self._platform = parse_platform(platform) if platform else host_platform()
        self._what = ""

    def image(self, reference: Reference) -> Image:
        self._what = what = reference.familiar
        policy = read_policy()
        policy.admit(reference)
        self._report(reference.digest or reference.tag, f"Pulling from {reference.path}")
        top_digest, manifest, raw, chain = self._manifest(reference.digest or reference.tag)
        policy.check(reference, chain, self._repository)
        if len(manifest.layers) > _BEYOND:
            why = f"it has {len(manifest.layers)} layers, and overlayfs takes {_BEYOND} at most"
            raise Corrupt(f"the manifest of {what} is damaged", why)
        config = self._config(manifest.config)
        self._check_platform(config)
        known = self._known(str(reference))
        blobs = [_Layer(self._store, self._repository, layer, self._report) for layer in manifest.layers]
        names = () if reference.digest else (str(reference),)
        digests = (f"{reference.name}@{top_digest}",)
        wanted = Wanted(config, blobs, names=names, digests=digests, manifest=raw, what=what)
        try:
            (image,) = install(self._store, [wanted], self._report)
        finally:
            for blob in blobs:
                blob.partial.close()
        self._report("", f"Digest: {top_digest}")
        fresh = "Image is up to date for" if known == image.id else "Downloaded newer image for"
        self._report("", f"Status: {fresh} {what}")
        return image

    def _manifest(self, wanted: str) -> tuple[str, Manifest, bytes, list[tuple[str, bytes]]]:
        """The digest that the reference means, the manifest for the platform, its bytes, and the way there: (digest,
        bytes) of each index and of the manifest."""
        chain: list[tuple[str, bytes]] = []
        raw, digest, found = self._get(wanted, "")
        chain.append((digest, raw))
        if isinstance(found, Index):
            found, raw = self._descend(found, chain, 1)
        return digest, found, raw, chain

    def _descend(self, index: Index, chain: list[tuple[str, bytes]], depth: int) -> tuple[Manifest, bytes]:
        """The manifest for the platform in an index, which may be in an index of its own."""
        if depth > _DEEPEST:
            raise Corrupt(f"{self._what} is damaged", f"its indexes are nested more than {_DEEPEST} deep")
        missing: NotFound | None = None
        try:
            chosen = [choose(index, self._platform, self._what)]
        except NotFound as error:
            missing = error
            chosen = [one for one in index.manifests if one.media_type in INDEXES and one.platform is None][:_DEEPEST]
        for one in chosen:
            raw, digest, found = self._get(one.digest, one.media_type)
            link = (digest, raw)
            if isinstance(found, Manifest):
                chain.append(link)
                return found, raw
            try:
                inner, raw = self._descend(found, below := [*chain, link], depth + 1)
            except NotFound as error:
                missing = error
                continue
            chain[:] = below
            return inner, raw
        raise missing or AssertionError("nothing was chosen")

    def _get(self, wanted: str, media_type: str) -> tuple[bytes, str, Manifest | Index]:
        """Bytes, digest and content of a manifest or an index, its digest checked where one was asked for. One that an
        index names may be here already."""
        what = f"the manifest of {self._what}"
        raw, said = b"", ""
        if media_type:
            try:
                raw = self._store.blob(wanted)
            except Corrupt:  # or not there
                pass
        if not raw:
            raw, said = self._repository.manifest(wanted, lambda text: self._report("", text))
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if wanted.startswith("sha256:") and wanted != digest:
            why = f"its digest is {digest} and should be {wanted}"
            raise Corrupt(f"{what} is damaged", why, "try again, or ask who runs the registry")
        return raw, digest, parse_manifest(raw, media_type or said, what)

    def _config(self, descriptor: Descriptor) -> bytes:
        if descriptor.size > MAX_CONFIG:
            raise Corrupt(f"the manifest of {self._what} is damaged", f"a configuration of {descriptor.size} bytes")
        try:
            return self._store.blob(descriptor.digest)
        except Corrupt:  # or not there
            pass
        chunks = self._repository.blob(descriptor.digest, descriptor.size, 0, lambda: None)
        what = f"the configuration of {self._what}"
        return b"".join(digested(chunks, descriptor.digest, what, descriptor.size))

    def _check_platform(self, config: bytes) -> None:
        parsed = parse_config(config, f"the configuration of {self._what}")
        there = Platform(parsed.os, parsed.architecture, parsed.variant)
        if not parsed.architecture or parsed.architecture == self._platform.architecture:
            return
        if self._asked:
            why, hint = f"there is only {there}", "leave out --platform"
            raise NotFound(f"no image for {self._platform} in {self._what}", why, hint)
        self._report("", f"Warning: {self._what} is for {there}, and this machine is {self._platform}")

    def _known(self, name: str) -> str:
        """The id of the image that has this name now, or empty."""
        try:
            return self._store.find(name).id
        except (Corrupt, NotFound):
            return ""


class _Layer(Blob):
    """A layer in a registry, and what is here of it already."""

    def __init__(self, store: ImageStore, repository: Repository, layer: Descriptor, report: Progresses) -> None:
        super().__init__(self._stream, layer.size, layer.digest)
        self.partial = Partial(store.root, layer.digest, layer.size)
        self._repository, self._report = repository, report

    def made(self) -> None:
        self.partial.made()

    def again(self) -> bool:
        return self.partial.again()

    def _stream(self) -> Iterator[bytes]:
        def fetch(start: int, broke: Callable[[], None]) -> Iterator[bytes]:
            return self._repository.blob(self.digest, self.size, start, broke)

        return self.partial.stream(fetch, lambda count: self._report(self.digest[7:19], "Resuming", count, self.size))
