"""The attach protocol: how a terminal, an API server or a test speaks with a container's standard streams.

A unix socket of kind SOCK_SEQPACKET (unix(7)): it keeps the bounds of messages, so that no length field is needed, and
its flow control, so that a slow reader slows the writer down. A message is one byte that says what it is, and up to
64 KiB of data:

    client → keeper      i DATA   for the container's standard input; without data: "I shall be one who types"
                         e        this client has no more input
                         w RxC    size of the terminal, rows and columns
                         s N      send signal N to the container's first process
                         d        detach: leave, and leave everything as it is
                         h NAME   hold the socket that comes with this message (SCM_RIGHTS), under that name
                         l NAME   let go of the socket of that name
    keeper → client      o DATA   standard output, or the terminal's
                         r DATA   standard error
                         a N      N bytes of this client's input were passed on
                         h NAME   it is held
                         l NAME   it is closed, if it was held
                         x CODE   the container has ended; the last message

`a` makes a window: a client has at most 256 KiB of input under way. So the keeper can read all that clients send
whether or not the container reads its input, and a signal never waits behind data that nobody takes.

`Session` is the client's end, `Client` the keeper's.
"""

from __future__ import annotations

import fcntl
import os
import termios

from ..errors import NanoError, NotPermitted, NotRunning, denied, reason
from ..lean import at_path, recv_fds, send_fds, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

INPUT, INPUT_END, SIZE, SIGNAL, DETACH, HOLD, LET_GO = b"i", b"e", b"w", b"s", b"d", b"h", b"l"
OUTPUT, ERRORS, PASSED_ON, EXITED = b"o", b"r", b"a", b"x"

BLOCK = 65536  # most data of a message
WINDOW = 4 * BLOCK  # most input of one client that is under way
_SEQPACKET = sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC
_NOW = sockets.MSG_DONTWAIT | sockets.MSG_NOSIGNAL
_OVERHEAD = 512  # what a queued message costs beside its data, so that many small ones count too
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h; _socket does not name it


class Session:
    """A client's end. Poll fileno() for input and call receive(); read more input to send only while `room` is > 0.

    A keeper that is gone is seen by receive() alone: what is sent to it then is dropped without an error, because
    the last words of the container may still wait to be received.
    """

    def __init__(self, sock: sockets.socket) -> None:
        self._sock = sock
        self._credit = WINDOW
        self._waiting = bytearray()  # input that was given to us beyond the window
        self._ending = False

    @classmethod
    def connect(cls, path: str, *, stdin: bool = False) -> Self:
        """To the keeper that listens at path. NotRunning when there is none, NotPermitted when it is not ours.

        stdin: this client means to type. Where stdin_once holds, its end is then the end of the container's input,
        even when it has sent nothing.
        """
        sock = sockets.socket(sockets.AF_UNIX, _SEQPACKET)
        try:
            at_path(path, sock.connect)
        except OSError as error:
            sock.close()
            if isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)):
                raise NotRunning("cannot attach", "the container is not running", "start it first") from None
            if isinstance(error, PermissionError):
                raise NotPermitted("cannot attach", f"{path}: {error.strerror}", denied()) from None
            raise NanoError("cannot attach", f"{path}: {error.strerror}") from None
        session = cls(sock)
        if stdin:
            session._send(INPUT, b"")
        return session

    @classmethod
    def pair(cls) -> tuple[Self, sockets.socket]:
        """A session that is connected before its keeper lives: no byte of early output is lost.

        Made before the fork. The command keeps the session and closes the socket; the keeper closes the session
        (else it would never see the command's end) and makes `Client(socket)` its first client.
        """
        near, far = sockets.socketpair(sockets.AF_UNIX, _SEQPACKET)
        return cls(near), far

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def room(self) -> int:
        """How many bytes of input can be sent now. It grows again when receive() has returned kind "a"."""
        return max(self._credit - len(self._waiting), 0)

    def send_stdin(self, data: bytes) -> None:
        """Give input to the container. What exceeds `room` is kept, and sent by receive() as there is room."""
        if self._waiting or len(data) > self._credit:
            self._waiting += data
        else:
            self._send_input(data)
        self._send_waiting()

    def close_stdin(self) -> None:
        """No more input; takes effect after all that was given to send_stdin()."""
        self._ending = True
        self._send_waiting()

    def resize(self, rows: int, cols: int) -> None:
        """The terminal's size, in characters."""
        self._send(SIZE, b"%dx%d" % (rows, cols))

    def signal(self, number: int) -> None:
        """Send a signal to the container's first process."""
        self._send(SIGNAL, b"%d" % number)

    @property
    def unheard(self) -> bool:
        """Whether the keeper has not taken yet what it was sent (SIOCOUTQ, which is TIOCOUTQ: unix(7))."""
        return any(fcntl.ioctl(self._sock, termios.TIOCOUTQ, bytes(4)))

    def hold(self, name: str, fd: int) -> None:
        """Give the keeper a socket to hold (the answer: "h"), as it holds those that reserve published ports."""
        try:
            send_fds(self._sock, HOLD + name.encode(), (fd,), sockets.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass  # see the class's text

    def let_go(self, name: str) -> None:
        """Have the keeper close what it holds under a name (the answer: "l")."""
        self._send(LET_GO, name.encode())

    def detach(self) -> None:
        """Leave; the container's input stays open. To be followed by close()."""
        self._send(DETACH, b"")

    def receive(self) -> tuple[str, bytes]:
        """The next message; waits for it.

        ("o", data), ("r", data): output. ("x", code in digits): the container has ended. ("a", b""): nothing to show,
        there is `room` again. ("", b""): the keeper has gone without a word, or has dropped us.
        """
        while True:
            try:
                message = self._sock.recv(BLOCK + 1)
            except ConnectionResetError:
                # It closed while something from us was unread. Said once; what it had sent before can still be read.
                continue
            break
        if message[:1] == PASSED_ON:
            self._credit += int(message[1:])
            self._send_waiting()
            return "a", b""
        return message[:1].decode(), message[1:]

    def close(self) -> None:
        self._sock.close()

    def _send_input(self, data: bytes) -> None:
        for start in range(0, len(data), BLOCK):
            self._send(INPUT, data[start : start + BLOCK])
        self._credit -= len(data)

    def _send_waiting(self) -> None:
        if self._waiting and self._credit > 0:
            data = bytes(memoryview(self._waiting)[: self._credit])
            del self._waiting[: len(data)]
            self._send_input(data)
        if self._ending and not self._waiting:
            self._ending = False
            self._send(INPUT_END, b"")

    def _send(self, kind: bytes, data: bytes) -> None:
        try:
            self._sock.sendmsg([kind, data], [], sockets.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            pass  # see the class's text


class Client:
    """The keeper's end of a session. Nothing here ever waits: what cannot be sent now is queued.

    The owner polls the socket for output while `queue` is not empty, and stops producing while `queued` (bytes) is
    too much for it.
    """

    def __init__(self, sock: sockets.socket, *, stdin: bool = False) -> None:
        """stdin: as if the client had said that it means to type (Session.connect)."""
        self.sock = sock
        self.stdin = stdin
        self.queue: list[tuple[bytes, bytes | bytearray]] = []
        self.queued = 0
        self.deaf = False  # it is gone; what it has sent before may still wait to be read
        self.passed = -1  # the open file that came with the last message; its taker sets this to -1
        self._passed_on = 0

    @classmethod
    def accept(cls, listener: sockets.socket) -> Client:
        """The next one who connects. OSError as accept(2) has it, BlockingIOError when there is none."""
        fd, _ = listener._accept()  # type: ignore[attr-defined]
        return cls(sockets.socket(sockets.AF_UNIX, _SEQPACKET, 0, fd))

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, kind: bytes, data: bytes) -> None:
        """Send a message of at most 64 KiB, or queue it. To a client that is gone: drop it."""
        if self.deaf:
            return
        if not self.queue:
            try:
                self.sock.sendmsg([kind, data], [], _NOW)
                return
            except BlockingIOError:
                pass
            except OSError:
                self._become_deaf()
                return
        streams = kind in (OUTPUT, ERRORS)  # only these may be joined: "a 5" and "a 5" are not "a 55"
        if streams and self.queue and self.queue[-1][0] == kind and len(self.queue[-1][1]) + len(data) <= BLOCK:
            joined = self.queue[-1][1]
            if not isinstance(joined, bytearray):
                joined = bytearray(joined)
                self.queue[-1] = (kind, joined)
            joined += data
        else:
            self.queue.append((kind, data))
            self.queued += _OVERHEAD
        self.queued += len(data)

    def flush(self) -> None:
        """Send as much of the queue as can be sent now."""
        while self.queue:
            kind, data = self.queue[0]
            try:
                self.sock.sendmsg([kind, data], [], _NOW)
            except BlockingIOError:
                return
            except OSError:
                self._become_deaf()
                return
            del self.queue[0]
            self.queued -= len(data) + _OVERHEAD

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next message: (kind, data); None when there is none now; (b"", b"") when the client is gone."""
        if self.passed >= 0:  # nobody wanted it
            os.close(self.passed)
            self.passed = -1
        while True:
            try:
                message, fds = recv_fds(self.sock, BLOCK + 1, 1, sockets.MSG_DONTWAIT)
                self.passed = fds[0] if fds else -1
            except BlockingIOError:
                return None
            except ConnectionResetError:
                self._become_deaf()  # said once; what was sent before can still be read
                continue
            except OSError:
                return b"", b""
            return message[:1], message[1:]

    def passed_on(self, size: int) -> None:
        """So many bytes of its input have left us. Told a quarter of the window at a time, not for each key."""
        self._passed_on += size
        if self._passed_on >= WINDOW // 4:
            self.send(PASSED_ON, b"%d" % self._passed_on)
            self._passed_on = 0

    def hand_over(self) -> None:
        """Move the queue to the kernel, which keeps it for the client when we are gone; needs CAP_NET_ADMIN.

        Without the privilege nothing happens: the owner waits for the client instead.
        """
        try:
            self.sock.setsockopt(sockets.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * self.queued + WINDOW)
        except OSError:
            return
        self.flush()

    def close(self) -> None:
        if self.passed >= 0:
            os.close(self.passed)
            self.passed = -1
        self.sock.close()
        self.queue.clear()
        self.queued = 0

    def _become_deaf(self) -> None:
        self.deaf = True
        self.queue.clear()
        self.queued = 0


def listen(path: str) -> sockets.socket:
    """A listening socket at path, which only we may connect to. A socket that a dead keeper left there is replaced."""
    sock = sockets.socket(sockets.AF_UNIX, _SEQPACKET | sockets.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        at_path(path, sock.bind)
        sock.listen(128)
    except OSError as error:
        sock.close()
        raise NanoError(f"cannot listen at {path}", *reason(error)) from None
    finally:
        os.umask(mask)
    return sock
