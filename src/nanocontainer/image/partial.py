"""Blobs that are not here whole yet: what a broken, interrupted or killed pull has got so far is not fetched again.

    images/partial/<hex>    the first bytes of the blob sha256:<hex>, as they came

The bytes are written down while they stream by, on their way to the digest and the decompressor, and the next pull of
the same blob reads them from here and asks the registry only for the rest. So nothing of a decompressor's state need be
kept, and nothing here is ever trusted: the digest is taken of all bytes, the old and the new. Where it turns out wrong,
the blob is begun anew, once: it may have changed in between, or a power cut has left a file with holes.

A file goes when its layer has got its name, when its bytes are found to be wrong, when the disk is full, and else after
a week (`sweep`). Who uses it holds it alone (flock(2)); whoever finds it taken pulls without it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time

from ..paths import make_dirs, remove_tree
from .streams import CHUNK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fetch = Callable[[int, Callable[[], None]], Iterator[bytes]]

KEPT = 7 * 24 * 3600.0  # seconds after its last byte


class Partial:
    """One blob on its way. root: the store's. digest, size: of the whole blob."""

    def __init__(self, root: str, digest: str, size: int) -> None:
        self._path, self._size = f"{root}/partial/{digest[7:]}", size
        self._fd = -1
        self._lock = (
            threading.Lock()
        )  # a pull that ends may close the file while its thread still waits for the network
        self._pieced = False  # whether the bytes come from more than one answer
        self._anew = False

    def stream(self, fetch: Fetch, on_resume: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
        """All bytes of the blob. fetch(start, broke): those from `start` on; it calls broke() where it has to ask
        again. on_resume: told how many were here. Not checked: see streams.digested."""
        done = 0
        whole = False
        with self._lock:
            self._fd = _hold(self._path)
            kept = os.fstat(self._fd).st_size if self._fd >= 0 else 0
            if kept > self._size:
                os.ftruncate(self._fd, 0)
                kept = 0
        try:
            if kept:
                self._pieced = True
                on_resume(kept)
                while done < kept and (chunk := self._kept(done)):
                    done += len(chunk)
                    yield chunk
            for chunk in fetch(done, self._broke) if done < self._size else ():
                self._keep(chunk, done)
                done += len(chunk)
                yield chunk
            whole = True
        finally:
            if not whole:  # another pull may go on with it
                self.close()

    def made(self) -> None:
        """The layer is there: forget the blob."""
        self._forget(anyway=True)

    def again(self) -> bool:
        """What came was wrong: forget it. Whether it is worth beginning anew: it was put together, and is not yet."""
        self._forget(anyway=True)
        worth = self._pieced and not self._anew
        self._anew, self._pieced = True, False
        return worth

    def close(self) -> None:
        """Leave what is here to the next pull."""
        with self._lock:
            if self._fd >= 0 and os.fstat(self._fd).st_size:
                os.close(self._fd)
                self._fd = -1
        self._forget()

    def _broke(self) -> None:
        self._pieced = True

    def _kept(self, at: int) -> bytes:
        with self._lock:
            return os.pread(self._fd, CHUNK, at) if self._fd >= 0 else b""

    def _keep(self, chunk: bytes, at: int) -> None:
        rest = memoryview(chunk)
        try:
            with self._lock:
                while rest and self._fd >= 0:
                    count = os.pwrite(self._fd, rest, at)
                    rest, at = rest[count:], at + count
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            self._forget()  # the layer itself needs the room

    def _forget(self, *, anyway: bool = False) -> None:
        """Delete the file if we hold it; anyway: or if nobody else does."""
        with self._lock:
            if self._fd < 0 and anyway:
                self._fd = _hold(self._path, new=False)
            if self._fd >= 0:
                os.unlink(self._path)
                os.ftruncate(self._fd, 0)  # the room is free now, and not when the last one closes it
                os.close(self._fd)
                self._fd = -1
                _drop_empty(os.path.dirname(self._path))


def sweep(root: str, older: float = KEPT) -> list[str]:
    """Delete what nobody came back for; older: seconds since its last byte. Returns the paths."""
    swept = []
    for path in partials(root):
        try:
            if time.time() - os.lstat(path).st_mtime < older:
                continue
        except FileNotFoundError:
            continue
        fd = _hold(path, new=False)
        if fd >= 0:
            os.unlink(path)
            os.close(fd)
            swept.append(path)
            _drop_empty(os.path.dirname(path))
    return swept


def partials(root: str) -> list[str]:
    """The paths of all blobs that are not here whole."""
    try:
        return sorted(f"{root}/partial/{name}" for name in os.listdir(f"{root}/partial"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _drop_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError:
        pass  # others are in it


def _hold(path: str, *, new: bool = True) -> int:
    """The file, open and held alone; -1 where another one has it, where there is no room for it, or (not new) none."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if new else 0)
    for _ in range(10):
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            if not new:
                return -1
            make_dirs(os.path.dirname(path))
            continue
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                return -1
            if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise
            remove_tree(path)  # something else in its place
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            there = os.fstat(fd)
            if not stat.S_ISREG(there.st_mode):
                remove_tree(path)
            elif os.stat(path).st_ino == there.st_ino:
                return fd
        except BlockingIOError:
            os.close(fd)
            return -1
        except FileNotFoundError:
            pass
        os.close(fd)  # deleted between our open and our lock
    return -1
