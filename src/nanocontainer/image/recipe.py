"""A layer that lies on the disk as a directory, given back as exactly the tar that it came as.

Unpacking loses what a tar has beside files: order, padding, the form of its headers. While a layer is unpacked the
recipe keeps just that, and for each file only where its bytes lie now. It is small: headers repeat themselves, and
gzip leaves a tenth. A sequence of records, all numbers little-endian, behind a line that names the form:

    H  length (4)  bytes                            headers, padding, everything that is in no file
    F  length (4)  name  pieces (4)  (offset (8), length (8))...   bytes of that file of the directory

What it makes is held against the diff id by whoever reads it (sources.py). A layer in which one file replaces
another of the same name has no recipe: the first one's bytes are gone.
"""

from __future__ import annotations

import os
import struct
import zlib

from ..errors import Corrupt
from ..kernel import abi
from ..kernel.calls import Kernel
from .streams import CHUNK
from .tar import Source, TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAGIC = b"nanocontainer recipe 1\n"
_LONGEST = 1 << 20  # bytes of one record of headers that are collected before they are written
_RECORD = 2 * _LONGEST + CHUNK  # bytes of headers in one record, at most
_NAME = 1 << 16
_PIECES = 1 << 20
_RESOLVE = abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS


class Recipe:
    """Writes a recipe to a file while a layer is unpacked. `source` and `reader` are what the unpacker reads from."""

    def __init__(self, chunks: Iterable[bytes], path: str) -> None:
        self.source = _Kept(chunks, self._header)
        self.reader = _Reader(self.source)
        self.exact = True  # set to False by who unpacks, where a file is replaced
        self._path = path
        self._file = open(path, "wb")  # a half one of somebody who was killed is replaced
        self._packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        self._headers = bytearray(_MAGIC)
        self._plain = len(_MAGIC)  # bytes at the beginning that are no record

    def _header(self, data: bytes | memoryview) -> None:
        self._headers += data
        if len(self._headers) > _LONGEST:
            self._flush()

    def file(self, name: bytes, pieces: list[tuple[int, int]]) -> None:
        """The bytes that come next lie in the file of that name (relative to the layer), in these pieces."""
        self._flush()
        body = b"".join(struct.pack("<QQ", *piece) for piece in pieces)
        self.source.on = False
        self._put(b"F" + struct.pack("<I", len(name)) + name + struct.pack("<I", len(pieces)) + body)

    def _flush(self) -> None:
        start, self._plain = self._plain, 0
        if start:
            self._put(bytes(self._headers[:start]))
        if data := bytes(self._headers[start:]):
            self._put(b"H" + struct.pack("<I", len(data)) + data)
        self._headers.clear()

    def _put(self, data: bytes) -> None:
        if packed := self._packer.compress(data):
            self._file.write(packed)

    def close(self, keep: bool) -> None:
        """At the end; keep: all was unpacked. A recipe that would not be exact is deleted."""
        try:
            if keep and self.exact:
                self._flush()
                self._file.write(self._packer.flush())
                self._file.flush()
                os.fsync(self._file.fileno())
                return
        finally:
            self._file.close()
            if not (keep and self.exact):
                os.unlink(self._path)


class _Kept(Source):
    """A source that also hands on what is read while `on`: all but the contents of files."""

    def __init__(self, chunks: Iterable[bytes], keep: object) -> None:
        super().__init__(chunks)
        self.on = True
        self._keep = keep

    def pieces(self, size: int) -> Iterator[memoryview]:
        for piece in super().pieces(size):
            if self.on:
                self._keep(piece)  # type: ignore[operator]
            yield piece

    def take(self, size: int) -> memoryview | bytes:
        on, self.on = self.on, False
        try:
            data = super().take(size)
        finally:
            self.on = on
        if on:
            self._keep(data)  # type: ignore[operator]
        return data

    def drain(self) -> None:
        while not self.at_end():
            for _ in self.pieces(len(self._view) - self._at):
                pass


class _Reader(TarReader):
    """Data that the unpacker asks for goes to a file; what it does not ask for is kept."""

    def _next(self):  # type: ignore[no-untyped-def]
        self.source.on = True  # type: ignore[attr-defined]
        return super()._next()


def size_of(path: str) -> int:
    """Bytes of the tar that a recipe makes, found without looking at any file. Corrupt where the recipe is damaged."""
    try:
        with _Unpacked(path) as recipe:
            return sum(_sizes(recipe))
    except (OSError, zlib.error, struct.error) as error:
        raise Corrupt(f"the recipe {path} is damaged", str(error)) from None


def _sizes(recipe: _Unpacked) -> Iterator[int]:
    _check_form(recipe)
    while not recipe.at_end():
        if recipe.take(1) == b"H":
            length = recipe.number(_RECORD)
            recipe.take(length)
            yield length
        else:
            recipe.take(recipe.number(_NAME))
            for _ in range(recipe.number(_PIECES)):
                yield struct.unpack("<QQ", recipe.take(16))[1]


def _check_form(recipe: _Unpacked) -> None:
    if recipe.take(len(_MAGIC)) != _MAGIC:
        raise zlib.error("it is of another form")


def put_together(path: str, directory: str) -> Iterator[bytes]:
    """The tar again. Corrupt where the recipe is damaged, or does not fit the directory."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _Unpacked(path) as recipe:
            yield from _records(recipe, root)
    except (OSError, zlib.error, struct.error) as error:
        raise Corrupt(f"the recipe {path} is damaged", str(error)) from None
    finally:
        os.close(root)


class _Unpacked:
    """The plain bytes of a recipe, some at a time."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")
        self._decoder = zlib.decompressobj(31)
        self._data, self._at = b"", 0

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, size: int) -> bytes:
        end = self._at + size
        while len(self._data) < end:
            if not self._more():
                raise zlib.error("it ends too early")
            end = self._at + size
        data = self._data[self._at : end]
        self._at = end
        return data

    def at_end(self) -> bool:
        return self._at == len(self._data) and not self._more()

    def _more(self) -> bool:
        """Unpack some more; what has been taken is forgotten. False at the end of the stream."""
        plain = b""
        while not plain and not self._decoder.eof:
            packed = self._decoder.unconsumed_tail or self._file.read(CHUNK)
            if not packed:
                raise zlib.error("it ends too early")
            plain = self._decoder.decompress(packed, 4 * CHUNK)
        self._data, self._at = self._data[self._at :] + plain, 0
        return bool(plain)

    def number(self, most: int) -> int:
        (number,) = struct.unpack("<I", self.take(4))
        if number > most:
            raise zlib.error(f"a length of {number}")
        return int(number)


def _records(recipe: _Unpacked, root: int) -> Iterator[bytes]:
    _check_form(recipe)
    kernel = Kernel()
    while not recipe.at_end():
        kind = recipe.take(1)
        if kind == b"H":
            yield recipe.take(recipe.number(_RECORD))
            continue
        if kind != b"F":
            raise zlib.error(f"a record of the kind {kind!r}")
        name = recipe.take(recipe.number(_NAME))
        fd = kernel.openat2(root, os.fsdecode(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, 0, _RESOLVE)
        try:
            for _ in range(recipe.number(_PIECES)):
                offset, left = struct.unpack("<QQ", recipe.take(16))
                while left:
                    piece = os.pread(fd, min(left, CHUNK), offset)
                    if not piece:
                        raise zlib.error(f"{name[:200]!r} is too short")
                    offset, left = offset + len(piece), left - len(piece)
                    yield piece
        finally:
            os.close(fd)
