"""Streams of bytes as iterators of chunks, and what a pull puts them through: read ahead, digest, decompress.

hashlib, zlib and sockets release the interpreter's lock, so stages that run in threads of their own (`ahead`) really
run at the same time. Queues are short: memory stays flat however large a layer is.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import zlib

from ..errors import Corrupt, NanoError, Unsupported
from ..library import borrow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

CHUNK = 1 << 18
_ROOM = 16 << 20  # bytes after which the free space is looked at again; twice as much stays free
_POLL = 0.2  # seconds between two looks at whether to stop
_JOIN = 1.0  # seconds that a stopped producer is waited for


def ahead(chunks: Iterator[bytes], depth: int = 8, stop: threading.Event | None = None) -> Iterator[bytes]:
    """The same chunks, produced by a thread of its own that is at most `depth` of them ahead. Errors come through.

    stop: when set by anybody, the chunks end, even while the producer waits for the network.
    """
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    done = threading.Event()

    def put(item: bytes | BaseException | None) -> None:
        while not done.is_set():
            try:
                waiting.put(item, timeout=_POLL)
                break
            except queue.Full:
                continue

    def work() -> None:
        try:
            for chunk in chunks:
                put(chunk)
                if done.is_set():
                    break
            put(None)
        except BaseException as error:
            put(error)
        finally:
            close = getattr(chunks, "close", None)
            if close:
                close()

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while stop is None or not stop.is_set():
            try:
                item = waiting.get(timeout=_POLL)
            except queue.Empty:
                continue
            if item is None:
                break
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        done.set()
        thread.join(timeout=_JOIN)  # it may wait for the network; it ends by itself when that answers


def digested(chunks: Iterator[bytes], digest: str, what: str, size: int | None = None) -> Iterator[bytes]:
    """The same chunks; Corrupt at their end (or before) when they have not this digest or not this size."""
    state = hashlib.sha256()
    count = 0
    for chunk in chunks:
        state.update(chunk)
        count += len(chunk)
        if size is not None and count > size:
            break
        yield chunk
    if size is not None and count != size:
        has = f"more than {size} bytes" if count > size else f"{count} of {size} bytes"
        raise Corrupt(f"{what} is damaged", f"it has {has}")
    if state.hexdigest() != digest[7:]:
        raise Corrupt(f"{what} is damaged", f"its digest is sha256:{state.hexdigest()} and should be {digest}")


def with_room(chunks: Iterator[bytes], directory: str, what: str) -> Iterator[bytes]:
    """The same chunks, for who writes them to the disk of a directory; NanoError before that is full.

    Compressed data can become a thousand times its size, and more with zstd: a small file must not be able to take the
    last bytes of a disk that everything else on this host needs too.
    """
    import os

    since = _ROOM
    for chunk in chunks:
        since += len(chunk)
        if since >= _ROOM:
            since = 0
            disk = os.statvfs(directory)
            if disk.f_bavail * disk.f_frsize < 2 * _ROOM:
                raise NanoError(f"cannot unpack {what}", "the disk would be full", f"make room in {directory}")
        yield chunk


def decompressed(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Plain bytes of a stream that may be compressed: gzip, zstd, bzip2 or xz, as its first bytes say.

    The media type is not asked: writers get it wrong, and archives have none.
    """
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 6:
            break
    whole = _chain(head, chunks)
    if head.startswith(b"\x1f\x8b"):
        return _gzip(whole, what)
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return _zstd(whole, what)
    if head.startswith(b"BZh"):
        import bz2

        return _framed(whole, bz2.BZ2Decompressor, what)
    if head.startswith(b"\xfd7zXZ\0"):
        import lzma

        return _framed(whole, lzma.LZMADecompressor, what)
    return whole


def is_compressed(head: bytes) -> bool:
    """Whether `decompressed` would do something to a stream that begins so."""
    return head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"))


def file_chunks(file: Any) -> Iterator[bytes]:
    """The rest of an open binary file."""
    while chunk := file.read(CHUNK):
        yield chunk


def _chain(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def _gzip(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    """One gzip member after another, as parallel and seekable compressors write them. ISA-L is twice zlib's speed."""
    codec: Any = borrow("isal.isal_zlib") or zlib
    decoder = codec.decompressobj(31)
    fresh = False  # between two members
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if decoder.eof:
                    if not data.strip(b"\0"):
                        break  # padding, as tapes had it
                    decoder = codec.decompressobj(31)
                plain = decoder.decompress(data, 4 * CHUNK)
                if plain:
                    yield plain
                data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            fresh = decoder.eof
        while not decoder.eof and (plain := decoder.decompress(decoder.unconsumed_tail, 4 * CHUNK)):
            yield plain
        fresh = decoder.eof
    except (zlib.error, codec.error) as error:
        raise Corrupt(f"{what} is damaged", f"gzip: {error}") from None
    if not fresh:
        raise Corrupt(f"{what} is damaged", "its gzip stream ends too early")


def _framed(chunks: Iterator[bytes], new: Callable[[], Any], what: str) -> Iterator[bytes]:
    """bz2, lzma and the standard library's zstd share this interface."""
    decoder = new()
    try:
        for chunk in chunks:
            data = chunk
            while data or not (decoder.needs_input or decoder.eof):
                if decoder.eof:
                    if not data.strip(b"\0"):
                        break
                    decoder = new()
                plain = decoder.decompress(data, 4 * CHUNK)
                data = decoder.unused_data if decoder.eof else b""
                if plain:
                    yield plain
    except Corrupt:
        raise
    except Exception as error:  # each module has its own class, none of them in common
        raise Corrupt(f"{what} is damaged", str(error)) from None
    if not decoder.eof:
        raise Corrupt(f"{what} is damaged", "its compressed stream ends too early")


def _zstd(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    """The standard library's (3.14), its backport, the older binding, or the program."""
    module: Any = borrow("compression.zstd") or borrow("backports.zstd")
    if module is not None:
        return _framed(chunks, module.ZstdDecompressor, what)
    module = borrow("zstandard")
    if module is not None:
        return _zstandard(chunks, module, what)
    return _zstd_program(chunks, what)


def _zstandard(chunks: Iterator[bytes], module: Any, what: str) -> Iterator[bytes]:
    """This one takes a truncated stream for a whole one; the digest or the archive in it tells."""
    reader = module.ZstdDecompressor(max_window_size=1 << 27).stream_reader(_File(chunks), read_across_frames=True)
    try:
        while plain := reader.read(4 * CHUNK):
            yield plain
    except module.ZstdError as error:
        raise Corrupt(f"{what} is damaged", f"zstd: {error}") from None


def _zstd_program(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    import shutil

    program = shutil.which("zstd")
    if program is None:
        hint = "apt install zstd, or pip install backports.zstd"
        raise Unsupported(f"cannot unpack {what}", "it is compressed with zstd", hint)
    return piped([program, "-dcq"], chunks, lambda said: Corrupt(f"{what} is damaged", f"zstd: {said}"))


def piped(command: list[str], chunks: Iterator[bytes], failure: Callable[[str], NanoError]) -> Iterator[bytes]:
    """What a program makes of these bytes; failure: from what it says on stderr to an error, where it fails."""
    import subprocess

    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    failed: list[BaseException] = []

    def feed() -> None:
        assert process.stdin is not None
        try:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[process.stdin.write(rest) :]
        except BrokenPipeError:
            pass  # it gave up: its message tells why
        except BaseException as error:
            failed.append(error)
        finally:
            process.stdin.close()

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    assert process.stdout is not None and process.stderr is not None
    try:
        while made := process.stdout.read(CHUNK):
            yield made
        said = process.stderr.read().decode(errors="replace").strip()
        if process.wait() and not failed:
            raise failure(said)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()
        thread.join()
    if failed:
        raise failed[0]


class _File:
    """Chunks as the file that zstandard wants to read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
