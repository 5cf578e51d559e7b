"""docker save: images as files that others read.

    docker-archive   what docker has written since version 25: one tar that is an OCI layout (image-spec,
                     image-layout.md) and has docker's own manifest.json too; docker, podman, skopeo and umoci read it
    oci-archive      the OCI layout alone, as a tar
    oci-dir          the same as a directory

The same images give the same bytes: members are sorted, they have no time (or SOURCE_DATE_EPOCH), a layer that several
images share is there once. Nothing half has the name that was asked for: a file is renamed when it is whole, and a
directory gets its index last.
"""

from __future__ import annotations

import errno
import hashlib
import os

from ..errors import Conflict, InvalidInput, NanoError, reason
from ..paths import make_dirs, remove_tree
from . import tarwrite
from .manifest import OCI_INDEX, OCI_MANIFEST, Descriptor, Platform
from .pack import Kept, check_kind, packed
from .reference import parse_reference
from .sources import sources
from .streams import ahead
from .tar import DIRECTORY
from .writing import config_type, descriptor, layer_type, manifest, source_date, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from .model import Image
    from .sources import LayerTar, Sources
    from .store import ImageStore

FORMATS = ("docker-archive", "oci-archive", "oci-dir")


class _File:
    """A file of the layout: its name, its size, its bytes."""

    def __init__(self, size: int, open: Callable[[], Iterator[bytes]]) -> None:
        self.size, self.open = size, open


def save(
    store: ImageStore,
    names: Sequence[str],
    target: str | BinaryIO,
    *,
    form: str = "docker-archive",
    compress: str = "",
    on_note: Callable[[str], None] | None = None,
) -> None:
    """Write images to a file (replaced when all is written), an open binary file, or for oci-dir a new directory.

    names: references or ids; a name without a tag is all tags of that repository, as docker has it. compress: of the
    layers: none (default of docker-archive), gzip (default of OCI's) or zstd. on_note: told where a layer cannot be
    given back as it came. NotFound, InvalidInput, Conflict; NanoError for a full disk.
    """
    if form not in FORMATS:
        raise InvalidInput(f"unknown format {form!r}", "", f"there are {', '.join(FORMATS)}")
    if form == "oci-dir" and not isinstance(target, str):
        raise InvalidInput("cannot write a directory to stdout", "", "say where: --output DIRECTORY")
    kind = check_kind(compress or ("none" if form == "docker-archive" else "gzip"))
    wanted = _wanted(store, names)
    from .holding import held

    with held(store, [image for image, _ in wanted]):
        work = _Layout(store, kind)
        try:
            for image, tags in wanted:
                work.add(image, tags, on_note or (lambda text: None))
            files = work.files(docker=form == "docker-archive")
            if not isinstance(target, str):
                _write(_archive(files), target)
            elif form == "oci-dir":
                _directory(files, target)
            else:
                _named(files, target)
        finally:
            work.close()


def _wanted(store: ImageStore, names: Sequence[str]) -> list[tuple[Image, list[str]]]:
    """Images, each once, in the order given, with the full references that are to name them."""
    found: dict[str, tuple[Image, list[str]]] = {}
    for name in names:
        for image, tags in _one(store, name):
            _, known = found.setdefault(image.id, (image, []))
            known += [tag for tag in tags if tag not in known]
    return list(found.values())


def _one(store: ImageStore, name: str) -> list[tuple[Image, list[str]]]:
    try:
        reference = parse_reference(name)
    except InvalidInput:
        return [(store.find(name), [])]  # an id
    if ":" not in name.rpartition("/")[2] and not reference.digest:
        repository = reference.name
        tagged = [
            (image, [tag for tag in image.names if parse_reference(tag).name == repository])
            for image in store.list(lambda error: None)
        ]
        if found := [(image, tags) for image, tags in tagged if tags]:
            return found
    image = store.find(name)
    return [(image, [str(reference)] if str(reference) in image.names else [])]


class _Layout:
    """The blobs of some images, and what names them."""

    def __init__(self, store: ImageStore, kind: str) -> None:
        self._store, self._kind = store, kind
        self._known: dict[str, LayerTar] = {}
        self._blobs: dict[str, _File] = {}  # by digest
        self._packed: dict[str, tuple[Descriptor, Kept | None]] = {}  # by diff id
        self._index: list[Descriptor] = []
        self._docker: list[dict[str, object]] = []
        self._repositories: dict[str, dict[str, str]] = {}

    def close(self) -> None:
        for _, kept in self._packed.values():
            if kept:
                kept.close()

    def add(self, image: Image, tags: list[str], on_note: Callable[[str], None]) -> None:
        source = sources(self._store, image, self._known)
        if source.anew:
            on_note(_note(source))
        layers = [self._layer(layer) for layer in source.layers]
        config = Descriptor(config_type(), self._put(source.config), len(source.config))
        raw = manifest(config, layers)
        platform = Platform(image.os or "linux", image.architecture, image.variant) if image.architecture else None
        one = Descriptor(OCI_MANIFEST, self._put(raw), len(raw), platform)
        familiar = []
        for tag in tags:
            reference = parse_reference(tag)
            familiar.append(reference.familiar)
            names = {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": reference.tag}
            self._index.append(one.replace(annotations=names))
            top = layers[-1].digest[7:] if layers else ""
            self._repositories.setdefault(reference.familiar_name, {})[reference.tag] = top
        if not tags:
            self._index.append(one)
        described = dict(zip((layer.diff_id for layer in source.layers), map(descriptor, layers), strict=True))
        self._docker.append({
            "Config": _place(config.digest), "RepoTags": familiar or None,
            "Layers": [_place(layer.digest) for layer in layers], "LayerSources": described,
        })  # fmt: skip

    def _put(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._blobs[digest] = _File(len(data), lambda: iter((data,)))
        return digest

    def _layer(self, layer: LayerTar) -> Descriptor:
        known = self._packed.get(layer.diff_id)
        if known is None:
            kept = None
            if self._kind == "none":
                one = Descriptor(layer_type("none"), layer.diff_id, layer.size)
                self._blobs[one.digest] = _File(one.size, layer.chunks)
            else:
                make_dirs(self._store.root)
                kept = Kept(packed(ahead(layer.chunks()), self._kind), self._store.root, f"layer {layer.was[7:19]}")
                one = Descriptor(layer_type(self._kind), kept.digest, kept.size)
                self._blobs[one.digest] = _File(one.size, kept.chunks)
            known = self._packed[layer.diff_id] = one, kept
        return known[0]

    def files(self, *, docker: bool) -> dict[str, _File]:
        """All files by name; index.json last, since that makes a directory a layout."""

        def text(value: object) -> _File:
            data = to_json(value)
            return _File(len(data), lambda: iter((data,)))

        found = {_place(digest): self._blobs[digest] for digest in sorted(self._blobs)}
        found["oci-layout"] = text({"imageLayoutVersion": "1.0.0"})
        if docker:
            found["manifest.json"] = text(self._docker)
            if self._repositories:
                found["repositories"] = text(self._repositories)
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor(one) for one in self._index]}
        found["index.json"] = text(index)
        return found


def _note(source: Sources) -> str:
    several = len(source.anew) > 1
    layers = ", ".join(diff_id[7:19] for diff_id in source.anew)
    return (
        f"layer{'s' if several else ''} {layers} of image {source.image.id[7:19]} cannot be given back byte for byte: "
        f"{'their archives were' if several else 'its archive was'} not kept. Written anew with the same files; "
        f"the image is {source.id[7:19]} there"
    )


def _place(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


# --- where it is written


def _archive(files: dict[str, _File]) -> Iterator[bytes]:
    when = source_date() or 0
    for name in ("blobs", "blobs/sha256"):
        yield tarwrite.header(tarwrite.entry(name.encode(), DIRECTORY, mode=0o755, mtime=when))
    for name in sorted(files):
        file = files[name]
        yield tarwrite.header(tarwrite.entry(name.encode(), size=file.size, mtime=when))
        yield from file.open()
        yield tarwrite.padding(file.size)
    yield tarwrite.END


def _write(chunks: Iterator[bytes], file: BinaryIO) -> None:
    try:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NanoError("cannot write the archive", *reason(error)) from None


def _named(files: dict[str, _File], path: str) -> None:
    write_named(_archive(files), path)


def write_named(chunks: Iterator[bytes], path: str) -> None:
    """Write a file without a name (O_TMPFILE), and give it its own when it is whole: who is killed leaves nothing. What
    is no regular file (a device, a fifo) is written to as it is."""
    if os.path.isdir(path):
        raise InvalidInput(f"cannot write {path}", "it is a directory", "give the name of a file")
    special = os.path.exists(path) and not os.path.isfile(path)
    real = os.path.realpath(path)  # what a link points to is replaced, and not the link
    temporary = f"{os.path.dirname(real)}/.{os.path.basename(real)[:200]}.{os.getpid()}.tmp"
    named = special
    try:
        if special:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        else:
            try:
                fd = os.open(os.path.dirname(real), os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # NFS and others
                    raise
                fd, named = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), True
        with open(fd, "wb") as file:
            _write(chunks, file)
            if not special:
                os.fsync(file.fileno())
                if not named:
                    # an fd of a directory, though unused, has Python call linkat(2), which follows such a link
                    os.link(f"/proc/self/fd/{file.fileno()}", temporary, src_dir_fd=file.fileno())
                os.rename(temporary, real)
    except BaseException as error:
        if not special:
            remove_tree(temporary)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise NanoError(f"cannot write {path}", *reason(error)) from None
        raise


def _directory(files: dict[str, _File], path: str) -> None:
    try:
        if os.path.isdir(path) and os.listdir(path):
            raise Conflict(f"cannot write an OCI layout to {path}", "there is something in it", "give a new directory")
        made = not os.path.isdir(path)
        os.makedirs(path, exist_ok=True)
        try:
            os.makedirs(f"{path}/blobs/sha256")
            for name, file in files.items():
                with open(f"{path}/{name}", "xb") as out:
                    _write(file.open(), out)
                    os.fsync(out.fileno())
        except BaseException:
            for name in ("index.json", "oci-layout", "blobs"):
                remove_tree(f"{path}/{name}")
            if made:
                os.rmdir(path)
            raise
    except OSError as error:
        raise NanoError(f"cannot write {path}", *reason(error)) from None
