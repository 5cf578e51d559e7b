"""keeper.lock: running means that somebody holds it.

A POSIX record lock (fcntl(2)) belongs to a process: the kernel frees it when the process dies, however it dies, and
F_GETLK names the holder. So there are no pid files, and no stale state. The price: threads of one process do not
exclude each other, and closing any descriptor of the file drops the lock. So the process keeps a table of the locks
that it holds, and leaves those files alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from ..errors import NanoError
from ..paths import make_dirs, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..paths import Paths

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
_NO_FILE = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP)  # something else is in its place: nobody can hold that
_ATTEMPTS = 1000  # a removal may take the directory away, or the file, between two calls of ours
# struct flock: l_type, l_whence, (4 bytes), l_start, l_len, l_pid, (4 bytes)
_PROBE = fcntl.F_WRLCK.to_bytes(2, "little") + bytes(30)
# path → pid: the locks that a thread of this process holds. A fork inherits the table and not the locks, hence the pid.
_ours: dict[str, int] = {}


class Lock:
    """The keeper.lock of one container, not held yet."""

    def __init__(self, paths: Paths, id: str) -> None:
        self.directory = paths.live(id)
        self.path = f"{self.directory}/keeper.lock"
        self.fd = -1

    def take(self, wait: bool = False) -> bool:
        """Hold it from now on; False where somebody else does. wait: until the holder is gone."""
        while not self._reserve():
            if not wait:
                return False
            time.sleep(0.001)
        try:
            return self._lock(wait)
        finally:
            if self.fd < 0:
                del _ours[self.path]

    def _reserve(self) -> bool:
        """Keep other threads off, in one step: setdefault is atomic."""
        me = os.getpid()
        if _ours.get(self.path, me) != me:
            del _ours[self.path]  # our parent's
        mark = _Mark(me)
        return _ours.setdefault(self.path, mark) is mark

    def _lock(self, wait: bool) -> bool:
        for attempt in range(_ATTEMPTS):
            try:
                self.fd = os.open(self.path, _OPEN, 0o600)
            except FileNotFoundError:
                for place in (self.directory, self.path) if attempt else ():
                    if os.path.islink(place):  # it leads nowhere
                        remove_tree(place)
                make_dirs(self.directory)
                continue
            except OSError as error:
                if error.errno not in _NO_FILE:
                    raise
                remove_tree(self.path if os.path.isdir(self.directory) else self.directory)
                continue
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                self._close()
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise NanoError(f"cannot lock {self.path}", error.strerror or "") from None
            if self._current():
                return True
            self._close()  # removed between the two calls, together with its container
        raise NanoError(f"cannot lock {self.path}", "it is taken away again and again", "try again")

    def _current(self) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self.fd >= 0:
            self._close()
            del _ours[self.path]

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = -1


def adopt(paths: Paths, id: str) -> None:
    """Enter a lock in the table that this process has held since before it executed itself anew (execve(2))."""
    _ours[f"{paths.live(id)}/keeper.lock"] = _Mark(os.getpid())


class _Mark(int):
    """A pid that is told from an equal one by `is`."""


def holder(paths: Paths, id: str) -> int:
    """The pid of the process that holds a container's lock, which may be we; 0 where nobody does."""
    path = f"{paths.live(id)}/keeper.lock"
    if _ours.get(path) == os.getpid():
        return os.getpid()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, *_NO_FILE):
            return 0
        raise
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _PROBE)
    finally:
        os.close(fd)
    if int.from_bytes(answer[:2], "little") == fcntl.F_UNLCK:
        return 0
    return int.from_bytes(answer[24:28], "little")
