"""The errors of the engine: what failed, why, and what to do.

An error knows nothing of exit codes or HTTP codes: a face (command line, daemon, OCI) maps the *class* to its own.
Rule: a traceback that reaches a user is a bug; whatever a user can cause is a NanoError.
"""

from __future__ import annotations

import os

# errno → what to do about it, where that is the same whatever was being done
HINTS = {
    1: "are you root (sudo), or inside another container that forbids this?",
    5: "the disk, or its file system, reports a fault: see `dmesg`",
    12: "the host is short of memory, or a limit of its cgroup is reached",
    20: "a file is where a directory should be: look what it is, and move it away",
    21: "a directory is where a file should be: look what it is, and move it away",
    23: "too many open files on the host (fs.file-max)",
    24: "too many open files: raise `ulimit -n`",
    27: "a limit on the size of files is reached: raise `ulimit -f`",
    28: "the disk is full, or has no inodes left: see `df -h` and `df -i`; stopped containers and images take space",
    30: "mount that file system for writing, or keep the state elsewhere: --root DIRECTORY",
    38: "this kernel lacks the system call: `nanocontainer doctor` shows what is missing",
    40: "a symbolic link is where none should be, or leads in a circle: look what it is, and move it away",
    122: "a disk quota is used up: see `quota`",
}
_NAMESPACES = "a limit on namespaces is used up: see /proc/sys/user/max_*_namespaces"  # ENOSPC of unshare and clone3


def reason(error: OSError) -> tuple[str, str]:
    """(why a system call failed, what to do): the file it is about and the kernel's word, and a hint or ""."""
    why = error.strerror or str(error)
    if error.errno == 28 and why.startswith(("unshare", "clone3")):
        return why, _NAMESPACES
    if error.filename is not None:
        why = f"{error.filename2 or error.filename!s}: {why}"  # of symlink and rename: what was to be made
    return why, HINTS.get(error.errno or 0, "")


def denied() -> str:
    """What to do where the kernel has said EPERM or EACCES to this user."""
    if os.geteuid() != 0:
        return "run as root (sudo)"
    return "even root may not here: another container around this one, AppArmor, SELinux or the file system forbids it"


def is_shortage(error: OSError) -> bool:
    """Whether a file could not be read for want of something that has nothing to do with the file: ENOMEM, ENFILE,
    EMFILE, EINTR, EAGAIN. Who is told that it is broken might remove it."""
    return error.errno in (4, 11, 12, 23, 24)


class NanoError(Exception):
    """Something failed in a way a user can understand.

    what: the thing that was tried, e.g. ``cannot start container web``.
    why: the reason, e.g. ``port 8080 is taken by container db``.
    hint: what to do now, one sentence, may be empty.
    """

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what, self.why, self.hint = what, why, hint

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what

    def as_dict(self) -> dict[str, str]:
        """Plain data, for the way to another process."""
        return {"kind": type(self).__name__, "what": self.what, "why": self.why, "hint": self.hint}

    @staticmethod
    def from_dict(data: dict[str, str]) -> NanoError:
        """The error that as_dict described, of the same class."""
        kind = globals().get(data["kind"], NanoError)
        error: NanoError = kind(data["what"], data["why"], data["hint"])
        return error


class InvalidInput(NanoError):
    """A flag, name, path or file from outside is not of the form it must have."""


class NotFound(NanoError):
    """No container, image, network or volume of that name."""


class StepFailed(NanoError):
    """A step of a plan failed; what names it."""


class Aborted(NanoError):
    """Who was asked before a step has said no, or is gone: all that was done is taken back."""


class Conflict(NanoError):
    """The name, address or port is taken, or the state forbids it (remove of a running container)."""


class NotRunning(Conflict):
    """The container must be running for this."""


class Busy(Conflict):
    """Somebody else starts the container just now, takes it down or removes it."""


class NotPermitted(NanoError):
    """Root, a capability or a credential is missing."""


class Unsupported(NanoError):
    """This kernel or host lacks something; why names it, and since which kernel it exists."""


class Unreachable(NanoError):
    """A registry or another host did not answer, or not sensibly."""


class Corrupt(NanoError):
    """A file, archive or download is not what its digest or format says."""


class CommandNotFound(NanoError):
    """The command does not exist in the container (shells say 127)."""


class CommandNotExecutable(NanoError):
    """The command exists and cannot be invoked (shells say 126)."""
