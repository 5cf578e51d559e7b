"""Compressing layers, so that the same layer always gives the same bytes: then its blob is known again by its digest.

gzip (RFC 1952) has room for a name and a time: both are left empty, and the level is fixed. zlib, and not a faster
library that is not on every host: who has it and who has not would write different blobs. Compressing is what a push
waits for, so all processors do it: blocks of a fixed size are compressed on their own, each knowing the end of the one
before it as a dictionary, end on a byte (Z_SYNC_FLUSH), and are put together to one stream (RFC 1951), as pigz(1) does.
So the result does not depend on how many there are. zstd (RFC 8878) is written by one thread, since their number shows.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile

from .. import lean
from ..errors import InvalidInput, NanoError, Unsupported, reason
from ..library import borrow
from ..paths import make_dirs, read_file, write_file
from .reference import is_digest
from .streams import CHUNK, piped, with_room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Any

    from .store import ImageStore

KINDS = ("none", "gzip", "zstd")
_GZIP_LEVEL = 4  # a third faster than 5, for two hundredths more bytes
_BLOCK = 1 << 20  # bytes that are compressed on their own
_WINDOW = 1 << 15  # how far back deflate looks
_WORKERS = 8
_ZSTD_LEVEL = 3


def check_kind(kind: str) -> str:
    """The name of a compression, or InvalidInput."""
    if kind not in KINDS:
        raise InvalidInput(f"unknown compression {kind!r}", "", f"there are {', '.join(KINDS)}")
    return kind


def packed(chunks: Iterable[bytes], kind: str) -> Iterator[bytes]:
    """The same stream compressed. Unsupported where nothing on this host writes zstd."""
    if kind == "none":
        yield from chunks
        return
    if kind == "gzip":
        yield from _gzip(chunks)
        return
    packer = _zstd()
    if packer is None:
        yield from _zstd_program(chunks)
        return
    for chunk in chunks:
        if data := packer.compress(chunk):
            yield data
    yield packer.flush()


def _gzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    import zlib
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    def compress(block: bytes, before: bytes, last: bool) -> bytes:
        packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -15, zdict=before[-_WINDOW:])
        return packer.compress(block) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    yield b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # deflate, no flags, no time, system unknown
    crc = size = 0
    workers = min(os.cpu_count() or 1, _WORKERS)
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            before, blocks = b"", _blocks(chunks)
            block = next(blocks, b"")
            while True:
                following = next(blocks, None)
                crc, size = zlib.crc32(block, crc), size + len(block)
                waiting.append(pool.submit(compress, block, before, following is None))
                while len(waiting) > (2 * workers if following else 0):
                    yield waiting.popleft().result()
                if following is None:
                    break
                before, block = block, following
        finally:
            for job in waiting:
                job.cancel()
    yield crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of one size; the last one is what is left."""
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        while len(rest) >= _BLOCK:
            yield bytes(rest[:_BLOCK])
            del rest[:_BLOCK]
    if rest:
        yield bytes(rest)


def _zstd() -> Any:
    module: Any = borrow("compression.zstd") or borrow("backports.zstd")
    if module is not None:
        return module.ZstdCompressor(level=_ZSTD_LEVEL)
    module = borrow("zstandard")
    if module is not None:
        return module.ZstdCompressor(level=_ZSTD_LEVEL, threads=0).compressobj()
    return None


def _zstd_program(chunks: Iterable[bytes]) -> Iterator[bytes]:
    program = shutil.which("zstd")
    if program is None:
        hint = "apt install zstd, or pip install backports.zstd; or use gzip"
        raise Unsupported("cannot write zstd", "neither a library nor a program for it is here", hint)
    command = [program, f"-{_ZSTD_LEVEL}", "--single-thread", "-qc"]
    return piped(command, iter(chunks), lambda said: NanoError("cannot write zstd", said))


class Kept:
    """A stream put away in a file without a name, to be read again any number of times, also by several threads."""

    def __init__(self, chunks: Iterable[bytes], directory: str, what: str) -> None:
        """directory: on whose disk. NanoError where that is full."""
        state = hashlib.sha256()
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)
            for chunk in with_room(iter(chunks), directory, what):
                state.update(chunk)
                self._file.write(chunk)
            self._file.flush()
        except OSError as error:
            raise NanoError(f"cannot write {what}", *reason(error)) from None
        self.digest = f"sha256:{state.hexdigest()}"
        self.size = os.fstat(self._file.fileno()).st_size

    def chunks(self, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
        last = self.size if end is None else end
        while offset < last:
            piece = os.pread(self._file.fileno(), min(CHUNK, last - offset), offset)
            offset += len(piece)
            yield piece

    def close(self) -> None:
        self._file.close()


def measured(open: Callable[[], Iterator[bytes]]) -> tuple[str, int]:
    """(digest, size) of a stream that can be made again."""
    state, size = hashlib.sha256(), 0
    for chunk in open():
        state.update(chunk)
        size += len(chunk)
    return f"sha256:{state.hexdigest()}", size


# --- digests of what was packed here


def packed_before(store: ImageStore, diff_id: str, kind: str) -> tuple[str, int] | None:
    """(digest, size) of a layer packed so before. Only a hint: a wrong one costs a question to the registry."""
    try:
        found = lean.loads(read_file(f"{store.root}/packed/{diff_id[7:]}"))[kind]
        digest, size = found["digest"], found["size"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return (digest, size) if isinstance(digest, str) and is_digest(digest) and type(size) is int and size > 0 else None


def remember_packed(store: ImageStore, diff_id: str, kind: str, kept: Kept) -> None:
    path = f"{store.root}/packed/{diff_id[7:]}"
    try:
        with store.locked():
            make_dirs(f"{store.root}/packed")
            try:
                known = lean.loads(read_file(path))
            except (OSError, ValueError, RecursionError):
                known = {}
            known = known if isinstance(known, dict) else {}
            write_file(path, lean.dumps({**known, kind: {"digest": kept.digest, "size": kept.size}}))
    except (NanoError, OSError):
        pass  # only the next push is slower
