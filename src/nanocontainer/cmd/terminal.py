"""The caller's side of a container's stdio: the terminal in raw mode, and the loop that carries bytes and signals.

One poll(2) loop over four things: our stdin, the session to the keeper, our stdout or stderr, and a pipe into which the
interpreter writes the number of each signal (signal.set_wakeup_fd), so that a signal is an event like any other.

Rules
 1. Output is received only when all before it has been written, input read only while the session has room for it:
    memory stays bounded, and a slow reader slows the container instead of losing output.
 2. A file is written only when poll says it takes bytes, and no more than a pipe surely takes (PIPE_BUF): so the loop
    never sleeps in write(2), and input still flows while output is stuck. O_NONBLOCK would do too, but it belongs to
    the open file and not to us: the shell that shares the terminal would get it.
 3. The terminal is set back on every way out. Signals that would end us become ways out.
"""

from __future__ import annotations

import os
import select
import termios
import time

from ..errors import InvalidInput, NanoError
from ..lean import signals
from .output import STDERR, STDIN, STDOUT, err

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    class Stream(Protocol):
        """The caller's end of a running process: container/attach.py's Session, or an exec."""

        @property
        def room(self) -> int: ...
        def fileno(self) -> int: ...
        def send_stdin(self, data: bytes) -> None: ...
        def close_stdin(self) -> None: ...
        def resize(self, rows: int, cols: int) -> None: ...
        def signal(self, number: int) -> None: ...
        def receive(self) -> tuple[str, bytes]: ...


DETACH_KEYS = b"\x10\x11"  # ctrl-p,ctrl-q
CHUNK = 32768  # of stdin, in one message
PIPE_BUF = 4096  # pipe(7): so much a pipe that polls as writable takes at once

# What is passed on to the container. Not what means something to us or would be no news to it: CHLD, PIPE, URG, CONT,
# the stops (TSTP TTIN TTOU; a job must be suspendable), the faults, and WINCH: nginx and httpd take it for "shut down".
FORWARDED = (
    signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGUSR1, signals.SIGUSR2, signals.SIGALRM, signals.SIGTERM
)  # fmt: skip
FATAL = (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM)
HEARING = 2.0  # seconds for a keeper to take a signal
PATIENCE = 3  # so many SIGINT or SIGTERM, and we leave although the container does not


def attach(
    stream: Stream,
    *,
    stdin: bool,
    tty: bool,
    stdout: bool = True,
    stderr: bool = True,
    keys: bytes = DETACH_KEYS,
    sig_proxy: bool = True,
    redraw: bool = False,
    early: Sequence[int] = (),
) -> int | None:
    """Carry bytes until the process ends: its exit code, or None where the user has detached.

    stdin: pass ours on. tty: the process has a terminal. keys: what detaches, empty for nothing. sig_proxy: pass the
    signals we get on. redraw: make a program that is at work already paint its screen or prompt again. early: signals
    that have come before (see Held).
    NanoError where the keeper is lost, BrokenPipeError where nobody reads our stdout any more.
    """
    loop = _Loop(stream, stdin, tty, {"o": STDOUT if stdout else -1, "r": STDERR if stderr else -1}, keys, sig_proxy)
    with _Signals((*FATAL, *(FORWARDED if sig_proxy else ()), signals.SIGWINCH, signals.SIGCONT)) as wakeup:
        raw = Raw(STDIN) if tty and stdin and os.isatty(STDIN) else None
        try:
            if redraw:
                loop.resize(1)  # a program hears only of a size that is new
            for number in early:
                os.kill(os.getpid(), number)  # now they have somebody to go to
            code = loop.run(wakeup, raw)
        finally:
            if raw:
                raw.restore()
    if code is None:
        err("read escape sequence\n")  # docker's words; the cursor still stands where the container left it
    return code


def parse_keys(text: str) -> bytes:
    """The bytes of a --detach-keys: letters and ctrl-x words, with commas between. InvalidInput."""
    keys = []
    for word in text.split(",") if text else ():
        control = word.lower().removeprefix("ctrl-")
        if len(word) == 1:
            keys.append(word.encode())
        elif word[:5].lower() == "ctrl-" and len(control) == 1 and control in "@abcdefghijklmnopqrstuvwxyz[\\]^_":
            keys.append(bytes((ord(control.upper()) & 31,)))
        else:
            raise InvalidInput("invalid --detach-keys", f"{word!r} is neither a character nor ctrl-CHARACTER")
    return b"".join(keys)


def check_tty(stdin: bool, tty: bool) -> None:
    """Refuse to give a process a terminal whose other end is not one."""
    if stdin and tty and not os.isatty(STDIN):
        raise InvalidInput("stdin is not a terminal", "--tty with --interactive needs one", "leave --tty out")


class Held:
    """Holds back what would end us, while a container is being started: or it would run on with nobody attached.

    `with Held() as early` gives the list of the signals that came. Somebody who insists gets his KeyboardInterrupt.
    """

    def __enter__(self) -> list[int]:
        self.came: list[int] = []
        self.before = []
        for number in (signals.SIGINT, signals.SIGTERM, signals.SIGHUP):
            if signals.getsignal(number) != signals.SIG_IGN:
                self.before.append((number, signals.signal(number, self._note)))
        return self.came

    def _note(self, number: int, frame: object) -> None:
        self.came.append(number)
        if self.came.count(number) == PATIENCE:
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before:
            signals.signal(number, handler)


class Raw:
    """A terminal in raw mode (cfmakeraw in termios(3)): each key goes to the container, ctrl-c too."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.before = termios.tcgetattr(fd)
        self.set()

    def set(self) -> None:
        """Raw, now and again after somebody has stopped and continued us."""
        mode: list[Any] = termios.tcgetattr(self.fd)
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)

    def restore(self) -> None:
        """As it was before; the terminal may be gone by now."""
        try:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self.before)
        except termios.error:
            pass


class DetachKeys:
    """Looks for a key sequence in a stream of input. A begun sequence is held back until it is whole or broken."""

    def __init__(self, keys: bytes) -> None:
        self.keys, self.seen = keys, 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what is to be passed on, whether the sequence is complete)."""
        if not self.keys or (not self.seen and self.keys[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self.keys[self.seen]:
                self.seen += 1
                if self.seen == len(self.keys):
                    return bytes(passed), True
                continue
            passed += self.keys[: self.seen]
            self.seen = 1 if byte == self.keys[0] else 0
            if not self.seen:
                passed.append(byte)
        return bytes(passed), False


class _Signals:
    """While this is open, these signals do nothing but write their number into a pipe."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.numbers = numbers

    def __enter__(self) -> int:
        self.wakeup, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.fd_before = signals.set_wakeup_fd(self.write_end, warn_on_full_buffer=False)
        self.before = []
        for number in dict.fromkeys(self.numbers):
            if signals.getsignal(number) != signals.SIG_IGN:  # nohup's choice stays
                self.before.append((number, signals.signal(number, lambda number, frame: None)))
        return self.wakeup

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before:
            signals.signal(number, handler)
        signals.set_wakeup_fd(self.fd_before)
        os.close(self.wakeup)
        os.close(self.write_end)


class _Loop:
    """The state of attach(): what was read and is not passed on yet."""

    def __init__(
        self, stream: Stream, stdin: bool, tty: bool, targets: dict[str, int], keys: bytes, sig_proxy: bool
    ) -> None:
        self.stream, self.tty, self.targets, self.sig_proxy = stream, tty, targets, sig_proxy
        self.stdin = stdin  # whether there is more to read
        self.keys = DetachKeys(keys if tty else b"")
        self.to_us = memoryview(b"")
        self.target = STDOUT
        self.chunks = {fd: _chunk(fd) for fd in targets.values() if fd >= 0}
        self.asked_to_end = 0
        self.must_hear = 0.0  # until when the keeper must have taken a signal that ends; 0: none is under way

    def run(self, wakeup: int, raw: Raw | None) -> int | None:
        session = self.stream.fileno()
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        watched: dict[int, int] = {}
        self.resize()
        while True:
            wanted: dict[int, int] = {}
            if self.to_us:
                wanted[self.target] = select.POLLOUT
            else:
                wanted[session] = select.POLLIN
            if self.stdin and self.stream.room > 0:
                wanted[STDIN] = select.POLLIN
            if wanted != watched:
                for fd in watched.keys() - wanted.keys():
                    poll.unregister(fd)
                for fd, events in wanted.items():
                    poll.register(fd, events)
                watched = wanted
            ready = [fd for fd, _ in poll.poll(self._patience())]
            if wakeup in ready:
                code = self._signals(wakeup, raw)
                if code is not None:
                    return code
            if self.to_us:
                if self.target in ready:
                    self._write()
            elif session in ready:
                kind, data = self.stream.receive()
                if kind == "x":
                    return int(data)
                self._received(kind, data)
            if STDIN in ready and STDIN in wanted and self._read():
                return None

    def _patience(self) -> float | None:
        """Milliseconds to wait at most. NanoError where the keeper takes nothing any more: who has just asked for an
        end is not to wait for one that cannot come."""
        if not self.must_hear:
            return None
        left = self.must_hear - time.monotonic()
        if left > 0:
            return left * 1000
        self.must_hear = 0.0
        if getattr(self.stream, "unheard", False):
            why = "its keeper does not take what it is sent: it is stopped (SIGSTOP), or the host is very busy"
            raise NanoError("left the container as it is", why, "`nanocontainer stop` ends it all the same")
        return None

    def _received(self, kind: str, data: bytes) -> None:
        if kind in self.targets:
            self.target = self.targets[kind]
            self.to_us = memoryview(data if self.target >= 0 else b"")
        elif kind == "":
            raise NanoError("the connection to the container is lost", "its keeper has ended")

    def _write(self) -> None:
        try:
            self.to_us = self.to_us[os.write(self.target, self.to_us[: self.chunks[self.target]]) :]
        except BlockingIOError:
            pass

    def _read(self) -> bool:
        """Pass on what stdin has; whether the user has detached."""
        try:
            data = os.read(STDIN, min(CHUNK, self.stream.room))
        except BlockingIOError:
            return False
        except OSError:  # EIO of a terminal that was hung up, EISDIR: there is nothing more to come
            data = b""
        if not data:
            self.stdin = False
            self.stream.close_stdin()
            return False
        data, detached = self.keys.feed(data)
        if data:
            self.stream.send_stdin(data)
        return detached

    def _signals(self, wakeup: int, raw: Raw | None) -> int | None:
        """Act on the signals that came; an exit code where one of them ends us."""
        try:
            numbers = os.read(wakeup, 256)
        except BlockingIOError:
            return None
        for number in numbers:
            if number == signals.SIGCONT and raw:
                try:
                    raw.set()
                except termios.error:  # a hang-up sends SIGCONT too, to what has just lost its terminal
                    pass
            if number in (signals.SIGWINCH, signals.SIGCONT):
                self.resize()
            elif self.sig_proxy and number in FORWARDED:
                self.stream.signal(number)
                if number in FATAL:
                    self.must_hear = time.monotonic() + HEARING
                self.asked_to_end += number in (signals.SIGINT, signals.SIGTERM)
                if self.asked_to_end == PATIENCE - 1:
                    err("it still runs: process 1 ignores signals that it does not handle; --init helps\n")
                if self.asked_to_end == PATIENCE:
                    err(f"got {PATIENCE} SIGTERM/SIGINTs, leaving; the container runs on: see `nanocontainer ps`\n")
                    return 1
            elif number in FATAL:
                return 128 + number
        return None

    def resize(self, more: int = 0) -> None:
        """Tell the size of our terminal; more: so much larger than it is."""
        if not self.tty:
            return
        rows, cols = terminal_size()
        if rows and cols:
            self.stream.resize(rows + more, cols + more)


def terminal_size() -> tuple[int, int]:
    """Rows and columns of the caller's terminal; (0, 0) where there is none, or it does not know."""
    for fd in (STDIN, STDOUT, STDERR):
        try:
            return termios.tcgetwinsize(fd)
        except termios.error:
            continue
    return 0, 0


def _chunk(fd: int) -> int:
    """How many bytes may be written at once without sleeping: a regular file never makes one wait."""
    import stat

    return 1 << 16 if stat.S_ISREG(os.fstat(fd).st_mode) else PIPE_BUF
