"""Images in files: what docker save writes, OCI layouts, and plain root file systems.

    docker-archive   a tar with manifest.json: [{"Config": member, "RepoTags": [...], "Layers": [bottom first]}]
                     (since docker 25 the same tar is an OCI layout too; manifest.json knows the names better)
    OCI layout       a directory or tar with index.json and blobs/sha256/<hex> (image-spec, image-layout.md)

manifest.json comes last in the archive, so it is read twice: an index of the members first, then their bytes with
pread(2), from several threads at once. What cannot be read twice (a pipe, something compressed as a whole) is first
written to an unnamed file beside the images.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager

from ..errors import Corrupt, InvalidInput, NanoError
from ..kernel import abi
from ..kernel.calls import Kernel
from ..paths import make_dirs
from .install import Blob, Wanted, install
from .manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    OCI_INDEX,
    Descriptor,
    Index,
    as_array,
    as_object,
    as_text,
    choose,
    host_platform,
    parse_json,
    parse_manifest,
    parse_platform,
)
from .policy import read_policy
from .progress import Progresses
from .reference import is_digest, parse_reference
from .streams import CHUNK, decompressed, file_chunks, is_compressed, with_room
from .tar import FILE, LINK, SYMLINK, Source, TarReader, archived

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, BinaryIO, Protocol

    from .manifest import Platform
    from .model import Image
    from .progress import Progress
    from .store import ImageStore

    class _Files(Protocol):
        what: str

        def has(self, name: str) -> bool: ...
        def size(self, name: str) -> int: ...
        def chunks(self, name: str) -> Iterator[bytes]: ...


_MEMBERS = 100_000  # of an archive; more could only be there to fill the memory
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


def load(
    store: ImageStore,
    source: str | BinaryIO,
    *,
    platform: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Image]:
    """docker load: all images of an archive (path, or open binary stream) or of an OCI layout directory.

    Each has the names that the archive gives it, not others that it has in the store. Corrupt names what is broken;
    then nothing was added. platform: which image of a multi-platform index.
    """
    report = Progresses(on_progress)
    wanted = parse_platform(platform) if platform else host_platform()
    if isinstance(source, str) and os.path.isdir(source):
        return _install(store, _images(_Directory(source), wanted), report)
    opened = _open(source)
    try:
        with _seekable(opened, store) as file:
            return _install(store, _images(_Tar(file, _called(source)), wanted), report)
    finally:
        if opened is not source:
            opened.close()


def _install(store: ImageStore, found: Iterator[Wanted], report: Progresses) -> list[Image]:
    wanted = list(found)
    images = install(store, wanted, report)
    pairs = zip(images, wanted, strict=True)
    return [image.replace(names=tuple(name for name in image.names if name in one.names)) for image, one in pairs]


# --- what is in an archive


def _images(files: _Files, platform: Platform) -> Iterator[Wanted]:
    policy = read_policy()
    if files.has("manifest.json"):
        policy.admit_local("docker-archive")
        yield from _docker_images(files)
    elif files.has("index.json"):
        policy.admit_local("oci" if isinstance(files, _Directory) else "oci-archive")
        yield from _oci_images(files, platform)
    else:
        raise Corrupt(
            f"{files.what} is no image archive", "it has neither manifest.json nor index.json",
            "load takes what docker save, podman save or skopeo wrote; a root file system is for import",
        )  # fmt: skip


def _docker_images(files: _Files) -> Iterator[Wanted]:
    what = f"manifest.json of {files.what}"
    for image in as_array(parse_json(_read(files, "manifest.json", MAX_MANIFEST), MAX_MANIFEST, what), what):
        fields = as_object(image, what)
        member = as_text(fields.get("Config"), what)
        config = _read(files, member, MAX_CONFIG)
        promised = os.path.basename(member).removesuffix(".json")
        if is_digest(f"sha256:{promised}") and hashlib.sha256(config).hexdigest() != promised:
            raise Corrupt(f"{files.what} is damaged", f"{member} has another digest than its name says")
        blobs = [_blob(files, as_text(layer, what)) for layer in as_array(fields.get("Layers") or [], what)]
        names = []
        for tag in as_array(fields.get("RepoTags") or [], what):
            try:
                names.append(str(parse_reference(as_text(tag, what))))
            except InvalidInput as error:
                raise Corrupt(f"{what} is damaged", str(error)) from None
        yield Wanted(config, blobs, names=names, what=f"image {(names or [promised[:12]])[0]} in {files.what}")


def _oci_images(files: _Files, platform: Platform) -> Iterator[Wanted]:
    what = f"index.json of {files.what}"
    index = parse_manifest(_read(files, "index.json", MAX_MANIFEST), OCI_INDEX, what)
    if not isinstance(index, Index):
        raise Corrupt(f"{what} is damaged", "it is no index")
    groups: dict[str, list[Descriptor]] = {}  # one name with several platforms is one image
    for one in index.manifests:
        groups.setdefault(next((one.annotations[key] for key in _NAMES if key in one.annotations), ""), []).append(one)
    for name, descriptors in groups.items():
        if any(one.platform is not None for one in descriptors) and len(descriptors) > 1:
            descriptors = [choose(Index(tuple(descriptors)), platform, what)]
        for one in descriptors:
            yield _oci_image(files, one, name, platform)


def _oci_image(files: _Files, descriptor: Descriptor, name: str, platform: Platform) -> Wanted:
    what = f"image {name or descriptor.digest[7:19]} in {files.what}"
    raw = _checked(files, descriptor, MAX_MANIFEST)
    manifest = parse_manifest(raw, descriptor.media_type, what)
    if isinstance(manifest, Index):
        return _oci_image(files, _only_manifest(files, manifest, platform, what), name, platform)
    config = _checked(files, manifest.config, MAX_CONFIG)
    blobs = [_blob(files, _place(layer.digest), layer) for layer in manifest.layers]
    names = []
    if ":" in name or "/" in name:  # many writers put only a tag there, which names nothing
        try:
            names = [str(parse_reference(name))]
        except InvalidInput as error:
            raise Corrupt(f"index.json of {files.what} is damaged", str(error)) from None
    return Wanted(config, blobs, names=names, manifest=raw, what=what)


def _only_manifest(files: _Files, index: Index, platform: Platform, what: str) -> Descriptor:
    chosen = choose(index, platform, what)
    if isinstance(parse_manifest(_checked(files, chosen, MAX_MANIFEST), chosen.media_type, what), Index):
        raise Corrupt(f"{what} is damaged", "its index names another index")
    return chosen


def _blob(files: _Files, member: str, descriptor: Descriptor | None = None) -> Blob:
    if not files.has(member):
        raise Corrupt(f"{files.what} is damaged", f"{member} is missing")
    size, digest = (descriptor.size, descriptor.digest) if descriptor else (files.size(member), "")
    return Blob(lambda: files.chunks(member), size, digest, f"{member} of {files.what}")


def _checked(files: _Files, descriptor: Descriptor, limit: int) -> bytes:
    member = _place(descriptor.digest)
    data = _read(files, member, limit)
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor.digest:
        raise Corrupt(f"{files.what} is damaged", f"{member} has another digest than its name says")
    return data


def _place(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


def _read(files: _Files, name: str, limit: int) -> bytes:
    if not files.has(name):
        raise Corrupt(f"{files.what} is damaged", f"{name} is missing")
    if files.size(name) > limit:
        raise Corrupt(f"{files.what} is damaged", f"{name} is longer than {limit >> 20} MiB")
    return b"".join(files.chunks(name))


# --- where the files are


class _Directory:
    """An OCI layout on disk. Its links may not lead out of it."""

    def __init__(self, path: str) -> None:
        self.what = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._fd)

    def _open(self, name: str) -> int:
        resolve = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS
        return Kernel().openat2(self._fd, name, os.O_RDONLY | os.O_NONBLOCK, resolve=resolve)

    def has(self, name: str) -> bool:
        try:
            os.close(self._open(name))
        except OSError:
            return False
        return True

    def size(self, name: str) -> int:
        fd = self._open(name)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def chunks(self, name: str) -> Iterator[bytes]:
        with open(self._open(name), "rb", buffering=0) as file:
            yield from file_chunks(file)


class _Tar:
    """The members of a tar that can be read at any place."""

    def __init__(self, file: IO[bytes], what: str) -> None:
        self.what = what
        self._fd = file.fileno()
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        if not os.fstat(self._fd).st_size:
            raise Corrupt(f"{what} is empty", "", "give one by --input FILE, or send it to standard input")
        source = _SeekableSource(file)
        try:
            for entry in TarReader(source):
                name = _clean(os.fsdecode(entry.name))
                self._links.pop(name, None)
                if len(self._places) + len(self._links) > _MEMBERS:
                    raise Corrupt("", f"it has more than {_MEMBERS} members: no archive of images")
                if entry.kind == FILE and entry.sparse is None:
                    self._places[name] = (source.position, entry.size)
                elif entry.kind == LINK:
                    self._links[name] = _clean(os.fsdecode(entry.link))
                elif entry.kind == SYMLINK:  # docker save's old form has them for layers that are the same
                    self._links[name] = _clean(f"{name}/../{os.fsdecode(entry.link)}")
        except Corrupt as error:
            raise Corrupt(f"{what} is damaged", error.why) from None

    def _find(self, name: str) -> tuple[int, int] | None:
        name = _clean(name)
        for _ in range(8):
            if name not in self._links:
                break
            name = self._links[name]
        return self._places.get(name)

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def size(self, name: str) -> int:
        return (self._find(name) or (0, 0))[1]

    def chunks(self, name: str) -> Iterator[bytes]:
        offset, size = self._find(name) or (0, 0)
        return _pieces(self._fd, offset, size)


class _SeekableSource(Source):
    """Skips by seeking: the index of an archive of gigabytes needs only its headers."""

    def __init__(self, file: IO[bytes]) -> None:
        file.seek(0)
        super().__init__(file_chunks(file))
        self._file, self._end = file, os.fstat(file.fileno()).st_size

    def skip(self, size: int) -> None:
        left = len(self._view) - self._at
        if size <= left:
            self._at += size
            return
        target = self.position + size
        if target > self._end:
            raise Corrupt("broken archive", f"it ends at byte {self._end}, {target - self._end} bytes too early")
        self._file.seek(target)
        self._base, self._at, self._view = target, 0, memoryview(b"")


def _clean(name: str) -> str:
    """A member's name without "./" and the like; what would lead out of the archive stays inside."""
    return os.path.normpath("/" + name.lstrip("/"))[1:]  # two slashes at the beginning mean something else to POSIX


def _pieces(fd: int, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        piece = os.pread(fd, min(CHUNK, end - offset), offset)
        if not piece:
            raise Corrupt("broken archive", f"it ends at byte {offset}")
        offset += len(piece)
        yield piece


def _open(source: str | BinaryIO) -> BinaryIO:
    if not isinstance(source, str):
        return source
    try:
        return open(source, "rb")
    except OSError as error:
        raise InvalidInput(f"cannot read {source}", error.strerror or str(error)) from None


def _called(source: str | BinaryIO) -> str:
    return source if isinstance(source, str) else "the archive"


@contextmanager
def _seekable(file: BinaryIO, store: ImageStore) -> Iterator[IO[bytes]]:
    """The archive as a file of plain tar that can be read at any place."""
    make_dirs(store.root)
    if _is_plain(file):
        yield file
        return
    with _unnamed(store) as copy:
        try:
            plain = archived(decompressed(file_chunks(file), "the archive"))
            for chunk in with_room(plain, store.root, "the archive"):
                copy.write(chunk)
            copy.flush()
        except Corrupt as error:
            raise Corrupt("the archive is damaged", error.why) from None
        except OSError as error:
            raise NanoError(
                "cannot keep the archive", error.strerror or str(error), f"make room in {store.root}"
            ) from None
        yield copy


def _is_plain(file: BinaryIO) -> bool:
    try:
        head = os.pread(file.fileno(), 16, 0)
        return file.seekable() and file.tell() == 0 and not is_compressed(head)
    except (OSError, AttributeError, ValueError):  # a pipe, or no file of the system at all
        return False


def _unnamed(store: ImageStore) -> IO[bytes]:
    """A file without a name on the disk of the images: whatever happens, nothing of it stays."""
    import tempfile

    return tempfile.TemporaryFile(dir=store.root)
