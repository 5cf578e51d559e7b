"""A make-believe operating system: os, ctypes, sockets and the rest, on which every call succeeds and nothing happens.

Explaining a step must show the calls that it makes, and must make none. So the step's own code runs, and this stands
where it would reach the kernel: at libc's syscall(2) and at the functions of Python's own modules. Each call is written
down as the kernel would get it (notation.py). What nobody can know without looking is answered as at the first start
of a container on a machine where all is well: no bridge is there yet, nobody holds a lock, a lease is ours.

Open files and processes are `Known` numbers that no real one has. A function that is not imitated here is an error, and
never the real one.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import stat
import time

from ..lean import signals, sockets
from .abi import NR
from .netbelieve import FakeSocket
from .notation import Call, Known, Names, Word, prctl_args

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMBERS = {number: name for name, number in NR.items()}
_OPENS = {  # system calls that give an open file, and what it is called while no slot has it
    "fsopen": "fs", "fsmount": "mount", "open_tree": "tree", "openat2": "place", "pidfd_open": "pidfd", "bpf": "prog",
}  # fmt: skip
_CHAR_DEVICES = {"/dev/null": os.makedev(1, 3), "/dev/pts/ptmx": os.makedev(5, 2)}
_PURE = frozenset(
    "fsencode fsdecode fspath strerror makedev major minor uname cpu_count sysconf waitstatus_to_exitcode".split()
)


class Left(Exception):
    """The process has ended itself, or become another program."""


class Machine:
    """The notes, and the little that the make-believe machine remembers.

    owner: whom claims point at. child: which side a fork(2) returns on. user, groups: names that the image knows.
    """

    def __init__(self, owner: str = "", user: str = "", groups: tuple[str, ...] = ()) -> None:
        self.names = Names()
        self.calls: list[Call] = []
        self.owner, self.user, self.groups = owner, user or "somebody", groups
        self.child = False
        self.made: set[str] = set()  # files and directories that were made
        self.written: set[str] = set()  # those of them that are files
        self.links: dict[str, int] = {}  # network interfaces, by name; absent: those that nobody has made yet
        self.absent: set[str] = set()
        self.fresh = False  # whether the root file system is a new one, with nothing in its /dev
        self.tables = False  # whether nftables has our table
        self.myself = self.names.new("self")
        self.contents: dict[str, bytes] = {"/proc/sys/net/ipv4/ip_forward": b"0\n"}  # of files that are read
        self.error = 0
        self.left = False

    def note(self, name: str, *args: Any, result: Any = None) -> None:
        if not self.left:
            self.calls.append(Call(name, args, result))

    def nft(self, script: str) -> str:
        """libnftables, or nft(8): one netlink transaction, of which we write down the words."""
        self.tables = script.startswith("add") or (self.tables and not script.startswith("delete table"))
        self.note("nft", Word(script.rstrip("\n")))
        return ""

    def opened(self, name: str, *args: Any, label: str, path: str = "") -> Known:
        made = self.names.new(label, path)
        self.note(name, *args, result=made)
        return made

    def place(self, dirfd: Any, path: str) -> str:
        """Where a path leads, as far as we know: below an open directory, or from the root."""
        base = getattr(self.names.find(dirfd), "path", "") if dirfd is not None else ""
        return path if path.startswith("/") else f"{base}/{path}".removesuffix("/.")

    def interface(self, name: str) -> int:
        """The number of an interface, 0 where it is not there."""
        if name in self.absent:
            return 0
        index = self.links.setdefault(name, len(self.links) + 2)
        self.names.interfaces[index] = name
        return index

    def missing(self, place: str) -> bool:
        """What a new /dev has not before it was made; everything else is believed to be there."""
        return self.fresh and place.startswith("rootfs/dev/") and place not in self.made

    def modules(self) -> dict[str, Any]:
        """What stands in for each module."""
        return {
            "os": Os(self),
            "fcntl": Stand(fcntl, flock=self._flock, fcntl=self._fcntl, ioctl=self._ioctl),
            "select": Stand(select, poll=lambda: _Poll(self)),
            "time": Stand(time, sleep=lambda seconds: self.note("clock_nanosleep", Word(f"{seconds} s"))),
            "ctypes": Stand(ctypes, PyDLL=lambda *_, **__: _Libc(self), CDLL=_Ignored(), pythonapi=_Ignored(),
                            get_errno=lambda: self.error),
            "_socket": Stand(sockets, socket=lambda *args: FakeSocket(self, *args)),
            "_signal": _Signals(self),
        }  # fmt: skip

    def syscall(self, name: str, *args: Any) -> int:
        """libc's syscall(2): -1 where it fails."""
        self.error = 0
        if name == "openat2":
            place = self.place(args[0], os.fsdecode(args[1]))
            if self.missing(place) and not int.from_bytes(args[2][:8], "little") & os.O_CREAT:
                self.note(name, *args, result=Word("ENOENT"))
                self.error = errno.ENOENT
                return -1
            self.made.add(place)
            return self.opened(name, *args, label=_label(args[2]), path=place)
        if name == "clone3":
            init, pidfd = self.names.new("pid"), self.names.new("pidfd")
            ctypes.c_int.from_address(int.from_bytes(args[0][8:16], "little")).value = pidfd
            self.note(name, *args, result=init)
            return init
        if name == "keyctl":
            args = args[:2]
        if name in _OPENS and not (name == "bpf" and args[0] != 5):
            path = ""
            if name == "open_tree":
                path = os.fsdecode(args[1]) or getattr(self.names.find(args[0]), "path", "")
            elif name == "fsmount" and getattr(self.names.find(args[0]), "path", "") == "overlay":
                path, self.fresh = "rootfs", True
            elif name == "fsopen":
                path = os.fsdecode(args[0])
            return self.opened(name, *args, label=_OPENS[name], path=path)
        if name == "seccomp":
            args = (args[0], args[1], Word("{len=..., filter=$filter}"))
        self.note(name, *args)
        return 0

    def _flock(self, fd: int, operation: int) -> None:
        words = {fcntl.LOCK_SH: "LOCK_SH", fcntl.LOCK_EX: "LOCK_EX", fcntl.LOCK_UN: "LOCK_UN"}
        word = words[operation & ~fcntl.LOCK_NB] + ("|LOCK_NB" if operation & fcntl.LOCK_NB else "")
        self.note("flock", fd, Word(word))

    def _fcntl(self, fd: int, command: int, arg: int = 0) -> int:
        seals = "|".join(
            f"F_SEAL_{name}" for name in ("SEAL", "SHRINK", "GROW", "WRITE") if arg & getattr(fcntl, f"F_SEAL_{name}")
        )
        self.note("fcntl", fd, Word("F_ADD_SEALS"), Word(seals))
        return 0

    def _ioctl(self, fd: int, request: int, arg: Any = 0) -> Any:
        if request == 0x5441:  # TIOCGPTPEER
            return self.opened("ioctl", fd, request, Word("O_RDWR|O_NOCTTY|O_CLOEXEC"), label="terminal")
        if request == 0x5414:  # TIOCSWINSZ
            rows, columns = (int.from_bytes(arg[at : at + 2], "little") for at in (0, 2))
            arg = Word(f"{{ws_row={rows}, ws_col={columns}}}")
        elif isinstance(arg, bytes):
            arg = Word("[0]")
        self.note("ioctl", fd, request, arg)
        return arg


def _label(how: bytes) -> str:
    """A file opened to be written or read is called so; a mere place is a place."""
    return "place" if int.from_bytes(how[:8], "little") & 0x200000 else "file"


class Stand:
    """A module of which some functions are others. Constants and classes stay; what would act must be named."""

    def __init__(self, module: Any, **functions: Any) -> None:
        self.__dict__.update(functions, _module=module)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if callable(found) and not isinstance(found, type) and name not in _HARMLESS:
            raise NotImplementedError(f"{self._module.__name__}.{name} is not imitated")
        return found


_HARMLESS = frozenset(
    "inet_pton inet_ntop valid_signals monotonic time time_ns monotonic_ns addressof create_string_buffer memmove "
    "memset byref sizeof cast POINTER".split()
)


class _Ignored:
    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class _Poll:
    """Nothing has happened, and nothing is waited for."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.fds = machine, [0]

    def register(self, fd: int, events: int = 0) -> None:
        self.fds = [fd]

    def poll(self, *_: object) -> list[tuple[int, int]]:
        self.machine.note("poll", self.fds, 1, Word("timeout"))
        return []


class _Function:
    """A function of a C library, which may be told its types."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.restype: Any = None

    def __call__(self, *args: Any) -> Any:
        return self.call(*[arg.value if isinstance(arg, ctypes.c_long) else arg for arg in args])


class _Libc:
    def __init__(self, machine: Machine) -> None:
        def prctl(option: int, *args: int) -> int:
            machine.note("prctl", option, *prctl_args(option, args))
            return 0

        self.syscall = _Function(lambda number, *args: machine.syscall(_NUMBERS[number], *args))
        self.prctl = _Function(prctl)


class _Signals(Stand):
    def __init__(self, machine: Machine) -> None:
        def send(pidfd: int, number: int, *_: object) -> None:
            machine.note("pidfd_send_signal", pidfd, number, None, 0)

        super().__init__(
            signals,
            pthread_sigmask=lambda how, which: machine.note("rt_sigprocmask", Word("SIG_SETMASK, []")),
            getsignal=lambda n: signals.SIG_IGN if n in (signals.SIGPIPE, signals.SIGXFSZ) else signals.SIG_DFL,
            signal=lambda number, what: machine.note("rt_sigaction", number, Word("{sa_handler=SIG_DFL}")),
            pidfd_send_signal=send,
        )


class _Path:
    """os.path: questions to the disk are noted, and nothing is there that nobody has made."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def __getattr__(self, name: str) -> Any:
        if name in ("exists", "lexists", "isdir", "isfile", "islink"):
            return lambda path: self._look(str(path))
        if name in ("getsize", "getmtime", "samefile", "realpath", "ismount"):
            raise NotImplementedError(f"os.path.{name} is not imitated")
        return getattr(os.path, name)

    def _look(self, path: str) -> bool:
        there = path in self.machine.made or path.startswith("/proc/sys/")
        self.machine.note("fstatat", None, path, result=None if there else Word("ENOENT"))
        return there


class Os:
    """Python's os, as far as steps use it."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.path = machine, _Path(machine)

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if callable(found) and not isinstance(found, type) and name not in _PURE:
            raise NotImplementedError(f"os.{name} is not imitated")
        return found

    # --- processes

    def geteuid(self) -> int:
        self.machine.note("geteuid")
        return 0

    def getpid(self) -> int:
        self.machine.note("getpid", result=self.machine.myself)
        return self.machine.myself

    def fork(self) -> int:
        if self.machine.child:
            self.machine.note("fork", result=Word("0"))
            return 0
        child = self.machine.names.new("child")
        self.machine.note("fork", result=child)
        return child

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        self.machine.note("wait4", pid, None, options, None)
        return pid, 0

    def kill(self, pid: int, number: int) -> None:
        self.machine.note("kill", pid, number)

    def execve(self, path: Any, args: Any, env: Any) -> None:
        if isinstance(path, int):
            self.machine.note("execveat", path, "", list(args), env, 0x1000)
        else:
            self.machine.note("execve", path, list(args), env)

    def _exit(self, code: int) -> None:
        self.machine.note("exit_group", code)
        self.machine.left = True  # what unwinds from here on happens in nobody's process
        raise Left

    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        return self.machine.opened("pidfd_open", pid, flags, label="pidfd")

    def fsync(self, fd: int) -> None:
        self.machine.note("fsync", fd)

    def urandom(self, size: int) -> bytes:
        self.machine.note("getrandom", Word("..."), size, 0)
        return bytes(size)

    def memfd_create(self, name: str, flags: int) -> int:
        return self.machine.opened("memfd_create", name, flags, label="memfd")

    def set_inheritable(self, fd: int, inheritable: bool) -> None:
        self.machine.note("ioctl", fd, 0x5450 if inheritable else 0x5451)

    def setgroups(self, groups: Any) -> None:
        self.machine.note("setgroups", Word("$groups") if groups else [])

    def setresgid(self, *ids: int) -> None:
        self.machine.note("setresgid", *ids)

    def setresuid(self, *ids: int) -> None:
        self.machine.note("setresuid", *ids)

    def setsid(self) -> None:
        self.machine.note("setsid")

    def setpgid(self, pid: int, group: int) -> None:
        self.machine.note("setpgid", pid, group)

    def tcsetpgrp(self, fd: int, group: int) -> None:
        self.machine.note("ioctl", fd, 0x5410, [group])

    def umask(self, mask: int) -> int:
        self.machine.note("umask", mask)
        return 0o22

    # --- files

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        machine, place = self.machine, self.machine.place(dir_fd, path)
        if flags & os.O_CREAT:
            machine.made.add(place)
            machine.written.add(place)
        args = (dir_fd, path, flags, mode) if flags & os.O_CREAT else (dir_fd, path, flags)
        place = "rootfs" if path.startswith("/proc/") and path.endswith("/root") else place
        return machine.opened("openat", *args, label="file", path=place)

    def close(self, fd: int) -> None:
        self.machine.note("close", fd)

    def read(self, fd: int, size: int) -> bytes:
        machine = self.machine
        found = machine.names.find(fd)
        path = found.path if found else ""
        machine.note("read", fd, Word("..."), size)
        if found is None or path.endswith(" (read)"):
            return b""
        found.path += " (read)"
        if path.endswith("/etc/passwd"):
            return f"root:x:0:0:root:/root:/bin/sh\n{machine.user}:x:1000:1000::/home/{machine.user}:/bin/sh\n".encode()
        if path.endswith("/etc/group"):
            return "".join(f"{name}:x:{1000 + at}:\n" for at, name in enumerate(machine.groups)).encode()
        return machine.contents.get(path, b"")

    def write(self, fd: int, data: bytes) -> int:
        shown = bytes(data)
        self.machine.note("write", fd, Word("..., the program") if shown[:4] == b"\x7fELF" else shown, len(shown))
        return len(shown)

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        if isinstance(path, int):
            self.machine.note("fstat", path)
            place = getattr(self.machine.names.find(path), "path", "")
        else:
            self.machine.note("fstatat", dir_fd, path)
            place = self.machine.place(dir_fd, path)
        return self._found(place.removesuffix(" (read)"))

    def fstat(self, fd: int) -> os.stat_result:
        return self.stat(fd)

    def lstat(self, path: str, *, dir_fd: int | None = None) -> os.stat_result:
        return self.stat(path, dir_fd=dir_fd)

    def _found(self, place: str) -> os.stat_result:
        device = next((number for end, number in _CHAR_DEVICES.items() if place.endswith(end)), 0)
        mode = stat.S_IFDIR | 0o700
        if device:
            mode = stat.S_IFCHR | 0o666
        elif place in self.machine.written or place.endswith(("/etc/passwd", "/etc/group")):
            mode = stat.S_IFREG | 0o644
        return os.stat_result((mode, 1, 1, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": device})

    def listdir(self, path: Any) -> list[str]:
        fd = path if isinstance(path, int) else self.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.machine.note("getdents64", fd, Word("..."))
        if fd is not path:
            self.close(fd)
        return []

    def scandir(self, path: Any) -> Any:
        raise FileNotFoundError(errno.ENOENT, "nothing was left there", path)

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        self.machine.made.add(self.machine.place(dir_fd, path))
        self.machine.note(*(("mkdir", path, mode) if dir_fd is None else ("mkdirat", dir_fd, path, mode)))

    def mknod(self, path: str, mode: int, device: int = 0, *, dir_fd: int | None = None) -> None:
        self.machine.note("mknodat", dir_fd, path, mode, device)

    def symlink(self, target: str, path: str, *, dir_fd: int | None = None) -> None:
        self.machine.note(*(("symlink", target, path) if dir_fd is None else ("symlinkat", target, dir_fd, path)))

    def readlink(self, path: str, *, dir_fd: int | None = None) -> str:
        self.machine.note(*(("readlink", path) if dir_fd is None else ("readlinkat", dir_fd, path)))
        return self.machine.owner

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        self.machine.note(*(("unlink", path) if dir_fd is None else ("unlinkat", dir_fd, path, 0)))

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        self.machine.note(*(("rmdir", path) if dir_fd is None else ("unlinkat", dir_fd, path, Word("AT_REMOVEDIR"))))

    def rename(self, old: str, new: str) -> None:
        self.machine.made.add(new)
        self.machine.note("rename", old, new)

    def chmod(self, path: Any, mode: int, *, dir_fd: int | None = None) -> None:
        self.machine.note(*(("fchmod", path, mode) if isinstance(path, int) else ("fchmodat", dir_fd, path, mode)))

    def chown(self, path: Any, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        place = ("fchown", path) if isinstance(path, int) else ("fchownat", dir_fd, path)
        self.machine.note(*place, uid, gid)

    def fchown(self, fd: int, uid: int, gid: int) -> None:
        self.machine.note("fchown", fd, uid, gid)

    def fchmod(self, fd: int, mode: int) -> None:
        self.machine.note("fchmod", fd, mode)

    def listxattr(self, fd: int) -> list[str]:
        self.machine.note("flistxattr", fd)
        return []

    def utime(self, path: Any, **_: Any) -> None:
        self.machine.note("utimensat", path)

    def chdir(self, path: str) -> None:
        self.machine.note("chdir", path)

    def fchdir(self, fd: int) -> None:
        self.machine.note("fchdir", fd)

    def dup2(self, old: int, new: int, inheritable: bool = True) -> None:
        self.machine.note("dup2", old, new)
