"""Writing EROFS, the kernel's read-only file system, as far as layers need it: uncompressed, one device.

    byte 0      free (EROFS leaves the first 1024 bytes to boot loaders): what this file is, in words
    byte 1024   the superblock, up to byte 4096 with zeros
    byte 4096   data: here the layer's tar archive as it came, then the pieces of sparse files
    meta        inodes, 64 bytes each, with extended attributes and short link targets behind them
                directories: blocks of entries, each sorted by name, and long link targets
    filled up with zeros to a multiple of 4096 bytes

tar and EROFS fit together: a file's bytes begin in an archive at a multiple of 512, and EROFS may have blocks of 512
bytes. So the inode of a file only says where in the archive its bytes are, nothing is copied, and the archive stays in
the image byte for byte. Numbers are little endian.

Sources: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of Linux.
"""

from __future__ import annotations

import os
import stat
import struct

from ..errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tree import Node

DATA = 4096  # where the data begins
BLOCK = 512
MAGIC = b"\xe2\xe1\xf5\xe0"
SUPER = 1024  # where the superblock is
_FIRST = 64  # of the meta area stays empty, so that no inode has the number 0

_MTIME, _CHUNKED = 2, 4  # features: the times are those of the content; there are files in chunks
_PLAIN, _INLINE, _CHUNKS = 0 << 1 | 1, 2 << 1 | 1, 4 << 1 | 1  # data layouts, of extended inodes (the 1)
_INODE = struct.Struct("<HHHHQIIIIqII16x")
_ENTRY = struct.Struct("<QHBx")
_HOLE = 0xFFFFFFFF
_TYPES = {
    stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3, stat.S_IFBLK: 4, stat.S_IFIFO: 5, stat.S_IFLNK: 7,
}  # fmt: skip
_PREFIXES = (
    (b"system.posix_acl_access", 2), (b"system.posix_acl_default", 3), (b"user.", 1), (b"trusted.", 4),
    (b"security.", 6),
)  # fmt: skip
_MOST_XATTRS = 12 + 4 * 65534  # bytes of them that an inode can have
_CHUNKS_AT_MOST = 1 << 16  # of one sparse file; they become larger before they become more
_ALL_CHUNKS = 1 << 22  # of all of them, about: a small archive can hold thousands that are huge
_LARGEST_SPARSE = 1 << 44  # bytes; what ext4 allows


class Image:
    """Lay out a tree behind the data of an image, and write it. One use.

    fd: the image; its data end at byte `end`. name: 16 bytes that become its UUID. block: 512 or 4096. source: where
    the data are read, if not in the image.
    """

    def __init__(self, fd: int, end: int, root: Node, name: bytes, block: int = BLOCK, source: int = -1) -> None:
        self._fd, self._root, self._name, self._block = fd, root, name, block
        self._source = fd if source < 0 else source
        self._end = _up(end, 4096)
        self._nodes: list[Node] = []  # in the order of their inodes
        self._inline: dict[Node, bytes] = {}  # extended attributes, and what else follows an inode
        self._blocks: list[Node] = []  # what has blocks behind the inodes
        self._starts: dict[Node, int] = {}  # first block of what lies there
        self._formats: dict[Node, int] = {}
        self._directories: dict[Node, list[list[tuple[bytes, Node]]]] = {}
        self._below: dict[Node, int] = {}  # directories in a directory
        self.size = 0  # bytes of all regular files
        self._chunks_left = _ALL_CHUNKS

    def write(self) -> None:
        """Corrupt for what EROFS has no room for, and OSError."""
        self._collect()
        self._meta = self._end
        inodes = self._place()
        self._place_blocks(_up(self._meta + inodes, self._block))
        with open(self._fd, "r+b", buffering=1 << 20, closefd=False) as file:
            file.seek(self._meta)
            for piece in self._inodes():
                file.write(piece)
            at = self._meta + inodes
            file.write(bytes(-at % self._block))
            for node in self._blocks:
                for piece in self._content(node):
                    file.write(piece)
            end = file.tell()
            file.write(bytes(-end % 4096))
            end = file.tell()
            file.seek(SUPER)
            file.write(self._superblock(end))

    # --- what there is

    def _collect(self) -> None:
        """Every inode once, directories before what is in them; sparse files' data are put where EROFS wants them."""
        seen: set[int] = set()
        todo = [self._root]
        while todo:
            node = todo.pop()
            self._nodes.append(node)
            if not node.is_directory:
                continue
            names = sorted(node.content.items())
            self._directories[node] = self._split(node, names)
            below = 0
            later = []
            for _, child in names:
                child.names += 1
                if child.is_directory:
                    below += 1
                    later.append(child)
                elif id(child) not in seen:
                    seen.add(id(child))
                    self._nodes.append(child)
                    if stat.S_ISREG(child.mode):
                        self.size += child.size
                        if child.sparse is not None:
                            self._sparse(child)
            self._below[node] = below
            todo += reversed(later)

    def _split(self, node: Node, names: list[tuple[bytes, Node]]) -> list[list[tuple[bytes, Node]]]:
        """A directory's entries, in blocks: each begins with its entries, and their names follow."""
        whole = sorted([*names, (b".", node), (b"..", node.above or node)], key=lambda one: one[0])
        blocks: list[list[tuple[bytes, Node]]] = []
        room = 0
        for one in whole:
            need = 12 + len(one[0])
            if need > room:
                blocks.append([])
                room = self._block
            blocks[-1].append(one)
            room -= need
        return blocks

    def _sparse(self, node: Node) -> None:
        """EROFS knows holes as chunks of one size, a power of two. The pieces are copied to where chunks can be, behind
        the data; chunks that no piece touches stay holes, and so do the gaps in the image itself."""
        if node.size > _LARGEST_SPARSE:
            raise Corrupt("broken layer", f"a file of {node.size} bytes: no file system here could hold it")
        most = min(_CHUNKS_AT_MOST, max(64, self._chunks_left // 64))
        bits = (4096 // self._block).bit_length() - 1
        while self._block << bits < 4096 or node.size > (most * self._block) << bits:
            bits += 1
        chunk = self._block << bits
        count = -(-node.size // chunk)
        self._chunks_left = max(0, self._chunks_left - count)
        chunks = [_HOLE] * count
        source = DATA + node.content
        for offset, length in node.sparse or ():
            while length:
                at = offset // chunk
                if chunks[at] == _HOLE:
                    chunks[at] = self._end // self._block
                    self._end += min(chunk, _up(node.size - at * chunk, 4096))
                part = min(length, chunk - offset % chunk)
                target = chunks[at] * self._block + offset % chunk
                _copy(self._source, self._fd, source, target, part)
                source, offset, length = source + part, offset + part, length - part
        if self._end // self._block >= _HOLE:
            raise Corrupt("broken layer", "its sparse files are too large")
        self._inline[node] = struct.pack(f"<{count}I", *chunks)
        self._formats[node] = _CHUNKS
        self._starts[node] = bits

    # --- where it goes

    def _place(self) -> int:
        """Give every inode its place in the meta area: the bytes that they take."""
        at, block = _FIRST, self._block
        for node in self._nodes:
            at = _up(at, 64)
            tail = self._inline.get(node, b"")
            xattrs = _xattrs(node) if node.xattrs else b""
            if stat.S_ISLNK(node.mode):
                start = at + 64 + len(xattrs)
                if start % block + len(node.content) > block:  # an inline target must lie in one block
                    start = _up(at, block) + 64 + len(xattrs)
                if start % block + len(node.content) <= block:
                    at = start - 64 - len(xattrs)
                    tail = node.content
                    self._formats[node] = _INLINE
            node.place = at // 32
            if xattrs or tail:
                self._inline[node] = xattrs + tail
            at += 64 + len(xattrs) + len(tail)
        return at

    def _place_blocks(self, at: int) -> None:
        block = at // self._block
        for node in self._nodes:
            blocks = self._directories.get(node)
            if blocks is not None:
                node.size = (len(blocks) - 1) * self._block + sum(12 + len(name) for name, _ in blocks[-1])
                count = len(blocks)
            elif stat.S_ISLNK(node.mode) and node not in self._formats:
                count = -(-node.size // self._block)
            else:
                continue
            self._starts[node] = block
            self._blocks.append(node)
            block += count
        if block >= _HOLE:
            raise Corrupt("broken layer", "it is too large for one image")

    # --- what is written

    def _inodes(self) -> Iterator[bytes]:
        at = 0
        for number, node in enumerate(self._nodes, 1):
            gap = node.place * 32 - at
            if gap:
                yield bytes(gap)
            extra = self._inline.get(node, b"")
            yield self._inode(node, number)
            if extra:
                yield extra
            at = node.place * 32 + 64 + len(extra)

    def _inode(self, node: Node, number: int) -> bytes:
        mode, content = node.mode, node.content
        form, links = self._formats.get(node, _PLAIN), node.names
        where = self._starts.get(node, 0)
        if stat.S_ISREG(mode) and node.sparse is None:
            where = (DATA + content) // self._block if node.size else 0
        elif stat.S_ISDIR(mode):
            links = 2 + self._below[node]
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            where = _device(content)
        count = 1 + (_xattrs_size(node) - 12) // 4 if node.xattrs else 0
        seconds, part = divmod(node.mtime, 1_000_000_000)
        return _INODE.pack(form, count, mode, 0, node.size, where, number, node.uid, node.gid, seconds, part, links)

    def _content(self, node: Node) -> Iterator[bytes]:
        """The blocks of a directory, or of a long link target."""
        if not node.is_directory:
            yield node.content + bytes(-len(node.content) % self._block)
            return
        for entries in self._directories[node]:
            at = 12 * len(entries)
            head = bytearray()
            for name, child in entries:
                head += _ENTRY.pack(child.place, at, _TYPES[stat.S_IFMT(child.mode)])
                at += len(name)
            yield bytes(head) + b"".join([name for name, _ in entries]) + bytes(self._block - at)

    def _superblock(self, end: int) -> bytes:
        chunked = any(form == _CHUNKS for form in self._formats.values())
        return struct.pack(
            "<4sIIBBHQQIIII16s16sIHHHBBIQ24x",
            MAGIC, 0, _MTIME, self._block.bit_length() - 1, 0, self._root.place, len(self._nodes), 0, 0,
            end // self._block, self._meta // self._block, 0, self._name, b"", _CHUNKED * chunked, 0, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip


def _xattrs_size(node: Node) -> int:
    return 12 + sum(_up(4 + len(_short(name)[1]) + len(value), 4) for name, value in (node.xattrs or {}).items())


def _xattrs(node: Node) -> bytes:
    """A header, and each attribute: length of the name, number of its beginning, length of the value, both."""
    if _xattrs_size(node) > _MOST_XATTRS:
        raise Corrupt("broken layer", "a file with too many extended attributes")
    parts = [bytes(12)]
    for name, value in sorted((node.xattrs or {}).items()):
        number, rest = _short(name)
        parts.append(struct.pack("<BBH", len(rest), number, len(value)) + rest + value)
        parts.append(bytes(-len(parts[-1]) % 4))
    return b"".join(parts)


def _short(name: bytes) -> tuple[int, bytes]:
    for prefix, number in _PREFIXES:
        if name.startswith(prefix):
            return number, name[len(prefix) :]
    raise Corrupt("broken layer", f"an extended attribute named {name!r}")


def _device(number: int) -> int:
    """As the kernel's new_encode_dev()."""
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _copy(origin: int, fd: int, source: int, target: int, size: int) -> None:
    while size:
        data = os.pread(origin, min(size, 1 << 20), source)
        if not data:
            raise Corrupt("broken layer", "its archive ends too early")
        written = os.pwrite(fd, data, target)
        source, target, size = source + written, target + written, size - written


def _up(number: int, to: int) -> int:
    return -(-number // to) * to
