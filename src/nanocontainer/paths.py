"""Where things lie, and how they are named.

Everything is below two directories: `state` survives a reboot, `run` (a tmpfs) does not. Never /tmp: other users can
plant state there. A file is written by rename(2), whole or not at all.

A claim is a symlink that points at its owner's id: a container's name, an address, a port of the host. symlink(2) makes
it or says that there is one: no lock, 0.01 ms. Only taking away needs a lock (flock(2) on the directory), because
looking and unlinking are two calls: a stale claim, whose owner is no more, and one's own. A stale claim is only
removed; who gets it then is again decided by symlink(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from .errors import Corrupt, InvalidInput, NanoError, NotPermitted, Unsupported, denied, is_shortage, reason
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

STATE = "/var/lib/nanocontainer"
RUN = "/run/nanocontainer"
CONFIG = "/etc/nanocontainer"
FORMAT = 1  # of what lies in a state directory; raised when an older version could not read it any more

_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HEX = frozenset("0123456789abcdef")
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # nothing can have this name, or nothing has
_LARGEST = 64 << 20  # bytes of a file that is read whole
_ATTEMPTS = 1000  # to make what others may take away at the same time
_DEEPEST = 100  # directories opened at once when a tree is removed


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
    @property
    def format(self) -> str: return f"{self.state}/format"

    def container(self, id: str) -> str:
        """The lasting directory of a container: spec.json, state.json, journal, upper/, work/, logs."""
        return f"{self.state}/containers/{id}"

    def live(self, id: str) -> str:
        """The directory of a container in this boot: keeper.lock, attach.sock."""
        return f"{self.run}/containers/{id}"


def check_format(paths: Paths) -> bool:
    """Whether there is a state directory, of the format that this version reads; False where there is none yet.

    The format is a number in the file `format`. Unsupported where it is another one: to read it all the same would be
    to misunderstand it; Corrupt where it is no number. What was made before there were numbers has format 1, and is
    marked on the way, if it can be written to. Who may not look is told so by what it looks at next.
    """
    try:
        said = read_bytes(paths.format)
    except FileNotFoundError:
        if not os.path.isdir(paths.state):
            return False
        try:
            write_file(paths.format, "1\n", durable=True, mode=0o644)
        except OSError:
            pass  # a read-only or full disk: it counts as format 1 without the file as well
        return _accept(paths, b"1")
    except PermissionError:
        return True
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_shortage(error):
            raise
        why = reason(error)[0] if isinstance(error, OSError) else str(error)
        raise Corrupt(f"cannot read {paths.format}", why, _SAY_THE_FORMAT) from None
    return _accept(paths, said)


_SAY_THE_FORMAT = f"what made it knows its format: write that into the file again (this version's is {FORMAT})"


def _accept(paths: Paths, said: bytes) -> bool:
    number = said.strip()
    if number == b"%d" % FORMAT:
        return True
    text = number.decode("ascii", "replace")
    if not (number.isdigit() and len(number) < 10):
        why = f"it must hold a number, and holds {text[:20]!r}"
        raise Corrupt(f"broken file {paths.format}", why, _SAY_THE_FORMAT)
    older = int(number) < FORMAT
    raise Unsupported(
        f"state directory {paths.state} has format {text}",
        f"this version of NanoContainer reads format {FORMAT}",
        f"use the {'older' if older else 'newer'} version that wrote it, or another directory: --root DIR",
    )


def make_state(paths: Paths) -> None:
    """A new state directory, with its format."""
    make_dirs(paths.state)
    write_file(paths.format, f"{FORMAT}\n", durable=True, mode=0o644)


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
        raise NotPermitted(f"cannot create {path}", error.strerror or "", denied()) from None
    except OSError as error:
        error.filename = None  # it is named already
        raise NanoError(f"cannot create {path}", *reason(error)) from None


def is_there(path: str) -> bool:
    """Whether something has this name, if only a dangling link. OSError where that cannot be told: what a sick disk
    does not show must not be taken for gone, and what belongs to it for a leftover."""
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in _NOWHERE:
            return False
        raise
    return True


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


def rewrite_file(path: str, data: str | bytes) -> None:
    """As write_file, for what can be made anew at any time: whatever else has taken its place goes."""
    try:
        write_file(path, data)
    except IsADirectoryError:
        remove_tree(path)
        write_file(path, data)


def clear_torn(directory: str) -> None:
    """Delete what killed write_file() left in a directory. The caller holds the lock under which files there are
    written, so nobody is writing one."""
    for name in os.listdir(directory):
        if name.endswith(".tmp"):
            os.unlink(f"{directory}/{name}")


def read_bytes(path: str) -> bytes:
    """A file of our own state. OSError where it cannot be read, ValueError where it cannot be ours: it has no end.

    What stands in its place may be anything: O_NONBLOCK, because opening a fifo waits for a writer (fifo(7)).
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        parts, size = [], 0
        while part := os.read(fd, 1 << 20):
            parts.append(part)
            size += len(part)
            if size > _LARGEST:
                raise ValueError(f"{path} is larger than any file of ours")
    except OSError as error:
        error.filename = path  # read(2) knows no names
        raise
    finally:
        os.close(fd)
    return b"".join(parts)


def read_file(path: str) -> str:
    """A text file of our own state. OSError where it cannot be read, ValueError where it is not UTF-8, or endless."""
    return read_bytes(path).decode()


def remove_tree(path: str) -> None:
    """Delete a directory tree by open directories: a link in it is deleted, not followed. Missing is fine, and several
    may do it at once.

    A container may nest directories as deep as it likes: what lies too deep for our stack and open files is moved up
    first (rename(2) within the tree).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(path)
        return
    try:
        while _empty(fd, fd, 0):
            pass
    finally:
        os.close(fd)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass


def _empty(fd: int, top: int, depth: int) -> bool:
    """Empty an open directory. Whether something in it was too deep, and lies in the directory `top` now."""
    moved = False
    for name in os.listdir(fd):
        try:
            try:
                os.unlink(name, dir_fd=fd)
                continue
            except (IsADirectoryError, PermissionError):
                pass
            if depth == _DEEPEST:
                os.rename(name, f".{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
                moved = True
                continue
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                moved |= _empty(below, top, depth + 1)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            pass  # somebody else is removing it too
    return moved


# --- claims


class FileLock:
    """`with FileLock(path)`: the file or directory locked (flock(2)); let go whatever happens to the process.

    The file is made if it is not there, its directory is not. Not to be held across user code or the network.
    """

    def __init__(self, path: str, *, shared: bool = False, directory: bool = False) -> None:
        self.path, self.shared = path, shared
        kind = os.O_DIRECTORY if directory else os.O_CREAT | os.O_NONBLOCK  # a fifo there would wait for a writer
        self.flags = os.O_RDONLY | kind | os.O_CLOEXEC
        self.fd = -1

    def __enter__(self) -> FileLock:
        fd = os.open(self.path, self.flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd
        return self

    def __exit__(self, *_: object) -> None:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_UN)  # a child forked meanwhile has it open too
        finally:
            os.close(self.fd)
            self.fd = -1


def is_locked(path: str) -> bool:
    """Whether somebody holds the lock of a file or directory (flock(2)). What is not there nobody holds. The answer is
    got by holding it for an instant: who only tries meanwhile, and does not wait, finds it held."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOWHERE:
            return False
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def owner_of(path: str) -> str:
    """Whom a claim points at; empty where there is no claim, or something that is none. OSError where that cannot be
    told."""
    try:
        return os.readlink(path)
    except OSError as error:
        if error.errno in (*_NOWHERE, errno.EINVAL):  # EINVAL: no link
            return ""
        raise


def claim(path: str, owner: str, alive: Callable[[str], bool]) -> str:
    """Claim path for owner. Empty when it is ours now (or was before), else the id of the living owner.

    alive: whether a container of that id still exists. The directory is made if it is not there.
    """
    for _ in range(_ATTEMPTS):
        try:
            os.symlink(owner, path)
            return ""
        except FileExistsError:
            pass
        except FileNotFoundError:
            make_dirs(os.path.dirname(path))
            continue
        holder = owner_of(path)
        if holder == owner:
            return ""
        if holder and alive(holder):
            return holder
        _remove(path, holder)
    why = "something else is where it or its directory should be, or a link that leads nowhere"
    raise NanoError(f"cannot make {path}", why, "look what it is, and move it away")


def release(path: str, owner: str) -> bool:
    """Give a claim up, if it is owner's; whether it was. May be called twice."""
    return _remove(path, owner)


def _remove(path: str, holder: str) -> bool:
    """Remove a claim that points at holder; under the lock, so that nobody's newer claim is hit. Without a holder:
    what is no claim, and has no business there."""
    try:
        with FileLock(os.path.dirname(path), directory=True):
            if owner_of(path) != holder:
                return False
            if holder:
                os.unlink(path)
            elif not stat.S_ISLNK(os.lstat(path).st_mode):  # nobody can make a claim as long as it is there
                remove_tree(path)
            return True
    except FileNotFoundError:
        return False


def claims(directory: str) -> list[str]:
    """The names claimed in a directory."""
    try:
        return os.listdir(directory)
    except OSError as error:
        if error.errno in _NOWHERE:
            return []
        raise


def is_claimed(directory: str) -> bool:
    """Whether there is a claim in a directory; other things in it count for nothing. Where there are many only the
    first is looked at."""
    try:
        with os.scandir(directory) as entries:
            return any(is_id(owner_of(entry.path)) for entry in entries)
    except OSError as error:
        if error.errno in _NOWHERE:
            return False
        raise
