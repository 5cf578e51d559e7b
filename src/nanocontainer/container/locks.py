"""keeper.lock: running means that somebody holds it.

A POSIX record lock (fcntl(2)) belongs to a process: the kernel frees it when the process dies, however it dies, and
F_GETLK names the holder. So there are no pid files, and no stale state. The price: closing any descriptor of the file
drops the lock, so a process opens the file once and keeps it.
"""

from __future__ import annotations

import errno
import fcntl
import os

from ..errors import NanoError
from ..paths import make_dirs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..paths import Paths

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
# struct flock: l_type, l_whence, (4 bytes), l_start, l_len, l_pid, (4 bytes)
_PROBE = fcntl.F_WRLCK.to_bytes(2, "little") + bytes(30)


class Lock:
    """The keeper.lock of one container, not held yet."""

    def __init__(self, paths: Paths, id: str) -> None:
        self.directory = paths.live(id)
        self.path = f"{self.directory}/keeper.lock"
        self.fd = -1

    def take(self, wait: bool = False) -> bool:
        """Hold it from now on; False where somebody else does. wait: until the holder is gone."""
        while True:
            try:
                self.fd = os.open(self.path, _OPEN, 0o600)
            except FileNotFoundError:
                make_dirs(self.directory)
                continue
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                self.release()
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    return False
                raise NanoError(f"cannot lock {self.path}", error.strerror or "") from None
            if self._current():
                return True
            self.release()  # removed between the two calls, together with its container

    def _current(self) -> bool:
        try:
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def holder(paths: Paths, id: str) -> int:
    """The pid of the process that holds a container's lock; 0 where nobody does. Our own lock does not count."""
    try:
        fd = os.open(f"{paths.live(id)}/keeper.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        answer = fcntl.fcntl(fd, fcntl.F_GETLK, _PROBE)
    finally:
        os.close(fd)
    if int.from_bytes(answer[:2], "little") == fcntl.F_UNLCK:
        return 0
    return int.from_bytes(answer[24:28], "little")
