"""The journal: what must be undone is written down before it is done.

A line per step with a residue: {"boot": ..., "step": "MakeCgroup", "data": {...}}. It is appended before the step acts,
so a process killed at any instruction leaves a journal that names at least all it left behind. Undo may meet things
that never came to be. No fsync: kill -9 loses nothing of the page cache, and after a power cut the boot id differs:
kernel objects are gone by themselves then, and files are undone whatever the boot.

recover() is the one function that takes back: after a normal end, for `rm`, and after a crash.
"""

from __future__ import annotations

import os
import stat

from ..errors import NanoError, reason
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
        line = dumps({"boot": self.boot, "step": type(step).__name__, "data": step.as_dict()}).encode()
        line = b"\n" + line + b"\n"  # the first one ends a line that somebody could not write to its end
        if os.write(self.fd, line) != len(line):
            raise OSError(28, "the disk is full")

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Entry:
    """A line of a journal, read back. step: None where this version does not know it, or how to undo it."""

    def __init__(self, boot: str, name: str, step: Step | None) -> None:
        self.boot, self.name, self.step = boot, name, step


def read(path: str) -> Iterator[Entry]:
    """The journal's entries, newest first. A half-written line (disk full, kill) is of a step that never ran."""
    try:
        whole = read_bytes(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise  # a sick disk: what it names must not be forgotten
        return  # a directory or a link in its place names nothing
    for line in reversed(whole.split(b"\n")):
        if not line:
            continue
        try:
            data = loads(line.decode())
            boot, name, fields = str(data["boot"]), str(data["step"]), data["data"]
        except (ValueError, KeyError, TypeError):
            continue
        kind = Step.named(name)
        try:
            step = kind.from_dict(fields) if kind and kind.residue != "init" else None
        except (TypeError, AttributeError):
            step = None
        yield Entry(boot, name, step)


def recover(path: str, world: World, boot: str, *, keep: bool = False) -> list[str]:
    """Undo what the journal names, newest first, then drop the journal. What could not be undone, in words.

    A journal with failures is kept: the next recover tries again. So is one with steps of a newer version, because only
    that knows what they left. keep: the caller has more to do, and drops it then.
    """
    failures = []
    for entry in read(path):
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
