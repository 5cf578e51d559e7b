"""Pushing an image: its layers and configuration as blobs, and last the manifest, which names it (distribution-spec).

    HEAD  /v2/<repository>/blobs/<digest>                        is it there already?
    POST  /v2/<repository>/blobs/uploads/?mount=<digest>&from=   or in another repository of this registry?
    POST  /v2/<repository>/blobs/uploads/                        where to send it: Location
    PATCH <Location>  Content-Range: 0-4194303                   a large blob in pieces; PUT ?digest= ends it
    PUT   /v2/<repository>/manifests/<tag>                       only now anybody can see the image

Nothing is sent that is there. A registry holds layers compressed, and their digests are those of the compressed bytes,
which the store does not keep. So it remembers digests: of the manifest an image was pulled by, and of what was packed
here before (packing is reproducible: pack.py). Blobs of a pulled image that are not there are fetched once more from
where they were pulled (origins.py); then its own manifest is sent, byte for byte, and its digest stays. Only what
nobody has any more is packed anew, and the manifest is a new one.

A broken connection costs at most a piece: the registry says how far it has got (GET <Location>: Range), and from there
it goes on. Whoever is killed leaves an upload that the registry forgets, and no name.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import urllib.parse

from ..errors import Corrupt, InvalidInput, NanoError, NotFound, Unreachable
from .holding import held
from .manifest import DOCKER_MANIFEST, OCI_MANIFEST, Descriptor, Manifest, parse_json, parse_manifest
from .mirrors import origin
from .origins import Origins
from .pack import Kept, check_kind, packed, packed_before, remember_packed
from .progress import Progresses
from .reference import is_digest, parse_reference
from .registry import Access, Registry
from .sources import sources
from .streams import ahead
from .writing import config_type, layer_type, manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .model import Image
    from .progress import Progress
    from .reference import Reference
    from .sources import LayerTar, Sources
    from .store import ImageStore
    from .transport import Response

PIECE = 32 << 20  # bytes that are sent at once; smaller blobs go in one request
_AT_ONCE = 3  # layers
_OCTETS = "application/octet-stream"


class Pushed:
    """What a push has done. digest: of the manifest; size: of it, in bytes. sent: bytes of blobs that were uploaded."""

    def __init__(self, name: str, digest: str, size: int, sent: int) -> None:
        self.name, self.digest, self.size, self.sent = name, digest, size, sent


def push(
    store: ImageStore,
    name: str,
    *,
    all_tags: bool = False,
    compress: str = "",
    access: Access | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    piece: int = PIECE,
) -> list[Pushed]:
    """Send an image to the registry that its name says; with all_tags every tag of that repository.

    compress: gzip or zstd, for layers that are packed here; given, also those of another kind are packed anew.
    NotFound, InvalidInput, NotPermitted, Unreachable, Corrupt; whatever fails, no name there points to half an image.
    """
    reference = parse_reference(name)
    if reference.digest:
        raise InvalidInput(f"cannot push {name!r}", "a digest is no name to push to", "give a tag")
    if compress and check_kind(compress) == "none":
        raise InvalidInput("cannot push layers that are not compressed", "", "there are gzip and zstd")
    access = access or Access()
    access = access if access.state else access.replace(state=os.path.dirname(store.root))
    found = _tagged(store, reference, all_tags)
    report = Progresses(on_progress)
    report("", f"The push refers to repository [{reference.name}]")
    return [
        _Push(store, one, image, access, compress, report, piece).run(on_note or (lambda text: None))
        for one, image in found
    ]


def _tagged(store: ImageStore, reference: Reference, all_tags: bool) -> list[tuple[Reference, Image]]:
    if not all_tags:
        return [(reference, store.find(str(reference)))]
    found = [
        (parse_reference(tag), image)
        for image in store.list(lambda error: None)
        for tag in image.names
        if parse_reference(tag).name == reference.name
    ]
    if not found:
        raise NotFound(f"no image of the repository {reference.familiar_name}", "", "give one such a name: tag")
    return sorted(found, key=lambda one: one[0].tag)


class _Stopped(Exception):
    """Another layer failed."""


class _Push:
    """One image to one tag."""

    def __init__(
        self, store: ImageStore, reference: Reference, image: Image, access: Access, compress: str,
        report: Progresses, piece: int,
    ) -> None:  # fmt: skip
        self._store, self._reference, self._image, self._access = store, reference, image, access
        self._compress, self._report, self._piece = compress, report, piece
        self._what = reference.familiar
        repositories = {parse_reference(digest) for digest in (*image.digests, *image.names)}
        self._near = sorted(
            {one.path for one in repositories if one.host == reference.host and one.path != reference.path}
        )
        place = origin(reference)
        self._path = place.path
        self._registry = Registry(
            place.host, place.path, access, actions="pull,push", mount=self._near if image.digests else (),
            insecure=place.insecure,
        )  # fmt: skip
        self._origins = Origins(image, reference, access)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._sent = 0

    def run(self, on_note: Callable[[str], None]) -> Pushed:
        try:
            with held(self._store, [self._image]):
                source = sources(self._store, self._image)
                raw, kind = self._blobs(source, on_note)
            digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
            with self._registry.request(
                "PUT", f"/v2/{self._path}/manifests/{self._reference.tag}", what=self._what, doing="push",
                headers={"Content-Type": kind}, body=raw, expect=(200, 201),
            ) as answer:  # fmt: skip
                there = answer.header("Docker-Content-Digest")
            if is_digest(there) and there != digest:
                raise Corrupt(f"{self._what} is damaged in the registry", f"{there} instead of {digest}", "push again")
            if source.id == self._image.id:
                self._remember(raw, digest)
            self._report("", f"{self._reference.tag}: digest: {digest} size: {len(raw)}")
            return Pushed(str(self._reference), digest, len(raw), self._sent)
        finally:
            self._origins.close()
            self._registry.close()

    def _remember(self, raw: bytes, digest: str) -> None:
        """The name by digest that it has there now; and the manifest, so that the next push sends the same."""
        name = f"{self._reference.name}@{digest}"
        if name not in self._image.digests or self._image.manifest != digest:
            self._store.add(self._store.blob(self._image.id), digests=(name,), manifest=raw)

    def _blobs(self, source: Sources, on_note: Callable[[str], None]) -> tuple[bytes, str]:
        """Have all blobs there; the manifest that names them, and its type."""
        raw, old, docker = self._before(source)
        wanted: dict[str, tuple[LayerTar, list[Descriptor]]] = {}
        for number, layer in enumerate(source.layers):
            _, known = wanted.setdefault(layer.diff_id, (layer, []))
            if old and not self._compress:
                known.append(old.layers[number])
        chosen = self._in_parallel(wanted, docker)
        config = Descriptor(config_type(docker=docker), source.id, len(source.config))
        self._small(config, source.config)
        layers = [chosen[layer.diff_id] for layer in source.layers]
        if old and [layer.digest for layer in layers] == [layer.digest for layer in old.layers]:
            return raw, DOCKER_MANIFEST if docker else OCI_MANIFEST
        if source.anew:
            several = ", ".join(diff_id[7:19] for diff_id in source.anew)
            on_note(f"not kept byte for byte, and written anew: {several}; the image is {source.id[7:19]} there")
        elif old:
            on_note("no registry has all layers as they were pulled any more; packed anew, they have other digests")
        return manifest(config, layers, docker=docker), DOCKER_MANIFEST if docker else OCI_MANIFEST

    def _before(self, source: Sources) -> tuple[bytes, Manifest | None, bool]:
        """The manifest that the image came by, if it can be used; whether docker's types are to be used."""
        if not self._image.manifest or source.anew:
            return b"", None, False
        try:
            raw = self._store.blob(self._image.manifest)
            fields = parse_json(raw, len(raw), "")
            kind = fields.get("mediaType") or OCI_MANIFEST
            found = parse_manifest(raw, "", "the image's manifest")
        except NanoError:
            return b"", None, False  # damaged: the image itself is not
        usable = isinstance(found, Manifest) and found.config.digest == source.id and kind in (
            DOCKER_MANIFEST, OCI_MANIFEST
        ) and len(found.layers) == len(source.layers)  # fmt: skip
        docker = kind == DOCKER_MANIFEST
        return (raw, found, docker) if usable and isinstance(found, Manifest) else (b"", None, docker)

    def _in_parallel(self, wanted: dict[str, tuple[LayerTar, list[Descriptor]]], docker: bool) -> dict[str, Descriptor]:
        from concurrent.futures import ThreadPoolExecutor

        for diff_id in wanted:
            self._report(diff_id[7:19], "Preparing")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs = {id: pool.submit(self._layer, layer, known, docker) for id, (layer, known) in wanted.items()}
            first: BaseException | None = None
            try:
                for job in jobs.values():
                    try:
                        job.result()
                    except Exception as error:
                        self._stop.set()
                        if first is None or isinstance(first, _Stopped):
                            first = error
            except BaseException:  # the user's interrupt
                self._stop.set()
                for job in jobs.values():
                    job.cancel()
                raise
            if first is not None:
                raise first
            return {id: job.result() for id, job in jobs.items()}

    # --- one layer

    def _layer(self, layer: LayerTar, known: list[Descriptor], docker: bool) -> Descriptor:
        """Have a layer there, and say as what."""
        if self._stop.is_set():
            raise _Stopped
        short = layer.diff_id[7:19]
        kind, pulled = self._compress or "gzip", known
        if before := packed_before(self._store, layer.diff_id, kind):
            known = [*known, Descriptor(layer_type(kind, docker=docker), *before)]
            pulled = [] if before[0] in [one.digest for one in pulled] else pulled  # packing gives the same
        for one in known:
            if self._is_there(one.digest):
                self._report(short, "Layer already exists")
                return one
        for one in known:
            for repository in self._near:
                if self._mount(one.digest, repository):
                    self._report(short, f"Mounted from {repository}")
                    return one
        plain = next((one for one in known if one.digest == layer.diff_id), None)
        kept = None if plain else self._as_pulled(pulled, short)
        if kept is None:
            self._report(short, "Waiting" if plain else "Compressing", 0, 0 if plain else layer.size)
            chunks = ahead(self._counted(layer.chunks(), short, "Compressing", layer.size))
            kept = Kept(chunks if plain else packed(chunks, kind), self._store.root, f"layer {short}")
            if plain is None:
                remember_packed(self._store, layer.diff_id, kind, kept)
        try:
            same = plain or next((one for one in known if one.digest == kept.digest), None)
            one = same or Descriptor(layer_type(kind, docker=docker), kept.digest, kept.size)
            if same is None and self._is_there(kept.digest):
                self._report(short, "Layer already exists")
                return one
            self._upload(kept, short)
            self._report(short, "Pushed")
            return one
        finally:
            kept.close()

    def _as_pulled(self, pulled: list[Descriptor], short: str) -> Kept | None:
        """The very blob that the layer was pulled as, from where it came; None where nobody has it."""
        for one in pulled:
            through = lambda chunks, size=one.size: self._counted(chunks, short, "Fetching", size)  # noqa: E731
            if kept := self._origins.kept(one, self._store.root, through):
                return kept
        return None

    def _is_there(self, digest: str) -> bool:
        with self._request("HEAD", f"/v2/{self._path}/blobs/{digest}", (200, 404)) as answer:
            return answer.status == 200

    def _mount(self, digest: str, repository: str) -> bool:
        query = urllib.parse.urlencode({"mount": digest, "from": repository})
        path = f"/v2/{self._path}/blobs/uploads/?{query}"
        with self._request("POST", path, (201, 202, 404), headers={"Content-Length": "0"}) as answer:
            if answer.status != 202:
                return answer.status == 201
            location = self._location(answer)
        try:  # it has begun an upload instead: it need not wait for that
            self._request("DELETE", location, (200, 202, 204, 404, 405)).close()
        except NanoError:
            pass
        return False

    def _small(self, one: Descriptor, data: bytes) -> None:
        if not self._is_there(one.digest):
            kept = Kept([data], self._store.root, "the configuration")
            try:
                self._upload(kept, "")
            finally:
                kept.close()

    # --- sending

    def _upload(self, kept: Kept, short: str) -> None:
        """A blob, in pieces where it is large; what breaks off goes on from where the registry has got to."""
        location, offset, failures, furthest, step = "", 0, 0, 0, self._piece
        while True:
            try:
                if not location:
                    location, least = self._begin()
                    offset, step = 0, max(self._piece, least)
                while kept.size > step and offset < kept.size:
                    end = min(offset + step, kept.size)
                    location, offset = self._piece_of(kept, location, offset, end, short)
                    if offset > furthest:
                        furthest, failures = offset, 0
                self._finish(kept, location, 0 if kept.size <= step else kept.size, short)
                self._has_sent(kept)
                return
            except (Unreachable, NotFound):
                failures += 1
                if failures >= self._access.tries or self._stop.is_set():
                    raise
                time.sleep(self._access.pause or 0.3 * 2**failures)
                if self._is_there(kept.digest):  # only the answer was lost
                    self._has_sent(kept)
                    return
                location, offset = self._resume(location, kept.size) if kept.size > step else ("", 0)

    def _has_sent(self, kept: Kept) -> None:
        with self._lock:
            self._sent += kept.size

    def _begin(self) -> tuple[str, int]:
        path = f"/v2/{self._path}/blobs/uploads/"
        with self._request("POST", path, (202,), headers={"Content-Length": "0"}) as answer:
            least = answer.header("OCI-Chunk-Min-Length")
            return self._location(answer), int(least) if least.isascii() and least.isdigit() and len(least) < 12 else 0

    def _piece_of(self, kept: Kept, location: str, offset: int, end: int, short: str) -> tuple[str, int]:
        headers = {
            "Content-Type": _OCTETS, "Content-Length": str(end - offset), "Content-Range": f"{offset}-{end - 1}"
        }  # fmt: skip
        body = lambda: self._counted(kept.chunks(offset, end), short, "Pushing", kept.size, offset)  # noqa: E731
        with self._request("PATCH", location, (201, 202, 204), headers=headers, body=body, again=False) as answer:
            return self._location(answer, location), _reached(answer, end, kept.size)

    def _finish(self, kept: Kept, location: str, offset: int, short: str) -> None:
        """PUT with the digest, and with what is not there yet."""
        address = f"{location}{'&' if '?' in location else '?'}{urllib.parse.urlencode({'digest': kept.digest})}"
        headers = {"Content-Type": _OCTETS, "Content-Length": str(kept.size - offset)}
        body = lambda: self._counted(kept.chunks(offset), short, "Pushing", kept.size, offset)  # noqa: E731
        whole = body if offset < kept.size else b""
        self._request("PUT", address, (201, 204), headers=headers, body=whole, again=False).close()

    def _resume(self, location: str, size: int) -> tuple[str, int]:
        """How far an upload has got; an empty location where it is to be begun anew."""
        if not location:
            return "", 0
        try:
            with self._request("GET", location, (200, 202, 204)) as answer:
                return self._location(answer, location), _reached(answer, 0, size)
        except (Unreachable, NotFound):
            return "", 0

    def _request(self, method: str, path: str, expect: tuple[int, ...], **more: object) -> Response:
        return self._registry.request(method, path, what=self._what, expect=expect, doing="push", **more)  # type: ignore[arg-type]

    def _location(self, answer: Response, before: str = "") -> str:
        said = answer.header("Location")
        if not said and not before:
            raise Unreachable(f"cannot push {self._what}", f"{self._registry.name} does not say where to send it")
        return urllib.parse.urljoin(answer.url, said) if said else before

    def _counted(
        self, chunks: Iterator[bytes], short: str, status: str, total: int, current: int = 0
    ) -> Iterator[bytes]:
        for chunk in chunks:
            if self._stop.is_set():
                raise _Stopped
            yield chunk
            current += len(chunk)
            if short:
                self._report(short, status, current, total)


def _reached(answer: Response, otherwise: int, size: int) -> int:
    """The first byte that is not there yet: one behind `Range: 0-N`."""
    _, dash, last = answer.header("Range").removeprefix("bytes=").partition("-")
    reached = int(last) + 1 if dash and last.isascii() and last.isdigit() and len(last) < 19 else otherwise
    return min(reached, size) if reached > 1 else otherwise  # 0-0 is also what is said of an upload without any byte
