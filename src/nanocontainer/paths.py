"""Where things lie, and how they are named.

Everything is below two directories: `state` survives a reboot, `run` (a tmpfs) does not. A claim is a symlink, made
atomically, that points at its owner's id; see symlink(2), rename(2). Never /tmp: other users can plant state there.
"""

from __future__ import annotations

import os

from .errors import InvalidInput, NanoError, NotPermitted
from .record import Record

STATE = "/var/lib/nanocontainer"
RUN = "/run/nanocontainer"
CONFIG = "/etc/nanocontainer"

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HEX = frozenset("0123456789abcdef")


class Paths(Record):
    """The directories of one engine. Two engines with different state directories do not see each other."""

    state: str = STATE
    run: str = RUN

    @classmethod
    def default(cls) -> Paths:
        """From the environment (NANOCONTAINER_ROOT, NANOCONTAINER_RUNROOT), else the standard places."""
        state = os.environ.get("NANOCONTAINER_ROOT") or STATE
        run = os.environ.get("NANOCONTAINER_RUNROOT") or (RUN if state == STATE else f"{state}/run")
        return cls(os.path.abspath(state), os.path.abspath(run))

    @property
    def mark(self) -> str:
        """A short suffix for kernel names (bridge, nft table, cgroup), empty for the standard directory.

        Kernel names are global to the host: two engines must not claim the same ones.
        """
        if self.state == STATE:
            return ""
        import zlib  # C, no Python half

        return f"{zlib.crc32(self.state.encode()):08x}"

    @property
    def group(self) -> str:
        """The directory below which our cgroups are, in every hierarchy."""
        return f"nanocontainer-{self.mark}" if self.mark else "nanocontainer"

    # The tree of DESIGN.md section 5.
    @property
    def containers(self) -> str: return f"{self.state}/containers"
    @property
    def names(self) -> str: return f"{self.state}/names"
    @property
    def networks(self) -> str: return f"{self.state}/networks"
    @property
    def images(self) -> str: return f"{self.state}/images"
    @property
    def volumes(self) -> str: return f"{self.state}/volumes"
    @property
    def events(self) -> str: return f"{self.state}/events.log"
    @property
    def facts(self) -> str: return f"{self.run}/facts.json"

    def container(self, id: str) -> str:
        """The lasting directory of a container: spec.json, state.json, journal, upper/, work/, logs."""
        return f"{self.state}/containers/{id}"

    def live(self, id: str) -> str:
        """The directory of a container in this boot: keeper.lock, attach.sock."""
        return f"{self.run}/containers/{id}"


def new_id() -> str:
    """64 hex digits from the kernel's random source, as docker's ids."""
    return os.urandom(32).hex()


def is_id(text: str) -> bool:
    """Whether text is a whole id: 64 hex digits."""
    return len(text) == 64 and _HEX.issuperset(text)


def check_name(name: str, what: str = "container name") -> str:
    """A name from outside, or InvalidInput: [a-zA-Z0-9][a-zA-Z0-9_.-]+, at most 128 (docker's rule)."""
    if not (1 < len(name) <= 128 and name[0].isalnum() and _NAME.issuperset(name)):
        raise InvalidInput(
            f"invalid {what} {name[:140]!r}",
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at least two of them and at most 128",
        )
    return name


def make_dirs(path: str, mode: int = 0o700) -> None:
    """mkdir -p that says in words what went wrong. All it makes has the mode: closed to others, as state must be."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_dirs(os.path.dirname(path), mode)
        make_dirs(path, mode)
    except PermissionError as error:
        raise NotPermitted(f"cannot create {path}", error.strerror or "", "run as root (sudo)") from None
    except OSError as error:
        raise NanoError(f"cannot create {path}", error.strerror or str(error)) from None


def write_file(path: str, data: str | bytes, *, durable: bool = False, mode: int = 0o600) -> None:
    """Write whole or not at all: a temporary file beside it, then rename(2).

    durable: fsync(2) first, for what must survive a power cut (blobs, refs, specs). Not needed against kill -9.
    """
    temporary = f"{path}.{os.urandom(8).hex()}.tmp"  # our own: other threads may be writing the same file
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            rest = memoryview(data.encode() if isinstance(data, str) else data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass  # its directory has been removed: what went wrong says so itself
        raise


def read_file(path: str) -> str:
    """A text file of our own state. OSError where it cannot be read, ValueError where it is not UTF-8."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode()
