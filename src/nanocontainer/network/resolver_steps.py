"""The steps that give a container names: its own are written down, and somebody answers questions about them.

RegisterNames writes one small file per network, EnsureResolver makes sure that the resolver process runs and listens
there. In this order, so that a resolver always finds a name and stays; and taken back in the other one: the file goes,
the resolver is told to look, and ends if that was the last.

The resolver is nobody's child: it is born of a child that ends at once, is its own session, and becomes another program
(execve(2)), which shares no memory and no file with us but those that it is given.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time

from ..errors import NanoError, reason
from ..lean import at_path, dumps, sockets
from ..paths import Paths, make_dirs, write_file
from ..plan.step import Step, World
from . import resolver_call
from .registration import Registration, path_of
from .resolver_sockets import PORT, lead, listen, places, withdraw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..kernel.calls import Kernel
    from ..plan.step import Residue, Side
    from .resolver_sockets import Place

_PROGRAM = f"{os.path.dirname(os.path.abspath(__file__))}/resolver_main.py"
_ATTEMPTS = 1000
_BETWEEN = 0.002  # seconds between two looks at a resolver that is just coming or going
LIBRARY = "dnspython"


class RegisterNames(Step):
    """The container's names on a network, in a file that the resolver reads."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "disk"

    registration: Registration
    state: str  # the engine's directories
    run: str

    @property
    def path(self) -> str:
        return path_of(Paths(self.state, self.run), self.registration.network, self.registration.id)

    def do(self, world: World) -> None:
        path, text = self.path, dumps(self.registration.as_dict())
        for _ in range(_ATTEMPTS):  # whoever leaves last takes the directory away
            try:
                return write_file(path, text)
            except FileNotFoundError:
                make_dirs(os.path.dirname(path))
        raise NanoError(f"cannot write {path}", "its directory is taken away again and again", "try again")

    def explain(self) -> str:
        it = self.registration
        names = " and ".join(it.names) or "no name"
        addresses = " and ".join(each for each in (it.ip, it.ip6) if each)
        return (
            f"Write down for the resolver that {names} on network {it.network} is {addresses}: a small file, put in "
            "its place whole (rename(2))."
        )

    def shell(self) -> str:
        return "# Nobody else is on this script's network: its own name is in its /etc/hosts."

    def undo(self, world: World) -> None:
        """The file goes. The resolver sees that at the next question; it looks now, and ends if it was the last one."""
        directory, id = os.path.split(self.path)
        try:
            world.kernel.unlink(self.path)
        except NotADirectoryError:
            return
        except FileNotFoundError:
            if not self._clear_torn(world, directory, id):
                return
        try:
            world.kernel.rmdir(directory)
        except OSError:
            pass  # others have names there
        resolver_call.tell(Paths(self.state, self.run))

    def _clear_torn(self, world: World, directory: str, id: str) -> bool:
        """What was half written of it by somebody who was killed; whether there is such a directory at all."""
        try:
            torn = [name for name in world.kernel.listdir(directory) if name.startswith(f"{id}.")]
        except (FileNotFoundError, NotADirectoryError):
            return False
        for name in torn:
            world.kernel.unlink(f"{directory}/{name}")
        return True


class EnsureResolver(Step):
    """The process that answers the questions of the containers on some networks, unless it runs."""

    side: ClassVar[Side] = "host"
    residue: ClassVar[Residue] = "kernel"

    networks: tuple[str, ...]
    gateways: tuple[str, ...]  # of these networks: addresses to listen on
    table: str  # of the firewall
    state: str
    run: str
    linger: int = 0  # seconds that it stays after the last container; -1: for ever

    def do(self, world: World) -> None:
        paths = Paths(self.state, self.run)
        deadline = time.monotonic() + resolver_call.PATIENCE
        while not resolver_call.ask(paths, self.networks, self.linger):
            lock = _take_lock(paths)
            if lock >= 0:
                try:
                    _start(world.kernel, paths, lock, self.gateways, self.table, self.linger)
                finally:
                    os.close(lock)  # the resolver's copy holds it
                return
            if time.monotonic() > deadline:
                lock_held, silent = resolver_call.lock_path(paths), resolver_call.socket_path(paths)
                why = f"{lock_held} is held, and nobody listens at {silent}"
                raise NanoError("cannot reach the resolver", why, "kill the process nanoc:dns: it is started anew")
            time.sleep(_BETWEEN)

    def explain(self) -> str:
        where = " and ".join(self.gateways)
        return (
            f"Make sure that the resolver listens on UDP and TCP port 53 of {where}: one small process for all "
            "networks, which knows the names of containers, and asks the host's resolvers for all others "
            "(resolv.conf(5), udp(7))."
        )

    def shell(self) -> str:
        return (
            "# No resolver is started: nobody else is on this script's network. Its resolv.conf names servers outside."
        )

    def undo(self, world: World) -> None:
        """Nothing but a word: it ends by itself when no container needs it. If it was killed, what it has left goes."""
        paths = Paths(self.state, self.run)
        resolver_call.tell(paths)
        if not os.path.isdir(paths.networks):
            return
        lock = _take_lock(paths)
        if lock >= 0:
            try:
                withdraw(world.kernel, self.table)
                for path in (resolver_call.socket_path(paths), resolver_call.lock_path(paths)):
                    try:
                        os.unlink(path)
                    except FileNotFoundError:
                        pass
            finally:
                os.close(lock)


def revive(paths: Paths, kernel: Kernel, linger: int) -> None:
    """Start the resolver where it should run and does not: somebody has killed it. It finds by itself what to serve,
    and does when this returns. NanoError where it cannot be started."""
    lock = _take_lock(paths)
    if lock < 0:
        return
    try:
        _start(kernel, paths, lock, (), "", linger)
    finally:
        os.close(lock)
    resolver_call.ask(paths, (), -1)


def _take_lock(paths: Paths) -> int:
    """The resolver's lock as an open file, or -1 where somebody has it."""
    path = resolver_call.lock_path(paths)
    for _ in range(_ATTEMPTS):
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return -1
        if _is_still(path, fd):
            return fd
        os.close(fd)  # a resolver that ended took it away
    raise NanoError(f"cannot lock {path}", "it is taken away again and again", "try again")


def _is_still(path: str, fd: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def fetch_library(paths: Paths) -> None:
    """Get the library of the resolver, unless this machine has it. NanoError says how to."""
    from ..library import install, lies_at

    own = f"{paths.state}/lib"
    if not lies_at("dns", own) and not install(LIBRARY, own):
        raise NanoError(
            "cannot answer names on networks",
            f"the Python library {LIBRARY} is missing",
            f"apt install python3-dnspython, or pip install {LIBRARY}; the default network needs none",
        )


def _start(kernel: Kernel, paths: Paths, lock: int, gateways: tuple[str, ...], table: str, linger: int) -> None:
    """A resolver that listens when this returns. gateways: addresses whose sockets are bound here, at once."""
    fetch_library(paths)
    listener = _listener(paths)
    bound: list[tuple[sockets.socket, Place]] = []
    try:
        for address, kind in places(*gateways):
            bound.append(listen(address, kind))
        if elsewhere := [place for _, place in bound if place.port != PORT]:
            lead(kernel, table, elsewhere)
        held = {
            "state": paths.state, "run": paths.run, "lock": lock, "listener": listener.fileno(), "linger": linger,
            "sockets": [[sock.fileno(), place.as_dict()] for sock, place in bound],
        }  # fmt: skip
        files = [lock, listener.fileno(), *(sock.fileno() for sock, _ in bound)]
        _spawn(kernel, dumps(held).encode(), files)
    finally:
        for sock, _ in bound:
            sock.close()
        listener.close()


def _listener(paths: Paths) -> sockets.socket:
    """The socket at dns.sock; what a killed resolver left there goes. The caller holds the lock."""
    path = resolver_call.socket_path(paths)
    sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC | sockets.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            make_dirs(paths.run)
        at_path(path, sock.bind)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise NanoError(f"cannot listen at {path}", *reason(error)) from None
    finally:
        os.umask(mask)
    return sock


def _spawn(kernel: Kernel, held: bytes, files: list[int]) -> None:
    """A grandchild, which nobody has to wait for, becomes the resolver."""
    child = kernel.fork()
    if child:
        kernel.waitpid(child)
        return
    try:
        _close_others(kernel, files)
        if kernel.fork() == 0:
            _become(kernel, held, files)
    finally:
        kernel.exit(0)


def _close_others(kernel: Kernel, files: list[int]) -> None:
    """At once: a lock that we have inherited with an open file (flock(2)) would outlive its owner as long as we do."""
    first = 3
    for fd in sorted(fd for fd in files if fd >= first):
        if fd > first:
            kernel.close_range(first, fd - 1, 0)
        first = fd + 1
    kernel.close_range(first, 0xFFFFFFFF, 0)


def _become(kernel: Kernel, held: bytes, files: list[int]) -> None:
    """In a session of its own, without a terminal and with no other open files. Does not return."""
    kernel.setsid()
    kernel.chdir("/")
    null = kernel.open("/dev/null", os.O_RDWR)
    for number in range(3):
        if number not in files:
            kernel.dup2(null, number)
    note = os.memfd_create("resolver", os.MFD_CLOEXEC)
    kernel.write(note, held)
    kernel.close_range(3, 0xFFFFFFFF, 4)  # CLOSE_RANGE_CLOEXEC
    for fd in (note, *files):
        kernel.set_inheritable(fd, True)
    kernel.default_signals()
    kernel.unblock_signals()
    python = sys.executable or "/usr/bin/python3"
    kernel.execve(python, (python, "-IS", _PROGRAM, str(note)), {"PATH": os.environ.get("PATH", "/usr/bin:/bin")})
