"""`Kernel`: one thin method per system call, named as in section 2 of the manual.

Python's os module has no mount(2), setns(2) before 3.12, openat2(2), clone3(2) or prctl(2); ctypes calls them through
libc's syscall(2). PyDLL, not CDLL: CDLL drops the GIL around a call, and a child born inside such a call could find it
held by a thread that does not exist there.

Every method raises OSError with the name of the call in `strerror`; `errors` are turned into words for people where the
plan is executed, because only there it is known what was being done.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select

from ..lean import exit_code, signals
from ..paths import is_there
from . import abi
from .abi import NR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .conntrack import Flows
    from .netlink import Links

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_long = ctypes.c_long


def syscall(name: str, *args: int | bytes | ctypes.Array[Any] | None) -> int:
    """A system call by name. ints go as 64 bits, bytes as pointers to them, None as NULL. OSError as errno says."""
    number = NR.get(name)
    if number is None:
        raise OSError(38, f"{name}: no number known on {abi.MACHINE}")
    result: int = _syscall(_long(number), *[_long(arg) if type(arg) is int else arg for arg in args])
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def _prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    result: int = _libc.prctl(option, _long(a), _long(b), _long(c), _long(d))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl: {os.strerror(code)}")
    return result


def _text(path: str | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def clone3_args(flags: int, pidfd_at: int, cgroup: int) -> bytes:
    """struct clone_args, version 2 (88 bytes, kernel 5.7): only what we use is set; exit_signal is SIGCHLD."""
    fields = (flags, pidfd_at, 0, 0, 17, 0, 0, 0, 0, 0, cgroup)
    return b"".join(field.to_bytes(8, "little") for field in fields)


class Kernel:
    """All that a step may do to the world. A test puts a recording kernel in its place."""

    # --- processes: clone3(2), pidfd_open(2), waitid(2), kill(2)

    def clone3(self, flags: int, cgroup: int = -1) -> tuple[int, int]:
        """A child in new namespaces: (0, -1) in the child, (pid, pidfd) in the parent.

        flags: CLONE_NEW*; cgroup: an open directory of a cgroup2 that the child is born in, or -1.
        Must be called from a single-threaded process: glibc's and Python's locks are copied as they are.
        Since Linux 5.3; the cgroup since 5.7.
        """
        pidfd = ctypes.c_int(-1)
        flags |= abi.CLONE_PIDFD | (abi.CLONE_INTO_CGROUP if cgroup >= 0 else 0)
        args = clone3_args(flags, ctypes.addressof(pidfd), max(cgroup, 0))
        ctypes.pythonapi.PyOS_BeforeFork()
        pid = _syscall(_long(NR["clone3"]), args, _long(len(args)))
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
            return 0, -1
        code = ctypes.get_errno()
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(code, f"clone3: {os.strerror(code)}")
        return pid, pidfd.value

    def fork(self) -> int:
        return os.fork()

    def pidfd_open(self, pid: int) -> int:
        """An open file that means this process and never another one that got its number. Close-on-exec."""
        return syscall("pidfd_open", pid, 0)

    def pidfd_send_signal(self, pidfd: int, signal: int) -> None:
        syscall("pidfd_send_signal", pidfd, signal, None, 0)

    def waitpid(self, pid: int, options: int = 0) -> tuple[int, int]:
        return os.waitpid(pid, options)

    def kill(self, pid: int, signal: int) -> None:
        os.kill(pid, signal)

    def execve(self, path: str, args: Sequence[str], env: dict[str, str]) -> None:
        os.execve(path, tuple(args), env)

    def execve_file(self, fd: int, args: Sequence[str], env: dict[str, str]) -> None:
        """Execute an open file: execveat(2) with AT_EMPTY_PATH."""
        os.execve(fd, tuple(args), env)

    def sealed_file(self, name: str, data: bytes, flags: int) -> int:
        """A file in memory that nobody can change any more (memfd_create(2), fcntl(2) F_ADD_SEALS). Close-on-exec."""
        fd = os.memfd_create(name, flags | os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, data)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        return fd

    def set_inheritable(self, fd: int, inheritable: bool) -> None:
        """Whether execve(2) leaves an open file open (fcntl(2), FD_CLOEXEC)."""
        os.set_inheritable(fd, inheritable)

    def exit(self, code: int) -> None:
        os._exit(code)

    def hung_up(self, fd: int) -> bool:
        """Whether the other end of a socket is closed (poll(2), POLLHUP)."""
        poll = select.poll()
        poll.register(fd, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def block_signals(self) -> None:
        """Hold all signals back, for a process that takes them one by one (reap)."""
        signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())

    def unblock_signals(self) -> None:
        signals.pthread_sigmask(signals.SIG_SETMASK, ())

    def default_signals(self) -> None:
        """Default actions for all signals. Handlers go with execve(2), but what is ignored stays ignored, and Python
        ignores SIGPIPE: a program that writes to a closed pipe would not end (signal(7))."""
        for number in signals.valid_signals():
            if signals.getsignal(number) == signals.SIG_IGN:
                signals.signal(number, signals.SIG_DFL)

    def reap(self, child: int) -> None:
        """Be process 1: pass signals on to the child's process group, reap all that ends; exit as the child does."""
        syscall("close_range", 0, 0xFFFFFFFF, 0)
        every = signals.valid_signals()
        while True:
            number = signals.sigwait(every)
            if number != signals.SIGCHLD:
                try:
                    os.kill(child, number)
                except ProcessLookupError:
                    pass
                continue
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    os._exit(0)
                if pid == 0:
                    break
                if pid == child:
                    os._exit(exit_code(status))

    # --- namespaces: namespaces(7), unshare(2), setns(2)

    def unshare(self, flags: int) -> None:
        syscall("unshare", flags)

    def setns(self, fd: int, flags: int = 0) -> None:
        """Join the namespace behind fd, or with flags those of the process behind a pidfd (5.8)."""
        syscall("setns", fd, flags)

    def sethostname(self, name: str) -> None:
        data = os.fsencode(name)
        syscall("sethostname", data, len(data))

    def setdomainname(self, name: str) -> None:
        data = os.fsencode(name)
        syscall("setdomainname", data, len(data))

    # --- identity: credentials(7), capabilities(7), prctl(2), setrlimit(2)

    def prctl(self, option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
        return _prctl(option, a, b, c, d)

    def set_name(self, name: str) -> None:
        """What ps shows for this process: at most 15 bytes (PR_SET_NAME(2const))."""
        text = ctypes.create_string_buffer(os.fsencode(name)[:15])
        _prctl(abi.PR_SET_NAME, ctypes.addressof(text))

    def set_command_line(self, text: str) -> None:
        """What /proc/PID/cmdline shows: overwrites our arguments in memory, as far as they reach (proc_pid_stat(5)).

        The command that started a container may have secrets among its arguments; the keeper and --init's process 1
        are forks of it.
        """
        fields = self.read_file("/proc/self/stat").rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        ctypes.memset(start, 0, end - start)
        shown = os.fsencode(text)[: end - start - 1]
        ctypes.memmove(start, shown, len(shown))

    def give_memory_back(self) -> None:
        """Return free pages of the heap to the kernel (malloc_trim(3)); musl does it by itself and has no such call."""
        trim = getattr(_libc, "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))

    def capset(self, effective: int, permitted: int, inheritable: int) -> None:
        """The three capability sets of this thread, as bit masks (capset(2), version 3)."""
        header = (0x20080522).to_bytes(4, "little") + bytes(4)
        low, high = 0xFFFFFFFF, 32
        sets = (effective, permitted, inheritable)
        data = b"".join((mask & low).to_bytes(4, "little") for mask in sets)
        data += b"".join((mask >> high).to_bytes(4, "little") for mask in sets)
        syscall("capset", header, data)

    def setgroups(self, groups: Sequence[int]) -> None:
        os.setgroups(groups)

    def setresgid(self, real: int, effective: int, saved: int) -> None:
        os.setresgid(real, effective, saved)

    def setresuid(self, real: int, effective: int, saved: int) -> None:
        os.setresuid(real, effective, saved)

    def setrlimit(self, resource: int, soft: int, hard: int) -> None:
        """prlimit(2) on this process; -1 is infinity."""
        pair = b"".join((value & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little") for value in (soft, hard))
        syscall("prlimit64", 0, resource, pair, None)

    def setsid(self) -> None:
        os.setsid()

    def setpgid(self, pid: int, group: int) -> None:
        os.setpgid(pid, group)

    def tcsetpgrp(self, fd: int, group: int) -> None:
        """The process group that the terminal's keys go to (tcsetpgrp(3))."""
        os.tcsetpgrp(fd, group)

    def umask(self, mask: int) -> int:
        return os.umask(mask)

    def close_range(self, first: int, last: int, flags: int) -> None:
        """Close, or mark close-on-exec, a range of open files (5.9; the flag CLOEXEC 5.11)."""
        syscall("close_range", first, last, flags)

    def keyctl_join_session_keyring(self, name: str) -> None:
        """A session keyring of one's own: keys of the host's session must not be seen inside (keyrings(7))."""
        syscall("keyctl", abi.KEYCTL_JOIN_SESSION_KEYRING, os.fsencode(name), 0, 0, 0)

    def ioctl(self, fd: int, request: int, arg: int | bytes = 0) -> int | bytes:
        return fcntl.ioctl(fd, request, arg)

    # --- files

    def open(self, path: str, flags: int, mode: int = 0o777, dirfd: int | None = None) -> int:
        """open(2), openat(2); always close-on-exec."""
        return os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=dirfd)

    def openat2(self, dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
        """openat2(2), Linux 5.6: with RESOLVE_IN_ROOT, links and .. cannot lead out of dirfd. Close-on-exec."""
        how = (flags | os.O_CLOEXEC).to_bytes(8, "little") + mode.to_bytes(8, "little") + resolve.to_bytes(8, "little")
        return syscall("openat2", dirfd, os.fsencode(path), how, len(how))

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o644, create: bool = False) -> None:
        """One write to a file: how cgroups and /proc/sys are set. create: make or empty it first."""
        # O_NONBLOCK: what is there may be a fifo, and would wait for a reader
        flags = os.O_WRONLY | (os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK if create else 0)
        fd = os.open(path, flags | os.O_CLOEXEC, mode)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def read_file(self, path: str) -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while part := os.read(fd, 65536):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    def exists(self, path: str) -> bool:
        """Whether something has this name. OSError where that cannot be told."""
        return is_there(path)

    def mkdir(self, path: str, mode: int = 0o777, dirfd: int | None = None) -> None:
        os.mkdir(path, mode, dir_fd=dirfd)

    def mknod(self, path: str, mode: int, device: int = 0, dirfd: int | None = None) -> None:
        os.mknod(path, mode, device, dir_fd=dirfd)

    def symlink(self, target: str, path: str, dirfd: int | None = None) -> None:
        os.symlink(target, path, dir_fd=dirfd)

    def readlink(self, path: str, dirfd: int | None = None) -> str:
        return os.readlink(path, dir_fd=dirfd)

    def unlink(self, path: str, dirfd: int | None = None) -> None:
        os.unlink(path, dir_fd=dirfd)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def listdir(self, path: str | int) -> list[str]:
        return os.listdir(path)

    def stat(self, path: str | int, dirfd: int | None = None) -> os.stat_result:
        return os.stat(path, dir_fd=dirfd)

    def chmod(self, path: str | int, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, path: str | int, uid: int, gid: int, dirfd: int | None = None) -> None:
        os.chown(path, uid, gid, dir_fd=dirfd)

    def chdir(self, path: str) -> None:
        os.chdir(path)

    def fchdir(self, fd: int) -> None:
        os.fchdir(fd)

    def dup2(self, old: int, new: int, inheritable: bool = True) -> None:
        os.dup2(old, new, inheritable)

    def syncfs(self, fd: int) -> None:
        """Wait until all that was written to the file system of an open file is on its disk (syncfs(2)). OSError also
        where some of it could not be written (5.8)."""
        syscall("syncfs", fd)

    # --- mounts: mount(2), umount2(2), pivot_root(2), and the API of Linux 5.2 that makes a mount without a place

    def mount(self, source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        syscall("mount", _text(source), _text(target), _text(kind), flags, _text(data))

    def umount2(self, target: str, flags: int) -> None:
        syscall("umount2", _text(target), flags)

    def unmounted(self, places: Sequence[str]) -> list[str]:
        """Those of some places in one directory where nothing is mounted: they are on its device, or are not there."""
        found = []
        try:
            device = self.stat(os.path.dirname(places[0])).st_dev
        except FileNotFoundError:
            return list(places)
        for place in places:
            try:
                if self.stat(place).st_dev == device:
                    found.append(place)
            except FileNotFoundError:
                found.append(place)
        return found

    def pivot_root(self, new: str, old: str) -> None:
        syscall("pivot_root", _text(new), _text(old))

    def fsopen(self, kind: str) -> int:
        """A file system being configured, as an open file (5.2)."""
        return syscall("fsopen", _text(kind), abi.FSOPEN_CLOEXEC)

    def fsconfig(self, fd: int, key: str, value: str | None = None) -> None:
        """Set one option, with a value or as a flag. On failure the file system's own message is in the error."""
        command = abi.FSCONFIG_SET_FLAG if value is None else abi.FSCONFIG_SET_STRING
        self._fsconfig(fd, command, key, value)

    def fsconfig_create(self, fd: int) -> None:
        """The superblock comes to be."""
        self._fsconfig(fd, abi.FSCONFIG_CMD_CREATE, None, None)

    def _fsconfig(self, fd: int, command: int, key: str | None, value: str | None) -> None:
        try:
            syscall("fsconfig", fd, command, _text(key), _text(value), 0)
        except OSError as error:
            try:  # fsopen(2): the context is also a log of messages "e ...", "w ...", "i ..."
                said = os.read(fd, 1024).decode(errors="replace").strip()
            except OSError:
                said = ""
            raise OSError(error.errno, f"{error.strerror}{f' ({said[2:]})' if said else ''}") from None

    def fsmount(self, fd: int, attributes: int = 0) -> int:
        """The mount: an open file that can be used like a directory and put in place by move_mount."""
        return syscall("fsmount", fd, abi.FSMOUNT_CLOEXEC, attributes)

    def open_tree(self, dirfd: int, path: str, flags: int) -> int:
        """With OPEN_TREE_CLONE: a bind mount that is not in place yet."""
        return syscall("open_tree", dirfd, _text(path), flags | abi.OPEN_TREE_CLOEXEC)

    def move_mount(self, fd: int, dirfd: int, path: str = "") -> None:
        """Put a mount in place: at path below dirfd, or on dirfd itself where path is empty."""
        flags = abi.MOVE_MOUNT_F_EMPTY_PATH | (0 if path else abi.MOVE_MOUNT_T_EMPTY_PATH)
        syscall("move_mount", fd, b"", dirfd, _text(path), flags)

    def mount_setattr(
        self, dirfd: int, path: str, flags: int, *, set: int = 0, clear: int = 0, propagation: int = 0, userns: int = 0
    ) -> None:
        """Change a mount, with AT_RECURSIVE a whole tree at once (5.12)."""
        attr = b"".join(field.to_bytes(8, "little") for field in (set, clear, propagation, userns))
        syscall("mount_setattr", dirfd, _text(path), flags, attr, len(attr))

    # --- what has a file of its own, imported when it is used

    def seccomp_set_filter(self, program: bytes, flags: int = 0) -> None:
        """Load a classic BPF program that judges every system call from now on (seccomp(2))."""
        code = ctypes.create_string_buffer(program, len(program))
        head = (len(program) // 8).to_bytes(8, "little") + ctypes.addressof(code).to_bytes(8, "little")
        syscall("seccomp", abi.SECCOMP_SET_MODE_FILTER, flags, head)

    def bpf(self, command: int, attr: bytes | ctypes.Array[Any]) -> int:
        """bpf(2). attr is union bpf_attr, as far as the command needs it."""
        return syscall("bpf", command, attr, len(attr))

    def links(self, netns: int = -1) -> Links:
        """A netlink client for a network namespace (an open nsfs file), or for our own."""
        from .netlink import Links

        return Links(netns)

    def flows(self) -> Flows:
        """A client for the connection tracking of our own network namespace."""
        from .conntrack import Flows

        return Flows()

    def nft(self, script: str) -> str:
        """Run nftables commands as one transaction; what they print."""
        from .nft import run

        return run(script)
