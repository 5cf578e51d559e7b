"""Looking into images: what each layer does, where a file comes from, how two images differ. Nothing is mounted or run.

The layers are stacked in memory by overlayfs's rules, bottom first: what a layer has replaces what was there, a
whiteout (a character device 0/0) takes it away, an opaque directory hides what lower layers have in it, and directories
of one name are merged (docs.kernel.org/filesystems/overlayfs.html). So it is known of each file which layer it comes
from, and of each layer how much of it nobody can see any more: that is downloaded and stored in vain.
"""

from __future__ import annotations

import errno
import filecmp
import os
import stat

from ..errors import InvalidInput, NotFound
from ..image.details import history
from ..record import Record
from ..rootfs import strata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..image.model import Image
    from ..image.store import ImageStore
    from ..rootfs.strata import Trace

_KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip


class FileChange(Record):
    """One path. letter: A added, C changed, D deleted. kind: file, directory, link, ... of what is there, or was. size:
    bytes now; before: bytes of what was there."""

    letter: str
    path: str
    kind: str = ""
    size: int = 0
    before: int = 0


class LayerView(Record):
    """What a layer does to those below it. size: bytes of its files; unseen: of those that the image does not show,
    since upper layers replace or delete them. changes: all of them, the largest first; directories that are only on the
    way to something are none."""

    diff_id: str
    size: int = 0
    unseen: int = 0
    added: int = 0
    changed: int = 0
    deleted: int = 0
    created_by: str = ""
    changes: tuple[FileChange, ...] = ()


class FileView(Record):
    """One file of an image. layer: its place, 1 at the bottom; mode: octal; target: of a link."""

    path: str
    kind: str
    layer: int
    diff_id: str
    size: int = 0
    mode: str = ""
    owner: str = "0:0"
    target: str = ""


class TreeNode(Record):
    """A layer among those that are stacked on the same ones. names: of the images that end here."""

    diff_id: str
    size: int = 0
    names: tuple[str, ...] = ()
    above: tuple[TreeNode, ...] = ()


class _Node:
    """One name in the merged tree. children: of a directory."""

    __slots__ = ("children", "found", "layer", "size")

    def __init__(self, found: os.stat_result, layer: int, size: int) -> None:
        self.found, self.layer, self.size = found, layer, size
        self.children: dict[str, _Node] = {}

    @property
    def kind(self) -> str:
        return _KINDS.get(stat.S_IFMT(self.found.st_mode), "something")

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.found.st_mode)

    def below(self) -> Iterator[_Node]:
        """All nodes under this one."""
        pending = [self]
        while pending:
            for child in pending.pop().children.values():
                yield child
                pending.append(child)


class _Stack:
    """Layers of an image, merged one after the other."""

    def __init__(self, store: ImageStore, image: Image) -> None:
        self.image = image
        self.layers = list(dict.fromkeys(reversed(image.layers)))[::-1]  # as layer_paths has them: each once
        self.places = store.open_layers(image) if image.layers else ()
        self.sizes = [0] * len(self.places)
        self.root: _Node | None = None
        self.changes: list[list[FileChange]] = []
        for number, place in enumerate(self.places):
            self.changes.append([])
            self._merge(number, place)

    def _merge(self, layer: int, place: str) -> None:
        top = _Node(os.lstat(place), layer, 0)
        if self.root is not None:
            top.children = self.root.children
        self.root = top
        seen: set[int] = set()
        pending = [(place, "", self.root)]
        while pending:
            directory, path, node = pending.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    child = self._entry(layer, f"{path}/{entry.name}", entry, found, node, seen)
                    if child is not None:
                        pending.append((entry.path, f"{path}/{entry.name}", child))

    def _entry(
        self, layer: int, path: str, entry: os.DirEntry[str], found: os.stat_result, parent: _Node, seen: set[int]
    ) -> _Node | None:
        """Put one name of a layer into the tree; the node to go on in, for a directory."""
        before = parent.children.get(entry.name)
        note = self.changes[layer].append
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            if before is not None:
                note(FileChange("D", path, before.kind, 0, _weight(before)))
                del parent.children[entry.name]
            return None
        size = 0
        if stat.S_ISREG(found.st_mode) and found.st_ino not in seen:
            size = found.st_size
            seen.add(found.st_ino)
            self.sizes[layer] += size
        node = _Node(found, layer, size)
        if before is None:
            note(FileChange("A", path, node.kind, size))
        elif not node.is_directory or not before.is_directory:
            note(FileChange("C", path, node.kind, size, _weight(before)))
        elif _is_opaque(entry.path):
            note(FileChange("C", path, node.kind, 0, _weight(before)))
        else:
            node.children = before.children
            if _differs(before.found, found):
                note(FileChange("C", path, node.kind))
        parent.children[entry.name] = node
        return node if node.is_directory else None

    def unseen(self) -> list[int]:
        """Of each layer, the bytes that the image does not show."""
        shown: list[dict[int, int]] = [{} for _ in self.places]
        if self.root is not None:
            for node in self.root.below():
                if stat.S_ISREG(node.found.st_mode):  # by inode: a second name shows what the first one was
                    shown[node.layer][node.found.st_ino] = node.found.st_size
        return [size - sum(inodes.values()) for size, inodes in zip(self.sizes, shown, strict=True)]

    def place(self, layer: int, path: str) -> str:
        return f"{self.places[layer]}{path}"

    def find(self, path: str) -> _Node | None:
        node = self.root
        for part in path.split("/"):
            if part and node is not None:
                node = node.children.get(part)
        return node


def _weight(node: _Node) -> int:
    return node.size + sum(child.size for child in node.below())


def _differs(one: os.stat_result, other: os.stat_result) -> bool:
    """In what a directory is, beside its content and its times."""
    return (one.st_mode, one.st_uid, one.st_gid) != (other.st_mode, other.st_uid, other.st_gid)


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM):
            return False
        raise


# --- the questions


def image_layers(store: ImageStore, image: Image) -> list[LayerView]:
    """Each layer, bottom first. Corrupt where one is missing."""
    stack = _Stack(store, image)
    said = {line.layer: line.created_by for line in history(store, image) if line.layer}
    views = []
    for diff_id, size, unseen, changes in zip(stack.layers, stack.sizes, stack.unseen(), stack.changes, strict=True):
        ordered = sorted(changes, key=lambda one: (-max(one.size, one.before), one.path))
        added, changed, deleted = (sum(one.letter == letter for one in changes) for letter in "ACD")
        by = said.get(diff_id, "")
        views.append(LayerView(diff_id, size, unseen, added, changed, deleted, by, tuple(ordered)))
    return views


def image_files(store: ImageStore, image: Image, path: str, *, deep: bool = False) -> list[FileView]:
    """What an image has at a path: of a directory its content, deep: all below it. NotFound, InvalidInput."""
    if not path.startswith("/") or "\0" in path:
        raise InvalidInput(f"invalid path {path!r}", "it must be absolute: as a container sees it, from / on")
    stack = _Stack(store, image)
    if stack.root is None and not path.strip("/"):
        return []  # an image without layers
    traced = strata.trace(stack.places[::-1], path)
    resolved, node = traced.resolved, stack.find(traced.resolved)
    if node is None:
        deletes = next((one for one in traced.findings if one.role == "deletes"), None)
        why = f"layer {len(stack.layers) - deletes.layer} deletes {deletes.path}" if deletes else ""
        raise NotFound(f"no {path} in this image", why, "image files NAME lists what is at its top")
    if not node.is_directory:
        return [_view(stack, resolved, node)]
    found = []
    pending = [(resolved.rstrip("/"), node)]
    while pending:
        above, directory = pending.pop()
        for name, child in directory.children.items():
            found.append(_view(stack, f"{above}/{name}", child))
            if deep and child.is_directory:
                pending.append((f"{above}/{name}", child))
    return sorted(found, key=lambda one: one.path)


def _view(stack: _Stack, path: str, node: _Node) -> FileView:
    found = node.found
    kind = node.kind
    size = found.st_size if kind == "file" else _weight(node)
    target = os.readlink(stack.place(node.layer, path)) if kind == "link" else ""
    return FileView(
        path, kind, node.layer + 1, stack.layers[node.layer], size, f"{stat.S_IMODE(found.st_mode):04o}",
        f"{found.st_uid}:{found.st_gid}", target,
    )  # fmt: skip


def file_trace(store: ImageStore, image: Image, path: str) -> Trace:
    """What each layer has at a path, top first (rootfs/strata.py)."""
    return strata.trace(store.open_layers(image)[::-1], path)


def image_diff(store: ImageStore, first: Image, second: Image) -> list[FileChange]:
    """What is to be done to the files of the first image to have those of the second, by path. What comes from the
    same layer is the same; else kind, mode, owner, size, target and content are compared, and times are not."""
    one, other = _Stack(store, first), _Stack(store, second)
    changes: list[FileChange] = []
    if one.root is None or other.root is None:
        root = one.root or other.root
        letter = "A" if one.root is None else "D"
        for name, node in root.children.items() if root else ():
            changes += _all(letter, f"/{name}", node)
        return sorted(changes, key=lambda change: change.path)
    pending = [("", one.root, other.root)]
    while pending:
        path, left, right = pending.pop()
        for name in sorted({*left.children, *right.children}):
            below = f"{path}/{name}"
            a, b = left.children.get(name), right.children.get(name)
            if a is None or b is None:
                if b is not None:
                    changes += _all("A", below, b)
                elif a is not None:
                    changes.append(FileChange("D", below, a.kind, 0, _weight(a)))
                continue
            if a.is_directory and b.is_directory:
                if _differs(a.found, b.found):
                    changes.append(FileChange("C", below, b.kind))
                pending.append((below, a, b))
            elif not _same(one, a, other, b, below):
                changes.append(FileChange("C", below, b.kind, b.size, _weight(a)))
                if b.is_directory:
                    for name, child in b.children.items():
                        changes += _all("A", f"{below}/{name}", child)
    return sorted(changes, key=lambda change: change.path)


def _all(letter: str, path: str, node: _Node) -> list[FileChange]:
    found, pending = [], [(path, node)]
    while pending:
        path, node = pending.pop()
        found.append(FileChange(letter, path, node.kind, *((node.size, 0) if letter == "A" else (0, node.size))))
        pending += [(f"{path}/{name}", child) for name, child in node.children.items()]
    return found


def _same(one: _Stack, a: _Node, other: _Stack, b: _Node, path: str) -> bool:
    if one.layers[a.layer] == other.layers[b.layer]:
        return True
    left, right = one.place(a.layer, path), other.place(b.layer, path)
    if _differs(a.found, b.found) or a.found.st_rdev != b.found.st_rdev:
        return False
    if stat.S_ISLNK(a.found.st_mode):
        return os.readlink(left) == os.readlink(right)
    if not stat.S_ISREG(a.found.st_mode):
        return True
    return a.found.st_size == b.found.st_size and filecmp.cmp(left, right, shallow=False)


def image_tree(store: ImageStore) -> list[TreeNode]:
    """All images by the layers that they have in common: each layer stands on the one below it."""
    from ..image.claims import layer_size

    chains: dict[tuple[str, ...], list[str]] = {}
    for image in store.list(lambda error: None):
        chains.setdefault(image.layers, []).extend(image.names or (image.id,))
    prefixes = sorted({chain[:end] for chain in chains for end in range(1, len(chain) + 1)}, key=len, reverse=True)
    made: dict[tuple[str, ...], list[TreeNode]] = {}
    for chain in prefixes:
        size = layer_size(f"{store.layers}/{chain[-1][7:]}")
        above = sorted(made.pop(chain, []), key=lambda node: node.diff_id)
        node = TreeNode(chain[-1], size, tuple(sorted(chains.get(chain, ()))), tuple(above))
        made.setdefault(chain[:-1], []).append(node)
    empty = [TreeNode("", 0, tuple(sorted(chains[()])))] if () in chains else []
    return [*sorted(made.get((), []), key=lambda node: node.diff_id), *empty]
