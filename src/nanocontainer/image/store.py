"""The images on this disk. Everything is a file that one can `ls`:

    images/ids/<hex>.json        what `find` returns: id, names, configuration in short, layers
    images/refs/<reference>      symlink to ../ids/<hex>.json; "/" is written "%"
    images/blobs/sha256/<hex>    configuration and manifest, byte for byte
    images/layers/<hex>          an unpacked layer by its diff id, just as overlayfs wants it (see claims.py), or
    images/layers/<hex>.erofs    one file that is mounted at <run>/layers/<hex> (see erofs_layer.py)
    images/packed/<diff id>      digests under which a layer was compressed here: what push need not do again
    images/empty                 the one layer of images that have none
    images/lock                  held alone while refs, ids or blobs change; never while waiting for the network

`refs` is the truth about names; the names in ids/ are a copy, so that `find` is one file read, and are corrected in
`list`; where a crash has parted the two, whoever changes something mends them first. A layer exists only because an
image needs it. This module is on the hot path: nothing heavy is imported.
"""

from __future__ import annotations

import errno
import os

from .. import lean
from ..errors import Corrupt, InvalidInput, NanoError, NotFound, NotPermitted, denied, is_shortage, reason
from ..paths import Paths, is_there, make_dirs, read_bytes, read_file, remove_tree, write_file
from .model import Image, ImageConfig
from .reference import is_digest, parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Images = list[Image]  # in the class below, list is a method
    Lines = list[str]

__all__ = ["Image", "ImageConfig", "ImageStore"]

_HEX = frozenset("0123456789abcdef")


class ImageStore:
    """Reading needs no lock and makes no directory; see the module's text."""

    def __init__(self, paths: Paths) -> None:
        self.root = paths.images
        self.layers = f"{self.root}/layers"
        self.mounts = f"{paths.run}/layers"
        self.paths = paths
        self.form = ""  # of new layers, where it is not the host that decides (formats.py)

    # --- reading

    def find(self, name: str) -> Image:
        """An image by reference (in any form), by id, by a unique prefix of its id, or by repository@digest."""
        hex, _ = self._resolve(name)
        return self._read(f"{self.root}/ids/{hex}.json", hex)

    def list(self, on_broken: Callable[[Corrupt], None] | None = None) -> Images:
        """All images, newest first. A broken record is given to on_broken and skipped; without one it is raised."""
        refs = self._refs()
        images = []
        for hex in self._ids():
            try:
                image = self._read(f"{self.root}/ids/{hex}.json", hex)
            except NotFound:
                continue  # removed meanwhile
            except Corrupt as error:
                if on_broken is None:
                    raise
                on_broken(error)
                continue
            images.append(_named(image, refs.get(hex, ())))
        return sorted(images, key=lambda image: (image.created, image.id), reverse=True)

    def layer_paths(self, image: Image) -> tuple[str, ...]:
        """Directories, bottom first, ready to be overlayfs lowerdirs (whiteouts converted), once the images among them
        are mounted: see layer_places. Corrupt if one is missing."""
        return tuple(self.layer_places(image))

    def open_layers(self, image: Image) -> tuple[str, ...]:
        """The same for who looks into them: what is not mounted is mounted now. OSError."""
        from ..kernel.calls import Kernel
        from ..kernel.imagemount import mount_images

        places = self.layer_places(image)
        mount_images(Kernel(), {place: file for place, file in places.items() if file})
        return tuple(places)

    def layer_places(self, image: Image) -> dict[str, str]:
        """Directory -> the file that has to be mounted there, or "" where it is the layer itself; bottom first.

        The one seam to the format of layers. A layer that is twice in an image appears once, at its upper place:
        overlayfs refuses a directory given twice, and the upper one covers the lower completely.
        """
        if not image.layers:
            return {f"{self.root}/empty": ""}  # overlayfs wants at least one
        places = {}
        for diff_id in reversed(dict.fromkeys(reversed(image.layers))):
            place = f"{self.layers}/{diff_id[7:]}"
            if is_there(f"{place}.erofs"):
                places[f"{self.mounts}/{diff_id[7:]}"] = f"{place}.erofs"
            elif is_there(place):
                places[place] = ""
            else:
                raise Corrupt(
                    f"image {_short(image.id)} is damaged",
                    f"its layer {place} is missing",
                    "remove the image and pull it again",
                )
        return places

    def blob(self, digest: str) -> bytes:
        """A configuration or a manifest as it came. Corrupt where its bytes are not what its digest says."""
        import hashlib

        path = f"{self.root}/blobs/sha256/{digest[7:]}"
        try:
            data = read_bytes(path)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and is_shortage(error):
                raise
            if not isinstance(error, FileNotFoundError):
                why = reason(error)[0] if isinstance(error, OSError) else str(error)
                raise Corrupt(f"blob {digest} is damaged", why, "remove the image and pull it again") from None
            raise Corrupt(f"blob {digest} is missing", f"no file {path}", "pull the image again") from None
        if hashlib.sha256(data).hexdigest() != digest[7:]:
            raise Corrupt(
                f"blob {digest} is damaged", f"{path} has another digest", "remove the image and pull it again"
            )
        return data

    def raw_config(self, image: Image) -> dict[str, Any]:
        """The whole configuration of an image as JSON data (image-spec, config.md): history, health check, ..."""
        data = lean.loads(self.blob(image.id).decode())
        return data if isinstance(data, dict) else {}

    # --- changing

    def add(
        self, config: bytes, *, names: Sequence[str] = (), digests: Sequence[str] = (), manifest: bytes = b""
    ) -> Image:
        """Record an image. Its layers must be there and held (claims.obtain) by the caller.

        names: full references that shall point to it from now on; digests: "repository@sha256:..." likewise.
        """
        import hashlib

        from .claims import layer_size
        from .manifest import parse_config

        parsed = parse_config(config)
        hex = hashlib.sha256(config).hexdigest()
        image = Image(
            id=f"sha256:{hex}",
            config=parsed.config,
            layers=parsed.diff_ids,
            architecture=parsed.architecture,
            os=parsed.os,
            variant=parsed.variant,
            created=parsed.created,
            size=sum(layer_size(f"{self.layers}/{diff_id[7:]}") for diff_id in parsed.diff_ids),
            manifest=f"sha256:{hashlib.sha256(manifest).hexdigest()}" if manifest else "",
        )
        self.layer_paths(image)
        with self.locked():
            for directory in ("ids", "refs", "blobs/sha256"):
                make_dirs(f"{self.root}/{directory}")
            if not image.layers:
                make_dirs(f"{self.root}/empty", 0o755)
            for data in (config, manifest):
                if data:
                    write_file(f"{self.root}/blobs/sha256/{hashlib.sha256(data).hexdigest()}", data, durable=True)
            self.mend()
            before = self._refs()
            own = {*before.get(hex, ()), *names, *digests}
            image = _named(image, own)
            self._write(image)
            self._point({*names, *digests}, hex, before)
            self._on_disk()
        return image

    def tag(self, name: str, new: str) -> Image:
        """Give an image one more name; the name leaves the image that had it."""
        target = parse_reference(new)
        if target.digest:
            raise InvalidInput(
                f"cannot tag as {new!r}", "a digest is not chosen, it follows from the content", "give a tag"
            )
        with self.locked():
            self.mend()
            image = self.find(name)
            before = self._refs()
            image = _named(image, {*before.get(image.id[7:], ()), str(target)})
            self._write(image)
            self._point({str(target)}, image.id[7:], before)
            self._on_disk()
        return image

    def remove(
        self,
        name: str,
        *,
        force: bool = False,
        in_use: Mapping[str, Sequence[str]] | None = None,
        taken: Callable[[str], bool] = lambda id: False,
    ) -> Lines:
        """docker rmi: untag, and delete the image with its last name. Returns "Untagged: x", "Deleted: sha256:y" lines.

        in_use: image ids and the names of the containers made of them, or where they are mounted. Those need the
        layers: even with force such an image only loses its names. taken(image id): whether a container is made of it,
        asked when the record is gone: one that was made meanwhile keeps it too.
        """
        from .removal import remove

        return remove(self, name, force, in_use or {}, taken)

    def sweep(self) -> Lines:
        """Delete what killed pulls left, and layers and blobs no image needs. Returns the paths. Safe at any time.

        A pull, a load and a removal do it at their end.
        """
        from .removal import sweep

        return sweep(self)

    def locked(self) -> _Locked:
        """`with store.locked():` nobody else changes refs, ids or blobs. Not reentrant."""
        return _Locked(self.root)

    # --- inside (also removal.py)

    def _resolve(self, name: str) -> tuple[str, str]:
        """The hex id that a name from outside means, and the reference in refs that led there (empty: it was an id)."""
        digest = name[7:] if name.startswith("sha256:") else name
        is_hex = bool(digest) and len(digest) <= 64 and _HEX.issuperset(digest)
        if not (is_hex and len(digest) == 64):
            try:
                reference = parse_reference(name)
            except InvalidInput:
                if not is_hex:
                    raise
            else:
                key = f"{reference.name}@{reference.digest}" if reference.digest else str(reference)
                try:
                    return os.path.basename(os.readlink(f"{self.root}/refs/{_quote(key)}"))[:-5], key
                except FileNotFoundError:
                    pass
                except PermissionError as error:
                    raise _denied(self.root, error) from None
                except OSError as error:
                    if is_shortage(error):
                        raise NanoError(f"cannot read image {name}", *reason(error)) from None
                    raise Corrupt(f"the name {name} is damaged", f"{error.filename}: {error.strerror}") from None
        found = [hex for hex in self._ids() if hex.startswith(digest)] if is_hex else []
        if len(found) == 1:
            return found[0], ""
        if found:
            raise InvalidInput(f"image id {name} is ambiguous", f"{len(found)} images begin so", "give more digits")
        raise NotFound(f"no such image: {name}", "", f"get it with: pull {name}, or from a file with: load -i FILE")

    def _read(self, path: str, hex: str) -> Image:
        hint = f"remove it with: rmi {hex[:12]}, and pull it again"
        try:
            data = lean.loads(read_file(path))
        except FileNotFoundError:
            raise NotFound(f"no such image: {hex[:12]}", f"no file {path}", "pull it again") from None
        except PermissionError as error:
            raise _denied(self.root, error) from None
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, OSError):
                if is_shortage(error):
                    raise NanoError(f"cannot read image {hex[:12]}", *reason(error)) from None
                raise Corrupt(f"image {hex[:12]} is damaged", f"{path}: {error.strerror}", hint) from None
            raise Corrupt(f"image {hex[:12]} is damaged", f"{path}: {error}", hint) from None
        try:
            image = Image.from_dict(data)
            sound = image.id == f"sha256:{hex}" and all(map(is_digest, image.layers)) and bool(image.config._fields)
        except (AttributeError, TypeError):
            sound = False
        if not sound:
            raise Corrupt(f"image {hex[:12]} is damaged", f"{path} is no record of it", hint)
        return image

    def _write(self, image: Image) -> None:
        write_file(f"{self.root}/ids/{image.id[7:]}.json", lean.dumps(image.as_dict()), durable=True)

    def _ids(self) -> Lines:
        try:
            names = os.listdir(f"{self.root}/ids")
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise _denied(self.root, error) from None
        except OSError as error:
            raise NanoError("cannot list the images", *reason(error)) from None
        return sorted(name[:-5] for name in names if len(name) == 69 and name.endswith(".json"))

    def _refs(self) -> dict[str, tuple[str, ...]]:
        """hex id -> the references that point there, sorted."""
        found: dict[str, tuple[str, ...]] = {}
        try:
            entries = sorted(os.listdir(f"{self.root}/refs"))
        except FileNotFoundError:
            return found
        for entry in entries:
            try:
                hex = os.path.basename(os.readlink(f"{self.root}/refs/{entry}"))[:-5]
            except OSError:
                continue  # untagged meanwhile, or not ours
            if not entry.endswith(".tmp"):
                found[hex] = (*found.get(hex, ()), entry.replace("%", "/"))
        return found

    def _point(self, names: set[str], hex: str, before: Mapping[str, Sequence[str]]) -> None:
        """Let names point to hex, and correct the records that lose one of them. The lock is held."""
        for name in sorted(names):
            path = f"{self.root}/refs/{_quote(name)}"
            temporary = f"{self.root}/refs/.tmp"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(f"../ids/{hex}.json", temporary)
            try:
                os.rename(temporary, path)
            except IsADirectoryError:  # something else in its place
                remove_tree(path)
                os.rename(temporary, path)
        for other, owned in before.items():
            if other != hex and not names.isdisjoint(owned):
                self._rewrite(other, set(owned) - names)

    def _on_disk(self) -> None:
        """The names too, fsync(2): who is told that an image is here has it after a power cut as well."""
        for directory in ("blobs/sha256", "ids", "refs"):
            fd = os.open(f"{self.root}/{directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def mend(self) -> None:
        """Names that whoever was killed has given or taken half: records and refs say the same again. The lock is held.

        A name that stands in a record, and that nobody has in refs, was about to be given, or to be taken away. In both
        cases the image has it: it is whole, and who wanted it away can say so again.
        """
        owned = self._refs()
        given = {name for names in owned.values() for name in names}
        for hex in self._ids():
            try:
                image = self._read(f"{self.root}/ids/{hex}.json", hex)
            except (Corrupt, NotFound):
                continue  # its names are in refs
            lost = {*image.names, *image.digests} - given
            self._point(lost, hex, {})
            given |= lost
            named = _named(image, {*owned.get(hex, ()), *lost})
            if named != image:
                self._write(named)

    def _rewrite(self, hex: str, names: set[str]) -> None:
        """Write the record of an image with these names; a broken or missing record is left as it is."""
        try:
            self._write(_named(self._read(f"{self.root}/ids/{hex}.json", hex), names))
        except (Corrupt, NotFound):
            pass  # its names are in refs, which is the truth


class _Locked:
    """The store's lock; what the operating system refuses while it is held is told in words."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __enter__(self) -> None:
        import fcntl

        make_dirs(self._root)
        try:
            self._fd = os.open(f"{self._root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise _denied(self._root, error) from None
        except OSError as error:
            if error.errno != errno.EROFS:
                raise NanoError(f"cannot change the images in {self._root}", *reason(error)) from None
            self._fd = os.open(f"{self._root}/lock", os.O_RDONLY | os.O_CLOEXEC)  # whoever only looks, may
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, _: object, error: object, __: object) -> None:
        os.close(self._fd)
        if isinstance(error, OSError):
            raise NanoError(f"cannot change the images in {self._root}", *reason(error)) from None


def _named(image: Image, references: Sequence[str] | set[str]) -> Image:
    ordered = sorted(references)
    return image.replace(
        names=tuple(name for name in ordered if "@" not in name), digests=tuple(name for name in ordered if "@" in name)
    )


def _quote(name: str) -> str:
    """A reference as a file name; no reference has a "%"."""
    return name.replace("/", "%")


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]


def _denied(root: str, error: OSError) -> NanoError:
    return NotPermitted(f"cannot use the images in {root}", error.strerror or "", denied())


def root_of(path: str) -> tuple[int, int, int]:
    """(mode, owner, group) of the root directory in a layer that is an image, which need not be mounted. Corrupt."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = os.pread(fd, 64, 1024)
        if head[:4] != b"\xe2\xe1\xf5\xe0" or len(head) < 64 or not 9 <= head[12] <= 16:
            raise Corrupt(f"{path} is damaged", "it is no EROFS image", "remove the image and pull it again")
        number, meta = int.from_bytes(head[14:16], "little"), int.from_bytes(head[40:44], "little")
        inode = os.pread(fd, 64, (meta << head[12]) + 32 * number)
    finally:
        os.close(fd)
    if len(inode) < 64 or inode[5] & 0xF0 != 0x40:
        raise Corrupt(f"{path} is damaged", "it has no root directory", "remove the image and pull it again")
    uid, gid = (int.from_bytes(inode[at : at + 4], "little") for at in (24, 28))
    return int.from_bytes(inode[4:6], "little") & 0o7777, uid, gid
