"""What a layer's tar archive means as a tree of files, worked out in memory: no file system is touched, no root needed.

The rules are those of layers.py, which applies them to a directory of the host. There names from strangers must not
lead out of the layer, and here they cannot: nothing but this tree is there. But both must come to the same tree, or one
image would be two: so links in a path are followed as openat2(2) with RESOLVE_IN_ROOT does it, a later entry takes the
place of an earlier one, a directory joins one that is there, parents that are missing are made, whiteouts become what
overlayfs understands, and what no file system could hold is refused in the same words.

A tree keeps no content of files, only where in the archive it lies.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import Corrupt, Unsupported
from .tar import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .tar import Entry

_NAME, _PATH = 255, 4096  # NAME_MAX, PATH_MAX: bytes of a name, and of a path with its final NUL
_LINKS = 40  # symbolic links followed on one path (path_resolution(7))
_TIME = 1 << 62  # nanoseconds; more than any file system keeps
_XATTR_VALUE = 65535  # bytes; the kernel's limit is one more, which EROFS has no room for
_CAPABILITY = {0x01000000: 12, 0x02000000: 20, 0x03000000: 24}  # revision -> bytes (linux/capability.h)
ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
OPAQUE = b"trusted.overlay.opaque"

_KINDS = {FIFO: stat.S_IFIFO, CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}


class Node:
    """An inode. mode: with its kind. mtime: nanoseconds. content: of a directory its names (bytes -> Node), of a
    symbolic link its target, of a device its number, of a file the place of its bytes in the archive.

    sparse: of a file with holes, (offset, length) of each piece; the pieces lie one after another in the archive.
    above: of a directory its parent. place, names: for who writes the tree down.
    """

    __slots__ = ("above", "content", "gid", "mode", "mtime", "names", "place", "size", "sparse", "uid", "xattrs")

    def __init__(self, mode: int, content: Any, mtime: int = 0, uid: int = 0, gid: int = 0, size: int = 0) -> None:
        self.mode, self.content, self.mtime, self.uid, self.gid, self.size = mode, content, mtime, uid, gid, size
        self.above: Node | None = None
        self.sparse: list[tuple[int, int]] | None = None
        self.xattrs: dict[bytes, bytes] | None = None
        self.place = -1
        self.names = 0

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_whiteout(self) -> bool:
        return stat.S_ISCHR(self.mode) and self.content == 0

    def set(self, name: bytes, value: bytes) -> None:
        if self.xattrs is None:
            self.xattrs = {}
        self.xattrs[name] = value


class Tree:
    """`add` each entry of an archive, in its order; `root` is what they come to."""

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755, {})
        self._parents: dict[bytes, Node] = {b"": self.root}  # by the path as archives write it

    def add(self, entry: Entry, start: int) -> None:
        """start: where in the archive the entry's data begins. Corrupt where no file system could hold it."""
        try:
            path = inside(entry.name)
            if path:
                self._add(entry, path, start)
            else:
                self._root(entry)
        except OSError as error:
            raise Corrupt(f"broken layer: {shown(entry.name)}", error.strerror or str(error)) from None

    def _add(self, entry: Entry, path: bytes, start: int) -> None:
        above, _, base = path.rpartition(b"/")
        parent = self._parents.get(above) or self._parent(above)
        if base.startswith(b".wh."):
            self._whiteout(parent, above, base[4:])
            return
        if len(base) > _NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        kind = entry.kind
        if kind == DIRECTORY:
            self._directory(parent, base, entry)
        elif kind == LINK:
            self._link(parent, base, path, entry)
        else:
            node = self._new(entry, start)
            if base in parent.content:
                self._clear(parent, base)
            parent.content[base] = node

    def _new(self, entry: Entry, start: int) -> Node:
        kind, mode = entry.kind, entry.mode
        if kind == FILE:
            node = Node(stat.S_IFREG | mode, start, time_of(entry), entry.uid, entry.gid, entry.size)
            node.sparse = entry.sparse
        elif kind == SYMLINK:
            check_target(entry)
            node = Node(stat.S_IFLNK | 0o777, entry.link, time_of(entry), entry.uid, entry.gid, len(entry.link))
        else:
            device = device_of(entry) if kind != FIFO else 0
            node = Node(_KINDS[kind] | mode, device, time_of(entry), entry.uid, entry.gid)
        if entry.xattrs:
            _set_xattrs(node, entry)
        return node

    def _directory(self, parent: Node, base: bytes, entry: Entry) -> None:
        """A directory joins one that is already there; anything else of that name gives way."""
        node = parent.content.get(base)
        if node is None or not node.is_directory:
            opaque = node is not None and node.is_whiteout
            if node is not None:
                self._clear(parent, base)
            node = _new_directory(parent, base)
            if opaque:
                node.set(OPAQUE, b"y")
        _owned(node, entry)

    def _root(self, entry: Entry) -> None:
        """`./`: the directory itself."""
        if entry.kind != DIRECTORY:
            raise Corrupt(f"broken layer: {shown(entry.name)}", "the root of a layer must be a directory")
        _owned(self.root, entry)

    def _link(self, parent: Node, base: bytes, path: bytes, entry: Entry) -> None:
        """A hard link, to something of this layer that came before."""
        target = inside(entry.link)
        if target == path:
            return
        above, _, name = target.rpartition(b"/")
        try:
            source = self._walk(above)
            node = source.content.get(name)
            if node is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if base in parent.content:
                if node.is_directory:  # the other format finds this out when the old one is gone
                    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
                self._clear(parent, base)
                if self._walk(above).content.get(name) is not node:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if node.is_directory:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            parent.content[base] = node
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise no_link(entry, error) from None

    def _whiteout(self, parent: Node, above: bytes, name: bytes) -> None:
        if name == b".wh..opq":
            parent.set(OPAQUE, b"y")
            return
        if name.startswith(b".wh."):
            return  # aufs's own notes, of old images
        if name in (b"", b".", b".."):
            raise Corrupt("broken layer", f"a whiteout of {shown(name)} in {shown(above)}")
        there = parent.content.get(name)
        if there is None:
            parent.content[name] = Node(stat.S_IFCHR, 0)
        elif there.is_directory:  # it stays, but nothing below shines through
            there.set(OPAQUE, b"y")

    def _clear(self, parent: Node, base: bytes) -> None:
        """Something else of that name is in the way, from earlier in this layer."""
        gone = parent.content.pop(base)
        if gone.is_directory:
            gone.above = None
        if gone.is_directory or stat.S_ISLNK(gone.mode):
            self._parents = {b"": self.root}  # one of the others may have led through it

    # --- parents

    def _parent(self, path: bytes) -> Node:
        """The directory at path, made if it is missing (archives need not list parents)."""
        found = self._parents.get(path)
        if found is None:
            try:
                found = self._walk(path)
            except (FileNotFoundError, NotADirectoryError):
                found = self._make_parent(path)
            self._parents[path] = found
        return found

    def _make_parent(self, path: bytes) -> Node:
        above, _, base = path.rpartition(b"/")
        parent = self._parent(above)
        there = parent.content.get(base)
        if there is not None and not there.is_whiteout:
            raise Corrupt(f"broken layer: {shown(path)}", "something is to be put into it, and it is no directory")
        node = _new_directory(parent, base)
        if there is not None:
            node.set(OPAQUE, b"y")
        return node

    def _walk(self, path: bytes) -> Node:
        """path_resolution(7), with this tree's root as the root."""
        if len(path) >= _PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        here, links = self.root, 0
        todo = path.split(b"/")[::-1]
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if part == b"..":
                here = here.above or self.root
                continue
            if len(part) > _NAME:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            found: Node | None = here.content.get(part)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if stat.S_ISLNK(found.mode):
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if found.content.startswith(b"/"):
                    here = self.root
                todo += found.content.split(b"/")[::-1]
            elif found.is_directory:
                here = found
            else:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return here


def _new_directory(parent: Node, base: bytes) -> Node:
    if len(base) > _NAME:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    node = Node(stat.S_IFDIR | 0o755, {})
    node.above = parent
    parent.content[base] = node
    return node


def _owned(node: Node, entry: Entry) -> None:
    """A directory as its entry says."""
    node.mode, node.uid, node.gid, node.mtime = stat.S_IFDIR | entry.mode, entry.uid, entry.gid, time_of(entry)
    if entry.xattrs:
        _set_xattrs(node, entry)


def _set_xattrs(node: Node, entry: Entry) -> None:
    for name, value in kept_xattrs(entry):
        if name.startswith(b"user.") and not (node.is_directory or stat.S_ISREG(node.mode)):
            continue  # user.* is for files and directories only; GNU tar stores it for others all the same
        _check_xattr(node, name, value, entry)
        node.set(name, value)


def _check_xattr(node: Node, name: bytes, value: bytes, entry: Entry) -> None:
    """As setxattr(2) checks it."""
    what = f"broken layer: {shown(entry.name)}"
    if name.startswith(b"system.posix_acl_"):
        if name not in ACLS or stat.S_ISLNK(node.mode):
            raise Unsupported(what, f"nothing here can have the extended attribute {shown(name)}")
        if value[:4] != b"\2\0\0\0" or len(value) % 8 != 4:
            raise Corrupt(what, "an access control list of a wrong form")
    elif name == b"security.capability":
        if _CAPABILITY.get(int.from_bytes(value[:4], "little") & 0xFF000000) != len(value):
            raise Corrupt(what, "file capabilities of a wrong form")
    elif name in (b"user.", b"trusted."):
        raise Corrupt(what, "an extended attribute without a name")
    if len(name) > _NAME or len(value) > _XATTR_VALUE:
        raise Corrupt(what, f"the extended attribute {shown(name)} is too long")


# --- what both formats say of an entry


def inside(name: bytes) -> bytes:
    """A name of the archive, relative to the layer's root; empty for the root. Corrupt where it leads out of it."""
    if b"//" not in name and b"./" not in name and name[:1] != b"/" and name[-1:] not in (b"/", b"."):
        return name  # already clean: the usual case
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise Corrupt(f"broken layer: {shown(name)}", "the name leads out of the layer")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def time_of(entry: Entry) -> int:
    """In nanoseconds, within what the kernel can be told."""
    return min(max(entry.mtime, -_TIME), _TIME)


def device_of(entry: Entry) -> int:
    """The number of a device (makedev(3))."""
    if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
        raise Corrupt(f"broken layer: {shown(entry.name)}", f"no device {entry.major}:{entry.minor} can exist")
    return os.makedev(entry.major, entry.minor)


def check_target(entry: Entry) -> None:
    """Corrupt for a symbolic link that no file system could hold."""
    if not entry.link:
        raise Corrupt(f"broken layer: {shown(entry.name)}", "a symbolic link to nothing")
    if len(entry.link) >= _PATH:
        raise Corrupt(f"broken layer: {shown(entry.name)}", os.strerror(errno.ENAMETOOLONG))


def kept_xattrs(entry: Entry) -> list[tuple[bytes, bytes]]:
    """Those that mean the same on every host. overlayfs's own could redirect lookups; labels are the host's."""
    return [
        (name, value)
        for name, value in (entry.xattrs or {}).items()
        if not name.startswith((b"trusted.overlay.", b"user.overlay."))
        and (name == b"security.capability" or name.startswith((b"user.", b"trusted.", b"system.posix_acl_")))
    ]


def no_link(entry: Entry, error: OSError) -> Corrupt:
    """A hard link to what cannot be linked to."""
    why = f"a hard link to {shown(entry.link)}, which is no file of this layer ({error.strerror})"
    return Corrupt(f"broken layer: {shown(entry.name)}", why)


def shown(name: bytes) -> str:
    """A name for an error message."""
    text = name.decode(errors="backslashreplace")
    return repr(text if len(text) <= 200 else text[:200] + "...")
