"""Reading tar archives as a stream: ustar, GNU (long names, sparse, base-256 numbers) and pax.

Layers are tar streams (image-spec, layer.md) from strangers, and can be long: so memory is flat, every number is
checked, and what is broken is Corrupt with its place in the stream. The standard library's tarfile costs four times as
much per member and forgives what we must not. Formats: tar(5) of libarchive, POSIX.1-2017 pax, GNU tar's manual.

Names are bytes: a file name on Linux is bytes, and nothing here needs to know an encoding.
"""

from __future__ import annotations

from ..errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK = 512
_ZEROS = bytes(BLOCK)
_SPECIAL = 1 << 20  # most bytes of a long name, of a pax header, of a sparse map: what Go's archive/tar allows
_NOBODY = (1 << 32) - 1  # the owner "-1" means "do not change" to chown(2)

FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_DATALESS = frozenset((LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))  # their size says nothing about the stream
_XATTR = b"SCHILY.xattr."


class Entry:
    """One member. A plain class with slots: there are tens of thousands of them.

    kind: one of the constants above. mode: permission bits incl. setuid, setgid, sticky. mtime: nanoseconds.
    size: of the file; stored: of its data in the stream (they differ when it is sparse).
    sparse: (offset, length) of each piece of data, in order; None for a plain file.
    """

    __slots__ = (
        "gid", "kind", "link", "major", "minor", "mode", "mtime", "name", "size", "sparse", "stored", "uid", "xattrs",
    )  # fmt: skip

    name: bytes
    link: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int
    stored: int
    major: int
    minor: int
    xattrs: dict[bytes, bytes] | None
    sparse: list[tuple[int, int]] | None


class Source:
    """Exact reads from chunks of bytes that come as they come."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._view = memoryview(b"")
        self._base = 0  # of the view, in the stream
        self._at = 0  # in the view

    @property
    def position(self) -> int:
        return self._base + self._at

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._base += len(self._view)
        self._view = memoryview(chunk)
        self._at = 0
        return True

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next size bytes, in pieces that are valid until the next call."""
        while size:
            piece = self._view[self._at : self._at + size]
            if piece:
                self._at += len(piece)
                size -= len(piece)
                yield piece
            elif not self._more():
                raise Corrupt("broken archive", f"it ends at byte {self.position}, {size} bytes too early")

    def take(self, size: int) -> memoryview | bytes:
        """The next size bytes at once; for what is known to be small."""
        end = self._at + size
        piece = self._view[self._at : end]
        if len(piece) == size:
            self._at = end
            return piece
        return b"".join(self.pieces(size))

    def skip(self, size: int) -> None:
        for _ in self.pieces(size):
            pass

    def at_end(self) -> bool:
        while self._at == len(self._view):
            if not self._more():
                return True
        return False

    def drain(self) -> None:
        """Read to the end: what follows an archive still belongs to its digest."""
        while self._more():
            pass
        self._at = len(self._view)


def archived(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same chunks. Corrupt at once where no archive begins so: who keeps them first need not fill the disk."""
    rest = iter(chunks)
    head = b""
    for chunk in rest:
        head += chunk
        if len(head) >= BLOCK:
            break
    if len(head) >= BLOCK:
        if head[:BLOCK] == _ZEROS and not head.strip(b"\0") and len(head) > 20 * BLOCK:
            raise Corrupt("broken archive", "it is nothing but zeros")  # an empty archive has 20 blocks
        if head[:BLOCK] != _ZEROS:
            TarReader(Source([head]))._check(head[:BLOCK])
    if head:
        yield head
    yield from rest


class TarReader:
    """Iterate for the entries. After each one its data may be read with `data()`, in full or not at all."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._left = 0  # bytes of data of the current entry that nobody has read yet
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while entry := self._next():
            yield entry

    def data(self) -> Iterator[memoryview]:
        """The stored bytes of the current entry, in pieces."""
        size, self._left = self._left, 0
        return self.source.pieces(size)

    def small(self) -> memoryview | bytes:
        """The stored bytes of the current entry at once; for small ones."""
        size, self._left = self._left, 0
        return self.source.take(size)

    def done(self) -> None:
        """The caller has read the data from `source` itself."""
        self._left = 0

    def _next(self) -> Entry | None:
        take = self.source.take
        long_name = long_link = None
        pax: dict[bytes, bytes] | None = None
        sparse_pairs: list[bytes] = []
        while True:
            if self._left or self._padding:
                self.source.skip(self._left + self._padding)
                self._left = self._padding = 0
            if self.source.at_end():  # without the two zero blocks: some writers forget them
                if long_name or long_link or pax:
                    raise self._broken("it ends after an extended header")
                return None
            header = bytes(take(BLOCK))
            if header == _ZEROS:
                return None
            self._check(header)
            kind, size = header[156:157], self._number(header[124:136])
            if not 0 <= size < 1 << 63:
                raise self._broken(f"an entry of {size} bytes")
            if kind in b"LKxg":
                if size > _SPECIAL:
                    raise self._broken(f"an extended header of {size} bytes")
                payload = bytes(take(size))
                self._padding = -size % BLOCK
                if kind == b"L":
                    long_name = payload.split(b"\0", 1)[0]
                elif kind == b"K":
                    long_link = payload.split(b"\0", 1)[0]
                elif kind == b"x":
                    pax = self._pax(payload, sparse_pairs)
                continue  # g, the global header, is for people's comments: docker ignores it too
            entry = self._entry(header, kind, size)
            if entry is None:
                continue
            if long_name is not None:
                entry.name = long_name
            if long_link is not None:
                entry.link = long_link
            if pax:
                self._apply(entry, pax)
            if entry.name.endswith(b"/") and entry.kind == FILE:
                entry.kind = DIRECTORY  # V7 knew no type for directories
            if entry.kind in _DATALESS:
                entry.size = entry.stored = 0
            self._left = entry.stored
            self._padding = -entry.stored % BLOCK
            if kind == b"S":
                self._sparse_gnu(entry, header)
            elif pax and entry.kind == FILE and any(key.startswith(b"GNU.sparse.") for key in pax):
                self._sparse_pax(entry, pax, sparse_pairs)
            if not (0 <= entry.uid < _NOBODY and 0 <= entry.gid < _NOBODY):
                raise self._broken(f"an entry owned by {entry.uid}:{entry.gid}")
            if b"\0" in entry.name or b"\0" in entry.link:
                raise self._broken("a name with a NUL byte")
            return entry

    def _entry(self, header: bytes, kind: bytes, size: int) -> Entry | None:
        number = self._number
        entry = Entry()
        if kind in (b"\0", b"7", b"S"):
            kind = FILE
        elif kind == b"V":  # a label of the volume, no file
            return None
        elif not b"0" <= kind <= b"6":
            raise self._broken(f"an entry of the unknown type {kind!r}")
        name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0" and header[345]:  # GNU has other things there, and "ustar  "
            name = header[345:500].split(b"\0", 1)[0] + b"/" + name
        entry.name, entry.kind, entry.size, entry.stored = name, kind, size, size
        entry.link = header[157:257].split(b"\0", 1)[0] if header[157] else b""
        entry.mode = number(header[100:108]) & 0o7777
        entry.uid, entry.gid = number(header[108:116]), number(header[116:124])
        entry.mtime = number(header[136:148]) * 1_000_000_000
        if kind in (CHAR, BLOCK_DEVICE):
            entry.major, entry.minor = number(header[329:337]), number(header[337:345])
        else:
            entry.major = entry.minor = 0
        entry.xattrs = entry.sparse = None
        return entry

    def _number(self, field: bytes) -> int:
        """Octal text, or base 256 when the first bit is set (GNU)."""
        if field[0] & 0x80:
            value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
            return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
        text = field.split(b"\0", 1)[0].strip()
        try:
            return int(text, 8) if text else 0
        except ValueError:
            raise self._broken(f"{field!r} is no number") from None

    def _check(self, header: bytes) -> None:
        """The sum of all bytes of the header, its own field taken as blanks."""
        field = header[148:156]
        total = sum(header) - sum(field) + 256
        wanted = field.strip(b"\0 ")
        if wanted.isdigit() and b"8" not in wanted and b"9" not in wanted:
            if int(wanted, 8) == total:
                return
            high = sum(byte > 127 for byte in header[:148] + header[156:])
            if int(wanted, 8) == total - 256 * high:  # old writers added signed bytes
                return
        raise self._broken("a header with a wrong checksum: this is no tar archive, or a damaged one")

    def _pax(self, payload: bytes, sparse_pairs: list[bytes]) -> dict[bytes, bytes]:
        """Records of the form `LENGTH KEY=VALUE\\n`; LENGTH counts the whole record."""
        found: dict[bytes, bytes] = {}
        at = 0
        while at < len(payload):
            digits, _, _ = payload[at : at + 20].partition(b" ")
            start = at + len(digits) + 1
            end = at + int(digits) if digits.isdigit() else 0
            key, equals, value = payload[start : end - 1].partition(b"=")
            if not start < end <= len(payload) or payload[end - 1 : end] != b"\n" or not equals or not key:
                raise self._broken("a pax header of a wrong form")
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                sparse_pairs.append(value)
            found[key] = value
            at = end
        return found

    def _apply(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        for key, value in pax.items():
            if key.startswith(_XATTR):
                if entry.xattrs is None:
                    entry.xattrs = {}
                entry.xattrs[key[len(_XATTR) :]] = value
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"size":
                entry.size = entry.stored = self._decimal(value)
            elif key == b"uid":
                entry.uid = self._decimal(value)
            elif key == b"gid":
                entry.gid = self._decimal(value)
            elif key == b"mtime":
                entry.mtime = self._time(value)

    def _decimal(self, text: bytes) -> int:
        if not (text.isdigit() and len(text) < 20 and int(text) < 1 << 63):
            raise self._broken(f"{text[:40]!r} is no number")
        return int(text)

    def _time(self, text: bytes) -> int:
        """Seconds with a fraction, exactly, in nanoseconds."""
        whole, _, part = text.partition(b".")
        sign = -1 if whole.startswith(b"-") else 1
        digits = whole[1:] if sign < 0 else whole
        if not (digits.isdigit() and len(digits) < 20 and (not part or part.isdigit())):
            raise self._broken(f"{text[:40]!r} is no time")
        return sign * (int(digits) * 1_000_000_000 + int(part[:9].ljust(9, b"0")))

    # --- sparse files, in the four forms that GNU tar wrote over the years

    def _sparse_gnu(self, entry: Entry, header: bytes) -> None:
        number = self._number
        pieces = []
        fields, more = header[386:482], header[482]
        entry.size = number(header[483:495])
        while True:
            for at in range(0, len(fields) - 23, 24):
                if not fields[at + 12]:
                    break
                pieces.append((number(fields[at : at + 12]), number(fields[at + 12 : at + 24])))
            if not more:
                break
            if len(pieces) > _SPECIAL // 24:
                raise self._broken("a sparse file of too many pieces")
            block = bytes(self.source.take(BLOCK))
            fields, more = block[:504], block[504]
        self._set_sparse(entry, pieces)

    def _sparse_pax(self, entry: Entry, pax: dict[bytes, bytes], pairs: list[bytes]) -> None:
        entry.name = pax.get(b"GNU.sparse.name", entry.name)
        entry.size = self._decimal(pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"x")
        if pax.get(b"GNU.sparse.major") == b"1":
            numbers = self._sparse_map()
        elif b"GNU.sparse.map" in pax:
            numbers = [self._decimal(text) for text in pax[b"GNU.sparse.map"].split(b",")]
        else:
            numbers = [self._decimal(text) for text in pairs]
        if len(numbers) % 2:
            raise self._broken("a sparse map of a wrong form")
        self._set_sparse(entry, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _sparse_map(self) -> list[int]:
        """Version 1.0: the map stands before the data: decimal lines, first their number, filled up to a block."""
        text = b""
        wanted = 1
        while True:
            if len(text) > _SPECIAL or self._left < BLOCK:
                raise self._broken("a sparse map of a wrong form")
            text += self.source.take(BLOCK)
            self._left -= BLOCK
            lines = text.split(b"\n")[:-1]
            if lines:
                wanted = 1 + 2 * self._decimal(lines[0])
            if len(lines) >= wanted:
                return [self._decimal(line) for line in lines[1:wanted]]

    def _set_sparse(self, entry: Entry, pieces: list[tuple[int, int]]) -> None:
        at = 0
        for offset, length in pieces:
            if offset < at or length < 0:
                raise self._broken("a sparse map out of order")
            at = offset + length
        if at > entry.size or sum(length for _, length in pieces) != self._left or not 0 <= entry.size < 1 << 63:
            raise self._broken("a sparse map that does not fit its file")
        entry.stored = self._left
        entry.sparse = pieces

    def _broken(self, why: str) -> Corrupt:
        return Corrupt("broken archive", f"{why}, before byte {self.source.position}")
