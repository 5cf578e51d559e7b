"""Who looks at refused calls while they happen, gathers what explains them, and keeps that with the container.

Most of what explains a refusal is gone a moment later: the process, its capabilities, the file's mode. So the first of
each kind is looked at closely while its thread stands still; the others are counted. Whatever is read from a process is
hostile: paths are followed by openat2(2) inside its own root, and only bounded pieces of memory are read.

What is kept are facts (denials.Seen), not words: a small file in the container's directory for each way to record (run,
exec, watch), replaced whole, and gone with the container.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from ..errors import NanoError
from ..kernel import filters, ptrace, sysnames
from ..kernel.safepath import open_in
from ..lean import dumps, loads
from ..paths import read_file, write_file
from ..record import Record
from . import procfs
from .denials import MASKED, NOT_RAISED, Seen
from .denied_calls import CALLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.calls import Kernel

WAYS = ("run", "exec", "watch")  # how a record comes to be: run --why (and start), exec --why, why --watch
MOST = 100  # kinds of refusals that are kept
_LONGEST = 1024  # characters of a path that is kept
_REMEMBERED = 4096
_PAUSE = 0.2  # seconds between two writes of the file
_DENIALS = frozenset(
    (errno.EPERM, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM,
     errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.ECONNREFUSED,
     errno.EAGAIN, errno.ENOSYS, errno.EUSERS)
)  # fmt: skip
_FORKS = ("clone", "clone3", "fork", "vfork")
_ADDRESS = {"bind": 1, "connect": 1, "sendto": 4}  # the argument that is a struct sockaddr
_AT_FDCWD = -100
_KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip
_ALLOW = 0x7FFF0000
_RANK = (0x80000000, 0x00000000, 0x00030000, 0x00050000, 0x7FC00000, 0x7FF00000, 0x7FFC0000, _ALLOW)  # seccomp(2)


class Recording(Record):
    """A file of refusals. way: of WAYS; begin, end: nanoseconds since 1970, end 0 while it is under way or where the
    tracer was killed; calls: how many were looked at; seen: by kind; more: refusals of kinds beyond MOST."""

    way: str = "run"
    begin: int = 0
    end: int = 0
    calls: int = 0
    seen: tuple[Seen, ...] = ()
    more: int = 0


class Recorder(ptrace.Observer):
    """Looks at refusals. way: of WAYS; directory: the container's, empty where nothing shall be kept; root: the thread
    whose end is the end; groups: the container's cgroups; masked: paths that are hidden inside; own: how many seccomp
    filters are the engine's, the oldest ones; begun: no program must begin first, the command runs already."""

    errors = _DENIALS

    def __init__(
        self, kernel: Kernel, way: str, directory: str, *, root: int = 0, groups: Sequence[str] = (),
        masked: Sequence[str] = (), own: int = 1, begun: bool = True,
    ) -> None:  # fmt: skip
        self.kernel, self.way, self.directory, self.root, self.groups = kernel, way, directory, root, groups
        self.masked = tuple(path.rstrip("/") for path in masked)
        self.own, self.begun = own, begun
        self.begin = time.time_ns()
        self.tracer: ptrace.Tracer | None = None
        self.seen: dict[tuple[object, ...], Seen] = {}
        self._again: dict[tuple[object, ...], tuple[object, ...]] = {}  # what a thread has met before → its kind
        self.more = 0
        self._names = {arch: {nr: name for name, nr in sysnames.numbers(abi).items()} for arch, abi in
                       ptrace.ABIS.items()}  # fmt: skip
        self.opens = {
            arch: frozenset(nr for nr, name in names.items() if name in ("open", "openat", "openat2"))
            for arch, names in self._names.items()
        }
        self._saved = 0.0

    # --- what the tracer tells

    def failed(self, tid: int, arch: int, number: int, args: tuple[int, ...], error: int) -> None:
        call = self._names.get(arch, {}).get(number, str(number))
        if not self.begun or not _worth(call, error):
            return
        if error == errno.ENOSYS and self._filter(tid, arch, number, args)[0] < 0:
            return  # the kernel has no such call
        path, other = self._paths(tid, call, args)
        self._add(tid, call, errno.errorcode[error], arch, args, path, other, number)

    def opened(self, tid: int, fd: int) -> None:
        if not self.begun:
            return
        try:
            path = os.readlink(f"/proc/{tid}/fd/{fd}")
        except OSError:
            return
        if not path.startswith(("/proc/", "/sys/")):
            return
        if any(path == one or path.startswith(f"{one}/") for one in self.masked):
            self._add(tid, "openat", MASKED, 0, (0,) * 6, path)

    def executed(self, tid: int) -> None:
        self._again.clear()  # it may be somebody else now
        self.begun = True  # until here it was the engine that got ready
        try:
            found = os.stat(f"/proc/{tid}/exe")
            if found.st_mode & stat.S_ISUID and stat.S_ISREG(found.st_mode):
                path = os.readlink(f"/proc/{tid}/exe")
                who = procfs.read_process(tid)
                if who.uids[1] != found.st_uid:
                    self._add(tid, "execve", NOT_RAISED, 0, (0,) * 6, path)
        except (OSError, NanoError):
            pass  # it has just been killed

    def shot(self, tid: int, arch: int, number: int, args: tuple[int, ...]) -> None:
        call = self._names.get(arch, {}).get(number, str(number))
        self._add(tid, call, "SIGSYS", arch, args, *self._paths(tid, call, args), number)

    def exiting(self, tid: int) -> None:
        if tid == self.root:
            self.save(end=True)  # while the container is there for certain

    # --- what is gathered

    def _add(
        self, tid: int, call: str, error: str, arch: int, args: tuple[int, ...], path: str = "", other: str = "",
        number: int = -1,
    ) -> None:  # fmt: skip
        now = time.time_ns()
        detail = _address(tid, call, args)
        again = self._again.get((tid, call, error, path, other, detail))
        if again is not None:
            self.seen[again] = self.seen[again].counted(now)
            return
        action, own = self._filter(tid, arch, number, args) if arch else (-1, False)
        if error == "SIGSYS":
            action = 0  # SECCOMP_RET_KILL_THREAD
        seen = Seen(
            call, error, _name(tid), 0, 0, ptrace.ABIS.get(arch, ""), args, path[:_LONGEST], other[:_LONGEST], detail,
            filter=action, own_filter=own, first=now, last=now,
        )
        try:
            who = procfs.read_process(tid)
        except NanoError:
            return
        seen = seen.replace(
            uid=_inside(who.uids[1], who.uid_map), pid=who.inside, effective=who.capabilities["effective"],
            no_new_privs=who.no_new_privs,
        )  # fmt: skip
        known = self.seen.get(seen.key)
        if known is not None:
            self.seen[seen.key] = known.counted(now)
        elif len(self.seen) >= MOST:
            self.more += 1
        else:
            limits = {name: soft for name, (soft, *_) in who.limits.items()}
            seen = seen.replace(limits=limits, pids=self._pids() if call in _FORKS else (0, 0))
            self.seen[seen.key] = self._look_at(tid, seen)
        if seen.key in self.seen:
            if len(self._again) > _REMEMBERED:
                self._again.clear()
            self._again[tid, call, error, path, other, detail] = seen.key
        if time.monotonic() - self._saved > _PAUSE:
            self.save()

    def _filter(self, tid: int, arch: int, number: int, args: tuple[int, ...]) -> tuple[int, bool]:
        """(what seccomp says to this call, whether a filter that is not the engine's says it); -1 where there is none,
        or the kernel does not hand it out."""
        try:
            programs = filters.of_stopped(tid)
        except (NanoError, OSError):
            return -1, False
        said = [min(filters.actions(program, number, arch, args), key=_rank) for program in programs]
        if not said:
            return -1, False
        strictest = min(said, key=_rank)
        if _rank(strictest) >= _rank(0x7FFC0000):
            return -1, False
        return strictest, said.index(strictest) < len(programs) - self.own  # the newest is the first

    def _pids(self) -> tuple[int, int]:
        """(processes and threads now, most) of the container's pids cgroup."""
        for group in self.groups:
            try:
                most = read_file(f"{group}/pids.max").strip()
                return int(read_file(f"{group}/pids.current")), int(most) if most.isdecimal() else 0
            except (OSError, ValueError):
                continue
        return 0, 0

    def _paths(self, tid: int, call: str, args: tuple[int, ...]) -> tuple[str, str]:
        """What a call is about: absolute paths, as inside."""
        known = CALLS.get(call)
        if known is None:
            return "", ""
        found = []
        for directory, at in known.paths:
            text = ptrace.read_string(tid, args[at]) if args[at] else ""
            base = args[directory] if directory >= 0 else _AT_FDCWD
            if call == "mount" and at == 0:
                text = text or ptrace.read_string(tid, args[2])
                found.append(text)
            else:
                found.append(_absolute(tid, _signed(base), text))
        if not found and known.file >= 0:
            found = [_link(tid, f"fd/{args[known.file]}")]
        return found[0] if found else "", found[1] if len(found) > 1 else ""

    def _look_at(self, tid: int, seen: Seen) -> Seen:
        """The file: what it is, and where it lies; of what is not there, its directory says that."""
        if not seen.path.startswith("/"):
            return seen
        path = seen.path
        if path == "/proc/self" or path.startswith("/proc/self/"):
            path = f"/proc/{seen.pid}{path[10:]}"  # this link says who asks, and that would be us
        try:
            root = self.kernel.open(f"/proc/{tid}/root", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return seen
        try:
            while True:
                try:
                    fd = open_in(self.kernel, root, path)
                    break
                except OSError:
                    if path in ("", "/"):
                        return seen
                    path = path.rpartition("/")[0]
            try:
                seen = seen.replace(**_place(tid, fd))
                there = path.rstrip("/") == seen.path.rstrip("/") or seen.path.startswith("/proc/self")
                found = seen.replace(**_file(os.fstat(fd)))
                return found if there else found.replace(kind="", device="", directory=path or "/")
            finally:
                os.close(fd)
        finally:
            os.close(root)

    # --- what is kept

    def record(self, *, end: bool = False) -> Recording:
        """What was seen so far."""
        calls = self.tracer.calls if self.tracer else 0
        now = time.time_ns() if end else 0
        return Recording(self.way, self.begin, now, calls, tuple(self.seen.values()), self.more)

    def save(self, *, end: bool = False) -> None:
        """Write it to the container's directory, if that is still there. A full disk loses it, and stops nobody."""
        self._saved = time.monotonic()
        if not self.directory:
            return
        try:
            if os.path.exists(f"{self.directory}/state.json"):
                write_file(f"{self.directory}/denials-{self.way}.json", dumps(self.record(end=end).as_dict()))
        except OSError:
            pass


def records(directory: str) -> tuple[Recording, ...]:
    """What was recorded of a container, in the order of WAYS. A file that is broken counts as none."""
    found = []
    for way in WAYS:
        try:
            found.append(Recording.from_dict(loads(read_file(f"{directory}/denials-{way}.json"))))
        except (OSError, ValueError, TypeError, AttributeError):
            continue
    return tuple(found)


def _worth(call: str, error: int) -> bool:
    """Whether this error of this call may be a refusal: EAGAIN mostly means "later", ENOMEM of read "too large"."""
    if error == errno.EAGAIN:
        return call in _FORKS or call.startswith("mlock")
    if error == errno.ENOMEM:
        return call in _FORKS or call.startswith(("mmap", "mlock", "brk", "mremap"))
    if error in (errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.ECONNREFUSED):
        return call in ("bind", "connect", "sendto", "listen")
    return True


def _rank(action: int) -> int:
    """Which of several filters' answers counts: the lowest."""
    kind = action & 0xFFFF0000
    return _RANK.index(kind) if kind in _RANK else 0


def _name(tid: int) -> str:
    try:
        name = read_file(f"/proc/{tid}/comm").rstrip("\n")
    except (OSError, ValueError):
        return ""
    return "the engine's launcher" if name == "launcher" or name.startswith("memfd:") else name


def _inside(uid: int, uid_map: tuple[str, ...]) -> int:
    """A host's user id as the process itself knows it (user_namespaces(7))."""
    for line in uid_map:
        first, host, count = map(int, line.split())
        if host <= uid < host + count:
            return uid - host + first
    return uid


def _signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def _link(tid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{tid}/{name}")
    except OSError:
        return ""


def _absolute(tid: int, base: int, path: str) -> str:
    """A path as seen from the process's root, without dots. Links in it are not followed: it is for people."""
    if not path.startswith("/"):
        start = _link(tid, "cwd" if base == _AT_FDCWD else f"fd/{base}")
        path = f"{start}/{path}" if path else start
    return os.path.normpath(path).replace("//", "/") if path.startswith("/") else path


def _place(tid: int, fd: int) -> dict[str, object]:
    """The mount on which an open file lies: by its number in fdinfo (proc_pid_fdinfo(5))."""
    try:
        lines = read_file(f"/proc/self/fdinfo/{fd}").splitlines()
        number = next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
        entry = next(entry for entry in procfs.mounts(tid) if entry.id == number)
    except (OSError, ValueError, StopIteration):
        return {}
    return {"mount": entry.point, "mount_kind": entry.kind, "mount_options": (*entry.options, *entry.settings[:1])}


def _file(found: os.stat_result) -> dict[str, object]:
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), "")
    letter = {"character device": "c", "block device": "b"}.get(kind)
    device = f"{letter} {os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if letter else ""
    return {
        "kind": kind, "mode": stat.S_IMODE(found.st_mode), "owner": found.st_uid, "group": found.st_gid,
        "device": device,
    }  # fmt: skip


def _address(tid: int, call: str, args: tuple[int, ...]) -> str:
    """A struct sockaddr in words: "10.0.0.1 port 53", a unix socket's path."""
    at = _ADDRESS.get(call)
    if at is None or not args[at]:
        return ""
    data = ptrace.read_memory(tid, args[at], min(args[at + 1] & 0xFF, 128))
    family = int.from_bytes(data[:2], "little")
    if family == 2 and len(data) >= 8:
        return f"{'.'.join(map(str, data[4:8]))} port {int.from_bytes(data[2:4], 'big')}"
    if family == 10 and len(data) >= 24:
        from ..lean import sockets

        return f"{sockets.inet_ntop(sockets.AF_INET6, data[8:24])} port {int.from_bytes(data[2:4], 'big')}"
    if family == 1:
        name = data[2:].partition(b"\0")[0] if data[2:3] != b"\0" else b"@" + data[3:].rstrip(b"\0")
        return f"the unix socket {os.fsdecode(name)}"
    return f"an address of family {family}"
