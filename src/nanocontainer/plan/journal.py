"""The journal: what must be undone is written down before it is done.

A line per step with a residue: {"boot": ..., "step": "MakeCgroup", "data": {...}}. It is appended before the step acts,
so a process killed at any instruction leaves a journal that names at least all it left behind. Undo may meet things
that never came to be. No fsync: kill -9 loses nothing of the page cache, and after a power cut the boot id differs:
kernel objects are gone by themselves then, and files are undone whatever the boot.

recover() is the one function that takes back: after a normal end, for `rm`, and after a crash.

A container that runs may be changed (container/amending.py): the steps of the change are appended to its journal, and
what is taken back from it leaves the journal. Two may want that at once, and the container may end meanwhile: so who
changes a living container, or takes it down, holds the journal (flock(2)): see Held.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from ..errors import NanoError, Unsupported, reason
from ..lean import dumps, loads
from ..paths import read_bytes, remove_tree
from .step import Step, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def boot_id() -> str:
    """The kernel's random name of this boot (random(4), /proc/sys/kernel/random/boot_id)."""
    fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 64).decode().strip()
    finally:
        os.close(fd)


class Journal:
    """The journal file of one container. Opened when the first line is written."""

    def __init__(self, path: str, boot: str) -> None:
        self.path, self.boot, self.fd = path, boot, -1

    def begin(self) -> None:
        """An empty journal: from now on whoever finds it, and nobody who writes it, knows that a start was killed."""
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))

    def note(self, step: Step) -> None:
        """Write a step down. A journal that cannot be written stops the start: nothing is left that is not named."""
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        line = line_of(step, self.boot).encode()
        line = b"\n" + line + b"\n"  # the first one ends a line that somebody could not write to its end
        if os.write(self.fd, line) != len(line):
            raise OSError(28, "the disk is full")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Held:
    """`with Held(path) as held`: the journal, locked (flock(2)); held.fd is -1 where there is none: all is down.

    The lock is of the file, not of its name: who has waited for it while it was deleted or replaced begins anew, which
    the link count tells. wait=False: BlockingIOError where somebody else holds it.
    """

    def __init__(self, path: str, *, wait: bool = True) -> None:
        self.path, self.fd = path, -1
        self._how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)

    def __enter__(self) -> Held:
        while self.fd < 0:
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                    break
                raise
            try:
                fcntl.flock(fd, self._how)
                if os.fstat(fd).st_nlink:
                    self.fd = fd
            finally:
                if self.fd < 0:
                    os.close(fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def cut(self, size: int) -> None:
        """Forget all entries behind the first so many bytes."""
        os.truncate(self.path, size)

    def forget(self, undone: tuple[Step, ...]) -> None:
        """Take steps out of the journal that were taken back. The journal is replaced whole, and the new one is locked
        before it has its name."""
        kept, changed = [], False
        for line in filter(None, _bytes(self.fd).split(b"\n")):
            entry = _entry(line)
            step = entry.step if entry else None
            rest = step
            for other in undone:
                rest = rest and rest.less(other)
            if step is None or rest is step:
                kept.append(line)
                continue
            changed = True
            if rest is not None and entry is not None:
                kept.append(line_of(rest, entry.boot).encode())
        if not changed:
            return
        temporary = f"{self.path}.{os.urandom(8).hex()}.tmp"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            data = b"".join(line + b"\n" for line in kept)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.write(fd, data) != len(data):
                raise OSError(28, "the disk is full")
            os.rename(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            os.close(fd)
            raise
        os.close(self.fd)
        self.fd = fd


class Entry:
    """A line of a journal, read back. step: None where this version does not know it, or how to undo it."""

    def __init__(self, boot: str, name: str, step: Step | None) -> None:
        self.boot, self.name, self.step = boot, name, step


def line_of(step: Step, boot: str) -> str:
    """A step as a journal has it, on one line."""
    return dumps({"boot": boot, "step": type(step).__name__, "data": step.as_dict()})


def step_of(line: str) -> Step:
    """The step that line_of() wrote, of whatever residue. Unsupported where this version does not know it."""
    data = loads(line)
    kind = Step.named(data["step"])
    try:
        if kind:
            return kind.from_dict(data["data"])
        raise TypeError
    except (TypeError, AttributeError):
        why = "another version of NanoContainer has begun it"
        raise Unsupported(f"step {data['step']} is unknown to this version", why, "let that one go on") from None


def read(path: str, fd: int = -1, start: int = 0) -> Iterator[Entry]:
    """The journal's entries, newest first. A half-written line (disk full, kill) is of a step that never ran.

    fd: the open journal, where somebody holds it. start: only what is behind so many bytes.
    """
    try:
        whole = _bytes(fd) if fd >= 0 else read_bytes(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise  # a sick disk: what it names must not be forgotten
        return  # a directory or a link in its place names nothing
    for line in reversed(whole[start:].split(b"\n")):
        if entry := _entry(line):
            yield entry


def _entry(line: bytes) -> Entry | None:
    if not line:
        return None
    try:
        data = loads(line.decode())
        boot, name, fields = str(data["boot"]), str(data["step"]), data["data"]
    except (ValueError, KeyError, TypeError):
        return None
    kind = Step.named(name)
    try:
        step = kind.from_dict(fields) if kind and kind.residue != "init" else None
    except (TypeError, AttributeError):
        step = None
    return Entry(boot, name, step)


def _bytes(fd: int) -> bytes:
    """All of an open file, from its beginning."""
    parts: list[bytes] = []
    at = 0
    while part := os.pread(fd, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def recover(
    path: str, world: World, boot: str, *, keep: bool = False, fd: int = -1, start: int = 0
) -> list[str]:
    """Undo what the journal names, newest first, then drop the journal. What could not be undone, in words.

    A journal with failures is kept: the next recover tries again. So is one with steps of a newer version, because only
    that knows what they left. keep: the caller has more to do, and drops it then. fd, start: as of read().
    """
    failures = []
    for entry in read(path, fd, start):
        if entry.step is None:
            failures.append(f"{entry.name}: unknown to this version, and left to the one that wrote {path}")
            continue
        if entry.step.residue == "kernel" and entry.boot != boot:
            continue  # the kernel that held it is gone
        try:
            entry.step.undo(world)
        except OSError as error:
            failures.append(f"{entry.name}: {reason(error)[0]}")
        except NanoError as error:
            failures.append(f"{entry.name}: {error}")
    if not failures and not keep:
        drop(path)
    return failures


def drop(path: str) -> None:
    """Delete a journal: nothing is left of what it named."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except IsADirectoryError:  # something else in its place
        remove_tree(path)
