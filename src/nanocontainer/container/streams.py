"""The keeper's loop: what a container writes goes to its log and to everybody who is attached, what they type goes in.

One poll(2) for all: pipes or the master of a pseudo terminal (pty(7)), the listening socket and its clients
(attach.py), and a pidfd, which becomes readable when the first process has ended (pidfd_open(2)). Nothing in here waits
for a single party, and an idle container costs no wakeups. Four flows must stay bounded:

- a client that reads slowly: its queue may hold 1 MiB, then the container's output is not read any more, so that the
  container itself waits, as a program does whose terminal is stopped;
- a container that does not read its input: a client has a window (attach.py); one that ignores it is not read any more;
- the log: a write to a file; what does not fit on the disk is dropped there (logs.py);
- after the end: the end of the first process is the end of its pid namespace, and the pipes end with it. Where others
  share the pid namespace they may hold the pipes open: they are given a moment, and are cut off then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
import termios
import time

from .attach import BLOCK, DETACH, ERRORS, EXITED, HOLD, INPUT, INPUT_END, LET_GO, OUTPUT, SIGNAL, SIZE, Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..lean import sockets
    from .jsonlog import JsonLog

LIMIT = 1 << 20  # bytes queued for one client, bytes of input that the container has not read
GRACE = 0.25  # seconds for those who hold the output open when the first process has ended
PATIENCE = 10.0  # seconds for clients to take what is queued for them at the end
_TURNS = 4  # blocks read from one party before the others have their turn
_RETRY = 1.0  # seconds until we accept again, when there were too many open files
_TIOCGPTPEER = 0x5441  # asm-generic/ioctls.h; termios does not name it
_IN, _OUT = select.POLLIN, select.POLLOUT


class Streams:
    """The standard streams of one container, until its first process has ended.

    It owns the descriptors of stdin, stdout, stderr and tty, the listener and the clients' sockets, and closes them;
    the pidfd and the log stay the caller's. Order of calls: run(), then finish(), or close() where nothing was run.
    """

    def __init__(
        self,
        *,
        pidfd: int,
        signal: Callable[[int], None],
        stdin: int = -1,
        stdout: int = -1,
        stderr: int = -1,
        tty: int = -1,
        log: JsonLog | None = None,
        listener: sockets.socket | None = None,
        clients: Iterable[Client] = (),
        stdin_once: bool = False,
        timeouts: Callable[[], float | None] = lambda: None,
        held: dict[str, int] | None = None,
    ) -> None:
        """stdin: the pipe's end to write to, or the tty's master again, or -1: input is thrown away.
        stdout, stderr: the pipes' ends to read from; tty: a master, instead of them.

        signal(number): send a signal to the first process. stdin_once: the container's input ends with the first
        client that ends its own, or that typed and has gone without detaching (docker: StdinOnce, which `run -i` and
        `create -i` have, and `run -d -i` has not). timeouts(): do what is due, and say in how many seconds the next
        thing is, None for never; called before each wait. held: open sockets that reserve ports, by name, which
        clients may add to and take from; they stay the caller's.
        """
        self._stdin, self._tty, self._pidfd = stdin, tty, pidfd
        self._signal, self._timeouts = signal, timeouts
        self._log, self._listener = log, listener
        self._stdin_once = stdin_once
        self._sockets = {} if held is None else held
        self._poll = select.poll()
        self._interest: dict[int, int] = {}
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._outputs: dict[int, tuple[bytes, str]] = {}
        self._clients: list[Client] = []
        self._pending = bytearray()  # input the container has not taken yet
        self._owed: list[tuple[Client, int]] = []  # whose it is, in order
        self._ending = False  # close stdin when nothing is pending
        self._held = False  # the output is not read, for a slow client's sake
        self._peer = -1
        self._deadline = 0.0  # when the outputs are given up, after the end; 0: not yet
        self._accept_at = 0.0  # when to accept again; 0: now
        self._watch(pidfd, _IN, lambda events: self._init_ended())
        for fd, kind, stream in ((stdout, OUTPUT, "stdout"), (stderr, ERRORS, "stderr"), (tty, OUTPUT, "stdout")):
            if fd >= 0:
                self._outputs[fd] = kind, stream
                os.set_blocking(fd, False)
                self._watch(fd, _IN, lambda events, fd=fd: self._stream_ready(fd, events))  # type: ignore[misc]
        if stdin >= 0 and stdin != tty:
            os.set_blocking(stdin, False)
            self._handlers[stdin] = lambda events: self._pump()
        if tty >= 0:
            # While no process has the terminal open, reading its master fails: an init that closes its terminal and
            # opens it again would lose its voice. So we keep it open ourselves until the end (Linux 4.13).
            try:
                self._peer = fcntl.ioctl(tty, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                pass  # then the output ends when the container closes its terminal, as with a pipe
        if listener is not None:
            listener.setblocking(False)
            self._watch(listener.fileno(), _IN, lambda events: self._accept())
        for client in clients:
            self._adopt(client)

    # --- what the keeper calls

    def run(self) -> None:
        """Move data until the first process has ended and all that it wrote is logged and sent or queued."""
        while not (self._deadline and (not self._outputs or time.monotonic() >= self._deadline)):
            for fd, events in self._poll.poll(self._wait()):
                handler = self._handlers.get(fd)
                if handler:  # not closed by another one of this round
                    handler(events)
        # Nobody ends an output that others hold open, and on a busy machine the grace may be over before we came to
        # read: what the first process wrote before its end is in there still.
        for fd in list(self._outputs):
            self._read_output(fd, to_its_end=True)

    def at_rest(self) -> dict[str, int] | None:
        """The open files that another process would need to go on; None while one is attached or data under way."""
        if self._clients or self._pending or self._deadline or self._accept_at or self._listener is None:
            return None
        named = {stream: fd for fd, (_, stream) in self._outputs.items() if fd != self._tty}
        stdout, stderr = named.get("stdout", -1), named.get("stderr", -1)
        return {"stdin": self._stdin, "stdout": stdout, "stderr": stderr, "tty": self._tty}

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Call handler() whenever fd is readable or at its end, while run() runs. fd stays the caller's."""
        self._watch(fd, _IN, lambda events: handler())

    def unwatch(self, fd: int) -> None:
        """The counterpart; to be called before fd is closed."""
        self._set(fd, 0)
        self._handlers.pop(fd, None)

    def finish(self, code: int, patience: float = PATIENCE) -> None:
        """Tell the clients that the container has ended, and close everything.

        With CAP_NET_ADMIN the kernel takes what is still queued, and keeps it for clients that read later (a pager).
        Without it we wait for them, at most `patience` seconds in all.
        """
        self._accept_at = 0.0
        self._accept()  # who connected in the last moment gets the code too
        for client in self._clients:
            client.send(EXITED, b"%d" % code)
            if client.queue:
                client.hand_over()
        deadline = time.monotonic() + patience
        poll = select.poll()
        while waiting := {client.fileno(): client for client in self._clients if client.queue}:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            for fd in waiting:
                poll.register(fd, _OUT)
            for fd, _ in poll.poll(left * 1000):
                waiting[fd].flush()
            for fd in waiting:
                poll.unregister(fd)
        self.close()

    def close(self) -> None:
        """Close all that is ours, at once. May be called twice."""
        for fd in {self._stdin, self._tty, self._peer, *self._outputs} - {-1}:
            self._set(fd, 0)
            os.close(fd)
        self._stdin = self._tty = self._peer = -1
        self._outputs.clear()
        if self._listener is not None:
            self._set(self._listener.fileno(), 0)
            self._listener.close()
            self._listener = None
        for client in self._clients:
            self._set(client.fileno(), 0)
            client.close()
        self._clients.clear()
        self._handlers.clear()
        self._pending = bytearray()
        self._owed.clear()

    # --- poll

    def _watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._set(fd, events)

    def _set(self, fd: int, events: int) -> None:
        """What to wait for at fd. Nothing at all: not even its hanging up, which poll(2) would tell again and again."""
        had = self._interest.get(fd, 0)
        if events == had:
            return
        if events:
            self._poll.register(fd, events)
            self._interest[fd] = events
        else:
            self._poll.unregister(fd)
            del self._interest[fd]

    def _wait(self) -> int | None:
        """Milliseconds until something is due, rounded up; None for never."""
        if self._accept_at and time.monotonic() >= self._accept_at:
            self._accept_at = 0.0
            self._accept()
        seconds = self._timeouts()
        for due in (self._deadline, self._accept_at):
            if due:
                left = due - time.monotonic()
                seconds = left if seconds is None else min(seconds, left)
        return None if seconds is None else int(min(max(seconds, 0.0), 1e6) * 1000 + 0.999)

    # --- from the container

    def _stream_ready(self, fd: int, events: int) -> None:
        if events & _OUT:
            self._pump()
        if events & ~_OUT and fd in self._outputs and not self._held:
            self._read_output(fd)

    def _read_output(self, fd: int, *, to_its_end: bool = False) -> None:
        """Read a few blocks; or all that is there, if that is not more than a pipe can hold (fs.pipe-max-size)."""
        kind, stream = self._outputs[fd]
        left = LIMIT if to_its_end else _TURNS * BLOCK
        while left > 0:
            try:
                data = os.read(fd, BLOCK)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EIO:  # the end of a terminal that nobody has open
                    raise
                data = b""
            if not data:
                self._end_output(fd)
                return
            for client in self._clients:
                client.send(kind, data)
                if client.queue:
                    self._set_client(client)
                    if client.queued > LIMIT:
                        self._hold(True)
            if self._log is not None:
                self._log.write(stream, data)
            left -= len(data)
            if self._held or (len(data) < BLOCK and not to_its_end):
                return

    def _end_output(self, fd: int) -> None:
        _, stream = self._outputs.pop(fd)
        self._set(fd, 0)
        if fd != self._tty:  # that one is for input too
            self._handlers.pop(fd, None)
            os.close(fd)
        if self._log is not None:
            self._log.end(stream)

    def _hold(self, held: bool) -> None:
        """Stop reading the output, or go on. After the end we go on in any case: little can be left to read."""
        held = held and not self._deadline
        if held != self._held:
            self._held = held
            for fd in self._outputs:
                self._set(fd, self._interest.get(fd, 0) & _OUT | (0 if held else _IN))

    def _init_ended(self) -> None:
        self._set(self._pidfd, 0)
        self._deadline = time.monotonic() + GRACE
        if self._peer >= 0:
            os.close(self._peer)
            self._peer = -1
        self._hold(False)

    # --- to the container

    def _take_input(self, client: Client, data: bytes) -> None:
        if self._stdin < 0 or self._ending:
            client.passed_on(len(data))  # to nobody: as if it were written to a program that does not read
            return
        self._pending += data
        self._owed.append((client, len(data)))
        self._pump()

    def _pump(self) -> None:
        """Write pending input, as much as the container takes now."""
        before = len(self._pending)
        while self._pending:
            try:
                done = os.write(self._stdin, self._pending)
            except BlockingIOError:
                break
            except OSError:  # EPIPE: the container has closed its end; EIO: its terminal is gone
                self._close_stdin()
                return
            del self._pending[:done]
            self._passed_on(done)
        if self._ending and not self._pending:
            self._close_stdin()
            return
        if not self._pending:
            self._pending = bytearray()  # give the memory back
        self._set(self._stdin, self._interest.get(self._stdin, 0) & _IN | (_OUT if self._pending else 0))
        if before > LIMIT >= len(self._pending):
            for client in self._clients:
                self._set_client(client)

    def _passed_on(self, size: int) -> None:
        while size:
            client, owed = self._owed[0]
            done = min(size, owed)
            if done == owed:
                del self._owed[0]
            else:
                self._owed[0] = client, owed - done
            client.passed_on(done)
            if client.queue:
                self._set_client(client)
            size -= done

    def _end_stdin(self) -> None:
        """No more input will come. A terminal has no half-closed state: there nothing happens, as with docker."""
        if self._stdin >= 0 and self._stdin != self._tty:
            self._ending = True
            if not self._pending:
                self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin == self._tty:
            self._set(self._tty, self._interest.get(self._tty, 0) & _IN)
        else:
            self._set(self._stdin, 0)
            self._handlers.pop(self._stdin, None)
            os.close(self._stdin)
        self._stdin = -1
        self._passed_on(len(self._pending))
        self._pending = bytearray()
        for client in self._clients:
            self._set_client(client)

    # --- clients

    def _accept(self) -> None:
        while self._listener is not None:
            try:
                client = Client.accept(self._listener)
            except BlockingIOError:
                self._set(self._listener.fileno(), _IN)
                return
            except ConnectionAbortedError:
                continue
            except OSError:
                # Too many open files. The connection stays in the queue, and poll(2) would tell of it again at once.
                self._set(self._listener.fileno(), 0)
                self._accept_at = time.monotonic() + _RETRY
                return
            self._adopt(client)

    def _adopt(self, client: Client) -> None:
        self._clients.append(client)
        self._handlers[client.fileno()] = lambda events: self._client_ready(client, events)
        self._set_client(client)

    def _set_client(self, client: Client) -> None:
        """Read from it, unless it floods us with input; write to it, if something is queued."""
        flooding = len(self._pending) > LIMIT and any(owner is client for owner, _ in self._owed)
        self._set(client.fileno(), (0 if flooding else _IN) | (_OUT if client.queue else 0))

    def _client_ready(self, client: Client, events: int) -> None:
        if events & _OUT:
            client.flush()
        if events & ~_OUT:
            for _ in range(_TURNS):
                message = client.receive()
                if message is None:
                    break
                if not self._obey(client, *message):
                    self._drop(client)
                    break
                if len(self._pending) > LIMIT:
                    break
        if client in self._clients:
            self._set_client(client)
        if self._held and not any(other.queued > LIMIT for other in self._clients):
            self._hold(False)

    def _obey(self, client: Client, kind: bytes, data: bytes) -> bool:
        """Do what a client's message says. False when it is the last one: it has left, or it speaks nonsense."""
        if kind == INPUT:
            client.stdin = True
            if data:
                self._take_input(client, data)
        elif kind == INPUT_END:
            client.stdin = False
            if self._stdin_once:
                self._end_stdin()
        elif kind == SIZE:
            rows, _, cols = data.partition(b"x")
            if not (rows.isdigit() and cols.isdigit() and len(data) < 12 and int(rows) < 65536 and int(cols) < 65536):
                return False
            self._resize(int(rows), int(cols))
        elif kind == SIGNAL:
            if not (data.isdigit() and len(data) < 4):
                return False
            if not self._deadline:
                try:
                    self._signal(int(data))
                except OSError:
                    pass  # it has just ended, or there is no such signal
        elif kind in (HOLD, LET_GO):
            return self._reserve(client, kind, data)
        elif kind == DETACH:
            client.stdin = False
            return False
        else:
            return False
        return True

    def _reserve(self, client: Client, kind: bytes, data: bytes) -> bool:
        """Hold a socket for a published port, or let go of it. What has a name already is held on."""
        name = data.decode(errors="replace")
        if kind == LET_GO:
            fd = self._sockets.pop(name, -1)
            if fd >= 0:
                os.close(fd)
        elif client.passed < 0:
            return False
        elif name not in self._sockets:
            self._sockets[name], client.passed = client.passed, -1
        client.send(kind, data)
        return True

    def _resize(self, rows: int, cols: int) -> None:
        if self._tty >= 0:
            size = b"".join(number.to_bytes(2, sys.byteorder) for number in (rows, cols, 0, 0))
            try:
                fcntl.ioctl(self._tty, termios.TIOCSWINSZ, size)
            except OSError:
                pass  # the terminal is gone

    def _drop(self, client: Client) -> None:
        self._set(client.fileno(), 0)
        self._handlers.pop(client.fileno(), None)
        self._clients.remove(client)
        client.close()
        client.deaf = True  # input of it may still be owed to it
        if client.stdin and self._stdin_once:
            self._end_stdin()
